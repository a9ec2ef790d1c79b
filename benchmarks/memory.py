"""`python -m benchmarks.memory`: resident memory of one worker at full load, sampled every second.

`lmstream run` reads bundles from a pipe as quickly as it can and sends packs to a Firehose that says yes at once. Every
round of the feed moves all times, so all scopes, by a day: caches fill with what never comes again. Kafka's client
is not in it: the embedded broker keeps everything in memory and would fill the machine in ten minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean
from typing import Any, BinaryIO

from benchmarks.corpus import SIZES, corpus
from benchmarks.procs import usage
from benchmarks.responder import responder
from benchmarks.yardstick import settle
from lmstream.delivery.memory_budget import BUDGET

MINUTES = 4  # of the corpus, made before the run
DAY_DIGITS = 5  # of a time in nanoseconds: the next is 27.8 hours later
LIMIT_MIB = {"first": 300, "then": 200}
WARM_SHARE = 0.1  # of the run, left out of the slope
MIB = 1 << 20


def feed(to: BinaryIO, payloads: list[bytes], until: float) -> None:
    """Write bundles as lines, times moved on by every round, until the time is up or the reader has gone."""
    first = 17152
    day = 0
    try:
        while True:
            old, new = b"%d" % first, b"%d" % (first + day % 20_000)
            for payload in payloads:
                if time.monotonic() > until:
                    to.close()
                    return
                to.write(payload.replace(b'"' + old, b'"' + new) + b"\n")
            day += 1
    except BrokenPipeError:
        return


def run(seconds: float, size: str, budget_mib: int) -> dict[str, Any]:
    """Samples (seconds, MiB, CPU seconds) and what the worker said at its end."""
    payloads = [record.value or b"" for minute in range(MINUTES) for record in corpus(size, minute=minute).records]
    env = os.environ | {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    samples = []
    with responder() as url, tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "lmstream", "run", "--files", "-", "--org", "acme", "--sink", "firehose"),
            *("--stream", "rows", "--region", "us-west-2", "--endpoint-url", url),
            *("--dead-letters", f"{folder}/letters", "--set", f"run.budget_bytes={budget_mib * MIB}"),
        ]
        with Path(folder, "said").open("w+b") as said:
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said, env=env)
            assert worker.stdin is not None
            start = time.monotonic()
            feeder = threading.Thread(target=feed, args=(worker.stdin, payloads, start + seconds), daemon=True)
            feeder.start()
            while worker.poll() is None:
                now = usage(worker.pid)
                if now is not None and now.rss_bytes:
                    samples.append((round(time.monotonic() - start, 2), round(now.rss_bytes / MIB, 1), now.cpu_seconds))
                time.sleep(1)
            feeder.join()
            said.seek(0)
            last = said.read().decode().strip().splitlines()[-1]
    return {
        "size": size,
        "budget_mib": budget_mib,
        "seconds": seconds,
        "exit": worker.returncode,
        "said": last,
        "samples": samples,
    }


def judge(found: dict[str, Any]) -> dict[str, float]:
    """Peak and last MiB, and the slope in MiB a minute after the warm-up (least squares)."""
    points = [(at, mib) for at, mib, _ in found["samples"] if at >= found["seconds"] * WARM_SHARE]
    middle, level = mean(at for at, _ in points), mean(mib for _, mib in points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    slope = sum((at - middle) * (mib - level) for at, mib in points) / spread if spread else 0.0
    return {
        "peak_mib": max(mib for _, mib, _ in found["samples"]),
        "mean_mib": level,
        "slope_mib_per_minute": 60 * slope,
        "cpu_share": found["samples"][-1][2] / found["samples"][-1][0],
    }


def main() -> int:
    """Print peak and slope; exit 1 when the peak is over the limit or the worker failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--budget-mib", type=int, default=BUDGET // MIB, help="run.budget_bytes of the worker, in MiB")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    found = run(flags.seconds, flags.size, flags.budget_mib)
    if found["exit"]:
        print(found["said"], file=sys.stderr)
        return 1
    found |= judge(found)
    print(found["said"])
    print(
        f"{flags.seconds:,.0f} s with a budget of {flags.budget_mib} MiB: "
        f"peak {found['peak_mib']:.0f} MiB, mean {found['mean_mib']:.0f} MiB, "
        f"slope {found['slope_mib_per_minute']:+.2f} MiB a minute; limit {LIMIT_MIB['then']} MiB"
    )
    if flags.json:
        flags.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return 1 if found["exit"] or found["peak_mib"] > LIMIT_MIB["then"] else 0


if __name__ == "__main__":
    settle()
    sys.exit(main())
