"""`lmstream dlq`: dead letters listed, shown, counted, replayed and removed."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags
from lmstream.cli.letters import NO_FILTERS, NO_S3, Filters, Found, LetterSource, S3Flags, Store, store_of
from lmstream.cli.run import NO_SINK, SinkFlags, conclude, execute
from lmstream.config import Config
from lmstream.errors import ConfigError, DecodeError
from lmstream.fanout import Engine
from lmstream.model import CLOSED, Status, TopicPartition

_PREVIEW: Final = 200
_REJECTED: Final = 20
_NAMED: Final = 20


def ls(
    letters: str | None = None,
    /,
    *,
    limit: int = 100,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    filters: Filters = NO_FILTERS,
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """List dead letters, a line each.

    Parameters
    ----------
    letters
        Folder, s3://BUCKET/PREFIX or kafka://TOPIC. Default: what the configuration names.
    limit
        Most letters to list.
    as_json
        A JSON object a line.
    """
    found, more = asyncio.run(_first(store_of(letters, s3, broker, engine)[0], filters, limit))
    if as_json:
        for each in found:
            terminal.print_json(_line(each), indent=None)
    else:
        heads = ("record", "time", "reason", "bytes", "points", "detail")
        rows = [_line(each) for each in found]
        terminal.table(heads, [[row[name] for name in heads] for row in rows])
    if more:
        terminal.say(f"the first {limit:,} letters; --limit shows more")
    return 0


def show(
    letters: str | None = None,
    /,
    *,
    limit: int = 10,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    filters: Filters = NO_FILTERS,
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Show dead letters in full: why, which points, how the bytes begin.

    Parameters
    ----------
    letters
        Folder, s3://BUCKET/PREFIX or kafka://TOPIC. Default: what the configuration names.
    limit
        Most letters to show.
    as_json
        The letters themselves, a line each, with their bytes in base64: `run --files` takes them back.
    """
    found, more = asyncio.run(_first(store_of(letters, s3, broker, engine)[0], filters, limit))
    for each in found:
        if as_json:
            terminal.print_json(msgspec.to_builtins(each.letter), indent=None)
        else:
            _show(each)
    if more:
        terminal.say(f"the first {limit:,} letters; --limit shows more")
    return 0


