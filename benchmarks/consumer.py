"""`python -m benchmarks.consumer`: rows per second of CPU from a Kafka topic to Firehose, both clients, a process each.

The topic is on the embedded broker, Firehose is a server that says yes at once (benchmarks/responder.py), both in
processes of their own. What counts is the CPU time of the consumer process alone, after the first eighth of the
records: its start, imports and first fetches are left out. The client alone reads the same topic by the same source,
and makes no rows of it.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer

from benchmarks.corpus import TOPIC, corpus
from benchmarks.procs import peak_mib
from benchmarks.responder import responder
from benchmarks.yardstick import conditions, engines, load, machine, settle, switched

if TYPE_CHECKING:
    from lmstream.lab import KafkaLab

CLIENTS = ("kafka", "confluent")
NEEDS = {"plain": 260_000, "native": 330_000}
"""Rows per second of CPU, by engine."""
PARTITIONS = 3
MINUTES = 16  # of the corpus: seconds of CPU for each run
WARM_SHARE = 8  # the first eighth of the records is not timed


def _config(bootstrap: str, sink: dict[str, Any], client: str, folder: str, tls: dict[str, str]) -> Any:
    from lmstream.config import load

    source: dict[str, Any] = {
        "type": client,
        "bootstrap": bootstrap,
        "topics": (TOPIC,),
        "group": f"bench-{client}-{os.getpid()}",
        # The embedded broker lets a new group wait for half a session before it may begin.
        "session_timeout_ms": 6_000,
        "heartbeat_interval_ms": 1_000,
        **tls,
    }
    engine = {
        f"engine.{name.removeprefix('engine.')}": sink.pop(name) for name in list(sink) if name.startswith("engine.")
    }
    return load(
        env={},
        overrides={
            "engine.org_id": "acme",
            **engine,
            "dead_letters.root": f"{folder}/letters",
            **{f"source.{name}": value for name, value in source.items()},
            **{f"sink.{name}": value for name, value in sink.items()},
        },
    )


def firehose(url: str) -> dict[str, Any]:
    """Settings of the sink for the responder."""
    return {"type": "firehose", "stream": "rows", "region": "us-west-2", "endpoint_url": url}


async def _run(config: Any, records: int, rows: int) -> dict[str, Any]:
    """The whole way."""
    from lmstream.config import build_runtime

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
        raise RuntimeError(f"{summary.rows} rows instead of {rows}")
    return {"rows": rows - warm, "cpu_seconds": cpu, "wall_seconds": wall}


async def _read(config: Any, records: int, rows: int) -> dict[str, Any]:
    """The client alone. Rows are those that its records would become."""
    from lmstream.config import build_source

    source = build_source(config)
    source.on_revoke = _nothing
    done = warm = 0
    cpu = wall = 0.0
    while done < records:
        done += len((await source.poll(4 << 20)).records)
        if not warm and done >= records // WARM_SHARE:
            warm, cpu, wall = done, time.process_time(), time.monotonic()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    await source.close()
    return {"rows": rows * (records - warm) / records, "cpu_seconds": cpu, "wall_seconds": wall}


async def _nothing(_: object) -> None:
    pass


def _child(told: Connection, work: Callable[..., Any], where: tuple[Any, ...], records: int, rows: int) -> None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            bootstrap, sink, client, tls = where
            found = asyncio.run(work(_config(bootstrap, dict(sink), client, folder, tls), records, rows))
        told.send(found | {"peak_mib": peak_mib()})
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


async def published(kafka: "KafkaLab", size: str, minutes: int = MINUTES) -> tuple[int, int]:
    """Fill the topic; answers (records, rows)."""
    records = rows = 0
    tls = {"security_protocol": "SSL", "ssl_context": kafka.client_context()} if kafka.certificates else {}
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=8 << 20, **tls)
    await producer.start()
    try:
        for minute in range(minutes):
            data = corpus(size, minute=minute)
            sent = [
                await producer.send(TOPIC, one.value, partition=n % PARTITIONS) for n, one in enumerate(data.records)
            ]
            await asyncio.gather(*sent)
            records, rows = records + len(data.records), rows + sum(data.rows)
    finally:
        await producer.stop()
    return records, rows


async def measure(size: str, rounds: int, clients: tuple[str, ...], *, mtls: bool = False) -> dict[str, Any]:
    """Runs by client and engine the whole way, and by client the client alone, alternating."""
    from lmstream.lab import KafkaLab

    found: dict[str, Any] = {"size": size, "mtls": mtls}
    found |= {
        "runs": {client: {by: [] for by in engines()} for client in clients},
        "alone": {client: [] for client in clients},
    }
    with responder() as url, tempfile.TemporaryDirectory() as folder:
        async with KafkaLab(folder, mtls=mtls) as kafka:
            await kafka.create_topic(TOPIC, PARTITIONS)
            found["records"], found["rows"] = await published(kafka, size)
            tls = {}
            if kafka.certificates is not None:
                files = {"ca": kafka.certificates.ca, "cert": kafka.certificates.client_cert}
                files["key"] = kafka.certificates.client_key
                tls = {"security": "ssl", **{name: str(path) for name, path in files.items()}}
            for _ in range(rounds):
                for client in clients:
                    where, size_of = (kafka.bootstrap, firehose(url), client, tls), (found["records"], found["rows"])
                    for by, runs in found["runs"][client].items():
                        with switched(by):
                            runs.append(await asyncio.to_thread(consume, _run, where, *size_of))
                    found["alone"][client].append(await asyncio.to_thread(consume, _read, where, *size_of))
    return found


def per_row(runs: list[dict[str, Any]]) -> float:
    """Nanoseconds of CPU, the median of the runs."""
    return median(run["cpu_seconds"] / run["rows"] * 1e9 for run in runs)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="medium")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--mtls", action="store_true", help="read through a proxy that wants client certificates")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    found = asyncio.run(measure(flags.size, flags.rounds, tuple(flags.client or CLIENTS), mtls=flags.mtls))
    print(f"{conditions(machine())}; {load()}")
    print(f"{found['size']}: {found['records']:,} records, {found['rows']:,} rows, {flags.rounds} runs each")
    print(f"{'client':10} {'engine':7} {'rows/CPU s':>11} {'ns/row':>8} {'client alone':>13} {'rows/s':>9} {'peak':>9}")
    for client, engines_of in found["runs"].items():
        alone = per_row(found["alone"][client])
        for by, runs in engines_of.items():
            whole, peak = per_row(runs), max(run["peak_mib"] for run in runs)
            per_second = median(run["rows"] / run["wall_seconds"] for run in runs)
            print(
                f"{client:10} {by:7} {1e9 / whole:11,.0f} {whole:8,.0f} {alone:13,.0f} {per_second:9,.0f} {peak:9,.0f}"
            )
    print(f"needs, rows per second of CPU: plain {NEEDS['plain']:,}, native {NEEDS['native']:,}")
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    settle()
    sys.exit(main())
