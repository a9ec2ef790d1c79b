"""The loop for hosts that pull: poll, submit, commit what the ledger says, drain on revoke, stop cleanly."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal

from lmstream.abilities import Loaded
from lmstream.delivery import Pipeline, Settled
from lmstream.delivery.tasks import end
from lmstream.errors import REASONS, SinkError, SourceError, coded
from lmstream.interfaces import Clock, Load, Source
from lmstream.model import Failure, Status, TopicPartition
from lmstream.runtime.assignments import Assignments
from lmstream.runtime.offset_ledger import OffsetLedger
from lmstream.runtime.policy import RuntimePolicy
from lmstream.runtime.progress import Progress

__all__ = ["Progress", "Runtime", "RuntimePolicy", "Summary"]

log: Final = logging.getLogger("lmstream.runtime.loop")

NEWS: Final = 3.0
"""Seconds a sink fails without a pack delivered before that is worth a line."""

Summary = Progress
State = Literal["starting", "running", "draining"]


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
        self._source = source
        self._pipeline = pipeline
        self._clock = clock
        self._policy = policy or RuntimePolicy()
        self._on_progress, self._on_settled = on_progress, on_settled
        self._halt = asyncio.Event()
        self._started = self._shown_at = clock()
        self.assignments = Assignments(source, pipeline, self._policy, self._started)
        self.state: State = "starting"
        self.ticked_at = self.settled_at = self._started
        """When the loop last came round, and when a record was last settled, by the clock."""
        self._fatal_since: float | None = None
        self._unburied = False
        self._failing_since: float | None = None
        self._failing_told = False
        self._unknown_told = self._hours_wait = False
        pipeline.on_settled = self._settled
        source.on_revoke = self.assignments.revoke
        if isinstance(source, Loaded):
            source.load = lambda: Load(pipeline.in_flight_bytes, pipeline.budget)

    @property
    def source(self) -> Source:
        """What is read."""
        return self._source

    @property
    def pipeline(self) -> Pipeline:
        """Where it goes."""
        return self._pipeline

    @property
    def clock(self) -> Clock:
        """What `ticked_at` and `settled_at` are read from."""
        return self._clock

    @property
    def ledger(self) -> OffsetLedger:
        """Which offsets are safe to commit."""
        return self.assignments.ledger

    def stop(self) -> None:
        """Stop reading, settle what is in flight within the grace, commit, close. For the loop's signal handlers."""
        self._halt.set()
        self.state = "draining"

    async def run(self) -> Summary:
        """Run to the end. Raises what broke (SourceError, SinkError, a bug) once what is safe is committed."""
        self._started = self._shown_at = self._clock()
        self.state = "running" if self.state == "starting" else self.state
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
            self.state = "draining"
            await self._finish()
            broken = self._pipeline.broken
            if broken is not None and not self._halt.is_set():  # the source has ended: nothing is left to wait for
                raise sink_error(broken)
        finally:
            await self._close()
        self._show()
        return self.progress()

    def progress(self) -> Progress:
        """Where the run stands."""
        pipeline, c, sent = self._pipeline, self._pipeline.counts, self._pipeline.delivery.counts
        return Progress(
            records=c.records,
            understood=c.understood,
            empty=c.empty,
            undecodable=c.undecodable,
            all_skipped=c.all_skipped,
            parts_undecodable=c.parts_undecodable,
            rows=c.accepted,
            bytes=sent.bytes,
            dead_letters=c.dead_letters,
            tombstones=c.tombstones,
            skipped=dict(c.skipped),
            rejected=dict(c.rejected),
            noted=dict(c.noted),
            unknown=list(pipeline.unknown),
            unacked=pipeline.in_flight,
            in_flight_bytes=pipeline.in_flight_bytes,
            retried_packs=sent.retried_packs,
            unknown_outcomes=sent.unknown_outcomes,
            commits=self.assignments.commits,
            commit_failures=self.assignments.commit_failures,
            late=self.ledger.late,
            stale=self.assignments.stale,
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
                room = self.assignments.room
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
                await end(poll, self._policy.close_timeout)

    async def _poll(self, room: int) -> bool:
        """Take what the source brings; whether it has ended.

        In one step with the poll, so that a revoke cannot come between reading a batch and opening its offsets.
        """
        batch = await self._source.poll(room)
        self.assignments.accept(batch)
        if batch.cramped:
            self._pipeline.flush()
        return batch.end

    def _settled(self, tp: TopicPartition, epoch: int, offset: int, status: Status) -> None:
        self.ledger.settled(tp, epoch, offset)
        self.settled_at = self._clock()
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
        self.ticked_at = now
        if pipeline.error is not None:
            raise pipeline.error
        pipeline.tick()
        self._watch_letters()
        self._watch_hours()
        self._watch_members()
        self._watch_sink(now)
        fatal = pipeline.fatal
        if fatal is None:
            self._fatal_since = None
        elif self._fatal_since is None:
            self._fatal_since = now
            error = sink_error(fatal)
            paused = "reading is paused until an operator acts"
            what = f"{paused}, or another pack is taken" if fatal.unsure else paused
            log.error("%s: %s", what, error, extra=coded(error.reason))
            self._failing_told = True  # under the right code; that it takes rows again is news afterwards
        patience = self._policy.fatal_patience
        if fatal is not None and self._fatal_since is not None and patience is not None:
            waited = now - self._fatal_since
            if waited >= patience:
                raise sink_error(fatal)
        self.assignments.tick(now)
        if now - self._shown_at >= self._policy.progress_interval:
            self._shown_at = now
            self._show()

    def _watch_sink(self, now: float) -> None:
        """Say when the sink has failed for a while, and when it takes rows again; one throttle is no news."""
        trouble = self._pipeline.delivery.trouble
        if trouble is None:
            if self._failing_since is not None and self._failing_told:
                log.warning(
                    "the sink takes rows again after %.0f s", now - self._failing_since, extra=coded("sink.unreachable")
                )
            self._failing_since, self._failing_told = None, False
        elif self._failing_since is None:
            self._failing_since = now
        elif not self._failing_told and now - self._failing_since >= NEWS:
            self._failing_told = True
            log.warning(
                "the sink takes no rows, they wait and are tried again: %s: %s",
                trouble.code,
                trouble.message,
                extra=coded(trouble.code, "sink.unreachable"),
            )

    def _watch_letters(self) -> None:
        """Say when dead letters begin to wait, and when they are durable again."""
        trouble = self._pipeline.letters.trouble
        if (trouble is not None) == self._unburied:
            return
        self._unburied = trouble is not None
        if trouble is None:
            log.warning("dead letters are durable again", extra=coded("dead_letters.unavailable"))
            return
        first, many = self._pipeline.unburied
        what = "dead letters cannot be written, %s and %d more wait, their partitions are not committed: %s"
        log.error(what, first, max(0, many - 1), trouble.message, extra=coded("dead_letters.unavailable"))

    def _watch_hours(self) -> None:
        """Say when hours begin to wait for room among the stream's partitions, and when none does any more."""
        pipeline, waiting = self._pipeline, self._pipeline.waiting
        if bool(waiting) == self._hours_wait:
            return
        self._hours_wait = bool(waiting)
        if not waiting:
            log.warning("no hour waits for room any more", extra=coded("sink.partitions"))
            return
        what = "%d of %d partitions are active: records from %s on wait until older hours are written"
        count, most = pipeline.active.count(self._clock()), pipeline.active.most
        log.warning(what, count, most, waiting.oldest, extra=coded("sink.partitions"))

    def _watch_members(self) -> None:
        """Say once that senders use members which OTLP metrics do not know: what they hold is in no row."""
        unknown = self._pipeline.unknown
        if unknown and not self._unknown_told:
            self._unknown_told = True
            log.warning(
                "%s: members that OTLP metrics do not know, in parts that gave no data point: %s",
                next(iter(unknown.values())),
                ", ".join(unknown),
                extra=coded("decode.not_understood"),
            )

    def _show(self) -> None:
        self._watch_members()
        if self._on_progress is not None:
            self._on_progress(self.progress())

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
            await end(drain, self._policy.close_timeout)

    async def _close(self) -> None:
        """Commit, then close dead letters and sink, and the source last; no part can keep the next from closing."""
        await self._guard("commit", self.assignments.commit())
        await self._guard("pipeline", self._pipeline.close())
        # aiokafka's stop can raise CancelledError, which no `except Exception` would see.
        await self._guard("source", self._source.close())

    async def _guard(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=self._policy.close_timeout)
        if not task.done():
            log.warning(
                "%s did not close within %g s and is left behind",
                what,
                self._policy.close_timeout,
                extra=coded(f"{what}.unreachable", "sink.unreachable"),
            )
            task.cancel()
        elif task.cancelled():
            log.warning(
                "%s was cancelled while it closed", what, extra=coded(f"{what}.unreachable", "sink.unreachable")
            )
        elif task.exception() is not None:
            log.warning(
                "%s did not close cleanly: %r",
                what,
                task.exception(),
                extra=coded(f"{what}.unreachable", "sink.unreachable"),
            )


def sink_error(failure: Failure) -> SinkError:
    """What pauses reading, with our code: the operator must act."""
    if failure.code in REASONS:
        return SinkError(failure.code, failure.message)
    said = f"{failure.code}: {failure.message}"
    if failure.unsure:
        return SinkError("sink.refused", said)
    return SinkError("sink.missing" if "NotFound" in failure.code else "sink.denied", said)
