"""`make bench-load`: publish -> consumer -> strict Firehose at rising rates, each in a process of its own.

Latency is of records: from just before the producer is handed one to when the consumer has it settled, that is, when
Firehose has answered for its rows. Both are read from the machine's monotonic clock. The knee is the last rate that the
consumer kept up with: it settled at least 97 % of the rate, and its p99 stayed below a second.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.corpus import TOPIC, corpus
from benchmarks.procs import usage
from benchmarks.yardstick import settle

RESULT = Path(__file__).parent / "results" / "load.json"
RATES = (5_000, 10_000, 20_000, 40_000, 80_000)  # rows a second
SECONDS = 8.0  # of each rate
WARM = 1.0  # seconds at its start that are not counted
PARTITIONS = 3
KEPT_UP, LATE_MS = 0.97, 1000.0
_CONTEXT = multiprocessing.get_context("spawn")


async def _firehose(told: Connection) -> None:
    from lmstream.lab import FirehoseLab, StreamConfig
    from lmstream.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        async with FirehoseLab(StreamConfig.for_settings("rows", Settings(org_id="acme")), folder) as lab:
            told.send(lab.endpoint_url)
            await asyncio.to_thread(told.recv)


async def _consumer(told: Connection, bootstrap: str, endpoint: str) -> None:
    """Settle what comes, note when; on a word from the parent stop and send the times by (partition, offset)."""
    from lmstream.config import build_runtime, load

    at: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = load(
            env={},
            overrides={
                "engine.org_id": "acme",
                "source.type": "kafka",
                "source.bootstrap": bootstrap,
                "source.security": "plaintext",
                "source.topics": (TOPIC,),
                "source.group": "load",
                "source.start_from": "earliest",
                "sink.type": "firehose",
                "sink.stream": "rows",
                "sink.region": "us-west-2",
                "sink.endpoint_url": endpoint,
                "dead_letters.root": f"{folder}/letters",
            },
        )
        runtime = build_runtime(
            config,
            on_settled=lambda tp, _epoch, offset, _status: at.__setitem__((tp.partition, offset), time.monotonic()),
        )
        running = asyncio.create_task(runtime.run())
        while len(at) < PARTITIONS and not running.done():  # joining the embedded broker's group takes seconds
            await asyncio.wait({running}, timeout=0.05)
        told.send("up")
        await asyncio.to_thread(told.recv)
        runtime.stop()
        summary = await running
    told.send((at, summary.rows, summary.dead_letters))


async def _publisher(told: Connection, bootstrap: str, rates: tuple[int, ...], seconds: float) -> None:
    """Publish at each rate in turn; send when each record was handed over, and what each rate really came to."""
    from aiokafka import AIOKafkaProducer

    data = corpus("medium")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=8 << 20)
    await producer.start()
    sent, steps, number = {}, [], 0
    try:
        for rate in rates:
            told.send(("step", rate))
            start, rows, waiting = time.monotonic(), 0, []
            while (now := time.monotonic()) < start + seconds:
                if rows > (now - start) * rate:
                    await asyncio.sleep(rows / rate - (now - start))
                    continue
                record = data.records[number % len(data.records)]
                handed = time.monotonic()
                future = await producer.send(TOPIC, record.value, partition=number % PARTITIONS)
                waiting.append((future, handed, data.rows[number % len(data.records)]))
                rows, number = rows + data.rows[number % len(data.records)], number + 1
                await asyncio.sleep(0)
            for future, handed, of in waiting:
                meta = await future
                sent[meta.partition, meta.offset] = (len(steps), handed, of)
            steps.append((rate, start, time.monotonic()))
    finally:
        await producer.stop()
    told.send(("done", sent, steps))


async def _greet(bootstrap: str) -> None:
    """A record in every partition: the consumer is up when they are settled."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(TOPIC, corpus("medium", bundles=1).records[0].value, partition=partition)
    finally:
        await producer.stop()


def _main(work: Any, told: Connection, *args: Any) -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    asyncio.run(work(told, *args))


def _start(work: Any, *args: Any) -> tuple[Any, Connection]:
    mine, its = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_main, args=(work, its, *args), daemon=True)
    process.start()
    its.close()
    return process, mine


