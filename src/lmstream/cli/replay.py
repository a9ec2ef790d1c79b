"""Dead letters through the engine again, or removed: what `lmstream dlq replay` and `lmstream dlq purge` do."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import msgspec

from lmstream.cli import terminal
from lmstream.cli.ending import conclude
from lmstream.cli.letter_stores import Found, Store
from lmstream.cli.letters import Filters, reading
from lmstream.cli.run import execute
from lmstream.config import Config
from lmstream.dead_letters import lambda_failures
from lmstream.engine import Engine
from lmstream.errors import DecodeError
from lmstream.interfaces import Batch, Drain
from lmstream.model import CLOSED, UNREADABLE, DeadLetter, Record, Status, TopicPartition

_POLL: Final = 500  # letters in one poll of a replay, at most
_NAMED: Final = 20


class LetterSource:
    """Source of the letters that fit, as the records they are of. Nothing is committed anywhere."""

    def __init__(self, found: AsyncIterator[Found], take: Callable[[Found], bool]) -> None:
        """`take` is asked for each letter; what it refuses is passed over."""
        self.on_revoke: Drain | None = None
        self._found, self._take = found, take
        self._ended = False

    async def poll(self, room: int, /) -> Batch:
        """Read letters of at most about `room` bytes."""
        if room <= 0 or self._ended:
            await asyncio.sleep(0 if self._ended else 0.01)
            return Batch((), end=self._ended)
        records: list[Record] = []
        while room > 0 and len(records) < _POLL:
            found = await anext(self._found, None)
            if found is None:
                self._ended = True
                break
            if self._take(found):
                records.append(found.letter.record())
                room -= len(found.letter.value or b"")
        return Batch(records, end=self._ended)

    async def commit(self, offsets: Any, /) -> None:
        """Letters stay where they are."""

    async def close(self) -> None:
        """The place of the letters is its owner's to close."""


async def rehearse(store: Store, filters: Filters, config: Config) -> int:
    """Say what a replay would give."""
    fits, maker = filters.compiled(), Engine(config.engine)
    letters = rows = 0
    again: Counter[str] = Counter()
    async with reading(store) as found:
        async for each in found:
            if not fits(each):
                continue
            letters += 1
            if _is_stub(each.letter):
                again[each.letter.reason or "no value"] += 1
                continue
            try:
                out = maker.fan_out(each.letter.record())
            except DecodeError as e:
                again[e.reason] += 1
                continue
            rows += out.rows
            if out.rejected or out.parts:
                again[out.rejected[0][1] if out.rejected else out.parts[0].reason] += 1
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
        if _is_stub(letter):
            self.stubs += 1
            return False
        light = msgspec.structs.replace(letter, value=None, key=None, headers=(), rejected=(), parts=())
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
            settled = self._settled.get(at, [])
            if len(settled) == len(places) and {*settled} <= {Status.DELIVERED, Status.TOMBSTONE}:
                yield from places


async def send_again(store: Store, filters: Filters, config: Config, *, purge: bool) -> int:
    """Replay; with `purge`, remove each letter of which all was delivered. Answer the exit code of the run."""
    replayed = _Replayed(filters)
    async with reading(store) as found:
        summary = await execute(config, LetterSource(found, replayed.take), replayed.note)
        if replayed.stubs:
            terminal.say(f"{replayed.stubs:,} letters hold no bytes or a whole batch: read those from their topic")
        if purge:
            entire = _Entire()
            removed = sum([await _remove(store, each) for each in replayed.delivered() if entire.is_last(each)])
            entire.tell_others()
            terminal.say(f"{removed:,} letters removed")
    return conclude(summary, config)


async def remove_all(store: Store, filters: Filters, *, yes: bool) -> int:
    """Remove the letters that fit; without `yes` name the first of them."""
    fits, entire = filters.compiled(), _Entire()
    removed = places = 0
    async with reading(store) as found:
        async for each in found:
            if not fits(each) or not entire.is_last(each):
                continue
            if yes:
                removed += await _remove(store, each)
                continue
            removed += each.of
            places += 1
            if places <= _NAMED:
                print(terminal.cell(each.place, limit=1000))
    entire.tell_others()
    if yes:
        terminal.say(f"{removed:,} letters removed")
    else:
        terminal.say(f"{removed:,} letters would be removed; nothing was: give --yes")
    return 0


class _Entire:
    """Watches that a document of several letters goes only when all of them may go."""

    def __init__(self) -> None:
        self._missing: dict[str, int] = {}

    def is_last(self, found: Found) -> bool:
        """Whether this is the last letter of its place."""
        if not found.alone or found.of == 1:
            return True
        self._missing[found.place] = left = self._missing.get(found.place, found.of) - 1
        if not left:
            del self._missing[found.place]
        return not left

    def tell_others(self) -> None:
        """Name the places that stay for some of their letters."""
        for place, left in self._missing.items():
            terminal.say(f"{terminal.clean(place)}: {left:,} of its records stay, so it is left alone")


def _is_stub(letter: DeadLetter) -> bool:
    """Whether a letter has no record to send. A tombstone that a mapping gave up is one."""
    return letter.reason in (CLOSED, UNREADABLE) or (letter.value is None and letter.reason != lambda_failures.REASON)


async def _remove(store: Store, found: Found) -> int:
    if not found.alone and not found.place.endswith(".json"):
        await store.remove(found)  # which says why it cannot
    if not found.alone:
        terminal.say(f"{terminal.clean(found.place)}: holds more than one letter and is left alone")
        return 0
    await store.remove(found)
    return found.of
