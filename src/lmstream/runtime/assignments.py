"""Partitions while they are ours: what is taken of them, committed, and settled before they are revoked."""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from lmstream.abilities import Pausable
from lmstream.delivery import Pipeline, Settled
from lmstream.delivery.in_flight import Submission
from lmstream.delivery.tasks import end
from lmstream.errors import coded
from lmstream.interfaces import Batch, Source
from lmstream.model import Record, Status, TopicPartition
from lmstream.runtime.offset_ledger import OffsetLedger
from lmstream.runtime.policy import RuntimePolicy


class OneBatch(Protocol):
    """What is made of one batch by who watches batches."""

    submission: Submission | None
    """Set once its records are submitted."""

    def settled(self, tp: TopicPartition, epoch: int, offset: int, status: Status, /) -> None:
        """One of its records is settled."""
        ...


class Batches(Protocol):
    """Who watches batches, from the poll until the last record of each is settled. May raise nothing."""

    def begun(self, records: Sequence[Record], /) -> OneBatch | None:
        """A poll brought these; None for a batch that is not watched."""
        ...

    def given_up(self, partitions: Iterable[TopicPartition], /) -> None:
        """What of these partitions is not settled has another owner now."""
        ...


log: Final = logging.getLogger("lmstream.runtime.loop")


class Assignments:
    """The ledger's keeper between one source and one pipeline."""

    def __init__(
        self, source: Source, pipeline: Pipeline, policy: RuntimePolicy, now: float, on_settled: Settled | None = None
    ) -> None:
        """`now` is when the run starts, by the clock whose readings `tick` is given. `on_settled` is called for each
        record that is settled, after the ledger."""
        self.ledger: OffsetLedger = OffsetLedger()
        self._settled = self.ledger.settled if on_settled is None else _both(self.ledger.settled, on_settled)
        self._source, self._pipeline, self._policy = source, pipeline, policy
        self._committing: asyncio.Task[None] | None = None
        self._committed_at = now
        self._revoking: dict[TopicPartition, float] = {}  # with the epoch that ends
        self._pausable = source if isinstance(source, Pausable) else None
        self.paused: frozenset[TopicPartition] = frozenset()
        """Partitions that are not read, for what was read of them cannot be settled."""
        self.batches: Batches | None = None
        """Who watches batches, set before the run begins."""
        self.commits: int = 0
        self.commit_failures: int = 0
        self.stale: int = 0
        """Records dropped because their partition had been revoked when they came."""

    @property
    def room(self) -> int:
        """Bytes to read now. Pauses what is stalled by itself, long before all reading has to stop because of it."""
        most = max(self._policy.held_offsets, self._pipeline.offsets)
        crowded = self.ledger.crowded(most // 2) | self._pipeline.stalled
        if self._pausable is not None and crowded != self.paused:
            self.paused = crowded
            self._pausable.pause(crowded)
        return 0 if self.ledger.held >= most else self._pipeline.room

    def accept(self, batch: Batch) -> None:
        """Open the offsets of a batch and submit its records; those of an assignment that has ended are dropped."""
        records = []
        for record in batch.records:
            tp = record.tp
            epoch = batch.epochs.get(tp, 0)
            ending = self._revoking.get(tp)
            if ending is not None and epoch <= ending:
                self.ledger.refuse(tp, epoch)
                self.stale += 1
            elif self.ledger.assign(tp, epoch) and self.ledger.opened(
                tp, epoch, record.offset if record.position is None else record.position.offset
            ):
                records.append(record)
            else:
                self.stale += 1
        for tp, offset in batch.passed.items():
            epoch, ending = batch.epochs.get(tp, 0), self._revoking.get(tp)
            if (ending is None or epoch > ending) and self.ledger.assign(tp, epoch):
                self.ledger.passed(tp, epoch, offset)
        if records:
            watched = None if self.batches is None else self.batches.begun(records)
            settled = self._settled if watched is None else _both(self._settled, watched.settled)
            submission = self._pipeline.submit(Batch(records, batch.epochs, batch.end), settled)
            if watched is not None:
                watched.submission = submission
        if batch.passed:
            self._pipeline.passed({tp: n for tp, n in batch.passed.items() if tp not in self._revoking}, batch.epochs)

    def tick(self, now: float) -> None:
        """Begin a commit when one is due and something is to be committed."""
        if now - self._committed_at < self._policy.commit_interval or self._committing is not None:
            return
        self._committed_at = now
        if offsets := self.ledger.committable():
            self._committing = asyncio.create_task(self._commit(offsets))
            self._committing.add_done_callback(self._commit_ended)

    async def commit(self) -> None:
        """Commit the latest; a commit that is under way is cut short, so that an older one cannot land after it."""
        if self._committing is not None:
            await end(self._committing, self._policy.close_timeout)
        if offsets := self.ledger.committable():
            await self._commit(offsets)

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Settle and commit what is in flight of these partitions, then give them up. The source awaits this."""
        # A source that lost its place may be back in a new epoch before the old one is settled: that one is not
        # to be dropped. The epoch of a partition with no record yet is not known: nothing of it is taken until this
        # returns.
        epochs = {tp: self.ledger.epoch(tp) for tp in partitions}
        gone = {tp: math.inf if epoch is None else epoch for tp, epoch in epochs.items()}
        self._revoking |= gone
        try:
            self._pipeline.forget(gone)
            try:
                async with asyncio.timeout(self._policy.drain_timeout):
                    await self._pipeline.drain(gone)
            except TimeoutError:
                log.warning(
                    "partitions are revoked with records in flight; their next owner delivers those again",
                    extra=coded("source.commit"),
                )
            await self.commit()
        finally:
            for tp, ending in gone.items():
                if (self.ledger.epoch(tp) or 0) <= ending:
                    self.ledger.revoke(tp)
                self._revoking.pop(tp, None)
            if self.batches is not None:
                self.batches.given_up(gone)

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit, or note that it failed: nothing is lost by that, the next commit covers it."""
        try:
            async with asyncio.timeout(self._policy.commit_timeout):
                await self._source.commit(offsets)
        except Exception as e:  # noqa: BLE001 - whatever a client raises here, the rows are safe and the next tick tries again
            self.commit_failures += 1
            log.warning(
                "commit failed, the next one covers it: %s: %s", type(e).__name__, e, extra=coded("source.commit")
            )
        else:
            self.commits += 1
            self.ledger.committed(offsets)

    def _commit_ended(self, _task: asyncio.Task[None]) -> None:
        self._committing = None


def _both(first: Settled, then: Settled) -> Settled:
    def settled(tp: TopicPartition, epoch: int, offset: int, status: Status) -> None:
        first(tp, epoch, offset, status)
        then(tp, epoch, offset, status)

    return settled