async def measure(rates: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Run all rates; answers steps, samples of CPU and memory, and the knee."""
    from lmstream.lab.broker import Broker

    started = []
    async with Broker() as broker:
        await broker.create_topic(TOPIC, PARTITIONS)
        try:
            started.append(_start(_firehose))
            endpoint = await asyncio.to_thread(started[0][1].recv)
            started.append(_start(_consumer, broker.bootstrap, endpoint))
            consumer, word = started[1]
            await _greet(broker.bootstrap)
            await asyncio.to_thread(word.recv)
            started.append(_start(_publisher, broker.bootstrap, rates, seconds))
            told = started[2][1]
            samples, begun = [], time.monotonic()
            while True:
                now = usage(consumer.pid)
                if now is not None:
                    samples.append((time.monotonic(), now.cpu_seconds, now.rss_bytes / 2**20))
                if await asyncio.to_thread(told.poll, 0.25):
                    message = told.recv()
                    if message[0] == "done":
                        break
            _, sent, steps = message
            await asyncio.sleep(3)  # what is in flight
            word.send("stop")
            settled, rows, letters = await asyncio.to_thread(word.recv)
        finally:
            for process, _ in started:
                process.kill()
                process.join()
    if letters:
        raise RuntimeError(f"{letters} dead letters")
    return {
        "seconds_a_step": seconds,
        "rows": rows,
        "published_rows": sum(of for _, _, of in sent.values()),
        "steps": [_step(number, step, sent, settled, samples) for number, step in enumerate(steps)],
        "samples": [(round(at - begun, 2), cpu, round(mib, 1)) for at, cpu, mib in samples],
    }


def _step(number: int, step: Any, sent: Any, settled: Any, samples: Any) -> dict[str, Any]:
    rate, start, end = step
    counted = [(key, at, of) for key, (n, at, of) in sent.items() if n == number and at >= start + WARM]
    late = sorted(1000 * (settled[key] - at) for key, at, _ in counted if key in settled)
    cut = quantiles(late, n=1000, method="inclusive") if len(late) > 1 else [0.0] * 999
    done = sum(sent[key][2] for key, at in settled.items() if start + WARM <= at < end and key in sent)
    within = [(at, cpu, mib) for at, cpu, mib in samples if start <= at <= end]
    offered = sum(of for _, _, of in counted) / (end - start - WARM)
    return {
        "asked_rows_per_second": rate,
        "rows_per_second": offered,
        "settled_rows_per_second": done / (end - start - WARM),
        "records": len(counted),
        "unsettled": len(counted) - len(late),
        **{f"p{p}_ms": cut[p * 10 - 1] for p in (50, 90, 99)},
        "p999_ms": cut[998],
        "cpu": (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0]) if len(within) > 1 else None,
        "mib": max((mib for _, _, mib in within), default=None),
    }


def knee(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The last step that was kept up with; None when not even the first was."""
    last = None
    for step in steps:
        behind = step["settled_rows_per_second"] < KEPT_UP * step["rows_per_second"]
        if behind or step["p99_ms"] > LATE_MS or step["rows_per_second"] < 0.9 * step["asked_rows_per_second"]:
            break
        last = step
    return last


def main() -> int:
    """Print the table, name the knee, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rate", type=int, action="append", help="rows a second; may be repeated")
    parser.add_argument("--json", type=Path, default=RESULT)
    flags = parser.parse_args()
    found = asyncio.run(measure(tuple(flags.rate or RATES), flags.seconds))
    columns = ("p50_ms", "p90_ms", "p99_ms", "p999_ms")
    print(f"{'asked':>8} {'published':>10} {'settled/s':>10}", *(f"{c:>9}" for c in columns), f"{'CPU':>5} {'MiB':>5}")
    for step in found["steps"]:
        rates = f"{step['rows_per_second']:10,.0f} {step['settled_rows_per_second']:10,.0f}"
        times = " ".join(f"{step[c]:9,.1f}" for c in columns)
        print(f"{step['asked_rows_per_second']:8,} {rates} {times} {step['cpu'] or 0:5.2f} {step['mib'] or 0:5,.0f}")
    last = knee(found["steps"])
    found["knee_rows_per_second"] = last and last["rows_per_second"]
    print("knee: " + (f"{last['rows_per_second']:,.0f} rows a second" if last else "below the first rate"))
    flags.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    settle()
    sys.exit(main())
