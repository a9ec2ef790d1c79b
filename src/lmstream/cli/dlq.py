"""`lmstream dlq`: dead letters listed, shown and counted; replayed and removed in `dlq_acts`."""

import asyncio
import difflib
from datetime import datetime
from typing import Any, Final

import msgspec

from lmstream.cli import terminal
from lmstream.cli.dlq_acts import purge, replay
from lmstream.cli.flags import NO_ENGINE, NO_FILE, EngineFlags, FileFlags, Json
from lmstream.cli.letters import NOTHING, Letters, LettersOrRecord, Which
from lmstream.cli.refusals import refusals
from lmstream.cli.tables import Column, Wide, table
from lmstream.dead_letters.counting import LetterCounts
from lmstream.dead_letters.filters import Filters
from lmstream.dead_letters.store import DeadLetterStore, Found, reading
from lmstream.engine import Engine
from lmstream.errors import REASONS, LmstreamError
from lmstream.model import DeadLetter

__all__ = ["ls", "purge", "replay", "show", "stats"]

_PREVIEW: Final = 200
_REJECTED: Final = 20
_LISTED: Final = (
    Column("record", 1, "id"),
    Column("time", 3, "whole"),
    Column("reason", 2, "id"),
    Column("bytes", 6, "count"),
    Column("points", 5, "count"),
    Column("detail", 4, least=24),
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
    file: FileFlags = NO_FILE,
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
    found, more = asyncio.run(_first(which.store(letters, file), which.filters, limit))
    if as_json:
        terminal.print_lines(map(_line, found))
    else:
        # Places are read in the order of their names: 1007 before 102.
        rows = [_line(each) for each in sorted(found, key=lambda each: (*each.letter.record().tp, each.letter.offset))]
        table(_LISTED, [[row[head.name] for head in _LISTED] for row in rows], wide=wide)
    if more:
        terminal.say(f"the first {limit:,} letters; --limit shows more, and `lmstream dlq stats` counts all")
    elif not as_json:
        terminal.say(f"{len(found):,} letters")
    if not found:
        _say_unknown(which.filters)
    return 0


def _say_unknown(filters: Filters) -> None:
    """Say which reasons that were asked for are none of this version: a typo finds nothing either."""
    for reason in filters.reason:
        if reason not in REASONS and not set(reason) & set("*?["):
            close = difflib.get_close_matches(reason, REASONS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            terminal.say(f"lmstream has no reason {reason}; a module of your own may{hint}")


def show(
    letters: LettersOrRecord = None,
    /,
    *,
    limit: int = 10,
    as_json: Json = False,
    which: Which = NOTHING,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Show dead letters in full: reason, refused points and their place, first bytes.

    Parameters
    ----------
    limit
        Maximum of letters to show.
    as_json
        Print the letters themselves, one per line, with their bytes in base64; `run --files` reads them.
    """
    letters, which = which.of_record(letters)
    found, more = asyncio.run(_first(which.store(letters, engine), which.filters, limit))
    maker = None if as_json else _maker(engine)
    for each in found:
        if as_json:
            terminal.print_json(msgspec.to_builtins(each.letter), indent=None)
        else:
            _show(each, maker)
    if not found:
        terminal.say("no dead letter fits")
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
    file: FileFlags = NO_FILE,
) -> int:
    """Count dead letters by partition and reason, and in all by record and by point, as a run and `verify` do.

    Parameters
    ----------
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object.
    """
    counted, total = asyncio.run(_count(which.store(letters, file), which.filters))
    lines = [
        {"topic": topic, "partition": partition, "reason": reason, **tally}
        for (topic, partition, reason), tally in sorted(counted.items())
    ]
    if as_json:
        terminal.print_json({"letters": total.dead_letters, **msgspec.to_builtins(total), "groups": lines}, indent=None)
    else:
        table(_COUNTED, [[line[head.name] for head in _COUNTED] for line in lines], wide=wide)
        print(terminal.cell(total.sentence, limit=1000))
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
