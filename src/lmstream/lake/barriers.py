"""A topic is divided into other lanes: which division it is in, and how the lanes of those before are ended.

Divisions of a topic are numbered, and only go up. Whoever has a new number writes it down, once (`enter`); then it
ends every lane of every division before, by a *barrier*: the last claim of a lane (`ends`). All windows before a
barrier have all their objects. Only when all lanes have one, the first claim of a new lane is made, and begins where
they end.

Why no offset is in two divisions. A member of division d makes claims in a lane only after it saw that the lane has a
claim, and, later, that no higher number is written down (`stay`). A member of a higher division lists the lanes after
its number is written down. So if the first did not see the number, the second sees the lane, and ends it: the first
then loses the next claim to the barrier, or wins it, and the barrier comes behind. Nobody claims behind a barrier,
because whoever finds one stops. Neither clock nor group is in this, and two that make barriers at once make the same.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from operator import itemgetter
from typing import Final

import msgspec

from lmstream.errors import SinkError
from lmstream.lake.claims import Claim, Claims, Divided, Span
from lmstream.lake.division import Division, LaneName, lane_name, other_division
from lmstream.lake.opening import not_done

log: Final = logging.getLogger("lmstream.lake")

RECORD_BYTES: Final = 4096
DIVISIONS: Final = 100_000


class _Written(Divided, frozen=True, kw_only=True):
    """What is written down of a division."""

    rows: str = ""
    """Where rows lie. Others would look for the objects of its claims elsewhere, and make them again there."""


Finish = Callable[[Claim], Awaitable[None]]
"""See that all objects of a window are there; make those that are missing. Raises SinkError."""


class Barriers:
    """The divisions of all topics, for one process, which has one of them."""

    def __init__(
        self,
        claims: Claims,
        division: Division,
        finish: Finish,
        *,
        writer: str,
        layout: Callable[[], Awaitable[str]],
        wall: Callable[[], int],
    ) -> None:
        """`layout` answers the hash of settings that is named where no rows depend on any."""
        self._claims, self._division, self._finish = claims, division, finish
        self._writer, self._layout, self._wall = writer, layout, wall
        self._ends: dict[str, Mapping[int, Span]] = {}

    async def enter(self, topic: str) -> None:
        """See that a topic is divided as ours is, or divide it so. Raises SinkError `lake.lanes` when it is divided
        otherwise: a lane of another division would not begin where those before it ended."""
        await self.stay(topic)
        mine = self._division.divided
        key = self._key(topic, mine.number)
        written = _Written(number=mine.number, lanes=mine.lanes, rows=self._claims.rows)
        if await self._claims.requests.create(key, msgspec.json.encode(written), {}):
            return
        there = await self._written(key)
        self._refuse_other(topic, there, key)
        if there.rows != self._claims.rows:
            place = self._claims.requests.place
            what = f"{topic} is landed below {place(there.rows)}, and this process would land it below"
            raise SinkError("lake.place", f"{what} {place(self._claims.rows)} ({place(key)})")

    async def stay(self, topic: str) -> None:
        """See that a topic has not been divided anew. Raises SinkError `lake.lanes`.

        To be asked again once the lanes have claims, and before they get more.
        """
        mine, at = self._division.divided, self._key(topic)
        names = await self._claims.requests.names(at, DIVISIONS)
        newest = max((int(each.removeprefix(at).removesuffix(".json")) for each in names), default=0)
        if newest > mine.number:
            key = self._key(topic, newest)
            self._refuse_other(topic, await self._written(key), key)
        # A lifecycle rule may have removed what was written down. Lanes in use have claims.
        lanes = [(name.divided.number, lane, name.divided) for lane, name in await self._lanes(topic)]
        for number, lane, divided in sorted(lanes, key=itemgetter(0), reverse=True):
            if number >= mine.number:
                self._refuse_other(topic, divided, self._claims.place(topic, lane))

    async def ends(self, topic: str) -> Mapping[int, Span]:
        """End all lanes of the divisions before ours; answers by partition where they end. Raises SinkError when a
        window of theirs cannot be finished."""
        if not self._division.number:
            return {}
        if topic not in self._ends:
            lanes = [lane for lane, name in await self._lanes(topic) if name.divided.number < self._division.number]
            found: dict[int, Span] = {}
            for barrier in await asyncio.gather(*(self._end(topic, lane) for lane in lanes)):
                for partition, span in barrier.spans.items():
                    if (known := found.get(partition)) is None or known.end < span.end:
                        found[partition] = span
            self._ends[topic] = found  # nothing comes behind a barrier
        return self._ends[topic]

    async def _end(self, topic: str, lane: str) -> Claim:
        """End one lane; answers its barrier."""
        layout = await self._layout()
        while True:
            head = await self._claims.head(topic, lane)
            if head is None:
                raise SinkError("lake.chain", f"{topic}/{lane}: its claims are gone since they were listed")
            if head.kind == "barrier":
                return head
            for claim in await not_done(self._claims, head):
                await self._finish(claim)
            spans = {p: Span(start=span.end, end=span.end, last=span.last) for p, span in head.spans.items()}
            mine = Claim(
                topic=topic,
                lane=lane,
                sequence=head.sequence + 1,
                kind="barrier",
                why=f"its offsets continue in division {self._division.number}: {self._division.divided}",
                spans=spans,
                done=head.sequence + 1,
                layout=layout,
                next=self._division.divided,
                writer=f"{self._writer} ends {lane}",
                at=self._wall(),
            )
            # A member that lands there yet may win, and is followed.
            if (there := await self._claims.create(mine)).kind == "barrier":
                if there is mine:
                    log.info("%s/%s: ended by claim %d: %s", topic, lane, mine.sequence, mine.why)
                return there

    async def _lanes(self, topic: str) -> list[tuple[str, LaneName]]:
        """Lanes that have claims, of this incarnation of a topic."""
        named = [(lane, lane_name(lane)) for lane in await self._claims.lanes(topic)]
        return [(lane, name) for lane, name in named if name and name.incarnation == self._division.incarnation]

    async def _written(self, key: str) -> _Written:
        data = await self._claims.requests.get(key, RECORD_BYTES)
        place = self._claims.requests.place(key)
        if data is None:
            raise SinkError("lake.chain", f"{place}: it is gone")
        try:
            return msgspec.json.decode(data, type=_Written)
        except msgspec.MsgspecError as error:
            raise SinkError("lake.chain", f"{place}: not one that this version can read: {error}") from error

    def _key(self, topic: str, number: int | None = None) -> str:
        """Where a division is written down, or all of them."""
        at = f"{self._claims.lanes_at}{topic}/{self._division.incarnation or '_'}/"
        return at if number is None else f"{at}{number}.json"

    def _refuse_other(self, topic: str, there: Divided, key: str) -> None:
        """Raise SinkError when a topic is divided otherwise than by ours."""
        if (there.number, there.lanes) != (self._division.number, self._division.lanes):
            raise other_division(topic, there, self._division.divided, self._claims.requests.place(key))
