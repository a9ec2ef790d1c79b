"""`python -m benchmarks.shaping`: what rules cost, and what a row costs that they drop: transform alone, Kafka to S3.

A dropped row costs (seconds with the rule - seconds without it for the rows that are left) / rows dropped, in seconds
of a row that lands.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from benchmarks import baselines, lake
from benchmarks.consumer import PARTITIONS, consume, published
from benchmarks.corpus import SIZES, TOPIC, Encoding, corpus
from benchmarks.measure import Variant, _each, _round, _warm
from benchmarks.yardstick import conditions, engines, load, machine, settle, switched
from lmstream import Engine, Settings
from lmstream.rules import Rule

TEN: list[dict[str, Any]] = [
    {"name": "noisy", "when": {"datasource": ["SNMP_Datasource3", "SNMP_Datasource11"]}, "drop": True},
    {"name": "peaks", "when": {"metric": "QueuePeak"}, "drop": True},
    {"name": "cardinality", "remove": {"resource": ["system.sysinfo", "system.ips"]}},
    {"name": "display", "rename": {"resource": {"system.displayname": "host"}}},
    {"name": "environment", "set": {"resource": {"env": "prod"}}},
    {"name": "addresses", "mask": {"resource": ["*"], "attributes": ["*"], "find": "email"}},
    {"name": "tokens", "mask": {"attributes": ["*token*"], "replace": "***"}},
    {"name": "mebibytes", "when": {"unit": "By"}, "scale": {"divide": 1_048_576, "unit": "MiBy"}},
    {"name": "scope", "remove": {"scope": ["datasourceId"]}},
    {"name": "east", "when": {"resource": {"location": "us-east/*"}}, "metric_key": "east"},
]
"""Ten rules of all kinds, of which two drop."""
_EVEN = [f"SNMP_Datasource{number}" for number in range(0, 16, 2)]
DROPS: dict[str, list[dict[str, Any]]] = {
    "everything": [{"name": "all", "when": {"datasource": "*"}, "drop": True}],
    "datasources": [{"name": "half", "when": {"datasource": _EVEN}, "drop": True}],
    "metrics": [{"name": "half", "when": {"metric": ["*Count", "*Rate"]}, "drop": True}],
    "points": [{"name": "half", "when": {"attributes": {"wildValue": ["*-0", "*-2", "*-4"]}}, "drop": True}],
}
"""Rules that drop about half of the rows, by what they look at; and all, by datasource, which says what a row by itself
costs that no other row of its bundle, its group or its object shares its cost with."""
MINUTES = 64
"""Of the corpus from Kafka: objects, which are as many for half of the rows, are then a small part of a run."""
NONE = "no rules"
READ = {"ten rules": TEN, "without scale": [rule for rule in TEN if "scale" not in rule]}
RULES = {NONE: [], **READ, **DROPS}
NEEDS = {"ten rules": 1.03, "transform": 0.6, "Kafka to S3": 0.4}
"""Against no rules a row read, and against a row that lands."""


class Took(NamedTuple):
    """Seconds of CPU by rules, round by round, and the rows that landed."""

    seconds: dict[str, list[float]]
    rows: dict[str, int]

    def read(self, name: str) -> float:
        """What a row that is read costs, against no rules."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[NONE], strict=True))

    def dropped(self, name: str) -> float:
        """What a row that is dropped costs, against one that lands."""
        left = self.rows[name] / self.rows[NONE]
        return (self.read(name) - left) / (1 - left)


def made(rules: Sequence[dict[str, Any]]) -> Engine:
    """An engine with rules."""
    return Engine(Settings(org_id=baselines.ORG, rules=msgspec.convert(rules, tuple[Rule, ...])))


def transform(size: str, encoding: Encoding, rounds: int) -> Took:
    """Warm, as measure.py has it: all variants on a slice before the next slice."""
    bundles = SIZES[size].bundles
    before = {encoding: corpus(size, encoding, minute=0, bundles=bundles)}
    now = {encoding: corpus(size, encoding, minute=1, bundles=bundles)}
    todo, rows = [], {}
    for name, rules in RULES.items():
        one = made(rules)
        rows[name] = sum(one.fan_out(record).rows for record in now[encoding].records)
        todo.append(Variant(name, _each(lambda record, one=one: one.fan_out(record).ndjson()), encoding, one))
    seconds: dict[str, list[float]] = {name: [] for name in RULES}
    order = random.Random(0)
    _warm(todo, before)
    gc.collect()
    gc.freeze()  # as in measure.py
    try:
        for _ in range(rounds):
            _warm(todo, before)
            for name, took in _round(todo, now, order).items():
                seconds[name].append(took)
    finally:
        gc.unfreeze()
    return Took(seconds, rows)


async def from_kafka(rounds: int) -> Took:
    """Medium bundles from a topic to S3 as gzip, by the default path, a process for each run."""
    from lmstream.lab import KafkaLab

    some = [NONE, *DROPS]
    took = Took({name: [] for name in some}, {})
    rows = dict.fromkeys(some, 0)
    for name in some:
        one = made(RULES[name])
        for minute in range(MINUTES):
            rows[name] += sum(one.fan_out(record).rows for record in corpus("medium", minute=minute).records)
    with tempfile.TemporaryDirectory() as folder, lake.store() as (url, emptied):
        async with KafkaLab(folder, mtls=False) as kafka:
            await kafka.create_topic(TOPIC, PARTITIONS)
            records, _ = await published(kafka, "medium", MINUTES)
            for turn in range(rounds):
                for name in some:
                    sink = {
                        "type": "s3", "bucket": lake.BUCKET, "region": "us-east-1", "endpoint_url": url,
                        "incarnation": f"r{turn}-{name.replace(' ', '-')}", "engine.rules": RULES[name],
                    }  # fmt: skip
                    run = await asyncio.to_thread(
                        consume, lake.run, (kafka.bootstrap, sink, "kafka", {}), records, rows[name]
                    )
                    took.seconds[name].append(run["cpu_seconds"])
                    took.rows[name] = run["rows"]
                    emptied()
    return took


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3, help="from Kafka; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    found: dict[str, Any] = {}
    print(f"{conditions(machine())}; {load()}")
    _line("what", READ, ("dropped by " + name for name in DROPS))
    for by in engines():
        for size, encoding in [*((size, "json") for size in SIZES), ("medium", "proto")]:
            with switched(by):
                took = transform(size, encoding, flags.rounds)
            _say(f"transform, {size} {encoding}, {by}", took, found)
        if flags.runs:
            with switched(by):
                took = asyncio.run(from_kafka(flags.runs))
            _say(f"Kafka to S3 gz, medium, {by}", took, found)
    print(f"needs: ten rules {NEEDS['ten rules']}, dropped {NEEDS['transform']} and from Kafka {NEEDS['Kafka to S3']}")
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def _say(what: str, took: Took, found: dict[str, Any]) -> None:
    found[what] = took._asdict()
    read = [f"{took.read(name):12.3f}x" if name in took.seconds else "" for name in READ]
    each = [f"{took.dropped(name):13.2f} of {1 - took.rows[name] / took.rows[NONE]:4.0%}" for name in DROPS]
    _line(what, read, each)


def _line(what: str, read: Iterable[str], dropped: Iterable[str]) -> None:
    print(" ".join((f"{what:34}", *(f"{one:>13}" for one in read), *(f"{one:>22}" for one in dropped))), flush=True)


if __name__ == "__main__":
    settle()
    sys.exit(main())
