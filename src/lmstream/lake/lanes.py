"""The lanes of one process: opened when their partitions are assigned, closed when another claims what they would."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final

from lmstream.abilities import Seek
from lmstream.delivery.outlet import Parts
from lmstream.delivery.transform import Transform
from lmstream.delivery.waiting import Waiting
from lmstream.delivery.window_length import window_fits
from lmstream.engine import Engine
from lmstream.errors import SinkError, SourceError, coded
from lmstream.interfaces import Assigned, Limits
from lmstream.lake.barriers import Barriers, Finish
from lmstream.lake.claims import Claim, Claims, Span
from lmstream.lake.division import Division, lane_name
from lmstream.lake.lane import Lane, Opening
from lmstream.lake.layout import Layout
from lmstream.lake.objects import other_code
from lmstream.lake.opening import ended, opened
from lmstream.lake.place import take_place
from lmstream.model import TopicPartition

log: Final = logging.getLogger("lmstream.lake")

LIMITS: Final = Limits(
    pack_bytes=1 << 62,  # no service's: objects are bounded by WindowPolicy, a record's rows by the engine
    pack_rows=1 << 62,
    request_packs=1,
    request_bytes=1 << 62,
    by_path=True,
)
MakeEngine = Callable[[Layout], Engine]
Wall = Callable[[], int]
"""Unix milliseconds."""


class Lanes:
    """Lanes by partition, and how the rows of each layout in their claims are made."""

    def __init__(
        self,
        parts: Parts,
        claims: Claims,
        layout: Layout,
        *,
        writer: str,
        waiting: Waiting,
        engine: MakeEngine,
        division: Division,
        wall: Wall,
        began: Callable[[Lane], None],
        finish: Finish,
    ) -> None:
        """`engine` makes rows by the settings of a claim. Partitions of lanes that have to wait are put into `waiting`.
        `began` is called with a lane that may gather from now on, `finish` with windows of lanes that are ended."""
        self._parts, self._claims, self._layout = parts, claims, layout
        self._writer, self._waiting, self._engine, self._division = writer, waiting, engine, division
        self._wall, self._began = wall, began
        self._barriers = Barriers(claims, division, finish, writer=writer, layout=self._kept, wall=wall)
        self.transforms: dict[str, Transform] = {layout.hash: Transform(parts.engine, LIMITS, parts.guard)}
        """By hash of a layout."""
        self.seek: Seek | None = None
        """Have the source read from elsewhere, under a new epoch."""
        self._lanes: dict[TopicPartition, Lane] = {}
        self._sent: dict[TopicPartition, int] = {}  # where each was to be read from
        self._epochs: dict[TopicPartition, int] = {}

    def get(self, tp: TopicPartition) -> Lane | None:
        """The lane of a partition that was assigned."""
        return self._lanes.get(tp)

    def takes(self, lane: Lane, tp: TopicPartition, epoch: int) -> bool:
        """Whether what was read under this epoch is the lane's; else it was read before the lane began again."""
        if epoch > self._epochs.get(tp, -1):
            self._epochs[tp] = epoch
        return not lane.closed and epoch > lane.after

    def each(self) -> list[Lane]:
        """Those that are open."""
        return [lane for lane in {id(lane): lane for lane in self._lanes.values()}.values() if not lane.closed]

    async def assigned(self, places: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
        """Open the lanes of partitions that were assigned; answers where to begin to read them. Raises SinkError."""
        lanes: dict[tuple[str, str], dict[int, Assigned]] = {}
        for tp, at in places.items():
            self._refuse_part(tp, at, places)
            lanes.setdefault((tp.topic, self._division.lane_of(tp)), {})[tp.partition] = at
        topics = {topic for topic, _ in lanes}
        for topic in topics:
            await take_place(self._claims, topic, self._division.incarnation)
            await self._barriers.enter(topic)
        openings = await asyncio.gather(*(self._find(topic, lane, some) for (topic, lane), some in lanes.items()))
        for topic in topics:
            await self._barriers.stay(topic)
        begins = [
            await self._open(topic, lane, some, opening)
            for ((topic, lane), some), opening in zip(lanes.items(), openings, strict=True)
        ]
        return {tp: at for each in begins for tp, at in each.items()}

    async def reopen(self, lane: Lane, theirs: Claim) -> None:
        """Begin again from the chain: another member claimed where we wanted to, and its claim holds."""
        if lane.closed:
            return
        self.drop(lane)
        if theirs.kind == "barrier":
            raise ended(theirs, self._claims)
        log.warning(
            "%s/%s: claim %d was made by another member, and holds: its offsets are read again",
            lane.topic, lane.name, theirs.sequence, extra=coded("lake.contested"),
        )  # fmt: skip
        if self.seek is None:
            raise SinkError("lake.contested", f"claim {theirs.sequence} of {lane.topic}/{lane.name}")
        far = 1 << 62  # where the log ends, only the source knows; it is not asked, for the lane was opened before
        places = {partition: Assigned(at, committed=False, begin=0, end=far) for partition, at in lane.begins.items()}
        opening = await self._find(lane.topic, lane.name, places)
        await self._barriers.stay(lane.topic)
        begins = await self._open(lane.topic, lane.name, places, opening)
        with contextlib.suppress(SourceError):  # not in the group at the moment: the next assignment asks again
            await self.seek(begins)

    def drop(self, lane: Lane) -> None:
        """Give back everything of a lane whose objects are not being put, and close it."""
        if lane.closed:
            return
        lane.closed = True
        for window in lane.unlanded:
            for each, _ in window.records:
                if each.number in self._parts.flight.records:
                    self._parts.settlement.give_back(each)
            self._parts.budget.release(window.held + window.kept)
            window.held = window.kept = 0
        self.unpark(lane)
        lane.clear()
        self.pause(lane)
        self._parts.tasks.changed.set()

    def unpark(self, lane: Lane) -> None:
        """Forget what waits: it is read again."""
        flight = self._parts.flight
        for each in lane.unparked():
            flight.counts.records -= 1
            flight.counts.unjudged -= 1
            flight.drop(each)

    def clear(self) -> None:
        """Forget all of them: their records were given back."""
        for lane in self.each():
            lane.closed = True
            lane.clear()
        self._lanes.clear()

    def admit(self) -> None:
        """Let lanes make windows again, as many as half the budget holds, one in any case; the others wait."""
        busy = 0
        for lane in sorted(self.each(), key=lambda lane: not lane.admitted):
            busy += lane.again_bytes
            if lane.admitted:
                continue
            if busy > self._parts.budget.total // 2 and busy > lane.again_bytes:
                self.pause(lane)
                continue
            lane.admitted = True
            self.pause(lane)
            self._began(lane)

    def pause(self, lane: Lane) -> None:
        """Have nothing read of its partitions that could not be gathered now, and all others of it."""
        for tp in lane.tps:
            if self._lanes.get(tp) is not lane:
                continue
            if not lane.closed and (not lane.admitted or tp.partition in lane.parked):
                self._waiting.partitions[tp] = 1
            else:
                del self._waiting.partitions[tp]

    def _refuse_part(self, tp: TopicPartition, at: Assigned, places: Mapping[TopicPartition, Assigned]) -> None:
        """Raise SourceError when its lane was not assigned whole: members may not all know of new partitions yet."""
        whole = self._division.partitions(tp, at.topics.get(tp.topic, 0))
        if absent := [each for each in sorted(whole) if TopicPartition(tp.topic, each) not in places]:
            lane = f"{tp.topic}/{self._division.lane_of(tp)}"
            raise SourceError("lake.lanes", f"{lane}: its partitions {absent} were not assigned with the others")

    async def _kept(self) -> str:
        return await self._claims.keep(self._layout)

    async def _find(self, topic: str, name: str, places: Mapping[int, Assigned]) -> Opening:
        """Find the chain of a lane; begin it when there is none, where the lanes of divisions before end."""

        async def ends() -> Mapping[int, Span]:
            lane = lane_name(name)
            found = await self._barriers.ends(topic)
            return {p: span for p, span in found.items() if lane is not None and lane.has(p)}

        layout = await self._kept()
        return await opened(self._claims, topic, name, places, layout, f"{self._writer} opens", self._wall(), ends)

    async def _open(
        self, topic: str, name: str, places: Mapping[int, Assigned], opening: Opening
    ) -> dict[TopicPartition, int]:
        self._refuse_shorter(topic, places, opening)
        self._sent |= {TopicPartition(topic, partition): at for partition, at in opening.begins.items()}
        for claim in opening.again:
            await self._prepare(claim)
        tps = [TopicPartition(topic, partition) for partition in places]
        lane = Lane(topic, name, places, opening, max((self._epochs.get(tp, -1) for tp in tps), default=-1))
        for tp in tps:
            if (before := self._lanes.get(tp)) is not None:
                self.drop(before)
            self._lanes[tp] = lane
        if opening.again:
            what = ", ".join(str(each.sequence) for each in opening.again[:10])
            log.info("%s/%s: the windows of claims %s are made again", topic, name, what)
        self.admit()
        return {TopicPartition(topic, partition): at for partition, at in opening.begins.items()}

    def _refuse_shorter(self, topic: str, places: Mapping[int, Assigned], opening: Opening) -> None:
        """Raise SinkError when the log is not the one that was claimed, for it does not have what has landed.

        Its end alone does not say so: it was asked before the claims were, and brokers exist that answer it wrongly.
        But a partition that was sent to its last record and comes back at the beginning was refused there.
        """
        for partition, end in opening.ends.items():
            tp, at = TopicPartition(topic, partition), places[partition]
            if at.end < end and at.next == at.begin < self._sent.get(tp, -1):
                detail = f"{topic}/{partition} ends at {at.end:,}, but records up to {end:,} have landed"
                raise SinkError("lake.incarnation", detail)

    async def _prepare(self, claim: Claim) -> None:
        """See that a window can be made again; SinkError when that takes other code, or more memory."""
        if claim.kind != "window":
            return
        if not window_fits(claim.held, self._parts.budget.total):
            detail = f"claim {claim.sequence} of {claim.topic}/{claim.lane} has rows of {claim.held:,} bytes"
            fix = f"set run.budget_bytes to {claim.held:,} or more until this window has landed"
            raise SinkError("lake.memory", detail, fix)
        if claim.layout in self.transforms:
            return
        layout = await self._claims.layout(claim.layout)
        if not layout.is_made_here:
            raise other_code(claim, layout, "its rows are made by other code")
        self.transforms[claim.layout] = Transform(self._engine(layout), LIMITS, self._parts.guard)
