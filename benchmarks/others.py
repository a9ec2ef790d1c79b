"""The figures beside the transform: gzip, the Firehose sink, Kafka to Firehose and S3, two workers, cold starts."""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from statistics import median
from typing import Any

from benchmarks import aws_lambda, consumer, dimensions, lake, sink, workers
from benchmarks.corpus import SIZES, corpus
from benchmarks.figures import OTHERS, Goal, figure, other
from benchmarks.measure import engine
from benchmarks.responder import responder, tls_responder
from benchmarks.yardstick import engines, load, switched
from lmstream.storage.compression import gzip

GZIP_LEVEL = 1  # the local sink's default
GZIP = {"plain": Goal(0.35), "native": None}
"""Of the plain engine's time. The native part makes the same lines in a third of it, so that the same gzip, isal's at
200 ns and 33 bytes a row, is another share: zlib's level 1 takes 3,800 ns for 31 bytes, zstd's 350 for 22."""
DIMENSIONS = 0.40
"""Of the bytes without them, at most."""
SINK = Goal(1800, 1200)  # nanoseconds, of rows of 820 bytes
MEMORY = {"plain": Goal(150), "native": Goal(130, 100)}  # MiB


def of_gzip(rounds: int, by: str) -> float:
    """What gzip takes of lines, in units of what the transform by this engine takes to make them."""
    mine = engine(plain=by == "plain")
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
    """Every figure, judged. Absolute ones hold for the machine they were taken on."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    rounds = 1 if quick else 3
    return [
        *_of_gzip(3 * rounds),
        *_of_dimensions(10 if quick else 20),
        *_of_the_sink(rounds),
        *_of_kafka_to_firehose(1 if quick else 2),
        *_of_kafka_to_s3(1 if quick else 2),
        *_of_workers(5.0 if quick else workers.SECONDS),
        *_of_lambda(3 if quick else 9),
    ]


def _doing(what: str) -> None:
    print(f"measuring {what}; {load()}", file=sys.stderr, flush=True)


def _of_gzip(rounds: int) -> Iterator[dict[str, Any]]:
    for by in engines():
        share = of_gzip(rounds, by)
        what = "gzip of local files against the transform"
        yield figure(what, share, "x", GZIP[by], by, of="CPU time, ratio", lower=True, gates=by == "plain")


def _of_dimensions(minutes: int) -> Iterator[dict[str, Any]]:
    _doing("bytes of lines with dimensions")
    for size in SIZES:
        of = f"bytes of {minutes} minutes, dimension rows included, of those without the option"
        share = dimensions.measured(size, minutes).share
        yield figure("lines with dimensions", share, "x", Goal(DIMENSIONS), size=size, of=of, lower=True)


def _of_the_sink(rounds: int) -> Iterator[dict[str, Any]]:
    _doing("the Firehose sink")
    with responder() as url, tls_responder() as tls_url:
        sent = asyncio.run(sink.measure(url, tls_url, rounds))
    seconds = sent["cpu_seconds"]
    against = median(a / b for a, b in zip(seconds["sdk, packs"], seconds["ours, packs"], strict=True))
    yield figure("Firehose sink against the SDK, same packs", against, "x", Goal(sink.TARGET), of="CPU time, ratio")
    for name, of in (("Firehose sink, CPU of a row", "ours, packs"), ("Firehose sink over TLS", "ours, over TLS")):
        goal = SINK if of == "ours, packs" else None
        size = f"CPU time, rows of {sent['bytes_per_row']} bytes"
        yield figure(name, min(seconds[of]) / sent["rows"] * 1e9, "ns", goal, of=size, lower=True, gates=False)


def _of_kafka_to_firehose(rounds: int) -> Iterator[dict[str, Any]]:
    _doing("Kafka to Firehose")
    found = asyncio.run(consumer.measure("medium", rounds, consumer.CLIENTS))
    of = "CPU time of the consumer process"
    for (client, runs), by in product(found["runs"].items(), engines()):
        name = f"Kafka to Firehose, {client}: rows a CPU second"
        rate = max(run["rows"] / run["cpu_seconds"] for run in runs[by]) / 1e6
        yield other(name, rate, "M", by, of=of) if name in OTHERS else figure(name, rate, "M", None, by, of=of)
    for client, runs in found["alone"].items():
        yield figure(f"the client alone, {client}: CPU of a row", consumer.per_row(runs), "ns", of=of, lower=True)
    for by in engines():
        peak = max(run["peak_mib"] for runs in found["runs"].values() for run in runs[by])
        what = "peak resident memory, Kafka to Firehose"
        yield figure(what, peak, "MiB", MEMORY[by], by, of="the consumer process", lower=True, gates=False)


def _of_kafka_to_s3(rounds: int) -> Iterator[dict[str, Any]]:
    _doing("Kafka to S3")
    with lake.store() as (url, emptied):
        found = asyncio.run(lake.whole(url, emptied, rounds, "kafka"))
    for path, by in product(lake.RATES, engines()):
        rate = max(run["rows"] / run["cpu_seconds"] for run in found[path][by]) / 1e6
        yield other(f"Kafka to S3 gz, {path}: rows a CPU second", rate, "M", by, of="CPU time of the consumer process")


def _of_workers(seconds: float) -> Iterator[dict[str, Any]]:
    for by in engines():
        _doing(f"two workers against one, {by} engine")
        with switched(by):
            pair = workers.measure(1, seconds=seconds)
        of = f"CPU time, ratio; runs of {seconds:.0f} s"
        yield other("CPU of a row, two workers against one", pair["cpu_ratio"], "x", by, of=of, lower=True)
        of = f"wall time, ratio; {pair['load'][-1]}"
        yield figure("rows a second, two workers against one", pair["wall_ratio"], "x", None, by, of=of, gates=False)


def _of_lambda(starts: int) -> Iterator[dict[str, Any]]:
    _doing("cold starts of the function")
    for by, took in aws_lambda.starts(starts).items():
        of = f"wall time, median of {starts}; {load()}"
        yield other("Lambda cold start to the first row", median(took), "ms", by, of=of, lower=True, gates=False)
