"""`lmstream trace`: one row from its Kafka record to the object or letter that has it."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter, validators

from lmstream.cli import bundles, terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, NO_S3, BrokerFlags, EngineFlags, Json, S3Flags, Seconds, given
from lmstream.cli.kafka import client_overrides, settings_of
from lmstream.cli.tables import Column, Wide, table
from lmstream.cli.trace_places import Traced, follow, landing
from lmstream.config import Config
from lmstream.config.validation import READING
from lmstream.dead_letters.filters import moment
from lmstream.engine import Engine, bundle_id
from lmstream.errors import ConfigError, SourceError
from lmstream.kafka.trace_reader import Searched, search
from lmstream.model import Record
from lmstream.verification.landed import row_id
from lmstream.verification.tracing import made_of

NOT_THERE: Final = 3
_ROW: Final = re.compile(r"([0-9a-f]{32}):(0|[1-9]\d{0,9})")
_PLACE: Final = re.compile(r"([A-Za-z0-9._-]{1,249})/(\d{1,9})/(\d{1,18}):(0|[1-9]\d{0,9})")
_HOUR: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}")
_COLUMNS: Final = (
    Column("row", 1, "id"),
    Column("metric", 3),
    Column("time", 4, "whole"),
    Column("value", 6),
    Column("record", 5, "id"),
    Column("state", 2, "whole"),
    Column("where", 7),
)
_EARLY: Final = timedelta(minutes=5)
"""How much older than its points a record may be: clocks of brokers and devices differ."""


def trace(
    target: str | None = None,
    /,
    *,
    device: str | None = None,
    hour: str | None = None,
    metric: str | None = None,
    late: Seconds = 3600.0,
    since: str | None = None,
    until: str | None = None,
    topic: tuple[str, ...] = (),
    landed: str | None = None,
    dead_letters: str | None = None,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10_000))] = 50,
    wide: Wide = False,
    as_json: Json = False,
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Follow a row: Kafka record, the point in its bundle, the row, and the object or dead letter that has it.

    An id is a hash of where its record is: the topic is read until a record has it. Exit 3 if a row that must be
    there is nowhere.

    Parameters
    ----------
    target
        Id of a row, or TOPIC/PARTITION/OFFSET:ORDINAL as `verify` names it, which needs no search.
    device
        Instead of an id: the rows of this device, with --hour.
    hour
        Hour of their time, in UTC: 2026-11-29T10.
    metric
        Of this metric only.
    late
        How long after that hour their records may have been written, as 90m. Default: an hour.
    since
        Search records from this time on: 2024-05-09T14:00Z, or 2h for two hours ago. Default: 24h for an id.
    until
        Search records before this time.
    topic
        Topic to search; may be repeated. Default: those of the configuration.
    landed
        Folder of landed rows, or s3://BUCKET/PREFIX. Default: where the sink of the configuration lands them.
    dead_letters
        Folder of dead letters, or s3://BUCKET/PREFIX. Default: that of the configuration.
    limit
        Maximum of rows to show.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per row.
    """
    overrides = client_overrides(broker, *topic) | given({"source.topics": topic or None})
    config = engine.load(overrides, READING)
    settings = settings_of(config)
    maker = Engine(config.engine)
    at, single = _place_of(target, device, hour), target is not None
    if at is not None:
        found = asyncio.run(_fetch(settings, *at))
        records = [found]
        wanted: Callable[[Record], list[int]] = lambda _: [at[3]]  # noqa: E731 - beside the others
        _refuse_absent(found, at[3], maker)
        searched = Searched(records=1, partitions=1)
    else:
        wanted, begin, end = _wanted(target, device, hour, metric, late, maker, config)
        begin = _given("--since", since) or begin
        end = _given("--until", until) or end
        with terminal.Progress("records searched") as progress:
            told = search(settings, begin, end, wanted, progress.advance, most=1 if single else limit)
            records, searched = asyncio.run(told)
        if not records:
            what = f"no record has this: {searched.text}"
            fix = "search further back (--since); engine.source_id and the topic must be those of the run"
            raise SourceError("source.offset", f"{target or f'{device} {hour}'}: {what}", fix)
    place = landing(config, landed, s3.access)
    rows = [(record, ordinal) for record in records for ordinal in wanted(record)][:limit]
    traced = follow(rows, maker, config, place, dead_letters, s3.access, terminal.say)
    _show(traced, searched, maker, single=single, wide=wide, as_json=as_json)
    return NOT_THERE if any(each.state in {"lost", "changed"} for each in traced) else 0


