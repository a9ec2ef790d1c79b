"""The loop for hosts that pull: poll, submit, commit what the ledger says, drain on revoke, stop cleanly."""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from lmstream.errors import REASONS, SinkError, SourceError
from lmstream.interfaces import Batch, Clock, Source
from lmstream.ledger import Ledger
from lmstream.model import Failure, Status, TopicPartition
from lmstream.pipeline import Pipeline, Settled

log: Final = logging.getLogger("lmstream.runtime")


class RuntimePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often, and how long."""

    commit_interval: Annotated[float, Meta(ge=0)] = 1.0
    """Seconds between two commits, at least. A crash reads again what was delivered since."""
    commit_timeout: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds after which a commit has failed. The next one covers it."""
    drain_timeout: Annotated[float, Meta(ge=0)] = 45.0
    """Seconds to settle what is in flight before partitions are given up. Must stay below the group's rebalance
    timeout (60 s), or the group goes on without this member."""
    grace: Annotated[float, Meta(ge=0)] = 25.0
    """Seconds after `stop` to settle what is in flight: below the 30 s after which Fargate and Kubernetes kill."""
    close_timeout: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds each part may take to close; then it is left behind."""
    fatal_patience: Annotated[float, Meta(ge=0)] | None = None
    """Seconds to wait for an operator while the sink refuses by configuration (missing stream, no permission), or too
    many records are refused.
    None waits for ever, paused and without loss, as a service should; a command line gives up after a few."""
    progress_interval: Annotated[float, Meta(gt=0)] = 0.25
    """Seconds between two calls of `on_progress`."""
    tick: Annotated[float, Meta(gt=0)] = 0.1
    """Seconds between two looks at ages, commits and progress while nothing else happens."""
    held_offsets: Annotated[int, Meta(ge=1)] = 100_000
    """Offsets read from the oldest unsettled one on, after which reading pauses: bounds memory, and what a restart
    reads again, when a single record stays stuck. A partition with more than its part of one half is paused alone, by
    sources that can."""


class Progress(Struct, kw_only=True):
    """Where a run stands. The last one is the summary, which `Runtime.run` returns."""

    records: int = 0
    rows: int = 0
    """Rows the sink accepted."""
    bytes: int = 0
    """Bytes of packs delivered."""
    dead_letters: int = 0
    tombstones: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    unacked: int = 0
    """Records read and not settled: the source brings them again after a restart."""
    in_flight_bytes: int = 0
    retried_packs: int = 0
    unknown_outcomes: int = 0
    commits: int = 0
    commit_failures: int = 0
    late: int = 0
    """Settlements that came after their partition was given up."""
    stale: int = 0
    """Records dropped because their partition had been given up when they came."""
    trouble: Failure | None = None
    """What is being retried just now, of the sink or the dead letters."""
    fatal: Failure | None = None
    """Set while the sink's configuration is wrong; reading is paused."""
    duration: float = 0.0
    """Seconds since the start."""


Summary = Progress


