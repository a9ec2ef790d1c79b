"""`lmstream shape`: what the rules of a configuration make of records, rule by rule, before they are used."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter, validators
from msgspec import Struct

from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json
from lmstream.cli.inspect_kafka import fetched, wanted
from lmstream.cli.pointed_at import read, records
from lmstream.cli.tables import Column, Wide, table
from lmstream.engine import Engine
from lmstream.errors import ConfigError, DecodeError
from lmstream.model import Record
from lmstream.settings import Settings

UNSET: Final = "unset"
"""Organization of rows that are only looked at, when none is configured."""
DIMENSIONS: Final = "(dimensions)"
"""What engine.dimensions is called beside the names of rules."""
_MONTH: Final = 30 * 86_400  # seconds
_GB: Final = 1024**3
_COLUMNS: Final = (
    Column("rule", 1),
    Column("dropped", 2, "count"),
    Column("changed", 3, "count"),
    Column("rows left", 4, "count"),
    Column("bytes left", 5, "count"),
    Column("USD a month", 6, "whole"),
)


class Effect(Struct, kw_only=True):
    """What one rule does, after those before it."""

    rule: str
    dropped: int = 0
    """Rows that it takes away."""
    changed: int = 0
    """Rows that are another line by it."""
    rows: int = 0
    """Rows that are left."""
    bytes: int = 0
    """Of their lines."""
    usd_month: float = 0.0
    """What it saves, projected."""


class Shape(Struct, kw_only=True):
    """A dry run."""

    records: int = 0
    undecodable: int = 0
    points: int = 0
    before: Effect
    """Without rules."""
    rules: list[Effect]
    """And engine.transform and engine.dimensions, where they are set: rows with keys, and the dimension rows."""
    _dimensions: set[tuple[str, str]] = msgspec.field(default_factory=set)
    """Path and key of the dimension rows so far."""

    def add(self, engines: Sequence[Engine], record: Record) -> None:
        """Count one record. `engines` have the first 0, 1, 2 … of the rules, then the transform, then dimensions."""
        self.records += 1
        lines: dict[bytes, bytes] = {}
        for number, (engine, effect) in enumerate(zip(engines, (self.before, *self.rules), strict=True)):
            try:
                out = engine.fan_out(record)
            except DecodeError:
                self.undecodable += 1
                return
            before, lines = lines, {row_id(line): line for line in out.ndjson().splitlines()}
            effect.rows += out.rows
            effect.bytes += sum(map(len, lines.values())) + len(lines)
            for each in out.dimensions:
                if (each.path, each.key) not in self._dimensions:
                    self._dimensions.add((each.path, each.key))
                    effect.bytes += len(each.line)
            if not number:
                self.points += out.points
                continue
            effect.dropped += len(before.keys() - lines.keys())
            effect.changed += sum(before.get(name) not in (None, line) for name, line in lines.items())

    def price(self, usd_gb: float, rate: float) -> None:
        """Project what each rule saves, at so many data points a second."""
        left = self.before.bytes
        for effect in self.rules:
            saved, left = left - effect.bytes, effect.bytes
            effect.usd_month = projected(saved, self.points, usd_gb, rate)


def row_id(line: bytes) -> bytes:
    """What names a row in its line. The id's own quotes are none of a text: those are escaped."""
    return line.partition(b'"rowId":"')[2].partition(b'"')[0]


def projected(saved: int, points: int, usd_gb: float, rate: float) -> float:
    """USD of a month of 30 days."""
    return saved / points * rate * _MONTH / _GB * usd_gb if points else 0.0


def shape_of(found: Iterable[Record], settings: Settings) -> Shape:
    """What the rules, then the transform, and then dimensions, do to these records."""
    rules = settings.rules
    names = [rule.name for rule in rules]
    bare = msgspec.structs.replace(settings, transform="", dimensions=False)
    steps = [msgspec.structs.replace(bare, rules=rules[:n]) for n in range(len(rules) + 1)]
    if settings.transform:
        names.append(settings.transform)
        steps.append(msgspec.structs.replace(settings, dimensions=False))
    if settings.dimensions:
        names.append(DIMENSIONS)
        steps.append(settings)
    engines = [Engine(step) for step in steps]
    made = Shape(before=Effect(rule=""), rules=[Effect(rule=name) for name in names])
    for record in found:
        if record.value is not None:
            made.add(engines, record)
    return made


