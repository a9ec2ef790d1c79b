"""Dead letters through the engine again, or removed: what `lmstream dlq replay` and `lmstream dlq purge` do."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from lmstream.dead_letters import lambda_failures
from lmstream.dead_letters.filters import Filters
from lmstream.dead_letters.store import DeadLetterStore, Found, Say, log, reading
from lmstream.delivery import Settled
from lmstream.engine import Engine
from lmstream.errors import DecodeError
from lmstream.interfaces import Batch, Drain, Source
from lmstream.model import CLOSED, UNREADABLE, DeadLetter, Record, Status, TopicPartition

_POLL: Final = 500  # letters in one poll of a replay, at most
_NAMED: Final = 20


class Rehearsal(Struct):
    """What a replay would give."""

    letters: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Letters that would be refused again, by reason."""


class Removal(Struct):
    """What was removed, or would be."""

    letters: int = 0
    named: list[str] = field(default_factory=list)
    """The first places of those that would be removed."""


class LetterSource:
    """Source of the letters that fit, as the records they are of. Nothing is committed anywhere."""

    def __init__(self, found: AsyncIterator[Found], take: Callable[[Found], bool]) -> None:
        """`take` is asked for each letter; what it refuses is skipped."""
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


async def rehearse(store: DeadLetterStore, filters: Filters, maker: Engine) -> Rehearsal:
    """Say what a replay of the letters that fit would give. Sends nothing."""
    done = Rehearsal()
    async with reading(store, filters.compiled()) as found:
        async for each in found:
            done.letters += 1
            if _is_stub(each.letter):
                done.refused[each.letter.reason or "no value"] += 1
                continue
            try:
                out = maker.fan_out(each.letter.record())
            except DecodeError as e:
                done.refused[e.reason] += 1
                continue
            done.rows += out.rows
            if out.rejected or out.parts:
                done.refused[out.rejected[0][1] if out.rejected else out.parts[0].reason] += 1
    return done


class _Taken:
    """What a replay took up, and what became of it."""

    def __init__(self) -> None:
        self._taken: dict[tuple[TopicPartition, int], list[Found]] = {}
        self._settled: dict[tuple[TopicPartition, int], list[Status]] = {}
        self.stubs = 0

    def take(self, found: Found) -> bool:
        letter = found.letter
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


async def replay(
    store: DeadLetterStore,
    filters: Filters,
    run: Callable[[Source, Settled], Awaitable[None]],
    *,
    purge: bool = False,
    say: Say = log.warning,
) -> int:
    """Replay the letters that fit: `run` moves the records of a source to a sink, and tells what became of each.

    With `purge`, remove each letter of which all was delivered; answers how many. Raises what `run` raises, and then
    nothing was removed.
    """
    taken = _Taken()
    async with reading(store, filters.compiled()) as found:
        await run(LetterSource(found, taken.take), taken.note)
        if taken.stubs:
            say(f"{taken.stubs:,} letters have no bytes or a whole batch: read those records from their topic")
        entire, removed = _Entire(say), 0
        for each in taken.delivered() if purge else ():
            if entire.is_last(each):
                removed += await _remove(store, each, say)
        entire.tell_others()
    return removed


async def remove_all(store: DeadLetterStore, filters: Filters, *, yes: bool, say: Say = log.warning) -> Removal:
    """Remove the letters that fit; without `yes` only say which they are."""
    entire, done = _Entire(say), Removal()
    async with reading(store, filters.compiled()) as found:
        async for each in found:
            if not entire.is_last(each):
                continue
            if yes:
                done.letters += await _remove(store, each, say)
                continue
            done.letters += each.of
            if len(done.named) < _NAMED:
                done.named.append(each.place)
    entire.tell_others()
    return done


class _Entire:
    """Watches that a document of several letters goes only when all of them may go."""

    def __init__(self, say: Say) -> None:
        self._say = say
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
            self._say(f"{place}: {left:,} of its records stay, so it is not deleted")


def _is_stub(letter: DeadLetter) -> bool:
    """Whether a letter has no record to send. A tombstone that a mapping gave up is one."""
    return letter.reason in (CLOSED, UNREADABLE) or (letter.value is None and letter.reason != lambda_failures.REASON)


async def _remove(store: DeadLetterStore, found: Found, say: Say) -> int:
    if not found.alone and not found.place.endswith(".json"):
        await store.remove(found)  # which says why it cannot
    if not found.alone:
        say(f"{found.place}: has more than one letter and is not deleted")
        return 0
    await store.remove(found)
    return found.of
