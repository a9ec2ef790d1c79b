"""`python -m benchmarks.scale`: what a fleet needs, from measured figures, step by step to a million devices.

Rates, quotas and cost are the arithmetic of `lmstream validate` (src/lmstream/deployment/estimate.py). What one
worker does is the recorded run of `make bench` (results/bench.json). The first limit of a step is that of which most is
used, in the set-up of the step before: what has to be changed first to grow.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmstream.deployment import Deployment, load
from lmstream.deployment.estimate import Estimate, estimate, prices
from lmstream.deployment.quotas import direct_put_mib
from lmstream.deployment.ways import Way
from lmstream.settings import MIB

LAST = Path(__file__).parent / "results" / "bench.json"
SETTINGS = Path(__file__).parents[1] / "deploy" / "cdk" / "settings.toml"
DEVICES = (1_000, 10_000, 100_000, 1_000_000)
FIGURE, ENGINE = "Kafka to Firehose, kafka: rows a CPU second", "plain"
"""What a worker does: the image has no native part."""
HEADROOM = 0.6  # of a core: the rest catches up after a stop, and carries what is not the average
NOT_COUNTED = ("MSK", "private CA")  # of the bill: the same on every path
PARTITION_MIB = 5.0  # read and written a second by one partition without trouble: half of what AWS names for MSK


class Step(NamedTuple):
    """What one size of fleet needs."""

    devices: int
    rows_per_second: float
    topic_mib: float
    rows_mib: float
    members: int
    partitions: int
    stream_mib: float
    """MiB/s that the stream's quota has to be."""
    active_partitions: int
    usd: float
    first_limit: str
    ways: tuple[Way, ...]
    """The same load through Firehose and written directly, with the partitions and tasks that it needs."""


def rows_per_core(path: Path = LAST) -> float:
    """Rows a CPU second of the recorded run. KeyError when that run has no such figure."""
    figures = {(f["name"], f["engine"]): f["value"] for f in json.loads(path.read_text(encoding="utf-8"))["figures"]}
    return float(figures[FIGURE, ENGINE] * 1e6)


def step(base: Deployment, devices: int, per_core: float, before: Step | None) -> Step:
    """Work one size out; `before` is the set-up that has to grow."""
    deployment = msgspec.structs.replace(base, load=msgspec.structs.replace(base.load, devices=devices))
    found: Estimate = estimate(deployment, prices())
    rows, rows_mib = found.rates["rows_per_second"], found.rates["mib_per_second"]
    topic_mib = found.rates["bundles_per_second"] * base.load.bundle_bytes / MIB
    members = math.ceil(rows / (per_core * HEADROOM))
    first = base.stream.mib_per_second or direct_put_mib(base.region)
    stream_mib = first * math.ceil(rows_mib / first)
    partitions = max(members, math.ceil(topic_mib / PARTITION_MIB))
    had = before or Step(0, 0, 0, 0, 1, 1, first, 0, 0, "", ())
    used = {
        f"{had.members} members of one core": rows / (had.members * per_core * HEADROOM),
        f"{had.partitions} partitions at {PARTITION_MIB:g} MiB/s": topic_mib / (had.partitions * PARTITION_MIB),
        f"{had.stream_mib:,.0f} MiB/s of the stream": rows_mib / had.stream_mib,
        f"{base.stream.active_partitions} active partitions of a stream": deployment.active_partitions
        / base.stream.active_partitions,
    }
    name, share = max(used.items(), key=lambda item: item[1])
    limit = f"{name}: {share:.0%}" if share <= 1 else f"{name}: {share:,.1f}x what they carry"
    return Step(
        *(devices, rows, topic_mib, rows_mib, members, partitions, stream_mib, int(deployment.active_partitions)),
        sum(line.usd for line in found.cost if line.name not in NOT_COUNTED),
        limit,
        _ways(deployment, found, partitions),
    )


def _ways(deployment: Deployment, found: Estimate, partitions: int) -> tuple[Way, ...]:
    """Every path, without what the table leaves out; lanes are as many as partitions."""
    grown = msgspec.structs.replace(deployment, partitions=max(deployment.partitions, partitions))
    same = sum(line.usd for line in found.cost if line.name in NOT_COUNTED)
    return tuple(msgspec.structs.replace(way, usd=way.usd - same) for way in estimate(grown, prices()).ways)


def steps(per_core: float, settings: Path = SETTINGS, devices: tuple[int, ...] = DEVICES) -> list[Step]:
    """Every step, each growing out of the one before."""
    base, found = load(settings), []
    for count in devices:
        found.append(step(base, count, per_core, found[-1] if found else None))
    return found


def table(found: list[Step]) -> str:
    """The steps as Markdown."""
    lines = [
        "| devices | rows/s | topic MiB/s | rows MiB/s | members | partitions | stream | USD a month | first limit |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {s.devices:,} | {s.rows_per_second:,.0f} | {s.topic_mib:,.1f} | {s.rows_mib:,.1f} | {s.members:,} | "
        f"{s.partitions:,} | {s.stream_mib:,.0f} MiB/s | {s.usd:,.0f} | {s.first_limit} |"
        for s in found
    ]
    return "\n".join(lines)


def paths(found: list[Step]) -> str:
    """What each path costs at each step, as Markdown."""
    lines = [
        "| devices | path | USD a month | ingest | requests | storage | compute | PUT | KiB | rows land | query |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    lines += [
        f"| {s.devices:,} | {way.name} | {way.usd:,.0f} | {way.ingest:,.0f} | {way.requests:,.0f} | "
        f"{way.storage:,.0f} | {way.compute:,.0f} | {way.puts:,.0f} | {way.object_kib:,.0f} | "
        f"{way.window_seconds:,.0f} s ({way.ended_by}) | {way.query_usd:,.2f} |"
        for s in found
        for way in s.ways
    ]
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="a deployment, as of lmstream validate")
    parser.add_argument("--rows-per-core", type=float, help="instead of the recorded run")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    found = steps(flags.rows_per_core or rows_per_core(), flags.settings)
    whole: list[dict[str, Any]] = [s._asdict() | {"ways": msgspec.to_builtins(s.ways)} for s in found]
    print(json.dumps(whole, indent=1) if flags.json else f"{table(found)}\n\n{paths(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
