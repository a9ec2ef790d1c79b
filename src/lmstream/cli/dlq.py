"""`lmstream dlq`: dead letters listed, shown, counted, replayed and removed."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.ending import conclude
from lmstream.cli.flags import EngineFlags, Json
from lmstream.cli.letters import NOTHING, Letters, Which
from lmstream.cli.letters_into_lake import LandedLetters, replay_into_lake, told
from lmstream.cli.refusals import refusals
from lmstream.cli.run import NO_SINK, SinkFlags, execute
from lmstream.cli.tables import Column, Wide, table
from lmstream.config.validation import ORGANIZATION, PURGING, REPLAY
from lmstream.dead_letters.counting import LetterCounts
from lmstream.dead_letters.filters import Filters
from lmstream.dead_letters.replay import Rehearsal, rehearse, remove_all
from lmstream.dead_letters.replay import replay as again
from lmstream.dead_letters.store import DeadLetterStore, Found, reading
from lmstream.delivery import Settled
from lmstream.engine import Engine
from lmstream.errors import ConfigError, LmstreamError
from lmstream.interfaces import Source
from lmstream.model import DeadLetter
from lmstream.runtime import Progress

_PREVIEW: Final = 200
_REJECTED: Final = 20
_LISTED: Final = (
    Column("record", 1, "id"),
    Column("time", 4, "whole"),
    Column("reason", 2, "id"),
    Column("bytes", 6, "count"),
    Column("points", 5, "count"),
    Column("detail", 3),
)
_COUNTED: Final = (
    Column("topic", 2, "id"),
    Column("partition", 3, "whole"),
    Column("reason", 1, "id"),
    Column("letters", 4, "count"),
    Column("points", 5, "count"),
    Column("parts", 8, "count"),
    Column("bytes", 9, "count"),
    Column("oldest", 7, "whole"),
    Column("newest", 6, "whole"),
)


def ls(
    letters: Letters = None,
    /,
    *,
    limit: int = 100,
    wide: Wide = False,
    as_json: Json = False,
    which: Which = NOTHING,
) -> int:
    """List dead letters, one per line.

    Parameters
    ----------
    limit
        Maximum of letters to list.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per line.
    """
    found, more = asyncio.run(_first(which.store(letters), which.filters, limit))
    if as_json:
        terminal.print_lines(map(_line, found))
    else:
        rows = [_line(each) for each in found]
        table(_LISTED, [[row[head.name] for head in _LISTED] for row in rows], wide=wide)
    if more:
        terminal.say(f"the first {limit:,} letters; --limit shows more")
    return 0


def show(
    letters: Letters = None,
    /,
    *,
    limit: int = 10,
    as_json: Json = False,
    which: Which = NOTHING,
) -> int:
    """Show dead letters in full: reason, refused points and their place, first bytes.

    Parameters
    ----------
    limit
        Maximum of letters to show.
    as_json
        Print the letters themselves, one per line, with their bytes in base64; `run --files` reads them.
    """
    found, more = asyncio.run(_first(which.store(letters), which.filters, limit))
    maker = None if as_json else _maker(which.engine)
    for each in found:
        if as_json:
            terminal.print_json(msgspec.to_builtins(each.letter), indent=None)
        else:
            _show(each, maker)
    if more:
        terminal.say(f"the first {limit:,} letters; --limit shows more")
    return 0


def stats(
    letters: Letters = None,
    /,
    *,
    wide: Wide = False,
    as_json: Json = False,
    which: Which = NOTHING,
) -> int:
    """Count dead letters by partition and reason, and in all by record and by point, as a run and `verify` do.

    Parameters
    ----------
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object.
    """
    counted, total = asyncio.run(_count(which.store(letters), which.filters))
    lines = [
        {"topic": topic, "partition": partition, "reason": reason, **tally}
        for (topic, partition, reason), tally in sorted(counted.items())
    ]
    if as_json:
        terminal.print_json({"letters": total.dead_letters, **msgspec.to_builtins(total), "groups": lines})
    else:
        table(_COUNTED, [[line[head.name] for head in _COUNTED] for line in lines], wide=wide)
        print(terminal.cell(total.sentence, limit=1000))
    return 0


def replay(
    letters: Letters = None,
    /,
    *,
    yes: bool = False,
    purge_delivered: bool = False,
    sink: SinkFlags = NO_SINK,
    which: Which = NOTHING,
) -> int:
    """Send dead letters through the engine again; without --yes only show what would happen.

    Rows get the ids they would have had. If a letter names rejected points, only those points become rows. Records
    that are refused again are dead-lettered in the same place, or in --dead-letters, which letters in a topic need.
    Nothing is deleted without --purge-delivered.

    Batches in the on-failure destination of a Kafka event source mapping are read like letters, from Lambda's documents
    in a folder or bucket. Such a document is deleted only when all of its records were delivered.

    Into a lake (sink.type s3) a letter is replayed once: only one that a claim lists, and only what has not landed.

    Parameters
    ----------
    yes
        Deliver.
    purge_delivered
        Delete each letter whose rows were all delivered.
    """
    store, kept = which.opened(letters)
    if sink.dead_letters is not None:
        kept = {}  # the settings of one kind of place are none of another's
    overrides: dict[str, Any] = {**kept, **sink.overrides(), "source.type": "files", "source.paths": ("letters",)}
    config = which.engine.load(overrides, [ORGANIZATION] if not yes else PURGING if purge_delivered else REPLAY)
    if not yes:
        return _rehearsed(asyncio.run(rehearse(store, which.filters, Engine(config.engine))))
    if not kept and sink.dead_letters is None:
        raise ConfigError("config.invalid", "records that are refused again need a place: give --dead-letters FOLDER")
    summaries: list[Progress] = []
    landed: list[LandedLetters] = []

    into_lake = config.need("sink").traits.claims

    async def run(source: Source, on_settled: Settled) -> None:
        if into_lake:
            landed.append(await replay_into_lake(config, source, on_settled, terminal.say))
        else:
            summaries.append(await execute(config, source, on_settled))

    removed = asyncio.run(again(store, which.filters, run, purge=purge_delivered, say=terminal.say))
    if purge_delivered:
        terminal.say(f"{removed:,} letters removed")
    return told(landed[0]) if into_lake else conclude(summaries[0], config)


def purge(
    letters: Letters = None,
    /,
    *,
    yes: bool = False,
    every: Annotated[bool, Parameter(name="--all")] = False,
    which: Which = NOTHING,
) -> int:
    """Delete dead letters permanently; without --yes only show which.

    Parameters
    ----------
    yes
        Delete them.
    every
        Delete all letters: required if there is no filter.
    """
    if which.filters.given == every:
        raise ConfigError("config.invalid", "purge needs filters such as --reason or --until, or --all without any")
    done = asyncio.run(remove_all(which.store(letters), which.filters, yes=yes, say=terminal.say))
    for place in done.named:
        print(terminal.cell(place, limit=1000))
    what = "letters removed" if yes else "letters would be deleted; give --yes to delete them"
    terminal.say(f"{done.letters:,} {what}")
    return 0


def _rehearsed(done: Rehearsal) -> int:
    terminal.say(f"{done.letters:,} letters would give {done.rows:,} rows; give --yes to send them")
    for reason, count in sorted(done.refused.items()):
        terminal.say(f"{count:,} would be refused again: {terminal.cell(reason)}")
    return 0


async def _first(store: DeadLetterStore, filters: Filters, limit: int) -> tuple[list[Found], bool]:
    """Answer the first letters that fit, and whether there are more."""
    taken: list[Found] = []
    async with reading(store, filters.compiled()) as found:
        async for each in found:
            if len(taken) >= limit:
                return taken, True
            taken.append(each)
    return taken, False


async def _count(
    store: DeadLetterStore, filters: Filters
) -> tuple[dict[tuple[str, int, str], dict[str, Any]], LetterCounts]:
    total = LetterCounts()
    counted: dict[tuple[str, int, str], dict[str, Any]] = {}
    async with reading(store, filters.compiled()) as found:
        async for each in found:
            letter, time = each.letter, _text(each.time)
            total.add(letter)
            empty: dict[str, Any] = {"letters": 0, "points": 0, "parts": 0, "bytes": 0, "oldest": time, "newest": time}
            tally = counted.setdefault((letter.topic, letter.partition, letter.reason), empty)
            tally["letters"] += 1
            tally["points"] += len(letter.rejected)
            tally["parts"] += len(letter.parts)
            tally["bytes"] += len(letter.value or b"")
            tally["oldest"], tally["newest"] = min(tally["oldest"], time), max(tally["newest"], time)
    return counted, total


def _line(found: Found) -> dict[str, Any]:
    letter = found.letter
    return {
        "record": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "time": _text(found.time),
        "reason": letter.reason,
        "code": letter.code,
        "bytes": len(letter.value or b""),
        "points": len(letter.rejected),
        "parts": len(letter.parts),
        "detail": letter.detail,
        "place": found.place,
    }


def _maker(engine: EngineFlags) -> Engine | None:
    """The engine that says where refused points are; None when its settings cannot be read: letters show without."""
    try:
        return Engine(engine.load().engine)
    except LmstreamError:
        return None


def _refusals(letter: DeadLetter, maker: Engine | None) -> list[str]:
    """Where the refused points are, by the engine and settings of today."""
    if maker is None or letter.value is None or not (letter.rejected or letter.parts):
        return []
    try:
        return refusals(maker.fan_out(letter.record()))
    except LmstreamError:
        return []


def _show(found: Found, maker: Engine | None) -> None:
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
        "parts": ", ".join(f"{path} {reason}" for path, reason in letter.parts[:_REJECTED])
        + (f" and {len(letter.parts) - _REJECTED:,} more" if len(letter.parts) > _REJECTED else ""),
        "value": "left out" if value is None else f"{len(value):,} bytes, sha256 {letter.sha256}",
        "begins": repr(value[:_PREVIEW]) if value else "",
    }
    for name, text in facts.items():
        if text:
            print(f"  {name}: {terminal.cell(text, limit=1000)}")
    for text in _refusals(letter, maker):
        print(f"    {terminal.cell(text, limit=1000)}")


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
