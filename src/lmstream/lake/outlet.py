"""The outlet of a lake: records into windows, windows into claims and objects, and then their records settled."""

import logging
from collections.abc import Container, Mapping
from typing import Final

from lmstream.abilities import Seek
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.outlet import SENDING, Parts
from lmstream.delivery.waiting import Waiting
from lmstream.delivery.window_length import windows_hold
from lmstream.engine import Engine
from lmstream.errors import coded
from lmstream.interfaces import Assigned
from lmstream.lake.again import Maker, Read
from lmstream.lake.claims import Claim, Claims
from lmstream.lake.division import Division
from lmstream.lake.finishing import Finishing
from lmstream.lake.formats import Format
from lmstream.lake.landing import Landing
from lmstream.lake.lane import Lane
from lmstream.lake.lanes import Lanes, MakeEngine, Wall
from lmstream.lake.layout import Layout
from lmstream.lake.making import Making
from lmstream.lake.requests import Requests
from lmstream.lake.window import Window
from lmstream.lake.window_policy import WindowPolicy
from lmstream.model import Status, TopicPartition

RENEWAL: Final = 7 * 86_400_000 // 2
"""Milliseconds after which the newest claim of a quiet lane is made once more. Lifecycle rules keep claims for as long
as the topic keeps records, and 7 days more (`validate --connect`): so the newest of a lane in use is never removed."""

EACH: Final = Division()

log: Final = logging.getLogger("lmstream.lake")


