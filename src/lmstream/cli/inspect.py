"""`lmstream inspect`: what is in a bundle, a row file, a dead letter or one Kafka record, and what it becomes."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter, validators

from lmstream.cli import bundles, terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json
from lmstream.cli.inspect_kafka import fetched, wanted
from lmstream.cli.pointed_at import first_object, read, records
from lmstream.cli.refusals import refusals
from lmstream.cli.tables import Column, Wide, table
from lmstream.cli.values import remember
from lmstream.codecs import FORMATS
from lmstream.engine import Engine, FanOut
from lmstream.errors import ConfigError, DecodeError, SourceError
from lmstream.model import Record
from lmstream.settings import Settings

View = Literal["table", "tree", "json"]
Form = Literal["table", "tree", "json", "lines"]

UNSET: Final = "unset"
"""Organization of rows that are only looked at, when nobody named one."""
_BAD: Final = 3  # records in a row that are not bundles, of which a file of something else has as many as lines
_SHOWN: Final = 60  # bytes of a key or a header
_SHOWN_HEADERS: Final = 10
_ROW_COLUMNS: Final = (
    Column("rowId", 6, "id"),
    Column("orgId", 9),
    Column("deviceId", 5, "id"),
    Column("datasource", 7),
    Column("instance", 4),
    Column("metric", 1),
    Column("type", 8),
    Column("ts", 3, "whole"),
    Column("value", 2),
)


def inspect(
    target: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    view: View = "table",
    as_json: Json = False,
    rows: bool = False,
    wide: Wide = False,
    last: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 50,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Show a bundle, a row file, a dead letter or one Kafka record. Exit 1 if something in it is not a bundle.

    Parameters
    ----------
    target
        A file, - for standard input; or with --bootstrap TOPIC/PARTITION/OFFSET, or TOPIC/PARTITION/FROM..TO without TO
    view
        table: one line per metric. tree: resources, scopes, metrics, points. json: everything.
    as_json
        Print one JSON object per record, or per row with --rows, and line.
    rows
        Show the rows of a bundle instead of the bundle.
    wide
        Show all columns in full, however wide the terminal is.
    last
        The last so many records of TOPIC/PARTITION.
    limit
        Maximum of records and lines to show.
    """
    if target.startswith("-") and target != "-":
        raise ConfigError("config.invalid", f"{target} is not an option of inspect; see: lmstream inspect --help")
    form: Form = "lines" if as_json else view
    settings = engine.load().engine
    if not (settings.org_id or settings.org_by_topic or settings.org_attributes):
        settings = msgspec.structs.replace(settings, org_id=UNSET)
        if rows:
            terminal.say(f"no organization is set: rows are shown with {UNSET!r}; give --org")
    maker = Engine(settings)
    at = wanted(target, last)
    if target != "-" and not Path(target).exists() and at is not None:
        remember("topics", [at.topic])
        found = asyncio.run(fetched(at, last, limit + 1, broker, engine))
        return _show_records(maker, found, form, rows=rows, wide=wide, limit=limit)
    if last is not None:
        raise ConfigError("usage.arguments", "--last goes with TOPIC/PARTITION of a topic")
    data = read(target)
    if "rowId" in first_object(data):
        _show_rows(data, form, limit, wide=wide)
        return 0
    found = records(target, data, settings, limit + 1)
    return _show_records(maker, found, form, rows=rows, wide=wide, limit=limit)


def _show_records(maker: Engine, records: list[Record], form: Form, *, rows: bool, wide: bool, limit: int) -> int:
    bad = 0
    for record in records[:limit]:
        try:
            out = maker.fan_out(record)
        except DecodeError as e:
            bad += 1
            if bad > _BAD:
                continue
            terminal.insist(
                f"{terminal.clean(record.coordinates)}: {len(record.value or b''):,} bytes that are not a bundle"
            )
            terminal.insist(f"  {terminal.clean(str(e), limit=1000)}")
            terminal.insist(f"  begins with {(record.value or b'')[:60]!r}")
            continue
        if rows or not _is_otlp(maker.settings):
            _show_rows(b"".join(each.line for each in out.dimensions) + out.ndjson(), form, limit, wide=wide)
        elif record.value is not None:
            _show_bundle(bundles.message_of(record.value, maker.settings.limits), form, limit, wide=wide)
        terminal.say(_summary(record, out))
        for line in refusals(out):
            terminal.say(f"  {terminal.clean(line, limit=1000)}")
    if bad > _BAD:
        terminal.insist(f"and {bad - _BAD:,} more that are not bundles")
    if len(records) > limit:
        terminal.say(f"the first {limit:,} records; --limit shows more")
    return min(bad, 1)


def _is_otlp(settings: Settings) -> bool:
    """Whether bundles can be shown as what they are; of another format only its codec can read them: rows are shown."""
    return settings.format in ("auto", *FORMATS)


def _show_bundle(message: dict[str, Any], form: Form, limit: int, *, wide: bool) -> None:
    if form in {"json", "lines"}:
        terminal.print_json(message, indent=2 if form == "json" else None)
    elif form == "tree":
        bundles.show_tree(message, limit)
    else:
        bundles.show_table(message, limit, wide=wide)


def _summary(record: Record, out: FanOut) -> str:
    parts = [f"{terminal.clean(record.coordinates)}: {len(record.value or b''):,} bytes, {out.rows:,} rows"]
    parts += [f"{len(out.dimensions):,} dimension rows"] if out.dimensions else []
    parts += _envelope(record)
    parts += [f"skipped {count:,} {reason}" for reason, count in sorted(out.skipped.items())]
    parts += [f"dropped {count:,} by rule {name}" for name, count in sorted(out.dropped.items())]
    reasons = Counter(reason for _, reason in out.rejected)
    parts += [f"rejected {count:,} {reason}" for reason, count in sorted(reasons.items())]
    parts += [f"noted {count:,} {what}" for what, count in sorted(out.noted.items())]
    parts += [f"{len(out.parts):,} parts undecodable"] if out.parts else []
    return ", ".join(parts)


def _envelope(record: Record) -> list[str]:
    """What Kafka says of a record beside its value."""
    found = []
    if record.timestamp >= 0:
        try:
            moment = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds")
        except (OverflowError, ValueError, OSError):  # a time that nobody lives in
            moment = f"{record.timestamp} ms"
        found.append(f"of {moment.replace('+00:00', 'Z')}")
    if record.key is not None:
        found.append(f"key {record.key[:_SHOWN]!r}")
    for name, data in record.headers[:_SHOWN_HEADERS]:
        shown = None if data is None else data[:_SHOWN]
        found.append(f"header {terminal.cell(name)}={shown!r}")
    return found


def _show_rows(data: bytes, form: Form, limit: int, *, wide: bool) -> None:
    lines = [line for line in data.splitlines() if line.strip()]
    shown = []
    for number, line in enumerate(lines[:limit], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise SourceError("source.file", f"line {number} is no JSON: {e}") from e
        if not isinstance(row, dict):
            raise SourceError("source.file", f"line {number} is not a row")
        shown.append(row)
    remember("metrics", [str(row.get("metric", "")) for row in shown])
    if form in {"json", "lines"}:
        terminal.print_lines(shown)
    elif form == "tree":
        for row in shown:
            terminal.print_json(row)
    else:
        table(_ROW_COLUMNS, [[row.get(head.name) for head in _ROW_COLUMNS] for row in shown], wide=wide)
    if len(lines) > limit:
        terminal.say(f"the first {limit:,} of {len(lines):,} rows; --limit shows more")
