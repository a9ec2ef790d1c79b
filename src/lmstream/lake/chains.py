"""All claims of a lake that are there, lane by lane: for verbs that look at what has landed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from lmstream.lake.claims import LAST, Claim, Claims
from lmstream.lake.division import lane_name

MOST: Final = 10_000_000
"""Keys of a listing: claims of 30 lanes that end a window every minute for half a year."""
_AHEAD: Final = 32


class Chains:
    """The lanes of one lake. A lane is listed once and then remembered: this is for what runs and ends."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._sequences: dict[tuple[str, str], Sequence[int]] = {}
        self._lanes: dict[str, Sequence[str]] = {}

    async def lanes(self) -> list[tuple[str, str]]:
        """(topic, lane) of each lane that has claims."""
        found: dict[tuple[str, str], list[int]] = {}
        for key in await self._claims.requests.names(self._claims.claims_at, MOST):
            topic, lane, name = key.removeprefix(self._claims.claims_at).split("/")
            found.setdefault((topic, lane), []).append(_sequence(name))
        self._sequences |= {lane: sorted(numbers) for lane, numbers in found.items()}
        return sorted(found)

    async def sequences(self, topic: str, lane: str) -> Sequence[int]:
        """Numbers of the claims of a lane, in order; those that a lifecycle rule has removed are missing."""
        if (topic, lane) not in self._sequences:
            at = self._claims.place(topic, lane)
            names = await self._claims.requests.names(at, MOST)
            self._sequences[topic, lane] = sorted(_sequence(each.removeprefix(at)) for each in names)
        return self._sequences[topic, lane]

    async def claims(self, topic: str, lane: str) -> AsyncIterator[Claim]:
        """The claims of a lane, in order, some read ahead. Raises SinkError for what is not a claim."""
        numbers = await self.sequences(topic, lane)
        for at in range(0, len(numbers), _AHEAD):
            some = numbers[at : at + _AHEAD]
            for claim in await asyncio.gather(*(self._claims.get(topic, lane, n) for n in some)):
                yield claim

    async def of(self, topic: str, partition: int, offset: int, incarnation: str) -> Claim | None:
        """The claim whose window has this offset, in whichever division of the topic; None when none that is there has
        it."""
        if topic not in self._lanes:
            self._lanes[topic] = await self._claims.lanes(topic)
        named = [(name.divided.number, lane) for lane in self._lanes[topic] if (name := lane_name(lane)) is not None
                 and name.incarnation == incarnation and name.has(partition)]  # fmt: skip
        for _, lane in sorted(named, reverse=True):
            if (claim := await self.covering(topic, lane, partition, offset)) is not None:
                return claim
        return None

    async def covering(self, topic: str, lane: str, partition: int, offset: int) -> Claim | None:
        """The claim whose window has this offset; None when no claim that is there has it."""
        numbers = await self.sequences(topic, lane)
        low, high = 0, len(numbers)
        while low < high:  # ranges of a lane follow one another
            middle = (low + high) // 2
            claim = await self._claims.get(topic, lane, numbers[middle])
            span = claim.spans.get(partition)
            if span is not None and span.start <= offset < span.end:
                return claim
            # Without the partition: it was added to the topic later.
            low, high = (low, middle) if span is not None and offset < span.start else (middle + 1, high)
        return None


def _sequence(name: str) -> int:
    return LAST - int(name.removesuffix(".json"))