class LakeOutlet:
    """An Outlet whose records settle by windows."""

    def __init__(
        self,
        parts: Parts,
        requests: Requests,
        claims: Claims,
        formats: Mapping[str, Format],
        layout: Layout,
        policy: WindowPolicy,
        *,
        writer: str,
        wall: Wall,
        division: Division = EACH,
        engine: MakeEngine = lambda layout: Engine(layout.settings),
        read: Read | None = None,
    ) -> None:
        """`writer` tells this process from all others. `wall` gives Unix milliseconds, for people, and for when a lane
        that is quiet renews its newest claim. `engine` makes rows by the settings of a claim; `read` reads records of
        lanes that were divided otherwise, which it does not own."""
        self._parts, self._claims, self._policy = parts, claims, policy
        self._division, self._lane_count = division, 1  # of all topics, once they are known
        self._formats, self._layout, self._wall = formats, layout, wall
        self.way: Requests = requests
        self.waiting: Waiting = Waiting(parts.active, parts.attempts.policy.partition_seconds)
        self.gathers_for: float = policy.longest if policy.dollars else policy.seconds
        self._lanes = Lanes(
            parts,
            claims,
            layout,
            writer=writer,
            waiting=self.waiting,
            engine=engine,
            division=division,
            wall=wall,
            began=self._began,
            finish=Finishing(claims, Maker(formats, engine), read, parts),
        )
        self._landing = Landing(parts, claims, writer, layout, wall, self._lanes.reopen)
        self._making = Making(parts, claims, layout, self._lanes)
        parts.settlement.letters.durable = self._making.lettered

    @property
    def seek(self) -> Seek | None:
        """Set by who owns the source: have it read from elsewhere, under a new epoch."""
        return self._lanes.seek

    @seek.setter
    def seek(self, seek: Seek | None) -> None:
        self._lanes.seek = seek

    @property
    def gathering_since(self) -> float | None:
        """Of the oldest window that is not claimed yet."""
        windows = [lane.gathering for lane in self._lanes.each() if lane.gathering is not None]
        return min((window.began for window in windows if window.claim is None), default=None)

    async def assigned(self, places: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
        """Open the lanes of partitions that were assigned; answers where to begin to read them. Raises SinkError."""
        begins = await self._lanes.assigned(places)
        for at in places.values():
            self._lane_count = self._division.count(at.topics) or self._lane_count
        return begins

    # --- records -------------------------------------------------------------------------------------------------

    def suspects(self, each: InFlightRecord) -> bool:
        """Whether a process died over it: then it is transformed alone."""
        return self._lanes.transforms[self._layout.hash].suspects(each)

    def make(self, each: InFlightRecord) -> None:
        """Gather the rows of one record in the window that it belongs to."""
        parts = self._parts
        lane = self._lanes.get(each.tp)
        if lane is None:
            raise RuntimeError(f"{each.record.coordinates}: its partition was not assigned")
        if not self._lanes.takes(lane, each.tp, each.epoch):
            self._unmake()
            parts.flight.drop(each)  # it is read once more
            return
        if (known := lane.marks.get(each.tp.partition)) is not None and each.offset >= known.offset:
            self._making.compare(lane, each.record, known)
        if each.tp.partition in lane.parked or not lane.admitted or not self._gather(lane, each):
            lane.park(each.tp.partition, each)
            self._lanes.pause(lane)

    def passed(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Take note of offsets without a record: a window made again may end with them."""
        lane = self._lanes.get(tp)
        if lane is None or not self._lanes.takes(lane, tp, epoch):
            return
        if tp.partition in lane.parked or not lane.admitted or not self._reach(lane, tp.partition, offset):
            lane.park(tp.partition, offset)
            self._lanes.pause(lane)

    def _reach(self, lane: Lane, partition: int, offset: int) -> bool:
        """Note that no further record lies below an offset; False when its window cannot begin yet."""
        while not lane.skips(partition, offset - 1):
            window = lane.gathering or self._begin(lane)
            if window.claim is None:
                window.reached(partition, offset)
                return True
            if not self._passes(lane, window, partition, offset):
                return False
        return True

    def _passes(self, lane: Lane, window: Window, partition: int, offset: int) -> bool:
        """Whether a window that is made again has ended, now that its lane is at this offset of a partition."""
        assert window.claim is not None  # noqa: S101 - for the type checker
        span = window.claim.spans.get(partition)  # none of a partition that was added to the topic after it
        if span is not None:
            window.reached(partition, min(span.end, offset))
        if window.complete:
            self._end(lane)
            return True
        return False

    def _gather(self, lane: Lane, each: InFlightRecord) -> bool:
        """Gather one record; False when its window cannot begin yet."""
        partition, offset = each.tp.partition, each.offset
        while True:
            if lane.skips(partition, offset):
                self._unmake()
                self._parts.flight.drop(each)
                each.settled(Status.DELIVERED)
                return True
            window = lane.gathering or self._begin(lane)
            if lane.skips(partition, offset):
                continue  # a claim without rows has moved the lane
            if window.claim is None or self._holds(window.claim, partition, offset):
                break
            if not self._passes(lane, window, partition, offset):
                return False
        before = window.kept
        window.saw(each.record)
        self._parts.budget.hold(window.kept - before)
        self._making.add(lane, window, each)
        if window.claim is not None:
            if window.complete:
                self._end(lane)
        elif window.rows >= self._policy.rows or window.lines >= self._policy.bytes:
            self._end(lane)
        return True

    @staticmethod
    def _holds(claim: Claim, partition: int, offset: int) -> bool:
        span = claim.spans.get(partition)
        return span is not None and offset < span.end

    def _unmake(self) -> None:
        """A record was taken up, but nothing is made of it now."""
        counts = self._parts.flight.counts
        counts.records -= 1
        counts.unjudged -= 1

    # --- windows -------------------------------------------------------------------------------------------------

    def _begin(self, lane: Lane) -> Window:
        """Begin the next window: of the oldest claim that is to be made again, else one of our own."""
        now = self._parts.attempts.clock()
        while lane.again:
            claim = lane.again.popleft()
            if claim.kind == "window":
                form = self._formats[self._claims.known[claim.layout].format]
                starts = {partition: lane.position[partition] for partition in claim.spans}
                lane.gathering = Window(form, now, starts, self._policy.object_bytes, claim)
                return lane.gathering
            lane.undone.discard(claim.sequence)
            lane.position |= {partition: span.end for partition, span in claim.spans.items()}
        if lane.jumps:
            self._jump(lane)
        lane.gathering = Window(
            self._formats[self._layout.format], now, lane.position, self._policy.object_bytes, lasts=lane.lasts
        )
        return lane.gathering

    def _jump(self, lane: Lane) -> None:
        """Claim that the lane continues elsewhere, without rows."""
        if not lane.jumps:
            return
        for partition in lane.jumps:
            lane.lasts.pop(partition, None)  # it lies before a gap that nobody reads
        window = Window(self._formats[self._layout.format], 0.0, lane.position, 1, lasts=lane.lasts)
        for partition, (to, why) in lane.jumps.items():
            window.reached(partition, to)
            window.kind, window.why = "jump", why
            log.warning(
                "%s/%d: rows continue at offset %d, not at %d: %s",
                lane.topic, partition, to, lane.position[partition], why, extra=coded("source.offset"),
            )  # fmt: skip
        lane.jumps.clear()
        lane.gathering = window
        self._end(lane)

    def _renew(self, lane: Lane) -> None:
        """Claim once more where the lane stands, so that a lifecycle rule does not remove the newest claim."""
        window = Window(self._formats[self._layout.format], 0.0, lane.position, 1, lasts=lane.lasts)
        window.kind, window.why = "renewed", "nothing came for days"
        lane.claimed_at = self._wall()
        lane.gathering = window
        self._end(lane)

    def _end(self, lane: Lane) -> None:
        """End the window that is gathered; it lands behind those before it."""
        window, lane.gathering = lane.gathering, None
        assert window is not None  # noqa: S101 - for the type checker
        lane.position |= window.position
        lane.lasts |= window.lasts()
        lane.landing.append(window)
        self._landing.start(lane)
        self._unpark(lane)

    def _began(self, lane: Lane) -> None:
        """A lane may gather."""
        if not lane.again:
            self._jump(lane)
        self._unpark(lane)

    def _unpark(self, lane: Lane) -> None:
        """Gather what waited for a window to end. What is gathered may end the next one, which then lets go of more:
        all of it by the one call that is under way, so that nothing overtakes what waits before it."""
        if lane.unparking or not lane.parked:
            return
        lane.unparking = True
        try:
            while any(self._unpark_of(lane, partition) for partition in sorted(lane.parked)):
                pass
        finally:
            lane.unparking = False
        self._lanes.pause(lane)

    def _unpark_of(self, lane: Lane, partition: int) -> bool:
        """Whether anything of a partition could be gathered."""
        parked = lane.parked[partition]
        taken = False
        while parked:
            what = parked[0]
            if not (self._reach(lane, partition, what) if isinstance(what, int) else self._gather(lane, what)):
                return taken
            parked.popleft()
            taken = True
        del lane.parked[partition]
        return True

    # --- what a pipeline calls -----------------------------------------------------------------------------------

    @property
    def hungry(self) -> bool:
        """Whether a window is made again: only its last record ends it."""
        return any(lane.admitted and lane.makes_again for lane in self._lanes.each())

    def cut(self) -> None:
        """Where batches end, nothing ends here."""

    def tick(self, now: float) -> None:
        """End windows that are old enough, and all of them when memory is short."""
        budget = self._parts.budget
        most = windows_hold(budget.total)
        # What lands gives its memory back soon: until then, all that could be ended are windows of a few records.
        if short := budget.held >= most and not self._parts.tasks.any_of(SENDING):
            for lane in self._lanes.each():
                if lane.gathering is not None:
                    budget.release(lane.gathering.squeeze())
            short = budget.held >= most
        for lane in self._lanes.each():
            window = lane.gathering
            if window is None:
                if lane.idle and lane.admitted and self._wall() - lane.claimed_at > RENEWAL:
                    self._renew(lane)
            elif window.claim is None and (
                short or self._policy.is_due(now - window.began, window.paths, self._lane_count)
            ):
                self._end(lane)
        self._lanes.admit()

    def flush(self) -> None:
        """End all windows that are our own to end."""
        for lane in self._lanes.each():
            if lane.gathering is not None and lane.gathering.claim is None:
                self._end(lane)

    def forget(self, partitions: Container[TopicPartition]) -> None:
        """Records that are parked are read again by the next owner; what is gathered is claimed and landed."""
        for lane in self._lanes.each():
            if any(tp in partitions for tp in lane.tps):
                self._lanes.unpark(lane)
                if lane.makes_again or not lane.admitted:
                    self._lanes.drop(lane)  # the rest of a window that is made again will not come any more

    def clear(self) -> None:
        """Forget everything: all records were given back."""
        self._lanes.clear()

    def close(self) -> None:
        """Leave no mark behind."""
        self._lanes.transforms[self._layout.hash].close()
