"""`python -m benchmarks.sink`: CPU of the Firehose sink per row, against the SDK by itself and over TLS, interleaved.

Packs go to servers that say yes at once (benchmarks/responder.py); only this process's CPU time counts. AWS is never
without TLS: what that costs is a row of its own, for the targets were set without.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpus import corpus
from benchmarks.measure import engine
from benchmarks.responder import responder, tls_responder
from benchmarks.yardstick import settle
from lmstream.delivery.packing import pack, requests
from lmstream.model import Pack
from lmstream.sinks.firehose import LIMITS, Firehose, Settings

STREAM, REGION = "lm-rows", "us-west-2"
IN_FLIGHT = 4
ROUNDS = 7
TARGET, SLACK = 2.5, 0.12
"""What the SDK takes for the same packs, in units of ours."""

Send = Callable[[Sequence[Pack]], Awaitable[None]]


def packs_of(size: str) -> list[Pack]:
    """The packs that a run of the corpus gives."""
    mine, records = engine(), corpus(size).records
    chunks = [
        (number, data, rows)
        for number, record in enumerate(records)
        for data, rows in mine.fan_out(record).cut(LIMITS.pack_rows, LIMITS.pack_bytes)
    ]
    return pack(chunks, LIMITS)


def singles(packs: Sequence[Pack]) -> list[Pack]:
    """One row in each."""
    return [Pack(line, 1, "", ((0, 1),)) for each in packs for line in each.data.splitlines(keepends=True)]


async def spent(send: Send, packs: Sequence[Pack]) -> float:
    """Seconds of CPU to send packs, IN_FLIGHT requests at a time."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one(request: Sequence[Pack]) -> None:
        async with room:
            await send(request)

    start = time.process_time()
    await asyncio.gather(*map(one, requests(packs, LIMITS)))
    return time.process_time() - start


async def measure(url: str, tls_url: str, rounds: int) -> dict[str, Any]:
    """Seconds of CPU by variant and round."""
    import aioboto3
    from aiobotocore.config import AioConfig

    packed = packs_of("medium")
    apart = singles(packed)
    rows = len(apart)
    sink, over_tls = (Firehose(Settings(stream=STREAM, region=REGION, endpoint_url=each)) for each in (url, tls_url))
    config = AioConfig(retries={"total_max_attempts": 1}, parameter_validation=False)
    async with aioboto3.Session().client("firehose", region_name=REGION, endpoint_url=url, config=config) as sdk:

        async def ours(some: Sequence[Pack]) -> None:
            if any(await sink.write(some)):
                raise RuntimeError("not all were delivered")

        async def encrypted(some: Sequence[Pack]) -> None:
            if any(await over_tls.write(some)):
                raise RuntimeError("not all were delivered")

        async def stock(some: Sequence[Pack]) -> None:
            answer = await sdk.put_record_batch(
                DeliveryStreamName=STREAM, Records=[{"Data": each.data} for each in some]
            )
            if answer["FailedPutCount"]:
                raise RuntimeError("not all were delivered")

        variants = {
            "ours, packs": (ours, packed),
            "ours, over TLS": (encrypted, packed),
            "sdk, packs": (stock, packed),
            "sdk, a row each": (stock, apart),
        }
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for turn in range(rounds + 1):
            for name, (send, what) in variants.items():
                took = await spent(send, what)
                if turn:  # the first warms connections and modules
                    seconds[name].append(took)
    await sink.close()
    await over_tls.close()
    size = sum(len(each.data) for each in packed)
    return {"rows": rows, "packs": len(packed), "bytes_per_row": round(size / rows), "cpu_seconds": seconds}


def main() -> int:
    """Print the table; exit 1 when the gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-gate", action="store_true")
    flags = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    with responder() as url, tls_responder() as tls_url:
        found = asyncio.run(measure(url, tls_url, flags.rounds))
    seconds, rows = found["cpu_seconds"], found["rows"]
    print(f"{rows:,} rows of {found['bytes_per_row']} bytes in {found['packs']} packs, {flags.rounds} rounds")
    print(f"{'variant':18} {'ns/row':>8} {'ours is':>8}")
    for name, took in seconds.items():
        ratio = median(other / mine for other, mine in zip(took, seconds["ours, packs"], strict=True))
        print(f"{name:18} {min(took) / rows * 1e9:8,.0f} {ratio:7.2f}x")
    ratio = median(other / mine for other, mine in zip(seconds["sdk, packs"], seconds["ours, packs"], strict=True))
    found["ratio"] = ratio
    passed = ratio >= TARGET * (1 - SLACK)
    print(f"packs, against the SDK with the same packs: {ratio:.2f}x; target {TARGET}x, {'pass' if passed else 'FAIL'}")
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if passed or flags.no_gate else 1


if __name__ == "__main__":
    settle()
    sys.exit(main())
