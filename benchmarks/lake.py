"""`python -m benchmarks.lake`: CPU of a row into S3 without Firehose: the outlet alone, and the whole way from Kafka.

Objects go to the lab's S3 in a process of its own. "Alone" is everything between rows that are made and objects that
are there: gathering, digest, compression, claim, PUT.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.consumer import CLIENTS, PARTITIONS, WARM_SHARE, consume, per_row, published
from benchmarks.corpus import TOPIC, corpus
from benchmarks.measure import engine
from benchmarks.yardstick import engines, load, settle, switched
from lmstream.lake.formats import Lines
from lmstream.lake.window import Window
from lmstream.model import Record
from lmstream.storage.bucket import Access
from lmstream.storage.compression import gzip
from lmstream.storage.objects_s3 import S3Objects

BUCKET = "lake"
NEED, AIM = 500, 350
"""Nanoseconds of CPU of a row of 820 bytes, 50,000 rows an object."""
RATES = {
    "path with the metric": {"plain": 300_000, "native": 500_000},
    "path without the metric": {"plain": 380_000, "native": 650_000},
}
"""Rows a CPU second from Kafka, by engine: needs. Aims are 800,000 and 1,000,000 with the native part."""
BARE = "{orgKey}/{yyyy}/{MM}/{dd}/{HH}/"
BYTES = (45, 40)
"""Bytes of a row landed as gzip, path without the metric: need and aim."""


async def _serve(told: Connection) -> None:
    from lmstream.lab import S3Lab

    async with S3Lab(BUCKET) as s3:
        told.send(s3.endpoint_url)
        while True:
            await asyncio.sleep(0.2)
            if told.poll():
                told.recv()
                made = {key: len(each.data) for key, each in s3.buckets[BUCKET].items() if not key.startswith("_")}
                told.send((len(made), sum(made.values())))
                s3.buckets[BUCKET].clear()


def _main(told: Connection) -> None:
    asyncio.run(_serve(told))


@contextmanager
def store() -> Iterator[tuple[str, Any]]:
    """Run an S3 on a free port; gives its URL, and a function that empties it and says (objects, bytes)."""
    mine, its = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(its,), daemon=True)
    process.start()

    def emptied() -> tuple[int, int]:
        mine.send(None)
        found: tuple[int, int] = mine.recv()
        return found

    try:
        yield mine.recv(), emptied
    finally:
        process.kill()
        process.join()


class _Each:
    """As much of a record in flight as a window asks for."""

    def __init__(self, record: Record) -> None:
        self.record, self.tp, self.offset = record, record.tp, record.offset


def cuts_of(rows_an_object: int) -> tuple[list[tuple[Any, Any, list[Any]]], int, int]:
    """Records with their rows by path, so that an object has about so many; and how many rows and bytes in all."""
    mine = engine()
    made, rows, size, path_rows = [], 0, 0, 0
    path = 0
    offset = 0
    for minute in range(4):
        for record in corpus("medium", minute=minute).records:
            out = mine.fan_out(record)
            data = out.ndjson()
            if path_rows >= rows_an_object:
                path, path_rows = path + 1, 0
            each = _Each(Record(topic=TOPIC, partition=0, offset=offset, timestamp=0, value=None))
            made.append((each, out, [(f"acme/p{path}/2026/01/01/00/", data, out.rows)]))
            rows, size, path_rows, offset = rows + out.rows, size + len(data), path_rows + out.rows, offset + 1
    return made, rows, size


async def alone(url: str, rows_an_object: int, rounds: int) -> dict[str, Any]:
    """Seconds of CPU of each round."""
    made, rows, size = cuts_of(rows_an_object)
    objects = S3Objects(Access(bucket=BUCKET, region="us-east-1", endpoint_url=url))
    took = []
    try:
        for turn in range(rounds + 1):
            start = time.process_time()
            window = Window(Lines("ndjson.gz", partial(gzip, level=1)), 0.0, {0: 0}, 64 << 20)
            for each, out, cuts in made:
                window.saw(each.record)
                window.add(each, out, cuts)
            spans = window.spans()
            some = window.objects()
            for at in range(0, len(some), 32):
                puts = [
                    objects.create(
                        f"{one.entry.path}{turn}-{one.entry.piece}.ndjson.gz",
                        one.gather.finish(),
                        {"digest": one.entry.digest, "rows": str(one.entry.rows)},
                    )
                    for one in some[at : at + 32]
                ]
                if not all(await asyncio.gather(*puts)):
                    raise RuntimeError("an object was there")
            del spans
            if turn:  # the first warms connections and modules
                took.append(time.process_time() - start)
    finally:
        await objects.close()
    return {"rows": rows, "bytes_per_row": round(size / rows), "objects": len(some), "cpu_seconds": took}


async def run(config: Any, records: int, rows: int) -> dict[str, Any]:
    """The whole way. Records settle by windows: what counts is the CPU from when an eighth was taken up to the end."""
    from lmstream.config import build_runtime

    done = 0

    def settled(*_: object) -> None:
        nonlocal done
        done += 1
        if done == records:
            runtime.stop()

    runtime = build_runtime(config, on_settled=settled)
    running = asyncio.create_task(runtime.run())
    while (warm := runtime.progress()).records < records // WARM_SHARE and not running.done():  # noqa: ASYNC110 - a figure
        await asyncio.sleep(0.005)
    cpu, wall = time.process_time(), time.monotonic()
    while not running.done() and runtime.progress().records < records:  # noqa: ASYNC110 - the same
        await asyncio.sleep(0.02)
    runtime.pipeline.flush()
    summary = await running
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    if summary.rows != rows or summary.dead_letters:
        raise RuntimeError(f"{summary.rows} rows instead of {rows}")
    return {"rows": rows - warm.rows, "cpu_seconds": cpu, "wall_seconds": wall}


async def whole(url: str, emptied: Any, rounds: int, client: str) -> dict[str, Any]:
    """Runs from Kafka, by path."""
    from lmstream.lab import KafkaLab

    found: dict[str, Any] = {"client": client}
    with tempfile.TemporaryDirectory() as folder:
        async with KafkaLab(folder, mtls=False) as kafka:
            await kafka.create_topic(TOPIC, PARTITIONS)
            records, rows = await published(kafka, "medium")
            for turn, name, by in product(range(rounds), RATES, engines()):
                sink = {
                    "type": "s3", "bucket": BUCKET, "region": "us-east-1", "endpoint_url": url,
                    "incarnation": f"r{turn}-{len(name)}-{by}",
                }  # fmt: skip
                if name == "path without the metric":
                    sink["engine.path"] = BARE
                where = (kafka.bootstrap, sink, client, {})
                with switched(by):
                    took = await asyncio.to_thread(consume, run, where, records, rows)
                took["objects"], size = emptied()
                took["bytes_per_row"] = size / rows
                found.setdefault(name, {}).setdefault(by, []).append(took)
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", choices=CLIENTS, default="kafka")
    parser.add_argument("--alone", action="store_true", help="leave Kafka out")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    found: dict[str, Any] = {}
    with store() as (url, emptied):
        for rows_an_object in (50_000, 350):
            got = found[f"alone, {rows_an_object:,} rows an object"] = asyncio.run(
                alone(url, rows_an_object, flags.rounds)
            )
            ns = median(got["cpu_seconds"]) / got["rows"] * 1e9
            print(
                f"alone, {got['rows']:,} rows of {got['bytes_per_row']} bytes in {got['objects']:,} objects: {ns:,.0f} "
                f"ns a row (need {NEED}, aim {AIM}, of 820 bytes and 50,000 rows an object)"
            )
            emptied()
        if not flags.alone:
            got = found["from Kafka"] = asyncio.run(whole(url, emptied, flags.rounds, flags.client))
            for name, by in product(RATES, engines()):
                runs = got[name][by]
                size, peak = median(run["bytes_per_row"] for run in runs), max(run["peak_mib"] for run in runs)
                print(
                    f"{flags.client}, {name}, {by}: {1e9 / per_row(runs):,.0f} rows a CPU second (need "
                    f"{RATES[name][by]:,}); {size:.1f} bytes a row in {runs[-1]['objects']:,} objects; peak "
                    f"{peak:,.0f} MiB; {load()}"
                )
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    settle()
    sys.exit(main())
