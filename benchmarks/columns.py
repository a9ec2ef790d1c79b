"""`python -m benchmarks.columns`: what rows cost as Parquet, from the engine's columns to the bytes of a file.

The corpus is the lab's generator: 500 devices x 8 datasources x 3 polls, under the hour's path and under the default
one. CPU time, the best of some rounds; gzip of the same lines is timed between the rounds, because the pace of a
shared machine changes: compare ratios.
"""

import argparse
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.yardstick import settle
from lmstream import Engine, FanOut, Record, Settings
from lmstream.engine.columns import Pools
from lmstream.lab.generator import Generator
from lmstream.storage import parquet
from lmstream.storage.compression import compressor

PATHS: Final = {
    "path without the metric": "{orgKey}/{yyyy}/{MM}/{dd}/{HH}/",
    "default path": "{orgKey}/{metricKey}/{yyyy}/{MM}/{dd}/{HH}/",
}
NEED: Final = {"path without the metric": (1_700, 15), "default path": (1_700, 20)}
POLLS: Final = 3


def records(devices: int) -> list[Record]:
    """The corpus as Kafka would hand it out."""
    made = itertools.islice(Generator(devices=devices).bundles(), devices * 8 * POLLS)
    return [
        Record(topic="t", partition=0, offset=offset, timestamp=1, value=each.payload)
        for offset, each in enumerate(made)
    ]


def gathered(outs: list[FanOut]) -> list[Pools]:
    """The rows by path."""
    by_path: dict[str, Pools] = {}
    for out in outs:
        for each in out.columns():
            pools = by_path.get(each.path)
            if pools is None:
                pools = by_path[each.path] = Pools()
            pools.add(each)
    return list(by_path.values())


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU, of all threads, and the answer."""
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer


def measure(name: str, corpus: list[Record], rounds: int) -> dict[str, float]:
    """Nanoseconds a row of each step, and bytes a row."""
    engine = Engine(Settings(org_id="acme", path=PATHS[name]))
    outs = [engine.fan_out(each) for each in corpus]
    rows = sum(out.rows for out in outs)
    lines: dict[str, list[bytes]] = {}
    for out in outs:
        for group in out.groups:
            lines.setdefault(group.path, []).append(group.data)
    objects = [b"".join(each) for each in lines.values()]
    gzip = compressor("gzip")
    best: dict[str, float] = {}
    gc.collect()
    gc.freeze()  # a process that runs has no corpus to look through
    for _ in range(rounds):
        took = {}
        took["gzip"], zipped = timed(lambda: [gzip(each) for each in objects])
        took["columns"], pools = timed(lambda: gathered(outs))
        took["build"], tables = timed(lambda pools=pools: [parquet.table(each, sort=True) for each in pools])
        took["write"], files = timed(lambda tables=tables: [parquet.encoded(each) for each in tables])
        for step, seconds in took.items():
            best[step] = min(best.get(step, seconds), seconds)
    found = {step: seconds / rows * 1e9 for step, seconds in best.items()}
    found["rows"], found["files"] = rows, len(files)
    found["gzip bytes"] = sum(map(len, zipped)) / rows
    found["bytes"] = sum(map(len, files)) / rows
    found["held"] = sum(each.held for each in pools) / rows
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    corpus = records(flags.devices)
    found = {}
    for name in PATHS:
        got = found[name] = measure(name, corpus, flags.rounds)
        need, size = NEED[name]
        both = got["build"] + got["write"]
        print(
            f"{name}, {got['rows']:,.0f} rows in {got['files']:.0f} files: columns {got['columns']:,.0f}, build "
            f"{got['build']:,.0f}, write {got['write']:,.0f} ns a row; build and write {both:,.0f} (need {need:,}), "
            f"{both / got['gzip']:.1f} times gzip's {got['gzip']:,.0f}; {got['bytes']:.1f} bytes a row (need {size}), "
            f"gzip {got['gzip bytes']:.1f}; {got['held']:.0f} bytes held a row"
        )
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    settle()
    sys.exit(main())