def _refuse_absent(record: Record, ordinal: int, maker: Engine) -> None:
    """Raise SourceError for an ordinal that the record has not."""
    made = made_of(record, ordinal, maker)
    if made.points and ordinal >= made.points:
        fix = f"name an ordinal from 0 to {made.points - 1}"
        raise SourceError("source.offset", f"{record.coordinates}:{ordinal}: {made.why}", fix)


def _place_of(target: str | None, device: str | None, hour: str | None) -> tuple[str, int, int, int] | None:
    """Topic, partition, offset and ordinal, if that is what was given. Raises ConfigError for what is nothing."""
    if (target is None) == (device is None) or (device is None) != (hour is None):
        raise ConfigError("config.invalid", "trace takes the id of a row, or --device and --hour")
    if target is None or _ROW.fullmatch(target):
        return None
    if found := _PLACE.fullmatch(target):
        return found[1], int(found[2]), int(found[3]), int(found[4])
    what = f"{target}: expected the id of a row (32 hex digits, a colon, a number), or TOPIC/PARTITION/OFFSET:ORDINAL"
    raise ConfigError("config.invalid", what)


def _wanted(
    target: str | None,
    device: str | None,
    hour: str | None,
    metric: str | None,
    late: float,
    maker: Engine,
    config: Config,
) -> tuple[Callable[[Record], list[int]], datetime, datetime | None]:
    """What says which points of a record are wanted; and from when to when records are searched."""
    if target is not None:
        bundle, _, ordinal = target.partition(":")
        source_id = config.engine.source_id

        def by_id(record: Record) -> list[int]:
            return [int(ordinal)] if bundle_id(source_id, *record.identified) == bundle else []

        return by_id, datetime.now(UTC) - timedelta(days=1), None
    if not _HOUR.fullmatch(hour or ""):
        raise ConfigError("config.invalid", f"--hour {hour}: expected an hour in UTC, as in 2026-11-29T10")
    begin = datetime.fromisoformat(f"{hour}:00:00+00:00")
    prefix = f'"ts":"{hour}:'.encode()

    def by_device(record: Record) -> list[int]:
        from lmstream.errors import DecodeError

        try:
            lines = maker.fan_out(record).ndjson().splitlines()
        except DecodeError:
            return []
        return [int(row_id(line)[1]) for line in lines if prefix in line and _is_of(line, device or "", metric)]

    return by_device, begin - _EARLY, begin + timedelta(hours=1, seconds=late)


def _is_of(line: bytes, device: str, metric: str | None) -> bool:
    row = json.loads(line)
    return device in {row["deviceId"], row.get("deviceName")} and metric in {None, row["metric"]}


def _given(flag: str, text: str | None) -> datetime | None:
    return None if text is None else moment(flag, text)


async def _fetch(settings: Any, topic: str, partition: int, offset: int, _ordinal: int) -> Record:
    from lmstream.kafka.range_reader import Span, read_topic

    one = msgspec.structs.replace(settings, topics=(topic,))
    async for record in read_topic(one, Span({partition: offset}, {}, only=True)):
        if record.offset == offset:
            return record
        break
    raise SourceError("source.offset", f"{topic}/{partition}/{offset}: the topic has no record at this offset")


def _show(traced: list[Traced], searched: Searched, maker: Engine, *, single: bool, wide: bool, as_json: bool) -> None:
    if as_json:
        terminal.print_lines(each.told | {"searched": msgspec.to_builtins(searched)} for each in traced)
        return
    if single:
        for each in traced:
            _show_one(each, maker)
    else:
        table(_COLUMNS, [each.cells for each in traced], wide=wide)
    terminal.say(f"searched: {searched.text}")


def _show_one(each: Traced, maker: Engine) -> None:
    record, made = each.record, each.made
    print(f"record  {terminal.clean(record.coordinates)}")
    facts = {
        "time": datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat()
        if record.timestamp >= 0
        else "unknown",
        "size": f"{len(record.value or b''):,} bytes, {made.points:,} data points",
        "key": repr(record.key[:200]) if record.key is not None else "",
        "headers": ", ".join(f"{name}={data!r}" for name, data in record.headers),
    }
    for name, text in facts.items():
        if text:
            print(f"  {name}: {terminal.cell(text, limit=1000)}")
    print(f"point   {made.ordinal:,}{f' at {made.path}' if made.path else ''}")
    if made.path and record.value is not None:
        bundles.show_branch(bundles.message_of(record.value, maker.settings.limits), made.path)
    if made.row:
        print("row")
        terminal.print_json(json.loads(made.row))
    print(f"{each.state:<8}{terminal.cell(each.said, limit=1000)}")
    for copy in each.copies:
        print(
            f"  {terminal.cell(copy.object, limit=1000)} line {copy.line:,}{'' if copy.same else ', with other bytes'}"
        )