class Runtime:
    """Runs one source into one pipeline until the source ends, `stop` is called or something breaks.

    Owns both: `run` closes dead letters, sink and, last, source.
    """

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        *,
        clock: Clock,
        policy: RuntimePolicy | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_settled: Settled | None = None,
    ) -> None:
        self.ledger = Ledger()
        self._source = source
        self._pipeline = pipeline
        self._clock = clock
        self._policy = policy or RuntimePolicy()
        self._on_progress, self._on_settled = on_progress, on_settled
        self._commits = self._commit_failures = self._stale = 0
        self._commit_task: asyncio.Task[None] | None = None
        self._revoking: dict[TopicPartition, float] = {}  # with the epoch that ends
        self._paused: frozenset[TopicPartition] = frozenset()
        self._halt = asyncio.Event()
        self._started = self._committed_at = self._shown_at = clock()
        self._fatal_since: float | None = None
        self._unburied = False
        pipeline.on_settled = self._settled
        source.on_revoke = self._revoke

    def stop(self) -> None:
        """Stop reading, settle what is in flight within the grace, commit, close. For the loop's signal handlers."""
        self._halt.set()

    async def run(self) -> Summary:
        """Run to the end. Raises what broke (SourceError, SinkError, a bug) once what is safe is committed."""
        self._started = self._committed_at = self._shown_at = self._clock()
        try:
            try:
                await self._read()
            except SinkError:
                raise  # trying on would only meet the same refusal
            except Exception:
                self._halt.set()
                if self._pipeline.error is None:
                    await self._finish()  # the source broke; what it brought before is good
                raise
            await self._finish()
            broken = self._pipeline.broken
            if broken is not None and not self._halt.is_set():  # the source has ended: nothing is left to wait for
                raise _sink_error(broken)
        finally:
            await self._close()
        self._show()
        return self.progress()

    def progress(self) -> Progress:
        """Where the run stands."""
        pipeline, c, sent = self._pipeline, self._pipeline.counts, self._pipeline.delivery.counts
        return Progress(
            records=c.records,
            rows=c.accepted,
            bytes=sent.bytes,
            dead_letters=c.dead_letters,
            tombstones=c.tombstones,
            skipped=dict(c.skipped),
            rejected=dict(c.rejected),
            noted=dict(c.noted),
            unacked=pipeline.in_flight,
            in_flight_bytes=pipeline.in_flight_bytes,
            retried_packs=sent.retried_packs,
            unknown_outcomes=sent.unknown_outcomes,
            commits=self._commits,
            commit_failures=self._commit_failures,
            late=self.ledger.late,
            stale=self._stale,
            trouble=pipeline.letters.trouble or pipeline.delivery.trouble,
            fatal=pipeline.fatal,
            duration=self._clock() - self._started,
        )

    # Reading

    async def _read(self) -> None:
        """Poll and submit, with ticks while a poll takes its time, until the source ends or `stop`."""
        poll: asyncio.Task[bool] | None = None
        try:
            while not self._halt.is_set():
                room = self._room()
                poll = poll or asyncio.create_task(self._poll(room))
                await self._wait(poll)
                if poll.cancelled():
                    raise SourceError("source.unreachable", "the client was cancelled from inside")
                if poll.done():
                    ended, poll = poll.result(), None
                    if ended:
                        return
                    if room <= 0 and not self._halt.is_set():
                        await self._wait_for_change()
                self._tick()
        finally:
            if poll is not None:
                # What it may have fetched was never opened, so it is never committed: the next start reads it.
                await _end(poll, self._policy.close_timeout)

    async def _poll(self, room: int) -> bool:
        """Take what the source brings; whether it has ended.

        In one step with the poll, so that a revoke cannot come between reading a batch and opening its offsets.
        """
        batch = await self._source.poll(room)
        self._accept(batch)
        return batch.end

    def _room(self) -> int:
        self._spread()
        return 0 if self.ledger.held >= self._policy.held_offsets else self._pipeline.room

    def _spread(self) -> None:
        """Pause what is stalled by itself, long before all reading has to stop because of it."""
        pause = getattr(self._source, "pause", None)
        crowded = self.ledger.crowded(self._policy.held_offsets // 2)
        if pause is not None and crowded != self._paused:
            self._paused = crowded
            pause(crowded)

    def _accept(self, batch: Batch) -> None:
        records = []
        for record in batch.records:
            tp = record.tp
            epoch = batch.epochs.get(tp, 0)
            ending = self._revoking.get(tp)
            if ending is not None and epoch <= ending:
                self.ledger.refuse(tp, epoch)
                self._stale += 1
            elif self.ledger.assign(tp, epoch) and self.ledger.opened(tp, epoch, record.offset):
                records.append(record)
            else:
                self._stale += 1
        if records:
            self._pipeline.submit(Batch(records, batch.epochs, batch.end))

    def _settled(self, tp: TopicPartition, epoch: int, offset: int, status: Status) -> None:
        self.ledger.settled(tp, epoch, offset)
        if self._on_settled is not None:
            self._on_settled(tp, epoch, offset, status)

    async def _wait(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task, `stop` or the next tick."""
        halt = asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait({task, halt}, timeout=self._policy.tick, return_when=asyncio.FIRST_COMPLETED)
        finally:
            halt.cancel()

    async def _wait_for_change(self) -> None:
        change = asyncio.create_task(self._pipeline.changed())
        try:
            await self._wait(change)
        finally:
            change.cancel()

    # Keeping up

    def _tick(self) -> None:
        """Roll by age, commit, report; raise what broke in the background."""
        pipeline, now = self._pipeline, self._clock()
        if pipeline.error is not None:
            raise pipeline.error
        pipeline.tick()
        self._watch_letters()
        fatal = pipeline.fatal
        if fatal is None:
            self._fatal_since = None
        elif self._fatal_since is None:
            self._fatal_since = now
            log.error("reading is paused until an operator acts: %s: %s", fatal.code, fatal.message)
        patience = self._policy.fatal_patience
        if fatal is not None and self._fatal_since is not None and patience is not None:
            waited = now - self._fatal_since
            if waited >= patience:
                raise _sink_error(fatal)
        if now - self._committed_at >= self._policy.commit_interval and self._commit_task is None:
            self._committed_at = now
            offsets = self.ledger.committable()
            if offsets:
                self._commit_task = asyncio.create_task(self._commit(offsets))
                self._commit_task.add_done_callback(self._commit_ended)
        if now - self._shown_at >= self._policy.progress_interval:
            self._shown_at = now
            self._show()

    def _watch_letters(self) -> None:
        """Say when dead letters begin to wait, and when they are durable again."""
        trouble = self._pipeline.letters.trouble
        if (trouble is not None) == self._unburied:
            return
        self._unburied = trouble is not None
        if trouble is None:
            log.warning("dead letters are durable again")
            return
        first, many = self._pipeline.unburied
        what = "dead letters cannot be written, %s and %d more wait, their partitions are not committed: %s"
        log.error(what, first, max(0, many - 1), trouble.message)

    def _show(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit, or note that it failed: nothing is lost by that, the next commit covers it."""
        try:
            async with asyncio.timeout(self._policy.commit_timeout):
                await self._source.commit(offsets)
        except Exception as e:  # noqa: BLE001 - whatever a client raises here, the rows are safe and the next tick tries again
            self._commit_failures += 1
            log.warning("commit failed, the next one covers it: %s: %s", type(e).__name__, e)
        else:
            self._commits += 1
            self.ledger.committed(offsets)

    def _commit_ended(self, _task: asyncio.Task[None]) -> None:
        self._commit_task = None

    async def _commit_now(self) -> None:
        """Commit the latest; a commit that is under way is cut short, so that an older one cannot land after it."""
        if self._commit_task is not None:
            await _end(self._commit_task, self._policy.close_timeout)
        offsets = self.ledger.committable()
        if offsets:
            await self._commit(offsets)

    async def _revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Settle and commit what is in flight of these partitions, then give them up. The source awaits this."""
        # A source that lost its place may be back in a new epoch before the old one is settled: that one is not ours to
        # drop. Of a partition with no record yet the epoch is not known, so nothing of it is taken until this returns.
        epochs = {tp: self.ledger.epoch(tp) for tp in partitions}
        gone = {tp: math.inf if epoch is None else epoch for tp, epoch in epochs.items()}
        self._revoking |= gone
        try:
            self._pipeline.forget(gone)
            try:
                async with asyncio.timeout(self._policy.drain_timeout):
                    await self._pipeline.drain(gone)
            except TimeoutError:
                log.warning("partitions are given up with records in flight; their next owner repeats those")
            await self._commit_now()
        finally:
            for tp, ending in gone.items():
                if (self.ledger.epoch(tp) or 0) <= ending:
                    self.ledger.revoke(tp)
                self._revoking.pop(tp, None)

    # Ending

    async def _finish(self) -> None:
        """Settle what is in flight: as long as it takes after the end of the source, within the grace after `stop`."""
        drain = asyncio.create_task(self._pipeline.drain())
        stopped: float | None = None
        try:
            while not drain.done():
                if self._halt.is_set():
                    stopped = self._clock() if stopped is None else stopped
                    if self._clock() - stopped >= self._policy.grace:
                        break
                    await asyncio.wait({drain}, timeout=self._policy.tick)
                else:
                    await self._wait(drain)
                self._tick()
            if drain.done():
                drain.result()
        finally:
            await _end(drain, self._policy.close_timeout)

    async def _close(self) -> None:
        """Commit, then close dead letters and sink, and the source last; no part can keep the next from closing."""
        await self._guard("commit", self._commit_now())
        await self._guard("pipeline", self._pipeline.close())
        # aiokafka's stop can raise CancelledError, which no `except Exception` would see.
        await self._guard("source", self._source.close())

    async def _guard(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=self._policy.close_timeout)
        if not task.done():
            log.warning("%s did not close within %g s and is left behind", what, self._policy.close_timeout)
            task.cancel()
        elif task.cancelled():
            log.warning("%s was cancelled while it closed", what)
        elif task.exception() is not None:
            log.warning("%s did not close cleanly: %r", what, task.exception())


def _sink_error(failure: Failure) -> SinkError:
    if failure.code in REASONS:
        return SinkError(failure.code, failure.message)
    return SinkError(
        "sink.missing" if "NotFound" in failure.code else "sink.denied", f"{failure.code}: {failure.message}"
    )


async def _end(task: asyncio.Task[Any], seconds: float) -> None:
    """Cancel a task and wait for its end, but not for ever, and whatever it raises."""
    task.cancel()
    await asyncio.wait({task}, timeout=seconds)
    if task.done() and not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it
