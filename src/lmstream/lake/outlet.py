"""The outlet of a lake: records into windows, windows into claims and objects, and then their records settled."""

import logging
from collections.abc import Container, Iterable, Mapping
from typing import Final

from lmstream.abilities import Seek
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.outlet import Parts
from lmstream.delivery.transform import Cut
from lmstream.delivery.waiting import Waiting
from lmstream.engine import Engine, FanOut
from lmstream.errors import SinkError
from lmstream.interfaces import Assigned
from lmstream.lake.claims import Buried, Claim, Claims, Mark, mark
from lmstream.lake.formats import Format
from lmstream.lake.landing import Landing
from lmstream.lake.lane import Lane
from lmstream.lake.lanes import LaneOf, Lanes, MakeEngine, Wall
from lmstream.lake.layout import Layout
from lmstream.lake.objects import other_code
from lmstream.lake.requests import Requests
from lmstream.lake.window import Window
from lmstream.lake.window_policy import WindowPolicy
from lmstream.model import Record, Status, TopicPartition

RENEWAL: Final = 7 * 86_400_000 // 2
"""Milliseconds after which the newest claim of a quiet lane is made once more. Lifecycle rules keep claims for as long
as the topic keeps records, and 7 days more (`validate --connect`): so the newest of a lane in use is never removed."""

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
        lane_of: LaneOf = lambda tp: str(tp.partition),
        engine: MakeEngine = lambda layout: Engine(layout.settings),
    ) -> None:
        """`writer` tells this process from all others. `wall` gives Unix milliseconds, for people, and for when a lane
        that is quiet renews its newest claim. `engine` makes rows by the settings of a claim."""
        self._parts, self._claims, self._policy = parts, claims, policy
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
            lane_of=lane_of,
            wall=wall,
            began=self._began,
        )
        self._landing = Landing(parts, claims, writer, layout, wall, self._lanes.reopen)
        parts.settlement.letters.durable = self._lettered

    @property
    def seek(self) -> Seek | None:
        """Set by who owns the source: have it read from elsewhere, under a new epoch."""
        return self._lanes.seek

    @seek.setter
    def seek(self, seek: Seek | None) -> None:
        self._lanes.seek = seek

    async def assigned(self, places: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
        """Open the lanes of partitions that were assigned; answers where to begin to read them. Raises SinkError."""
        return await self._lanes.assigned(places)

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
        if (known := lane.marks.get(each.tp.partition)) is not None and each.record.offset >= known.offset:
            self._compare(lane, each.record, known)
        if lane.parked or not lane.admitted or not self._gather(lane, each):
            self._unmake()
            lane.parked.append(each)

    def passed(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Take note of offsets without a record: a window made again may end with them."""
        lane = self._lanes.get(tp)
        if lane is None or not self._lanes.takes(lane, tp, epoch) or lane.skips(tp.partition, offset - 1):
            return
        window = lane.gathering or self._begin(lane)
        end = None if window.claim is None else window.claim.spans[tp.partition].end
        window.reached(tp.partition, offset if end is None else min(end, offset))
        if window.claim is not None and window.complete:
            self._end(lane)

    def _gather(self, lane: Lane, each: InFlightRecord) -> bool:
        """Gather one record; False when its window cannot begin yet."""
        partition, offset = each.tp.partition, each.record.offset
        while True:
            if lane.skips(partition, offset):
                self._unmake()
                self._parts.flight.drop(each)
                each.settled(Status.DELIVERED)
                return True
            window = lane.gathering or self._begin(lane)
            if lane.skips(partition, offset):
                continue  # a claim without rows has moved the lane
            if window.claim is None or offset < window.claim.spans[partition].end:
                break
            window.reached(partition, window.claim.spans[partition].end)
            if not window.complete:
                return False
            self._end(lane)
        window.saw(each.record)
        self._transformed(lane, window, each)
        if window.claim is not None:
            if window.complete:
                self._end(lane)
        elif window.rows >= self._policy.rows or window.lines >= self._policy.bytes:
            self._end(lane)
        return True

    def _transformed(self, lane: Lane, window: Window, each: InFlightRecord) -> None:
        parts, counts = self._parts, self._parts.flight.counts
        partition, offset = each.tp.partition, each.record.offset
        listed = window.buried.get((partition, offset))
        if listed is not None and listed.ordinals is None and not listed.parts:
            counts.unjudged -= 1
            each.why = (listed.reason, "")
            parts.flight.refused(each)
            window.keep(each, Status.DEAD_LETTERED)
            self._lighten(each)
            return
        layout = self._layout.hash if window.claim is None else window.claim.layout
        made = self._lanes.transforms[layout].make(each)
        counts.unjudged -= 1
        if made is None:
            assert each.why is not None  # noqa: S101 - for the type checker
            if window.claim is not None:
                raise self._other(window.claim, f"{each.record.coordinates} is refused now: {each.why[0]}")
            parts.flight.refused(each)
            window.keep(each, Status.DEAD_LETTERED)
            self._bury(lane, window, each, Buried(partition=partition, offset=offset, reason=each.why[0]))
            parts.settlement.breakers.decoding.saw(
                refused=True, why=f"{each.record.coordinates}: {': '.join(each.why)}"
            )
            return
        out, cuts = made
        parts.flight.encoded(each, out, 0)
        if out.rows:
            parts.settlement.breakers.decoding.saw(refused=False)
        self._add(window, each, out, cuts)
        if out.rejected or out.parts:
            letter = _letter(partition, offset, out)
            window.keep(each, Status.DEAD_LETTERED)
            if window.claim is None:
                self._bury(lane, window, each, letter)
                return
            if listed is None or (listed.ordinals, listed.parts) != (letter.ordinals, letter.parts):
                raise self._other(window.claim, f"other points of {each.record.coordinates} are refused now")
        else:
            if listed is not None and window.claim is not None:
                raise self._other(window.claim, f"{each.record.coordinates} has a dead letter, and becomes rows now")
            window.keep(each, Status.TOMBSTONE if each.record.value is None else Status.DELIVERED)
        self._lighten(each)

    def _other(self, claim: Claim, why: str) -> SinkError:
        return other_code(claim, self._claims.known[claim.layout], why)

    def _add(self, window: Window, each: InFlightRecord, out: FanOut, cuts: Iterable[Cut]) -> None:
        before = window.held
        window.add(each, out, cuts)
        self._parts.budget.hold(window.held - before)

    def _bury(self, lane: Lane, window: Window, each: InFlightRecord, letter: Buried) -> None:
        """Have a letter written before the claim that names it."""
        window.letters.append(letter)
        window.unwritten += 1
        lane.writing[each.number] = window
        self._parts.settlement.dead_letter(each)

    def _lettered(self, each: InFlightRecord) -> None:
        """The letter of a record is durable."""
        lane = self._lanes.get(each.tp)
        if lane is None or (window := lane.writing.pop(each.number, None)) is None:
            return  # given back meanwhile
        window.unwritten -= 1
        self._lighten(each)
        lane.awake.set()

    def _lighten(self, each: InFlightRecord) -> None:
        """Hold nothing of a record but its place: its rows and its letter are held elsewhere."""
        record = each.record
        self._parts.budget.release(each.payload)
        each.payload = 0
        each.record = Record(
            topic=record.topic, partition=record.partition, offset=record.offset, timestamp=record.timestamp, value=None
        )

    def _unmake(self) -> None:
        """A record was taken up, but nothing is made of it now."""
        counts = self._parts.flight.counts
        counts.records -= 1
        counts.unjudged -= 1

    def _compare(self, lane: Lane, record: Record, known: Mark) -> None:
        """See that the log holds what it held when its rows landed."""
        del lane.marks[record.partition]
        if record.offset == known.offset and mark(record) != known:
            raise SinkError(
                "lake.incarnation", f"{record.coordinates} is another record than the one whose rows landed"
            )

    # --- windows -------------------------------------------------------------------------------------------------

    def _begin(self, lane: Lane) -> Window:
        """Begin the next window: of the oldest claim that is to be made again, else one of our own."""
        now = self._parts.attempts.clock()
        while lane.again:
            claim = lane.again.popleft()
            if claim.kind == "window":
                form = self._formats[self._claims.known[claim.layout].format]
                lane.gathering = Window(form, now, lane.position, self._policy.object_bytes, claim)
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
        window = Window(self._formats[self._layout.format], 0.0, lane.position, 1)
        for partition, (to, why) in lane.jumps.items():
            window.reached(partition, to)
            window.kind, window.why = "jump", why
            log.warning(
                "%s/%d: rows continue at offset %d, not at %d: %s",
                lane.topic, partition, to, lane.position[partition], why,
            )  # fmt: skip
        lane.jumps.clear()
        lane.lasts.clear()  # they lie before a gap that nobody reads
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
        lane.position = dict(window.position)
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
        """Gather what waited for a window to end."""
        counts = self._parts.flight.counts
        while lane.parked and not lane.closed:
            each = lane.parked.pop(0)
            counts.records += 1
            counts.unjudged += 1
            if not self._gather(lane, each):
                self._unmake()
                lane.parked.insert(0, each)
                return

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
        if short := budget.free <= budget.total // 8:
            for lane in self._lanes.each():
                if lane.gathering is not None:
                    budget.release(lane.gathering.squeeze())
            short = budget.free <= budget.total // 8
        for lane in self._lanes.each():
            window = lane.gathering
            if window is None:
                if lane.idle and lane.admitted and self._wall() - lane.claimed_at > RENEWAL:
                    self._renew(lane)
            elif window.claim is None and (short or self._policy.is_due(now - window.began, window.paths)):
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
                parked, lane.parked = lane.parked, []
                for each in parked:
                    self._parts.flight.drop(each)
                if lane.gathering is not None and lane.gathering.claim is not None:
                    self._lanes.drop(lane)  # the rest of a window that is made again will not come any more

    def clear(self) -> None:
        """Forget everything: all records were given back."""
        self._lanes.clear()

    def close(self) -> None:
        """Leave no mark behind."""
        self._lanes.transforms[self._layout.hash].close()


def _letter(partition: int, offset: int, out: FanOut) -> Buried:
    return Buried(
        partition=partition,
        offset=offset,
        reason=out.rejected[0][1] if out.rejected else out.parts[0].reason,
        ordinals=tuple(ordinal for ordinal, _ in out.rejected),
        parts=tuple(part.path for part in out.parts),
    )