def stats(
    letters: str | None = None,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    filters: Filters = NO_FILTERS,
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Count dead letters by partition and reason.

    Parameters
    ----------
    letters
        Folder, s3://BUCKET/PREFIX or kafka://TOPIC. Default: what the configuration names.
    as_json
        One JSON object.
    """
    counted = asyncio.run(_count(store_of(letters, s3, broker, engine)[0], filters))
    lines = [
        {"topic": topic, "partition": partition, "reason": reason, **tally}
        for (topic, partition, reason), tally in sorted(counted.items())
    ]
    if as_json:
        terminal.print_json({"letters": sum(line["letters"] for line in lines), "groups": lines})
    else:
        heads = ("topic", "partition", "reason", "letters", "points", "bytes", "oldest", "newest")
        terminal.table(heads, [[line[name] for name in heads] for line in lines])
    return 0


def replay(
    letters: str | None = None,
    /,
    *,
    yes: bool = False,
    purge_delivered: bool = False,
    filters: Filters = NO_FILTERS,
    sink: SinkFlags = NO_SINK,
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Send dead letters through the engine again; without --yes only say what would come of it.

    Rows get the ids they would have had, and of a letter that names rejected points only those points become rows.
    What is refused again is dead-lettered where the letters are, or where --dead-letters says; letters in a topic need
    that. Nothing is removed without --purge-delivered.

    Parameters
    ----------
    letters
        Folder, s3://BUCKET/PREFIX or kafka://TOPIC. Default: what the configuration names.
    yes
        Deliver.
    purge_delivered
        Remove each letter of which all was delivered.
    """
    store, kept = store_of(letters, s3, broker, engine)
    overrides: dict[str, Any] = {**kept, **sink.overrides(), "source.type": "files", "source.paths": ("letters",)}
    config = engine.load(overrides)
    if not yes:
        return asyncio.run(_rehearse(store, filters, config))
    if not kept and sink.dead_letters is None:
        raise ConfigError("config.invalid", "what is refused again needs a place: give --dead-letters FOLDER")
    config.need("sink")
    return asyncio.run(_replay(store, filters, config, purge=purge_delivered))


def purge(
    letters: str | None = None,
    /,
    *,
    yes: bool = False,
    every: Annotated[bool, Parameter(name="--all")] = False,
    filters: Filters = NO_FILTERS,
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Remove dead letters for good; without --yes only say which.

    Parameters
    ----------
    letters
        Folder or s3://BUCKET/PREFIX. Default: what the configuration names.
    yes
        Remove them.
    every
        All letters: needed when no filter is given.
    """
    if filters.given == every:
        raise ConfigError("config.invalid", "purge needs filters such as --reason or --until, or --all without any")
    return asyncio.run(_purge(store_of(letters, s3, broker, engine)[0], filters, yes=yes))


@asynccontextmanager
async def _reading(store: Store) -> AsyncIterator[AsyncGenerator[Found]]:
    try:
        async with aclosing(store.read()) as found:
            yield found
    finally:
        await store.close()


async def _first(store: Store, filters: Filters, limit: int) -> tuple[list[Found], bool]:
    """Answer the first letters that fit, and whether there are more."""
    fits = filters.compiled()
    taken: list[Found] = []
    async with _reading(store) as found:
        async for each in found:
            if fits(each):
                if len(taken) >= limit:
                    return taken, True
                taken.append(each)
    return taken, False


async def _count(store: Store, filters: Filters) -> dict[tuple[str, int, str], dict[str, Any]]:
    fits = filters.compiled()
    counted: dict[tuple[str, int, str], dict[str, Any]] = {}
    async with _reading(store) as found:
        async for each in found:
            if not fits(each):
                continue
            letter, time = each.letter, _text(each.time)
            empty: dict[str, Any] = {"letters": 0, "points": 0, "bytes": 0, "oldest": time, "newest": time}
            tally = counted.setdefault((letter.topic, letter.partition, letter.reason), empty)
            tally["letters"] += 1
            tally["points"] += len(letter.rejected)
            tally["bytes"] += len(letter.value or b"")
            tally["oldest"], tally["newest"] = min(tally["oldest"], time), max(tally["newest"], time)
    return counted


async def _rehearse(store: Store, filters: Filters, config: Config) -> int:
    fits, maker = filters.compiled(), Engine(config.engine)
    letters = rows = 0
    again: Counter[str] = Counter()
    async with _reading(store) as found:
        async for each in found:
            if not fits(each):
                continue
            letters += 1
            if each.letter.value is None or each.letter.reason == CLOSED:
                again[each.letter.reason or "no value"] += 1
                continue
            try:
                out = maker.fan_out(each.letter.record())
            except DecodeError as e:
                again[e.reason] += 1
                continue
            rows += out.rows
            if out.rejected:
                again[out.rejected[0][1]] += 1
    terminal.say(f"{letters:,} letters would give {rows:,} rows; nothing was sent: give --yes")
    for reason, count in sorted(again.items()):
        terminal.say(f"{count:,} would be refused again: {terminal.cell(reason)}")
    return 0


class _Replayed:
    """What a replay took up, and what became of it."""

    def __init__(self, filters: Filters) -> None:
        self._fits = filters.compiled()
        self._taken: dict[tuple[TopicPartition, int], list[Found]] = {}
        self._settled: dict[tuple[TopicPartition, int], list[Status]] = {}
        self.stubs = 0

    def take(self, found: Found) -> bool:
        letter = found.letter
        if not self._fits(found):
            return False
        if letter.value is None or letter.reason == CLOSED:
            self.stubs += 1
            return False
        light = msgspec.structs.replace(letter, value=None, key=None, headers=(), rejected=())
        at = (TopicPartition(letter.topic, letter.partition), letter.offset)
        self._taken.setdefault(at, []).append(msgspec.structs.replace(found, letter=light))
        return True

    def note(self, tp: TopicPartition, _epoch: int, offset: int, status: Status) -> None:
        self._settled.setdefault((tp, offset), []).append(status)

    def delivered(self) -> Iterator[Found]:
        """Letters of which everything was delivered. Several may share coordinates, and settlements name only these:
        then all of them must be.
        """
        for at, places in self._taken.items():
            if self._settled.get(at) == [Status.DELIVERED] * len(places):
                yield from places


async def _replay(store: Store, filters: Filters, config: Config, *, purge: bool) -> int:
    replayed = _Replayed(filters)
    async with _reading(store) as found:
        summary = await execute(config, LetterSource(found, replayed.take), replayed.note)
        if replayed.stubs:
            terminal.say(f"{replayed.stubs:,} letters hold no bytes or a whole batch: read those from their topic")
        if purge:
            removed = sum([await _remove(store, each) for each in replayed.delivered()])
            terminal.say(f"{removed:,} letters removed")
    return conclude(summary, config)


async def _purge(store: Store, filters: Filters, *, yes: bool) -> int:
    fits = filters.compiled()
    removed = 0
    async with _reading(store) as found:
        async for each in found:
            if not fits(each):
                continue
            if yes:
                removed += await _remove(store, each)
                continue
            removed += 1
            if removed <= _NAMED:
                print(terminal.cell(each.place, limit=1000))
    if yes:
        terminal.say(f"{removed:,} letters removed")
    else:
        terminal.say(f"{removed:,} letters would be removed; nothing was: give --yes")
    return 0


async def _remove(store: Store, found: Found) -> int:
    if not found.alone and not found.place.endswith(".json"):
        await store.remove(found)  # which says why it cannot
    if not found.alone:
        terminal.say(f"{terminal.clean(found.place)}: holds more than one letter and is left alone")
        return 0
    await store.remove(found)
    return 1


def _line(found: Found) -> dict[str, Any]:
    letter = found.letter
    return {
        "record": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "time": _text(found.time),
        "reason": letter.reason,
        "code": letter.code,
        "bytes": len(letter.value or b""),
        "points": len(letter.rejected),
        "detail": letter.detail,
        "place": found.place,
    }


def _show(found: Found) -> None:
    letter, line = found.letter, _line(found)
    print(terminal.cell(f"{line['record']}  {letter.code} {letter.reason}", limit=1000))
    value = letter.value
    facts = {
        "time": line["time"],
        "detail": letter.detail,
        "kept at": found.place,
        "written by": f"lmstream {letter.version}" if letter.version else "",
        "key": repr(letter.key[:_PREVIEW]) if letter.key is not None else "",
        "headers": ", ".join(f"{name}={data!r}" for name, data in letter.headers),
        "points": ", ".join(f"{n} {reason}" for n, reason in letter.rejected[:_REJECTED])
        + (f" and {len(letter.rejected) - _REJECTED:,} more" if len(letter.rejected) > _REJECTED else ""),
        "value": "left out" if value is None else f"{len(value):,} bytes, sha256 {letter.sha256}",
        "begins": repr(value[:_PREVIEW]) if value else "",
    }
    for name, text in facts.items():
        if text:
            print(f"  {name}: {terminal.cell(text, limit=1000)}")


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
