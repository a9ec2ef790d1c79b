"""Records in, an acknowledgement for each out: the heart of lmstream. Hosts acknowledge from that alone.

Theory of operation
-------------------
A host hands over the records of one poll or one call with `submit`, and says whom to call for each that may be
acknowledged. Everything else continues in background tasks of one event loop:

1. *Queue.* `submit` makes an InFlightRecord of each record and puts it into the queue. Each carries its own
   acknowledgement, through the Submission that it came with: nobody has to find its owner again.
2. *Transform.* One task at a time (`_work`) takes records from the queue, as long as the memory budget has room for
   their lines, and makes rows of them. What gives no row goes straight to 5.
3. *Batch.* Lines wait until they fill a request, or their batch ends; for object sinks until a file of their path is
   large or old enough (`tick`). Rows of an hour for which the stream has no partition left wait before that (Waiting).
4. *Send.* Each set of packs is a task of Sender: requests, retries, concurrency. It tells one verdict for each pack, at
   once, and to one place: `Settlement.judged`.
5. *Settle.* Settlement subtracts the pack's rows from its records. A record without an open row is acknowledged, if
   nothing was wrong with it; else it gets one dead letter, written by DeadLetterQueues, and is acknowledged when
   that is durable.

The state is: the queue; `InFlight`, which has every record that is not settled, by number; lines gathered; records that
wait for an hour; packs and letters in their tasks; the budget, which is told of all bytes and asks nobody.

Stages 2 to 4 of a record are its `Outlet`'s: PackOutlet here, for sinks that take packs; a lake has another one, whose
records settle by windows. The queue before it, the budget, settling and letters are the same.

These hold at all times; drawn schedules in the tests try to break them:

* A record is acknowledged once, in `Settlement.settle`, when each of its rows was accepted or is in a durable dead
  letter. Stopping early, at any point, repeats work and loses none.
* The counts add up (see Counts; `balanced`).
* Lines are made only while `MemoryBudget.free` is positive, but one record may always go: one larger than the budget
  must not wait for ever.
* Only the Sender, and the DeadLetterWriter for its letters, sleep and retry. Only `_work` makes lines.
* A bug (not bad data, and not a sink) ends in `Tasks.error`: it is raised by `submit`, `tick` and `drain`, nothing more
  is read, and nothing of what it touched is acknowledged.

Hosts that poll have no deadline: they call `submit`, `tick` a few times a second, and `drain` before they give
partitions up or end. Hosts that are called (Lambda) use `process_batch.process`: its Submission has a deadline, after
which nothing is begun; what is then open is given back (`give_back`), and its source redelivers it.
"""

from collections.abc import Iterable, KeysView, Mapping
from typing import Final, cast

from lmstream.abilities import Stored
from lmstream.delivery.active_partitions import ActivePartitions
from lmstream.delivery.circuit_breaker import BreakerPolicy, CircuitBreakers
from lmstream.delivery.counts import Counts
from lmstream.delivery.dead_letter import bound
from lmstream.delivery.dead_letter_writer import WRITING, DeadLetterQueues, DeadLetterWriter
from lmstream.delivery.in_flight import OVERHEAD, InFlight, InFlightRecord, Settled, Submission
from lmstream.delivery.memory_budget import BUDGET, RESERVE, MemoryBudget
from lmstream.delivery.outlet import SENDING, MakeOutlet, Outlet, Parts
from lmstream.delivery.pack_outlet import PackOutlet
from lmstream.delivery.record_queue import RecordQueue
from lmstream.delivery.retry import Attempts, DeliveryPolicy, Random
from lmstream.delivery.rolling import RollPolicy
from lmstream.delivery.settlement import Settlement
from lmstream.delivery.snapshot import Snapshot, taken
from lmstream.delivery.tasks import Tasks
from lmstream.engine import Engine
from lmstream.errors import ConfigError
from lmstream.interfaces import Batch, Clock, DeadLetterSink, Load, PoisonGuard, Sink, Sleep
from lmstream.model import Record, TopicPartition

YIELD_BYTES: Final = 256 * 1024
"""Bytes of payload between two pauses for the other tasks: some milliseconds of transforming."""


def _taking_packs(sink: Sink | Stored | MakeOutlet) -> Sink | MakeOutlet:
    """The sink. Raises ConfigError for one that lands by claims: its outlet needs a source that can seek
    (`lmstream.config.build_runtime`)."""
    if isinstance(sink, Stored) and not hasattr(sink, "write"):
        what = "rows of this sink land by claims, in windows of a source that can seek"
        fix = "use lmstream.config.build_runtime with such a source, or a sink that takes packs (firehose)"
        raise ConfigError("config.invalid", what, fix)
    return cast("Sink | MakeOutlet", sink)


