"""`python -m benchmarks.aws_lambda`: what Lambda adds to the transform: the event, the invocation, the cold start.

The event of 5 MB is measured in CPU time against `json.loads` and base64 of the same event, interleaved. An invocation
is a whole `Host.handle` of one bundle with a Firehose that says yes at once, less the transform of that bundle. A cold
start is awslambdaric and the handler in a new process against a Runtime API on 127.0.0.1, up to the first accepted row,
in wall time: a figure of the machine, shown and not gated.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from itertools import count, takewhile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpus import corpus
from benchmarks.measure import engine
from benchmarks.responder import responder
from benchmarks.yardstick import engines, load, settle
from lmstream import Record
from lmstream.delivery.packing import pack
from lmstream.hosts.awslambda.host import from_environment
from lmstream.kafka import lambda_events as events
from lmstream.lab.runtime_api import Function
from lmstream.model import Pack
from lmstream.native import SWITCH
from lmstream.sinks.firehose import LIMITS

EVENT = 5_000_000  # bytes
ROUNDS, STARTS, INVOCATIONS, WARMING = 15, 7, 200, 20
MOST, OVERHEAD, SLACK = 4.0, 2.0, 0.12
"""Event against json.loads and base64; milliseconds of CPU of an invocation above the transform."""
COLD = {"plain": 450, "native": 400}
"""Milliseconds of a cold start that each engine needs."""
ROOT = Path(__file__).parents[1]


def pipe_event(records: Sequence[Record]) -> str:
    """The list that a Pipe sends."""
    return json.dumps(
        [
            {
                "eventSource": "aws:kafka",
                "eventSourceArn": "arn:aws:kafka:us-west-2:000000000000:cluster/lab/0",
                "eventSourceKey": f"{each.topic}-{each.partition}",
                "topic": each.topic,
                "partition": str(each.partition),
                "offset": each.offset,
                "timestamp": each.timestamp,
                "timestampType": "CREATE_TIME",
                "headers": [],
                "value": base64.b64encode(each.value or b"").decode(),
            }
            for each in records
        ]
    )


def spent(work: Callable[[], Any]) -> float:
    """Seconds of CPU."""
    start = time.process_time()
    work()
    return time.process_time() - start


def of_the_event(rounds: int) -> dict[str, Any]:
    """An event of 5 MB into packs, and the floor: parsing it and decoding its values."""
    records = corpus("medium").records
    sizes = (len(pipe_event(records[: n + 1])) for n in count())
    event = pipe_event(records[: sum(1 for _ in takewhile(lambda size: size <= EVENT, sizes))])
    mine = engine()

    def floor() -> None:
        for entry in json.loads(event):
            base64.b64decode(entry["value"])

    def ours() -> list[Pack]:
        found = events.parse(json.loads(event)).records
        return pack(_chunks(mine, found), LIMITS)

    floor()
    rows = sum(each.rows for each in ours())
    seconds: dict[str, list[float]] = {"floor": [], "ours": []}
    for _ in range(rounds):
        seconds["floor"].append(spent(floor))
        seconds["ours"].append(spent(ours))
    ratio = median(a / b for a, b in zip(seconds["ours"], seconds["floor"], strict=True))
    return {"bytes": len(event), "rows": rows, "cpu_seconds": seconds, "ratio": ratio}


def _chunks(mine: Any, records: Sequence[Record]) -> list[tuple[int, bytes, int]]:
    return [
        (number, data, rows)
        for number, record in enumerate(records)
        for data, rows in mine.fan_out(record).cut(LIMITS.pack_rows, LIMITS.pack_bytes)
    ]


def of_an_invocation(env: dict[str, str], invocations: int) -> dict[str, Any]:
    """CPU of a warm invocation with one bundle, of its transform, and of sending it through the SDK by itself."""
    import boto3

    (record, *_) = corpus("small").records
    event = json.loads(pipe_event([record]))
    host, mine = from_environment(env), engine()
    packs = pack(_chunks(mine, [record]), LIMITS)
    sdk = boto3.client("firehose", region_name="us-west-2", endpoint_url=env["LMSTREAM_SINK__ENDPOINT_URL"])
    variants: dict[str, Callable[[], Any]] = {
        "invocation": lambda: host.handle(event, None),
        "transform": lambda: pack(_chunks(mine, [record]), LIMITS),
        "sdk": lambda: sdk.put_record_batch(DeliveryStreamName="rows", Records=[{"Data": each.data} for each in packs]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with contextlib.redirect_stdout(io.StringIO()):  # the metrics' lines
        for turn in range(invocations + WARMING):
            for name, work in variants.items():
                took = spent(work)
                if turn >= WARMING:
                    seconds[name].append(took)
    host.close()
    milliseconds = {name: 1000 * median(took) for name, took in seconds.items()}
    return {**milliseconds, "above": milliseconds["invocation"] - milliseconds["transform"] - milliseconds["sdk"]}


def task(folder: Path) -> Path:
    """What /var/task is: the zip, built for this interpreter as the real one is for Lambda's, and unpacked."""
    sys.path.insert(0, str(ROOT / "adapters" / "lambda"))
    import build_zip

    tree, unpacked = folder / "tree", folder / "task"
    tree.mkdir()
    build_zip.fill(tree, None)
    build_zip.compiled(tree, sys.executable)
    build_zip.pack(tree, folder / "function.zip")
    with zipfile.ZipFile(folder / "function.zip") as content:
        content.extractall(unpacked)
    return unpacked


