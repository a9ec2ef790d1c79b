"""`lmstream inspect`: what is in a bundle, a row file, a dead letter or one Kafka record, and what it becomes."""

import asyncio
import gzip
import io
import json
import sys
import zlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter, validators

from lmstream.cli import bundles, terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json
from lmstream.cli.inspect_kafka import fetched, wanted
from lmstream.cli.refusals import NAMED, refusals
from lmstream.cli.tables import Column, Wide, table
from lmstream.cli.values import remember
from lmstream.codecs import FORMATS
from lmstream.dead_letters.form import NotALetterError, decode
from lmstream.engine import Engine, FanOut
from lmstream.errors import ConfigError, DecodeError, SourceError
from lmstream.model import Record
from lmstream.settings import MIB, Settings
from lmstream.sources.files import STDIN, Files
from lmstream.sources.files import Settings as FilesSettings

View = Literal["table", "tree", "json"]
Form = Literal["table", "tree", "json", "lines"]

UNSET: Final = "unset"
"""Organization of rows that are only looked at, when nobody named one."""
_MOST: Final = 64 * MIB  # bytes looked at, inflated: what the engine takes of one record by default
_BAD: Final = 3  # records in a row that are not bundles, of which a file of something else has as many as lines
_SHOWN: Final = 60  # bytes of a key or a header
_SHOWN_HEADERS: Final = 10
_LETTER: Final = {"topic", "partition", "offset"}
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
        records = asyncio.run(fetched(at, last, limit + 1, broker, engine))
        return _show_records(maker, records, form, rows=rows, wide=wide, limit=limit)
    if last is not None:
        raise ConfigError("usage.arguments", "--last goes with TOPIC/PARTITION of a topic")
    data = _read(target)
    if "rowId" in _first_object(data):
        _show_rows(data, form, limit, wide=wide)
        return 0
    records = _records(target, data, settings, limit + 1)
    return _show_records(maker, records, form, rows=rows, wide=wide, limit=limit)


def _read(target: str) -> bytes:
    """Bytes of a file or of standard input, inflated; bounded."""
    try:
        if target == "-":
            data = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(target).open("rb") as file:
                data = file.read(_MOST + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError("source.file", f"{target}: {getattr(e, 'strerror', None) or e}") from e
    if len(data) > _MOST:
        raise SourceError("source.file", f"{target}: inspect looks at no more than {_MOST // MIB} MiB at a time")
    return data


def _first_object(data: bytes) -> dict[str, Any]:
    """The object on the first line; empty when there is none."""
    try:
        value = json.loads(data.lstrip().split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _records(target: str, data: bytes, settings: Settings, most: int) -> list[Record]:
    """The first records in the bytes of a file, as a run reads them, or dead letters."""
    if _first_object(data).keys() >= _LETTER:
        return _letters(target, data, most)
    files = FilesSettings(paths=(STDIN if target == "-" else target,))
    return asyncio.run(_taken(Files(files, limits=settings.limits, stdin=io.BytesIO(data)), most))


def _letters(target: str, data: bytes, most: int) -> list[Record]:
    """Say why each letter was written; answer the records, whole, so that the siblings of bad points show too."""
    found = []
    for number, line in enumerate(filter(None, map(bytes.strip, data.splitlines())), 1):
        if number > most:
            break
        try:
            letter = decode(line)
        except NotALetterError as e:
            raise SourceError("source.file", f"{target}: line {number} is not a dead letter: {e}") from e
        why = f"{letter.code} {letter.detail} [{letter.reason}]" if letter.reason else "no reason given"
        names = [f"point {n}: {reason}" for n, reason in letter.rejected[:NAMED]]
        names += [f"{path}: {reason}" for path, reason in letter.parts[:NAMED]]
        text = "; ".join([f"dead letter of {letter.record().coordinates}: {why}", *names])
        terminal.say(terminal.clean(text, limit=1000))
        found.append(msgspec.structs.replace(letter.record(), only=None, below=()))
    return found


async def _taken(source: Files, most: int) -> list[Record]:
    taken: list[Record] = []
    end = False
    try:
        while not end and len(taken) < most:
            batch = await source.poll(_MOST)
            taken += batch.records
            end = batch.end
    finally:
        await source.close()
    return taken[:most]


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
            _show_rows(out.ndjson(), form, limit, wide=wide)
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
    parts += _envelope(record)
    parts += [f"skipped {count:,} {reason}" for reason, count in sorted(out.skipped.items())]
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
