"""Dead letters on their way into their sink: a queue for each partition, so that none waits for another's."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from lmstream.delivery.dead_letter import letter
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.retry import DeliveryPolicy, Random, attempt_once, backoff
from lmstream.interfaces import Clock, DeadLetterSink, Sleep
from lmstream.model import NOT_TRIED, DeadLetter, Failure, TopicPartition

MIB: Final = 1 << 20
LETTERS: Final = 64
"""Dead letters in one write, at most; fewer when they are large (`LETTER_BYTES`)."""
LETTER_BYTES: Final = 8 * MIB
LETTER_WRITES: Final = 8
"""Writes of dead letters at a time, at most."""


class DeadLetterWriter:
    """Writes dead letters until they are durable: a letter that cannot be written is retried, never dropped.

    Any number of `deliver` calls may run at once. They share `LETTER_WRITES` places for a write and wait outside of
    them for their next try, so that some who fail do not keep the others from writing.
    """

    def __init__(
        self, sink: DeadLetterSink, policy: DeliveryPolicy, *, sleep: Sleep, clock: Clock, random: Random
    ) -> None:
        self._sink = sink
        self._policy = policy
        self._sleep = sleep
        self._clock = clock
        self._random = random
        self._gate = asyncio.Semaphore(LETTER_WRITES)
        self._failing: dict[object, Failure] = {}
        self.retries = 0
        """Writes that had to be repeated."""

    @property
    def trouble(self) -> Failure | None:
        """A failure of letters that are not durable yet; None when all are that were given."""
        return next(iter(self._failing.values()), None)

    async def deliver(
        self, letters: Sequence[DeadLetter], deadline: float | None = None, key: object = None
    ) -> Failure | None:
        """Write letters; None when all are durable. Without a deadline only that is answered.

        `key` tells calls that run at once apart, for `trouble`.
        """
        failure = NOT_TRIED
        wait, attempt = 0.0, 0
        while not self._too_late(deadline, wait):
            if attempt:
                self.retries += 1
                await self._sleep(wait)
            async with self._gate:
                if self._too_late(deadline, 0.0):
                    break
                answer = await attempt_once(self._sink.write(letters), self._policy.timeout)
            if not isinstance(answer, Failure):
                self._failing.pop(key, None)
                return None
            failure = self._failing[key] = answer
            wait = backoff(self._policy, attempt, self._random)
            attempt += 1
        return failure

    def _too_late(self, deadline: float | None, wait: float) -> bool:
        return deadline is not None and self._clock() + wait + self._policy.timeout > deadline


class DeadLetterQueues:
    """Writes the letters of each partition in order, one write at a time, and tells of each that is durable.

    A letter that cannot be written is tried again without end and holds only those of its own partition, whose commit
    it holds anyway.
    """

    def __init__(
        self,
        delivery: DeadLetterWriter,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        halted: Callable[[], bool],
        durable: Callable[[InFlightRecord], None],
        failed: Callable[[Failure], None],
        largest: Callable[[], int],
    ) -> None:
        """`spawn` runs a task; once `halted` says so no further write starts; `durable` is called for each record;
        `failed` when a deadline ended the tries; `largest` says how many bytes a letter may have.
        """
        self._delivery = delivery
        self._spawn, self._halted, self._durable, self._failed = spawn, halted, durable, failed
        self._largest = largest
        self._graves: dict[TopicPartition, deque[tuple[InFlightRecord, DeadLetter]]] = {}
        self._writing: set[TopicPartition] = set()

    @property
    def busy(self) -> bool:
        """Whether letters are being written, or tried again."""
        return bool(self._writing)

    @property
    def waiting(self) -> tuple[str, int]:
        """Coordinates of the oldest record that waits for its letter, and how many wait; "" and 0 for none."""
        if not self._graves:
            return "", 0
        oldest = min((some[0][0] for some in self._graves.values()), key=lambda each: each.number)
        return oldest.record.coordinates, sum(map(len, self._graves.values()))

    def add(self, each: InFlightRecord, deadline: float | None) -> None:
        """Write the letter of a record as soon as those before it are durable."""
        tp = each.record.tp
        self._graves.setdefault(tp, deque()).append((each, letter(each, self._largest())))
        if tp not in self._writing and not self._halted():
            self._writing.add(tp)
            self._spawn(self._write(tp, deadline))

    def ended(self) -> None:
        """Note that all tasks were cancelled: one that was before its first step could not say so itself."""
        self._writing.clear()

    def clear(self) -> None:
        """Forget all that waits."""
        self._graves.clear()

    async def _write(self, tp: TopicPartition, deadline: float | None) -> None:
        try:
            graves = self._graves[tp]
            while graves and not self._halted():
                some: list[DeadLetter] = []
                size = 0
                for each, written in graves:
                    size += each.payload
                    if some and (len(some) == LETTERS or size > LETTER_BYTES):
                        break
                    some.append(written)
                failure = await self._delivery.deliver(some, deadline, tp)
                if failure is not None:
                    self._failed(failure)
                    return
                for _ in some:
                    self._durable(graves.popleft()[0])
            if not graves:
                del self._graves[tp]
        finally:
            self._writing.discard(tp)