async def of_a_start(env: dict[str, str], starts: int, unpacked: Path) -> dict[str, Any]:
    """By engine, wall time to the first answer of a new environment, whose row Firehose has by then; and of a bare
    python. The environment writes no bytecode, for /var/task cannot be written to."""
    (record, *_) = corpus("small", bundles=1).records
    event = pipe_event([record]).encode()
    cold: dict[str, list[float]] = {by: [] for by in engines()}
    bare = []
    for _ in range(starts):
        for by, took in cold.items():
            own = env | {"PYTHONDONTWRITEBYTECODE": "1", SWITCH: "off" if by == "plain" else "on"}
            async with Function("lmstream_lambda.pipe_handler", [unpacked], own) as function:
                answer = await function.invoke(event)
                if answer.error or not answer.cold:
                    raise RuntimeError(answer.error or "not cold")
                took.append(1000 * answer.seconds)
        began = time.monotonic()
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", "import awslambdaric, boto3"], check=True)
        bare.append(1000 * (time.monotonic() - began))
    return {"cold_ms": cold, "runtime_and_boto3_ms": bare, "bytes": unpacked.with_name("function.zip").stat().st_size}


def environment(url: str, letters: str) -> dict[str, str]:
    """The function's variables."""
    return {
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "LMSTREAM_ENGINE__ORG_ID": "acme",
        "LMSTREAM_SINK__STREAM": "rows",
        "LMSTREAM_SINK__REGION": "us-west-2",
        "LMSTREAM_SINK__ENDPOINT_URL": url,
        "LMSTREAM_DEAD_LETTERS__TYPE": "letters",
        "LMSTREAM_DEAD_LETTERS__ROOT": letters,
    }


def starts(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of cold starts, by engine."""
    with responder() as url, tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(of_a_start(environment(url, f"{folder}/letters"), rounds, task(Path(folder))))
    cold: dict[str, list[float]] = found["cold_ms"]
    return cold


def main() -> int:
    """Print the table; exit 1 when a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-gate", action="store_true")
    flags = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    with responder() as url, tempfile.TemporaryDirectory() as folder:
        env = environment(url, f"{folder}/letters")
        event = of_the_event(flags.rounds)
        invocation = of_an_invocation(env, INVOCATIONS)
        start = asyncio.run(of_a_start(env, STARTS, task(Path(folder))))
    ours, floor = (1000 * min(event["cpu_seconds"][name]) for name in ("ours", "floor"))
    print(f"event of {event['bytes']:,} bytes, {event['rows']:,} rows: {ours:.1f} ms of CPU into packs,")
    print(f"  json.loads and base64 {floor:.1f} ms: {event['ratio']:.2f}x, target {MOST:g}x or less")
    print(
        f"warm invocation of one bundle: {invocation['invocation']:.2f} ms of CPU, of which the transform is", end=" "
    )
    print(f"{invocation['transform']:.2f} and the SDK's call {invocation['sdk']:.2f}:")
    print(f"  {invocation['above']:.2f} ms above them, target {OVERHEAD:g} ms or less")
    print(f"cold start to the first accepted row, zip of {start['bytes'] / 1e6:.2f} MB unpacked; {load()}:")
    for by, cold in start["cold_ms"].items():
        print(f"  {by} engine {median(cold):.0f} ms, quickest {min(cold):.0f}; need {COLD[by]}, aim 250")
    print(f"  python, awslambdaric and boto3 alone: {median(start['runtime_and_boto3_ms']):.0f} ms")
    passed = event["ratio"] <= MOST * (1 + SLACK)
    if flags.json:
        found = {"event": event, "invocation": invocation, "start": start}
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if passed or flags.no_gate else 1


if __name__ == "__main__":
    settle()
    sys.exit(main())