def shape(
    target: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    rate: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 1000.0,
    region: str = "us-east-1",
    wide: Wide = False,
    as_json: Json = False,
    last: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1000,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Try the rules of a configuration on records: rows and bytes before and after, by rule, and then with
    engine.transform, and with engine.dimensions, dimension rows included. Nothing is delivered.
    Exit 1 if something is not a bundle.

    Parameters
    ----------
    target
        A file, - for standard input, or TOPIC/PARTITION/OFFSET, or TOPIC/PARTITION/FROM..TO without TO
    rate
        Data points a second of the topic, for the projection of costs.
    region
        AWS region whose prices are taken.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object.
    last
        The last so many records of TOPIC/PARTITION.
    limit
        Maximum of records to try.
    """
    from lmstream.deployment.prices import prices

    settings = engine.load().engine
    if not (settings.rules or settings.transform or settings.dimensions):
        fix = "add [[engine.rules]], of which examples/shaping has ten to copy, or set engine.dimensions"
        raise ConfigError("config.invalid", "the configuration has no rules, so that nothing changes", fix)
    if not (settings.org_id or settings.org_by_topic or settings.org_attributes):
        settings = msgspec.structs.replace(settings, org_id=UNSET)
    made = shape_of(_records(target, last, limit, broker, engine, settings), settings)
    table_of = prices()
    rates = table_of.at(region)
    usd_gb = rates["firehose_gb"].usd + rates["partitioning_gb"].usd
    made.price(usd_gb, rate)
    saved = made.before.bytes - made.rules[-1].bytes
    total = {
        "bytes": saved,
        "share": saved / made.before.bytes if made.before.bytes else 0.0,
        "usd_month": projected(saved, made.points, usd_gb, rate),
        "rate": rate,
        "usd_gb": usd_gb,
        "region": rates["firehose_gb"].region,
    }
    if as_json:
        print(json.dumps(msgspec.to_builtins(made) | {"saved": total}))
    else:
        _show(made, wide=wide)
        _say(made, total, table_of.as_of)
    return 1 if made.undecodable else 0


def _records(
    target: str, last: int | None, limit: int, broker: BrokerFlags, engine: EngineFlags, settings: Settings
) -> list[Record]:
    at = wanted(target, last)
    if target != "-" and not Path(target).exists() and at is not None:
        return asyncio.run(fetched(at, last, limit, broker, engine))
    if last is not None:
        raise ConfigError("usage.arguments", "--last goes with TOPIC/PARTITION of a topic")
    return records(target, read(target), settings, limit)


def _show(made: Shape, *, wide: bool) -> None:
    rows: list[Any] = [("(without rules)", "", "", made.before.rows, made.before.bytes, "")]
    rows += [
        (each.rule, each.dropped, each.changed, each.rows, each.bytes, f"{each.usd_month:,.2f}") for each in made.rules
    ]
    table(_COLUMNS, rows, wide=wide)


def _say(made: Shape, total: dict[str, Any], as_of: str) -> None:
    bad = f", {made.undecodable:,} of them not bundles" if made.undecodable else ""
    terminal.say(f"{made.records:,} records{bad}, {made.points:,} data points")
    after = made.rules[-1]
    terminal.say(
        f"rows: {made.before.rows:,} -> {after.rows:,}; bytes of lines: {made.before.bytes:,} -> {after.bytes:,}, "
        f"{total['share']:.0%} less"
    )
    terminal.say(
        f"at {total['rate']:,.0f} data points a second: {total['usd_month']:,.2f} USD a month less for Firehose with "
        f"partitioning ({total['usd_gb']:g} USD a GB, {total['region']}, as of {as_of}); S3 and queries come on top"
    )
