"""`python -m benchmarks.consumer`: rows per second of CPU from a Kafka topic to Firehose, both clients, a process each.

The topic is on the embedded broker, Firehose is a server that says yes at once (benchmarks/responder.py), both in
processes of their own. What counts is the CPU time of the consumer process alone, from the second batch on: its start
and the first fetches are left out.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.corpus import TOPIC, corpus
from benchmarks.responder import responder

CLIENTS = ("kafka", "confluent")
TARGETS = {"first": 160_000, "then": 280_000}
"""Rows per second of CPU; for information, for they depend on the machine."""
PARTITIONS = 3
MINUTES = 8
WARM_SHARE = 8  # the first eighth of the records is not timed


async def _run(bootstrap: str, endpoint: str, client: str, records: int, rows: int) -> dict[str, Any]:
    from lmstream.config import build_runtime, load

    with tempfile.TemporaryDirectory() as folder:
        config = load(
            env={},
            overrides={
                "engine.org_id": "acme",
                "source.type": client,
                "source.bootstrap": bootstrap,
                "source.security": "plaintext",
                "source.topics": (TOPIC,),
                "source.group": f"bench-{client}-{os.getpid()}",
                "source.start_from": "earliest",
                "sink.type": "firehose",
                "sink.stream": "rows",
                "sink.region": "us-west-2",
                "sink.endpoint_url": endpoint,
                "dead_letters.root": f"{folder}/letters",
            },
        )
        done = warm = 0
        cpu = wall = 0.0

        def settled(*_: object) -> None:
            nonlocal done, warm, cpu, wall
            done += 1
            if done == records // WARM_SHARE:
                warm, cpu, wall = runtime.progress().rows, time.process_time(), time.monotonic()
            if done == records:
                cpu, wall = time.process_time() - cpu, time.monotonic() - wall
                runtime.stop()

        runtime = build_runtime(config, on_settled=settled)
        summary = await runtime.run()
    if summary.rows != rows or summary.dead_letters:
        raise RuntimeError(f"{client}: {summary.rows} rows instead of {rows}")
    return {
        "rows": rows - warm,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _child(told: Connection, *args: Any) -> None:
    try:
        told.send(asyncio.run(_run(*args)))
    except BaseException as error:
        told.send(repr(error))
        raise


def consume(*args: Any) -> dict[str, Any]:
    """One run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_child, args=(its, *args), daemon=True)
    process.start()
    its.close()
    found = mine.recv()
    process.join()
    if not isinstance(found, dict):
        raise TypeError(found)
    return found


async def published(bootstrap: str, size: str) -> tuple[int, int]:
    """Fill the topic; answers (records, rows)."""
    records = rows = 0
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=8 << 20)
    await producer.start()
    try:
        for minute in range(MINUTES):
            data = corpus(size, minute=minute)
            sent = [
                await producer.send(TOPIC, one.value, partition=n % PARTITIONS) for n, one in enumerate(data.records)
            ]
            await asyncio.gather(*sent)
            records, rows = records + len(data.records), rows + sum(data.rows)
    finally:
        await producer.stop()
    return records, rows


async def measure(size: str, rounds: int, clients: tuple[str, ...]) -> dict[str, Any]:
    """Runs by client, alternating."""
    from lmstream.lab.broker import Broker

    found: dict[str, Any] = {"size": size, "runs": {client: [] for client in clients}}
    with responder() as url:
        async with Broker() as broker:
            await broker.create_topic(TOPIC, PARTITIONS)
            found["records"], found["rows"] = await published(broker.bootstrap, size)
            for _ in range(rounds):
                for client in clients:
                    run = await asyncio.to_thread(
                        consume, broker.bootstrap, url, client, found["records"], found["rows"]
                    )
                    found["runs"][client].append(run)
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="medium")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    found = asyncio.run(measure(flags.size, flags.rounds, tuple(flags.client or CLIENTS)))
    print(f"{found['size']}: {found['records']:,} records, {found['rows']:,} rows, {flags.rounds} runs each")
    print(f"{'client':10} {'rows/CPU s':>11} {'ns/row':>8} {'rows/s':>9} {'peak MiB':>9}")
    for client, runs in found["runs"].items():
        per_cpu = median(run["rows"] / run["cpu_seconds"] for run in runs)
        per_second = median(run["rows"] / run["wall_seconds"] for run in runs)
        peak = max(run["peak_mib"] for run in runs)
        print(f"{client:10} {per_cpu:11,.0f} {1e9 / per_cpu:8,.0f} {per_second:9,.0f} {peak:9,.0f}")
    print(f"targets: first {TARGETS['first']:,}, then {TARGETS['then']:,} rows per second of CPU")
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
