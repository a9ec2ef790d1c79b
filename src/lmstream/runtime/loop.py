"""The loop for hosts that pull: poll, submit, commit what the ledger says, drain on revoke, stop cleanly."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from lmstream.abilities import Loaded, Placed, Placing
from lmstream.delivery import Pipeline, Settled
from lmstream.delivery.tasks import end
from lmstream.errors import ConfigError, SinkError, SourceError, coded
from lmstream.interfaces import Clock, Source
from lmstream.model import TopicPartition
from lmstream.runtime.assignments import Assignments
from lmstream.runtime.offset_ledger import OffsetLedger
from lmstream.runtime.own_lane import OwnLane
from lmstream.runtime.policy import RuntimePolicy
from lmstream.runtime.progress import Progress
from lmstream.runtime.snapshot import RunSnapshot, RunState
from lmstream.runtime.watcher import Notice, Watcher, sink_error

__all__ = ["Progress", "Runtime", "RuntimePolicy", "Summary"]

log: Final = logging.getLogger("lmstream.runtime.loop")

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
        repeats: bool = False,
    ) -> None:
        """`repeats` says that rows of a source that cannot be read again may land by claims too: at least once."""
        self.source: Source = source
        self.pipeline: Pipeline = pipeline
        self._clock = clock
        self._policy = policy or RuntimePolicy()
        self._on_progress = on_progress
        self._halt = asyncio.Event()
        self._started = self._shown_at = clock()
        outlet, polled = pipeline.outlet, source
        if isinstance(outlet, Placing) and not isinstance(source, Placed):
            if not repeats:
                what = "rows land in this sink exactly once, for which the source must be able to read again"
                raise ConfigError("config.invalid", what, "use source.type kafka, confluent or files")
            polled = own = OwnLane(source, on_settled)
            on_settled = own.settled
        self._polled: Source = polled
        self.assignments: Assignments = Assignments(polled, pipeline, self._policy, self._started, on_settled)
        self._watcher = Watcher(self._started, self._policy.fatal_patience)
        self._sought = False
        self.state: RunState = "starting"
        self.on_close: Callable[[], None] | None = None
        """Called when the run is over, before anything is closed: who looks then still sees what was left."""
        polled.on_revoke = self.assignments.revoke
        if isinstance(source, Loaded):
            source.load = pipeline.load
        if isinstance(outlet, Placing) and isinstance(polled, Placed):
            polled.on_assign, outlet.seek = outlet.assigned, self._seek

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
            while True:
                try:
                    await self._read()
                except SinkError:
                    raise  # trying on would only meet the same refusal
                except Exception:
                    self._halt.set()
                    if not self.pipeline.broken:
                        await self._finish()  # the source broke; what it brought before is good
                    raise
                self.state = "draining"
                await self._finish()
                if not self._sought or self._halt.is_set():
                    break
                self._sought = False  # a source that had ended was told to read something again
            tripped = self.pipeline.snapshot().tripped
            if tripped is not None and not self._halt.is_set():  # the source has ended: nothing is left to wait for
                raise sink_error(tripped)
        finally:
            try:
                if self.on_close is not None:
                    self.on_close()
            finally:
                await self._close()
        for notice in self._watcher.members(self.pipeline.snapshot()):
            _say(notice)
        self._show()
        return self.progress()

    def snapshot(self) -> RunSnapshot:
        """Where the run stands."""
        now, assignments = self._clock(), self.assignments
        return RunSnapshot(
            state=self.state,
            duration=now - self._started,
            silent=now - self._watcher.looked_at,
            still=now - self._watcher.settled_at,
            reading=self.pipeline.room > 0 and not assignments.paused,
            commits=assignments.commits,
            commit_failures=assignments.commit_failures,
            late=self.ledger.late,
            stale=assignments.stale,
            pipeline=self.pipeline.snapshot(),
        )

    def progress(self) -> Progress:
        """Where the run stands, as plain numbers."""
        return Progress.of(self.snapshot())

    # Reading

    async def _seek(self, places: Mapping[TopicPartition, int]) -> None:
        """Have the source read from elsewhere, also when it has ended."""
        assert isinstance(self._polled, Placed)  # noqa: S101 - for the type checker
        await self._polled.seek(places)
        self._sought = True

    async def _read(self) -> None:
        """Poll and submit, with ticks while a poll takes its time, until the source ends or `stop`."""
        poll: asyncio.Task[bool] | None = None
        try:
            while not self._halt.is_set():
                room = self.assignments.room
                poll = poll or asyncio.create_task(self._poll(room))
                await self._wait(poll)
                if poll.cancelled():
                    raise SourceError("source.unreachable", "the client library cancelled the call")
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
        batch = await self._polled.poll(room)
        self.assignments.accept(batch)
        if batch.cramped:
            self.pipeline.flush()
        return batch.end

    async def _wait(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task, `stop` or the next tick."""
        halt = asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait({task, halt}, timeout=self._policy.tick, return_when=asyncio.FIRST_COMPLETED)
        finally:
            halt.cancel()

    async def _wait_for_change(self) -> None:
        change = asyncio.create_task(self.pipeline.changed())
        try:
            await self._wait(change)
        finally:
            change.cancel()

    # Keeping up

    def _tick(self) -> None:
        """Roll by age, commit, report; raise what broke in the background."""
        self.pipeline.tick()
        now = self._clock()
        for notice in self._watcher.look(self.pipeline.snapshot(), now):
            _say(notice)
        self.assignments.tick(now)
        if now - self._shown_at >= self._policy.progress_interval:
            self._shown_at = now
            self._show()

    def _show(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())

    # Ending

    async def _finish(self) -> None:
        """Settle what is in flight: as long as it takes after the end of the source, within the grace after `stop`."""
        drain = asyncio.create_task(self.pipeline.drain())
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
        await self._guard("pipeline", self.pipeline.close())
        # aiokafka's stop can raise CancelledError, which no `except Exception` would see.
        await self._guard("source", self.source.close())

    async def _guard(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=self._policy.close_timeout)
        if not task.done():
            said = f"did not close within {self._policy.close_timeout:g} s and is left behind"
            task.cancel()
        elif task.cancelled():
            said = "was cancelled while it closed"
        elif task.exception() is not None:
            said = f"did not close cleanly: {task.exception()!r}"
        else:
            return
        log.warning("%s %s", what, said, extra=coded(f"{what}.unreachable", "sink.unreachable"))


def _say(notice: Notice) -> None:
    log.log(notice.level, notice.text, extra=notice.extra)