class Pipeline:
    """One mechanism for every host (see above). Lives in one event loop."""

    def __init__(
        self,
        engine: Engine,
        sink: Sink | Stored | MakeOutlet,
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
    ) -> None:
        """`sink` takes packs, or makes an outlet of its own. Raises ConfigError for one that lands by claims."""
        sink = _taking_packs(sink)
        policy = policy or DeliveryPolicy()
        roll = roll or RollPolicy(total_bytes=min(RollPolicy().total_bytes, max(1, budget // 2)))
        limits = None if callable(sink) else sink.limits
        self._clock, self._sleep, self._engine = clock, sleep, engine
        self._tasks = Tasks()
        self._budget = MemoryBudget(budget, RESERVE if limits is not None and limits.base64 else 0.0)
        self._flight, self._queue = InFlight(self._budget), RecordQueue(self._budget)
        self.counts: Counts = self._flight.counts
        bounded = limits is not None and limits.partitions
        active = ActivePartitions(policy.partitions, policy.partition_seconds, bounded=bounded)
        attempts = Attempts(policy, clock, sleep, random)
        self.letters: DeadLetterWriter = DeadLetterWriter(dead_letters, attempts)
        """Writes dead letters; for hosts that have some of their own."""
        self._settlement = Settlement(
            self._flight,
            DeadLetterQueues(self.letters, self._tasks, clock, bound(engine.settings.limits)),
            # Off unless asked for: a host that is called has nobody who could look, and its records expire meanwhile.
            CircuitBreakers(breaker or BreakerPolicy(records=0)),
            active,
            guard=guard,
            clock=clock,
            changed=self._tasks.changed.set,
        )
        parts = Parts(engine, guard, self._flight, self._budget, self._tasks, self._settlement, attempts, active)
        self.outlet: Outlet = sink(parts) if callable(sink) else PackOutlet(parts, sink, roll)
        """Where records become rows, and are settled."""
        self.settles_within: float = 2 * policy.timeout + self.outlet.gathers_for
        """Seconds within which a record settles while the sink answers: two requests, after its lines are gathered."""
        self.offsets: int = 4 * budget // OVERHEAD if self.outlet.gathers_for else 0
        """Records that may be unsettled at once because their rows are gathered for long; 0 for an outlet that sends
        them soon. So many do not fit: the budget ends what is gathered long before."""
        self._passed: dict[TopicPartition, tuple[int, int]] = {}  # epoch and offset
        self._working = self._closed = False

    @property
    def room(self) -> int:
        """Bytes of payload to read now; 0 or less: read nothing."""
        way = self.outlet.way
        paused = self._settlement.breakers.tripped or (None if way.undecided else way.fatal)
        if paused is not None or self._tasks.error is not None:
            return 0
        # What is made again was reckoned with when it began: it must not wait for its own memory.
        return max(self._budget.room, self._budget.unqueued if self.outlet.hungry else 0)

    @property
    def broken(self) -> bool:
        """Whether something went wrong unexpectedly: nothing more is delivered then."""
        return self._tasks.error is not None

    @property
    def stalled(self) -> KeysView[TopicPartition]:
        """Partitions of Kafka whose records wait for room among the stream's: nothing more of them need be read."""
        return self.outlet.waiting.partitions.keys()

    @property
    def balanced(self) -> bool:
        """The accounting invariant, for records and for rows (see Counts)."""
        return self._flight.balanced(len(self._queue))

    def oldest(self) -> dict[TopicPartition, Record]:
        """Of each partition the first record that is not settled."""
        return self._flight.oldest()

    def snapshot(self) -> Snapshot:
        """Where it stands."""
        return taken(self._flight, self._budget, self.outlet, self._settlement, self._clock())

    def load(self) -> Load:
        """Bytes in flight, and how many may be."""
        return Load(self._budget.held, self._budget.total)

    def caches(self) -> dict[str, tuple[int, int, int]]:
        """(bytes in use, pieces ever made, pieces asked for) by what the engine keeps."""
        return self._engine.caches()

    def submit(self, batch: Batch, settled: Settled, deadline: float | None = None) -> Submission:
        """Take the records of one batch; `settled` is called for each that may be acknowledged. Transform and delivery
        continue in the background, without a `deadline` (by the clock) until all of them are settled.

        Raises what went wrong unexpectedly before, and RuntimeError when it is closed.
        """
        self._tasks.raise_error()
        if self._closed:
            raise RuntimeError("the pipeline is closed")
        submission = Submission(settled, deadline)
        track, epochs = self._flight.track, batch.epochs
        self._queue.extend([track(record, submission, epochs) for record in batch.records])
        if batch.records and not self._working:
            self._working = True
            self._tasks.spawn(self._work(), "transforming records")
        return submission

    def passed(self, places: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int]) -> None:
        """Take note of offsets behind those submitted, below which no record lies. Raises as `submit`."""
        self._tasks.raise_error()
        self._passed |= {tp: (epochs.get(tp, 0), offset) for tp, offset in places.items()}
        self._pass()

    def tick(self) -> None:
        """Roll what is old enough. Call it a few times a second, whether or not records come. Raises what went wrong
        unexpectedly."""
        self._tasks.raise_error()
        if not self._closed:
            self._pass()
            if self._settlement.breakers.tripped is not None:
                self.outlet.flush()  # nothing more joins what is gathered
            self.outlet.tick(self._clock())

    def flush(self) -> None:
        """Send what is gathered by path, whatever its age: its bytes are wanted."""
        if not self._closed:
            self.outlet.flush()

    async def drain(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Flush, and wait until everything (or everything of some partitions) is settled. Bound it by asyncio.timeout;
        when cut short, the work continues and nothing is lost. Raises what went wrong unexpectedly.
        """
        wanted = None if partitions is None else frozenset(partitions)
        while True:
            self._tasks.raise_error()
            if self._closed:
                return
            if wanted is not None and not any(self._flight.holds(tp) for tp in wanted):
                return
            # While records wait, their rows may still join what is gathered: fewer, larger objects. None joins any more
            # once reading has stopped permanently.
            if wanted is not None or not self._queue or self._settlement.breakers.tripped is not None:
                self._pass()  # belongs to what is flushed
                self.outlet.flush()
            if not self._tasks and not self.outlet.waiting:
                return
            await self.changed()

    async def changed(self) -> None:
        """Wait for a record to settle or a task to end."""
        await self._tasks.wait()

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop records of these partitions of which no row was sent yet: their next owner reads them again."""
        partitions = frozenset(partitions)
        for each in self._queue.remove(partitions):
            self._flight.drop(each)
        self.outlet.forget(partitions)
        self._tasks.changed.set()

    async def give_back(self) -> None:
        """Cancel all deliveries and forget what is not settled, an error too: the caller brings the records again."""
        await self._cancel()
        for each in self._queue.remove():
            self._flight.drop(each)
        for each in list(self._flight.records.values()):
            self._settlement.give_back(each)
        self._settlement.letters.clear()
        self.outlet.clear()
        self._tasks.error = None

    async def close(self) -> None:
        """Cancel all deliveries, close dead letters and sink. What is not settled stays so. Raises what they raise."""
        self._closed = True
        await self._cancel()
        try:
            await self.letters.close()
        finally:
            await self.outlet.way.close()
            self.outlet.close()

    async def _work(self) -> None:
        """Transform what waits, never more than the budget holds (but always one record), and have its rows sent."""
        queue, outlet, counts, worked = self._queue, self.outlet, self.counts, 0
        try:
            while (first := queue.first) is not None and not self._is_over(first):
                full = self._budget.free <= 0 or outlet.suspects(first)
                if full and len(self._flight.records) > len(queue):
                    if self._makes_room():
                        await self.changed()
                        continue
                    if not outlet.hungry:
                        break
                each = queue.take()
                counts.records += 1
                counts.unjudged += 1  # until the outlet knows what it became
                outlet.make(each)
                worked += each.payload + 1024
                if worked >= YIELD_BYTES:
                    worked = 0
                    await self._sleep(0)
            outlet.cut()
        finally:
            self._working = False

    def _pass(self) -> None:
        """Tell the outlet how far partitions are, of which no record waits."""
        if self._passed and not self._closed:
            waiting = self._queue.partitions()
            for tp in [tp for tp in self._passed if tp not in waiting]:
                self.outlet.passed(tp, *self._passed.pop(tp))

    def _is_over(self, first: InFlightRecord) -> bool:
        """Whether nothing more is to be begun: the deadline is over, or too many records are refused."""
        return self._settlement.breakers.tripped is not None or first.submission.is_over(self._clock)

    def _makes_room(self) -> bool:
        """Send what is gathered, so that its bytes come free; whether anything is under way that will free some."""
        self.outlet.cut()
        if not self._tasks.any_of(SENDING, WRITING):
            # All of the budget is gathered lines: only their age would free it.
            self.outlet.flush()
        # Without any, a deadline ended all attempts: what waits is given back.
        return self._tasks.any_of(SENDING, WRITING) or bool(self.outlet.waiting)

    async def _cancel(self) -> None:
        await self._tasks.cancel()
        self._settlement.letters.stopped()
        # A task that was cancelled before its first step never ran its `finally`.
        self._working = False
