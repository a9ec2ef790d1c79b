"""The outlet of a lake: records into windows, windows into claims and objects, and then their records settled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from typing import Final

from msgspec import structs

from lmstream.abilities import Seek
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.outlet import Parts
from lmstream.delivery.transform import Cut, Transform
from lmstream.delivery.waiting import Waiting
from lmstream.engine import Engine, FanOut
from lmstream.errors import SinkError
from lmstream.interfaces import Assigned, Limits
from lmstream.lake.claims import Buried, Claim, Claims, Mark, mark
from lmstream.lake.formats import Format
from lmstream.lake.landing import Landing, other_code
from lmstream.lake.lane import Lane
from lmstream.lake.layout import Layout
from lmstream.lake.opening import opened
from lmstream.lake.requests import Requests
from lmstream.lake.window import Window
from lmstream.lake.window_policy import WindowPolicy
from lmstream.model import Record, Status, TopicPartition

log: Final = logging.getLogger("lmstream.lake")

LIMITS: Final = Limits(
    pack_bytes=1 << 62,  # no service's: objects are bounded by WindowPolicy, a record's rows by the engine
    pack_rows=1 << 62,
    request_packs=1,
    request_bytes=1 << 62,
    by_path=True,
)
MakeEngine = Callable[[Layout], Engine]


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
        lane_of: Callable[[TopicPartition], str] = lambda tp: str(tp.partition),
        engine: MakeEngine = lambda layout: Engine(layout.settings),
    ) -> None:
        """`writer` tells this process from all others. `engine` makes rows by the settings of a claim."""
        self._parts, self._claims, self._policy = parts, claims, policy
        self.way: Requests = requests
        self.waiting: Waiting = Waiting(parts.active, parts.attempts.policy.partition_seconds)
        self.gathers_for: float = policy.seconds
        self.seek: Seek | None = None
        """Set by who owns the source: have it read from elsewhere, under a new epoch."""
        self._formats, self._layout, self._writer = formats, layout, writer
        self._lane_of, self._engine = lane_of, engine
        self._lanes: dict[TopicPartition, Lane] = {}
        self._landing = Landing(parts, claims, writer, layout, self._reopen)
        self._transforms = {layout.hash: Transform(parts.engine, LIMITS, parts.guard)}
        self._writing: dict[int, tuple[Lane, Window]] = {}  # by number of a record whose letter is not durable
        self._epochs: dict[TopicPartition, int] = {}
        parts.settlement.letters.durable = self._lettered

    # --- partitions come and go ----------------------------------------------------------------------------------

    async def assigned(self, places: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
        """Open the lanes of partitions that were assigned; answers where to begin to read them. Raises SinkError."""
        lanes: dict[tuple[str, str], dict[int, Assigned]] = {}
        for tp, at in places.items():
            lanes.setdefault((tp.topic, self._lane_of(tp)), {})[tp.partition] = at
        begins = await asyncio.gather(*(self._open(topic, lane, some) for (topic, lane), some in lanes.items()))
        return {tp: at for each in begins for tp, at in each.items()}

    async def _open(self, topic: str, name: str, places: Mapping[int, Assigned]) -> dict[TopicPartition, int]:
        layout = await self._claims.keep(self._layout)
        opening = await opened(self._claims, topic, name, places, layout, f"{self._writer} opens")
        for claim in opening.again:
            if claim.layout not in self._transforms and claim.kind == "window":
                self._transforms[claim.layout] = await self._again_by(claim)
            if claim.held > self._parts.budget.total * 3 // 4:
                detail = f"claim {claim.sequence} of {topic}/{name} has rows of {claim.held:,} bytes"
                fix = f"set run.budget_bytes to {claim.held * 2:,} or more until this window has landed"
                raise SinkError("lake.memory", detail, fix)
        tps = [TopicPartition(topic, partition) for partition in places]
        lane = Lane(topic, name, places, opening, max((self._epochs.get(tp, -1) for tp in tps), default=-1))
        for tp in tps:
            if (before := self._lanes.get(tp)) is not None:
                self._drop(before)
            self._lanes[tp] = lane
        if not opening.again:
            self._jump(lane)
        else:
            lane.admitted = False
            self._admit()
            what = ", ".join(str(each.sequence) for each in opening.again[:10])
            log.info("%s/%s: making the windows of claims %s again", topic, name, what)
        return {TopicPartition(topic, partition): at for partition, at in opening.begins.items()}

    def _admit(self) -> None:
        """Let lanes make windows again, as many as half the budget holds, one in any case; the others wait for them."""
        lanes, busy = self._each(), 0
        for lane in sorted(lanes, key=lambda lane: not lane.admitted):
            busy += lane.again_bytes
            if lane.admitted or (busy > self._parts.budget.total // 2 and busy > lane.again_bytes):
                continue
            lane.admitted = True
            for tp in lane.tps:
                del self.waiting.partitions[tp]
            self._unpark(lane)
        for lane in lanes:
            if not lane.admitted:
                self.waiting.partitions.update(
                    dict.fromkeys(lane.tps, 1) if lane.tps[0] not in self.waiting.partitions else {}
                )

    async def _again_by(self, claim: Claim) -> Transform:
        """How to make the rows of a claim of other settings."""
        layout = await self._claims.layout(claim.layout)
        # Another version may still make the same rows: their digests tell, before anything of them is put.
        mine = structs.replace(layout, version=self._layout.version)
        if mine != Layout.of(layout.settings, layout.format):
            raise other_code(claim, layout, "its rows are made by other code")
        return Transform(self._engine(layout), LIMITS, self._parts.guard)

    async def _reopen(self, lane: Lane, theirs: Claim) -> None:
        """Begin again from the chain: another member claimed where we wanted to, and its claim holds."""
        if lane.closed:
            return
        tps = lane.tps
        self._drop(lane)
        log.warning(
            "%s/%s: claim %d was made by another member, which holds: reading again from there",
            lane.topic, lane.name, theirs.sequence,
        )  # fmt: skip
        if self.seek is None:
            raise SinkError("lake.contested", f"claim {theirs.sequence} of {lane.topic}/{lane.name}")
        ends = {partition: span.end for partition, span in theirs.spans.items()}
        places = {tp.partition: Assigned(0, False, 0, ends[tp.partition] + (1 << 62)) for tp in tps}  # noqa: FBT003 - a tuple
        begins = await self._open(lane.topic, lane.name, places)
        await self.seek(begins)

    def _drop(self, lane: Lane) -> None:
        """Give back everything of a lane whose objects are not being put."""
        if lane.closed:
            return
        lane.closed = True
        for window in lane.unlanded:
            for each, _ in window.records:
                self._writing.pop(each.number, None)
                if each.number in self._parts.flight.records:
                    self._parts.settlement.give_back(each)
            self._parts.budget.release(window.held)
            window.held = 0
        for each in lane.parked:
            self._parts.flight.drop(each)
        lane.clear()
        self._parts.tasks.changed.set()

    # --- records -------------------------------------------------------------------------------------------------

    def suspects(self, each: InFlightRecord) -> bool:
        """Whether a process died over it: then it is transformed alone."""
        return self._transforms[self._layout.hash].suspects(each)

    def make(self, each: InFlightRecord) -> None:
        """Gather the rows of one record in the window that it belongs to."""
        parts = self._parts
        lane = self._lanes.get(each.tp)
        if lane is None:
            raise RuntimeError(f"{each.record.coordinates}: its partition was not assigned")
        self._epochs[each.tp] = max(each.epoch, self._epochs.get(each.tp, -1))
        if lane.closed or each.epoch <= lane.after:
            self._unmake(each)
            parts.flight.drop(each)  # read before the lane began again: it is read once more
            return
        if (known := lane.marks.get(each.tp.partition)) is not None and each.record.offset >= known.offset:
            self._compare(lane, each.record, known)
        if lane.parked or not lane.admitted or not self._gather(lane, each):
            self._unmake(each)
            lane.parked.append(each)

    def passed(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Take note of offsets without a record: a window made again may end with them."""
        lane = self._lanes.get(tp)
        if lane is None or lane.closed or epoch <= lane.after or lane.skips(tp.partition, offset - 1):
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
                self._unmake(each)
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
        made = self._transforms[layout].make(each)
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
        window.add(each, out.points, cuts)
        self._parts.budget.hold(window.held - before)

    def _bury(self, lane: Lane, window: Window, each: InFlightRecord, letter: Buried) -> None:
        """Have a letter written before the claim that names it."""
        window.letters.append(letter)
        window.unwritten += 1
        self._writing[each.number] = (lane, window)
        self._parts.settlement.dead_letter(each)

    def _lettered(self, each: InFlightRecord) -> None:
        """The letter of a record is durable."""
        if (found := self._writing.pop(each.number, None)) is None:
            return
        lane, window = found
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

    def _unmake(self, each: InFlightRecord) -> None:
        """It was taken up, but nothing is made of it now."""
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
        lane.gathering = Window(self._formats[self._layout.format], now, lane.position, self._policy.object_bytes)
        return lane.gathering

    def _jump(self, lane: Lane) -> None:
        """Claim that the lane continues elsewhere, without rows."""
        if not lane.jumps:
            return
        window = Window(self._formats[self._layout.format], 0.0, lane.position, 1)
        for partition, (to, why) in lane.jumps.items():
            window.reached(partition, to)
            window.why = why
            log.warning(
                "%s/%d: rows continue at offset %d, not at %d: %s",
                lane.topic, partition, to, lane.position[partition], why,
            )  # fmt: skip
        lane.jumps.clear()
        lane.gathering = window
        self._end(lane)

    def _end(self, lane: Lane) -> None:
        """End the window that is gathered; it lands behind those before it."""
        window, lane.gathering = lane.gathering, None
        assert window is not None  # noqa: S101 - for the type checker
        lane.position = dict(window.position)
        lane.landing.append(window)
        self._landing.start(lane)
        self._unpark(lane)

    def _unpark(self, lane: Lane) -> None:
        """Gather what waited for a window to end."""
        counts = self._parts.flight.counts
        while lane.parked and not lane.closed:
            each = lane.parked.pop(0)
            counts.records += 1
            counts.unjudged += 1
            if not self._gather(lane, each):
                self._unmake(each)
                lane.parked.insert(0, each)
                return

    # --- what a pipeline calls -----------------------------------------------------------------------------------

    @property
    def hungry(self) -> bool:
        """Whether a window is made again: only its last record ends it."""
        return any(lane.admitted and lane.again_bytes for lane in self._each())

    def cut(self) -> None:
        """Where batches end, nothing ends here."""

    def tick(self, now: float) -> None:
        """End windows that are old enough, and all of them when memory is short."""
        budget = self._parts.budget
        if short := budget.free <= budget.total // 8:
            for lane in self._each():
                if lane.gathering is not None:
                    budget.release(lane.gathering.squeeze())
            short = budget.free <= budget.total // 8
        for lane in self._each():
            window = lane.gathering
            if window is not None and window.claim is None and (short or now - window.began >= self._policy.seconds):
                self._end(lane)
        self._admit()

    def flush(self) -> None:
        """End all windows that are our own to end."""
        for lane in self._each():
            if lane.gathering is not None and lane.gathering.claim is None:
                self._end(lane)

    def forget(self, partitions: Container[TopicPartition]) -> None:
        """Records that are parked are read again by the next owner; what is gathered is claimed and landed."""
        for lane in self._each():
            if any(tp in partitions for tp in lane.tps):
                parked, lane.parked = lane.parked, []
                for each in parked:
                    self._parts.flight.drop(each)
                if lane.gathering is not None and lane.gathering.claim is not None:
                    self._drop(lane)  # the rest of a window that is made again will not come any more

    def clear(self) -> None:
        """Forget everything: all records were given back."""
        for lane in self._each():
            lane.closed = True
            lane.clear()
        self._lanes.clear()
        self._writing.clear()

    def close(self) -> None:
        """Leave no mark behind."""
        self._transforms[self._layout.hash].close()

    def _each(self) -> list[Lane]:
        return [lane for lane in {id(lane): lane for lane in self._lanes.values()}.values() if not lane.closed]


def _letter(partition: int, offset: int, out: FanOut) -> Buried:
    return Buried(
        partition=partition,
        offset=offset,
        reason=out.rejected[0][1] if out.rejected else out.parts[0].reason,
        ordinals=tuple(ordinal for ordinal, _ in out.rejected),
        parts=tuple(part.path for part in out.parts),
    )
