"""The figures beside the transform: gzip, the Firehose sink, Kafka to Firehose, two workers."""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import consumer, sink, workers
from benchmarks.corpus import corpus
from benchmarks.measure import engine
from benchmarks.responder import responder
from lmstream.storage.compression import gzip

GZIP_LEVEL = 1  # the local sink's default
GZIP_MOST = 0.35


def of_gzip(rounds: int) -> float:
    """What gzip takes of lines, in units of what the transform takes to make them."""
    mine = engine()
    for record in corpus("medium", minute=0).records:
        mine.fan_out(record)
    records = corpus("medium", minute=1).records

    def transform() -> bytes:
        return b"".join(mine.fan_out(record).ndjson() for record in records)

    lines = transform()
    spent: dict[str, list[float]] = {"gzip": [], "transform": []}
    variants: dict[str, Callable[[], object]] = {"gzip": lambda: gzip(lines, GZIP_LEVEL), "transform": transform}
    for _ in range(rounds):
        for name, work in variants.items():
            gc.collect()
            start = time.process_time()
            work()
            spent[name].append(time.process_time() - start)
    return median(a / b for a, b in zip(spent["gzip"], spent["transform"], strict=True))


def measured(*, quick: bool) -> list[dict[str, Any]]:
    """Every figure: name, value, unit, both targets, whether lower is better, whether it gates. What depends on the
    machine's speed, or on how many others use it, is judged and does not gate."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    rounds = 1 if quick else 3
    with responder() as url:
        sent = asyncio.run(sink.measure(url, rounds))
    seconds = sent["cpu_seconds"]
    against = median(a / b for a, b in zip(seconds["sdk, packs"], seconds["ours, packs"], strict=True))
    both = asyncio.run(consumer.measure("medium", 1 if quick else 2, consumer.CLIENTS))
    read = both["runs"]
    pair = workers.measure(1 if quick else 2)
    per_cpu = {client: max(run["rows"] / run["cpu_seconds"] for run in runs) for client, runs in read.items()}
    peak = max(run["peak_mib"] for runs in read.values() for run in runs)
    return [
        _figure("gzip of local files against the transform", of_gzip(3 * rounds), "x", None, GZIP_MOST, lower=True),
        _figure("Firehose sink against the SDK, same packs", against, "x", None, sink.TARGET),
        _figure(
            "Firehose sink, CPU of a row",
            min(seconds["ours, packs"]) / sent["rows"] * 1e9,
            "ns",
            *(4000, 2500),
            lower=True,
            gates=False,
        ),
        *(
            _figure(f"Kafka to Firehose, {client}: rows a CPU second", rate / 1e6, "M", 0.16, 0.28, gates=False)
            for client, rate in per_cpu.items()
        ),
        *(
            _figure(f"the client alone, {client}: CPU of a row", consumer.per_row(runs), "ns", None, None, lower=True)
            for client, runs in both["alone"].items()
        ),
        _figure("two workers against one, wall time", pair["best_wall_ratio"], "x", 1.8, 1.9, gates=False),
        _figure("two workers against one, by CPU time", pair["cpu_ratio"], "x", 1.8, 1.9, gates=False),
        _figure("peak resident memory, Kafka to Firehose", peak, "MiB", 300, 200, lower=True, gates=False),
    ]


def _figure(
    name: str,
    value: float,
    unit: str,
    first: float | None,
    then: float | None,
    *,
    lower: bool = False,
    gates: bool = True,
) -> dict[str, Any]:
    return {"name": name, "size": "medium", "value": value, "unit": unit, "first": first, "then": then} | {
        "lower": lower,
        "gates": gates,
    }
