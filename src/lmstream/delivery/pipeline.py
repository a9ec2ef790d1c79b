"""Records in, a status for each out: fan-out, packs, delivery, dead letters. Hosts acknowledge from that alone."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from lmstream.delivery.active_partitions import ActivePartitions
from lmstream.delivery.circuit_breaker import BreakerPolicy, CircuitBreakers
from lmstream.delivery.dead_letter import bound, cause
from lmstream.delivery.dead_letter_writer import DeadLetterQueues, DeadLetterWriter
from lmstream.delivery.in_flight import InFlight, InFlightRecord
from lmstream.delivery.memory_budget import BUDGET, RESERVE, MemoryBudget
from lmstream.delivery.record_queue import RecordQueue
from lmstream.delivery.retry import DeliveryPolicy, Random
from lmstream.delivery.rolling import RollPolicy
from lmstream.delivery.sender import Sender
from lmstream.delivery.tasks import Tasks
from lmstream.delivery.transform import Gather, Transform
from lmstream.delivery.waiting import Waiting
from lmstream.engine import Engine
from lmstream.interfaces import Batch, Clock, DeadLetterSink, PoisonGuard, Sink, Sleep
from lmstream.model import Failure, Kind, Pack, Record, Status, TopicPartition

BREATH: Final = 256 * 1024
"""Bytes of payload between two pauses for the other tasks: some milliseconds of transforming."""

Settled = Callable[[TopicPartition, int, int, Status], None]
"""(partition, epoch, offset, status), called once for each record that may be acknowledged."""


class Pipeline:
    """One mechanism for every host. One that pulls uses `submit`, `tick` and `drain`, and learns from `on_settled`; for
    one that is called there is `called.process`. Lives in one event loop.

    Anything that goes wrong unexpectedly (a bug, not bad data and not a sink) is kept in `error`, raised by `submit`
    and `drain`, and acknowledges nothing.
    """

    def __init__(
        self,
        engine: Engine,
        sink: Sink,
        dead_letters: DeadLetterSink,
        *,
        clock: Clock,
        sleep: Sleep,
        random: Random,
        policy: DeliveryPolicy | None = None,
        roll: RollPolicy | None = None,
        budget: int = BUDGET,
        breaker: BreakerPolicy | None = None,
        guard: PoisonGuard | None = None,
        on_settled: Settled | None = None,
    ) -> None:
        policy = policy or DeliveryPolicy()
        self._flight, self._inbox = InFlight(), RecordQueue()
        self._budget = MemoryBudget(
            budget,
            self._flight,
            self._inbox,
            bodies=lambda: self.delivery.body_bytes,
            reserve=RESERVE if sink.limits.base64 else 0.0,
        )
        self.delivery = Sender(sink, policy, sleep=sleep, clock=clock, random=random, spare=lambda: self._budget.spare)
        self.letters = DeadLetterWriter(dead_letters, policy, sleep=sleep, clock=clock, random=random)
        # Off unless asked for: a host that is called has nobody who could look, and its records expire meanwhile.
        self._breakers = CircuitBreakers(breaker or BreakerPolicy(records=0))
        self.engine = engine
        self.active = ActivePartitions(policy.partitions, policy.partition_seconds, bounded=sink.limits.partitions)
        """Partitions that rows went into lately."""
        self.waiting = Waiting(self.active, policy.partition_seconds)
        """Records that wait until there is room for partitions of their hour."""
        self.counts = self._flight.counts
        self.on_settled = on_settled
        self.deadline: float | None = None
        """By the clock: no try begins that could end after it, and what fails is not tried again for ever. Only hosts
        that are called have one."""
        self.failures: dict[str, Failure] = {}
        """Behind records that were given up at the deadline, one of each code."""
        self._sink, self._letter_sink = sink, dead_letters
        self._clock, self._sleep = clock, sleep
        roll = roll or RollPolicy(total_bytes=min(RollPolicy().total_bytes, max(1, budget // 2)))
        self._transform = Transform(engine, sink.limits, guard)
        self._gather = Gather(sink.limits, roll)
        self._changed = asyncio.Event()
        self._tasks = Tasks(self._changed.set)
        self._burial = DeadLetterQueues(
            self.letters,
            spawn=self._tasks.spawn,
            halted=self._late,
            durable=self._buried,
            failed=self._failed,
            largest=lambda: min(dead_letters.largest, bound(engine.settings.limits)),
        )
        self._working = False
        self._delivering = 0
        self._batch = 0
        self._closed = False

    @property
    def error(self) -> BaseException | None:
        """What went wrong unexpectedly."""
        return self._tasks.error

    @property
    def budget(self) -> int:
        """Bytes that may be in flight."""
        return self._budget.total

    @property
    def in_flight(self) -> int:
        """Records that are not settled, waiting ones included."""
        return len(self._flight.tracked)

    @property
    def in_flight_bytes(self) -> int:
        """What is held of everything that is not settled, waiting records included: payload, encoded lines, bodies of
        requests, and about a KiB a record for the objects around them."""
        return self._budget.held

    @property
    def oldest(self) -> dict[TopicPartition, Record]:
        """Of each partition the first record that is not settled."""
        return self._flight.oldest()

    @property
    def rows_in_flight(self) -> int:
        """Rows made, and neither accepted nor in a durable dead letter."""
        return self._flight.rows

    @property
    def balanced(self) -> bool:
        """The accounting invariant, for records and for rows (see Counts)."""
        return self._flight.balanced(len(self._inbox))

    @property
    def fatal(self) -> Failure | None:
        """Why nothing more is read until an operator acts: the sink's configuration, or too many refusals."""
        return self.delivery.fatal or self.broken

    @property
    def broken(self) -> Failure | None:
        """Set for good when too many records are refused: nothing more is transformed, and no further record gets a
        dead letter."""
        return self._breakers.tripped

    @property
    def refusals(self) -> dict[str, tuple[float, bool]]:
        """By who refuses, `engine` or `sink`: the share of the last records that it refused, and whether reading
        stopped for that."""
        return self._breakers.refusals

    @property
    def unknown(self) -> dict[str, str]:
        """The first ten members that OTLP metrics do not know, by path and name, in parts that gave no data point; with
        the coordinates of a record that has them."""
        return self._flight.unknown

    @property
    def unburied(self) -> tuple[str, int]:
        """Coordinates of the oldest record that waits for its dead letter, and how many wait; "" and 0 for none."""
        return self._burial.waiting

    @property
    def room(self) -> int:
        """Bytes of payload to read now; 0 or less: read nothing."""
        paused = self.fatal is not None and (self.broken is not None or not self.delivery.doubting)
        return self._budget.room if not paused and self.error is None else 0

    def submit(self, batch: Batch) -> list[InFlightRecord]:
        """Take the records of one batch; transform and delivery go on in the background, `on_settled` tells, as do the
        statuses of what is answered."""
        self._raise()
        if self._closed:
            raise RuntimeError("the pipeline is closed")
        self._batch += 1
        mine = [self._flight.take(record, self._batch, batch.epochs.get(record.tp, 0)) for record in batch.records]
        self._inbox.extend(mine)
        if mine and not self._working:
            self._working = True
            self._tasks.spawn(self._work())
        return mine

    def tick(self) -> None:
        """Roll what is old enough. Call it a few times a second, whether or not records come."""
        if self._closed:
            return
        now = self._clock()
        self._launch(self._gather.due(now))
        if self.waiting:
            for each, cuts in self.waiting.due(now):
                self._launch(self._gather.add(each, cuts, now))
            self._launch(self._gather.cut())
            self._changed.set()

    def flush(self) -> None:
        """Send what is gathered by path, whatever its age: its bytes are wanted."""
        if not self._closed:
            self._launch(self._gather.flush())

    async def drain(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Flush, and wait until everything (or everything of some partitions) is settled. Bound it by asyncio.timeout;
        when cut short, the work goes on and nothing is lost.
        """
        wanted = None if partitions is None else frozenset(partitions)
        while True:
            self._raise()
            if self._closed:
                return
            if wanted is not None and not any(self._flight.holds(tp) for tp in wanted):
                return
            # While records wait, their rows may still join what is gathered: fewer, larger objects.
            if wanted is not None or not self._inbox:
                self._launch(self._gather.flush())
            if not self._tasks and not self.waiting:
                return
            await self.changed()

    async def changed(self) -> None:
        """Wait for a record to settle or a task to end."""
        self._changed.clear()
        await self._changed.wait()

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop records of these partitions of which no row was sent yet: their next owner reads them again."""
        partitions = frozenset(partitions)
        for each in self._inbox.remove(partitions):
            self._flight.drop(each)
        for each in self.waiting.remove(partitions):
            self._flight.give_back(each)
        self._changed.set()

    async def give_back(self) -> None:
        """Stop all tries and forget what is not settled, an error too: who brought it brings it again."""
        await self._cancel()
        for each in self._inbox.remove():
            self._flight.drop(each)
        for each in list(self._flight.tracked.values()):
            self.active.settled(each.hours, self._clock)
            self._flight.give_back(each)
        self.waiting.remove()
        self._burial.clear()
        self._gather.clear()
        self._tasks.error = None

    async def close(self) -> None:
        """Stop all tries and close dead letters and sink. What is not settled stays so. Raises what they raise."""
        self._closed = True
        await self._cancel()
        try:
            await self._letter_sink.close()
        finally:
            await self._sink.close()
            self._transform.close()

    # Records to packs

    async def _work(self) -> None:
        """Transform what waits, never more than the budget holds (but always one record), and launch its packs."""
        try:
            worked = 0
            while self._inbox and not self._halted():
                full = self._budget.free <= 0 or self._transform.suspects(self._inbox.first)
                if full and self.in_flight > len(self._inbox):
                    self._launch(self._gather.cut())
                    if not self._delivering and not self._burial.busy:
                        # All of the budget is gathered lines: only their age would free it.
                        self._launch(self._gather.flush())
                    if not self._delivering and not self._burial.busy and not self.waiting:
                        break  # a deadline ended all tries: what waits is given back
                    await self.changed()
                    continue
                each = self._inbox.take()
                self._make(each)
                worked += each.payload + 1024
                if worked >= BREATH:
                    worked = 0
                    await self._sleep(0)
            self._launch(self._gather.cut())
        finally:
            self._working = False

    def _halted(self) -> bool:
        """Whether nothing more is to be begun: the deadline is over, or too many records are refused."""
        return self.broken is not None or self._late()

    def _late(self) -> bool:
        return self.deadline is not None and self._clock() >= self.deadline

    def _make(self, each: InFlightRecord) -> None:
        self.counts.records += 1
        self.counts.unjudged += 1
        made = self._transform.make(each)
        self.counts.unjudged -= 1
        if made is None:
            self._flight.given_up(each)
            self._refuse(each)
            return
        out, cuts = made
        self._flight.encoded(each, out, sum(len(data) for _, data, _ in cuts))
        if cuts:
            self._breakers.decoding.saw(refused=False)
            now = self._clock()
            if not self.waiting.holds(each, cuts, out, now, must=self.deadline is not None):
                self._launch(self._gather.add(each, cuts, now))
        elif out.rejected or out.parts:
            self._refuse(each)
        else:
            # Tombstones, empty bundles, points without a recorded value: no verdict on the engine in either direction.
            # As refusals they would stop a healthy service; as acceptances they would hide that all else is refused.
            self._complete(each)

    # Packs to verdicts

    def _launch(self, packs: list[Pack]) -> None:
        if packs:
            self._delivering += 1
            self._tasks.spawn(self._deliver(packs))

    async def _deliver(self, packs: list[Pack]) -> None:
        try:
            delivering = self.delivery.deliver(packs, self.deadline, self._verdict)
            del packs  # each is held by the delivery alone, until its verdict
            for verdict in await delivering:
                if verdict is not None and verdict.kind is not Kind.PERMANENT:
                    self._failed(verdict)
        finally:
            self._delivering -= 1

    def _verdict(self, packed: Pack, failure: Failure | None) -> None:
        for each in self._flight.judged(packed, failure):
            self._complete(each)

    def _complete(self, each: InFlightRecord) -> None:
        """Every row has a final verdict; one letter holds whatever went wrong with the record."""
        if each.why is not None or each.rejected or each.parts:
            self._bury(each)
        else:
            self._settle(each, Status.DELIVERED if each.record.value is not None else Status.TOMBSTONE)
        if each.lines:
            why = f"{each.record.coordinates}: {': '.join(cause(each))}" if each.refused else ""
            self._breakers.accepting.saw(refused=each.refused > 0, why=why)

    def _refuse(self, each: InFlightRecord) -> None:
        """No row could be made of a record."""
        self._bury(each)
        reason, detail = cause(each)
        self._breakers.decoding.saw(refused=True, why=f"{each.record.coordinates}: {reason}: {detail}")

    def _bury(self, each: InFlightRecord) -> None:
        # What made the breaker trip gets its letters, what comes after that none. Without them only a slow topic would
        # leave something to read: in a quick one the breaker trips before the first letter is on its way.
        if self.broken is None:
            self._burial.add(each, self.deadline)

    def _buried(self, each: InFlightRecord) -> None:
        self._settle(each, Status.DEAD_LETTERED)

    # Bookkeeping

    def _settle(self, each: InFlightRecord, status: Status) -> None:
        self._flight.settle(each, status)
        self.active.settled(each.hours, self._clock)
        self._changed.set()
        self._transform.settled(each)
        if self.on_settled is not None:
            self.on_settled(each.record.tp, each.epoch, each.record.offset, status)

    def _failed(self, failure: Failure) -> None:
        self.failures.setdefault(failure.code, failure)

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    async def _cancel(self) -> None:
        await self._tasks.cancel()
        # A task that was cancelled before its first step never ran its `finally`.
        self._working = False
        self._delivering = 0
        self._burial.ended()
