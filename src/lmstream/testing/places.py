"""The conformance suite of places of dead letters: what lmstream.interfaces.DeadLetterSink promises, and schedules."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from lmstream.interfaces import DeadLetterSink
from lmstream.model import DeadLetter
from lmstream.testing import samples
from lmstream.testing.bridge import Bridge, answer
from lmstream.testing.schedules import Ground, play
from lmstream.testing.suite import Suite, check, closes, seeds, skip_unless
from lmstream.testing.weather import Burier


class PlaceConformance(Suite):
    """Subclass it as `TestMyPlace`, and write `make` and `letters`; pytest does the rest."""

    schedules: ClassVar[int] = 50
    """How many schedules are played."""

    def make(self) -> DeadLetterSink | Awaitable[DeadLetterSink]:
        """A place that keeps letters at one address per check, as `self.folder`."""
        raise NotImplementedError("write make(): a place of yours, as your module's `make` gives it")

    def letters(self) -> Iterable[DeadLetter] | Awaitable[Iterable[DeadLetter]]:
        """Every letter that is durable at this moment, read from the address itself, not from the place."""
        raise NotImplementedError("write letters(): the dead letters that are at your address now")

    def fail(self) -> Any:
        """From now on nothing can be written."""

    def heal(self) -> Any:
        """Letters can be written again."""

    @check
    async def test_it_is_there_and_takes_the_largest_letter(self) -> None:
        """check() passes when letters can be written; `largest` is no less than a letter of the usual limits."""
        place = await self._made()
        await place.check()
        assert isinstance(place.largest, int), f"largest is {place.largest!r}, not a number of bytes"
        big = samples.large_letter(min(place.largest, 4 << 20))
        await self._write(place, [big])
        await self._has([big], "after the largest letter")
        await place.close()

    @check
    async def test_a_letter_is_durable_and_whole_when_write_returns(self) -> None:
        """Then its record is committed, whatever becomes of the process."""
        place = await self._made()
        await place.check()
        for some in (list(samples.letters()), samples.odd_letters()):
            await self._write(place, some)
            # No close, no wait: a process that dies right here has committed these records.
            await self._has(some, "right after write()")
        await place.close()
        await self._has([*samples.letters(), *samples.odd_letters()], "after close()")

    @check
    async def test_the_same_letter_again_does_no_harm(self) -> None:
        """A lost answer makes lmstream write it again."""
        some = list(samples.letters())
        for _ in range(2):
            place = await self._made()
            await place.check()
            await self._write(place, some)
            await self._write(place, some[:1])
            await place.close()
        await self._has(some, "after it was written again")

    @check
    async def test_another_letter_of_the_same_coordinates_replaces_none(self) -> None:
        """A topic that was recreated has the same offsets again; the older letters are still to be replayed."""
        place = await self._made()
        await place.check()
        first = next(iter(samples.letters()))
        others = [
            msgspec.structs.replace(first, value=value, timestamp=time)
            for value, time in ((b"other", 5), (b"junk 0", 6))
        ]
        await self._write(place, [first])
        for other in others:
            await self._write(place, [other])
        await self._has([first, *others], "after another letter of the same coordinates")
        await place.close()

    @check
    async def test_letters_at_the_same_time_are_all_kept(self) -> None:
        """Each partition writes its own."""
        place = await self._made()
        await place.check()
        some = list(samples.letters(12))
        await asyncio.gather(*(self._write(place, some[at : at + 3]) for at in range(0, 12, 3)))
        await self._has(some, "after writes at the same time")
        await place.close()

    @check
    async def test_what_cannot_be_written_raises(self) -> None:
        """A write that returns lets the record be committed."""
        skip_unless(type(self).fail is not PlaceConformance.fail, "fail", "what a place does that cannot write")
        place = await self._made()
        await place.check()
        some = list(samples.letters())
        await answer(self.fail())
        try:
            await place.write(some)
        except Exception as error:  # noqa: BLE001 - any is allowed
            del error
        else:
            await answer(self.heal())
            await self._has(some, "after a write that returned while nothing could be written")
        await answer(self.heal())
        await self._write(place, some)
        await self._has(some, "after the place was healed")
        await place.close()

    @check
    async def test_it_can_be_closed_twice_and_without_a_write(self) -> None:
        """Hosts close what they made, whatever happened."""
        await closes(await self._made(), "place")

    def test_schedules_lose_no_letter(self) -> None:
        """Kills, refusals and full disks, in virtual time: no commit before the letter, no letter lost."""
        for seed in seeds(self.schedules):
            with type(self).anew() as one, Bridge() as bridge:
                bridge.call(one.up())
                ground = _RealPlace(one, bridge)
                try:
                    play(seed, ground)
                finally:
                    ground.clear()
                    bridge.call(one.down())

    # What the checks use

    async def _made(self) -> DeadLetterSink:
        return await answer(self.make())

    async def _write(self, place: DeadLetterSink, some: Sequence[DeadLetter]) -> None:
        try:
            await place.write(some)
        except Exception as error:
            what = f"a letter of {len(some[0].value or b'')} bytes" if len(some) == 1 else f"{len(some)} letters"
            raise AssertionError(f"writing {what} raised {type(error).__name__}: {error}") from error

    async def _has(self, wanted: Iterable[DeadLetter], when: str) -> None:
        there = list(await answer(self.letters()))
        for letter in wanted:
            if letter in there:
                continue
            name = letter.record().coordinates[:100]
            near = [
                each
                for each in there
                if (each.topic, each.partition, each.offset) == (letter.topic, letter.partition, letter.offset)
            ]
            assert near, f"{when}, the letter of {name} is not there"
            changed = sorted(
                {key for each in near for key in letter.__struct_fields__ if getattr(each, key) != getattr(letter, key)}
            )
            raise AssertionError(f"{when}, the letter of {name} is there, but not whole: {', '.join(changed)} changed")


class _RealPlace(Ground):
    """Somebody's place in the middle of a schedule; a new one for each member."""

    def __init__(self, suite: PlaceConformance, bridge: Bridge) -> None:
        super().__init__()
        self._suite, self._bridge = suite, bridge
        self._buriers: list[_Burier] = []

    def burier(self) -> Burier:
        place = self._bridge.call(answer(self._suite.make()))
        self._bridge.call(place.check())
        self._buriers.append(_Burier(place, self._bridge.call))
        return self._buriers[-1]

    def clear(self) -> None:
        """Close what was never closed, for its process was killed."""
        for each in self._buriers:
            if not each.closed:
                each.close()

    def buried(self) -> set[str]:
        return {each.record().coordinates for each in self._bridge.call(answer(self._suite.letters()))}


class _Burier:
    def __init__(self, place: DeadLetterSink, call: Callable[[Any], Any]) -> None:
        self.closed = False
        self._place, self._call = place, call

    def bury(self, letters: Sequence[DeadLetter], /) -> None:
        self._call(self._place.write(letters))

    def close(self) -> None:
        self.closed = True
        self._call(self._place.close())
