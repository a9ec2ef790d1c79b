"""Dead letters on their way into their sink: a queue for each partition, so that none waits for another's."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from lmstream.delivery.dead_letter import letter
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.retry import Attempts, attempt_once
from lmstream.delivery.tasks import Tasks
from lmstream.interfaces import Clock, DeadLetterSink
from lmstream.model import NOT_TRIED, DeadLetter, Failure, TopicPartition

MIB: Final = 1 << 20
LETTERS: Final = 64
"""Dead letters in one write, at most; fewer when they are large (`LETTER_BYTES`)."""
LETTER_BYTES: Final = 8 * MIB
LETTER_WRITES: Final = 8
"""Writes of dead letters at a time, at most."""
WRITING: Final = "writing dead letters"
"""Kind of the tasks that do (see Tasks)."""


class DeadLetterWriter:
    """Writes dead letters until they are durable: a letter that cannot be written is retried, never dropped.

    Any number of `deliver` calls may run at once. They share `LETTER_WRITES` places for a write and wait outside of
    them for their next attempt, so that some who fail do not keep the others from writing.
    """

    def __init__(self, sink: DeadLetterSink, attempts: Attempts) -> None:
        self._sink = sink
        self._attempts = attempts
        self._places = asyncio.Semaphore(LETTER_WRITES)
        self._failing: dict[object, Failure] = {}
        self.retries: int = 0
        """Writes that had to be repeated."""

    @property
    def trouble(self) -> Failure | None:
        """A failure of letters that are not durable yet; None when all are that were given."""
        return next(iter(self._failing.values()), None)

    @property
    def largest(self) -> int:
        """Bytes of the largest letter that can be written. A sink may lower it when it is checked."""
        return self._sink.largest

    async def deliver(
        self, letters: Sequence[DeadLetter], deadline: float | None = None, key: object = None
    ) -> Failure | None:
        """Write letters; None when all are durable. Without a deadline only that is answered.

        `key` tells calls that run at once apart, for `trouble`.
        """
        failure = NOT_TRIED
        wait, attempt = 0.0, 0
        while not self._attempts.too_late(deadline, wait):
            if attempt:
                self.retries += 1
                await self._attempts.sleep(wait)
            async with self._places:
                if self._attempts.too_late(deadline):
                    break
                answer = await attempt_once(self._sink.write(letters), self._attempts.policy.timeout, self._sink)
            if not isinstance(answer, Failure):
                self._failing.pop(key, None)
                return None
            failure = self._failing[key] = answer
            wait = self._attempts.backoff(attempt)
            attempt += 1
        return failure

    async def close(self) -> None:
        """Close the sink. Raises what it raises."""
        await self._sink.close()


class DeadLetterQueues:
    """Writes the letters of each partition in order, one write at a time, and reports each that is durable.

    A letter that cannot be written is retried without end and holds only those of its own partition, whose commit
    it holds anyway.
    """

    durable: Callable[[InFlightRecord], None]
    """Called for each record whose letter is durable. Set by who settles records."""

    def __init__(self, writer: DeadLetterWriter, tasks: Tasks, clock: Clock, largest: int) -> None:
        """`largest` is how many bytes a letter has at most, whatever the sink takes."""
        self.writer: DeadLetterWriter = writer
        self._tasks, self._clock, self._largest = tasks, clock, largest
        self._queues: dict[TopicPartition, deque[tuple[InFlightRecord, DeadLetter]]] = {}
        self._writing: set[TopicPartition] = set()

    @property
    def waiting(self) -> tuple[str, int]:
        """Coordinates of the oldest record that waits for its letter, and how many wait; "" and 0 for none."""
        if not self._queues:
            return "", 0
        oldest = min((queue[0][0] for queue in self._queues.values()), key=lambda each: each.number)
        return oldest.record.coordinates, sum(map(len, self._queues.values()))

    def add(self, each: InFlightRecord) -> None:
        """Write the letter of a record as soon as those before it are durable."""
        tp = each.tp
        written = letter(each, min(self.writer.largest, self._largest))
        self._queues.setdefault(tp, deque()).append((each, written))
        if tp not in self._writing and not each.submission.is_over(self._clock):
            self._writing.add(tp)
            self._tasks.spawn(self._write(tp), WRITING)

    def stopped(self) -> None:
        """Note that all tasks were cancelled: one that was before its first step could not say so itself."""
        self._writing.clear()

    def clear(self) -> None:
        """Forget all that waits."""
        self._queues.clear()

    async def _write(self, tp: TopicPartition) -> None:
        try:
            queue = self._queues[tp]
            while queue and not (submission := queue[0][0].submission).is_over(self._clock):
                some: list[DeadLetter] = []
                size = 0
                for each, written in queue:
                    size += each.payload
                    if some and (len(some) == LETTERS or size > LETTER_BYTES):
                        break
                    some.append(written)
                failure = await self.writer.deliver(some, submission.deadline, tp)
                if failure is not None:
                    submission.gave_up(failure)
                    return
                for _ in some:
                    self.durable(queue.popleft()[0])
            if not queue:
                del self._queues[tp]
        finally:
            self._writing.discard(tp)
