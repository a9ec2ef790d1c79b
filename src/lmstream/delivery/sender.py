"""Deliver packs: requests, retries, concurrency, one verdict a pack. Nothing else retries but the writer of dead
letters."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from lmstream.delivery.concurrency_limiter import ConcurrencyLimiter
from lmstream.delivery.counts import Counts
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.delivery.packing import request_size, requests
from lmstream.delivery.refusals import Refusals
from lmstream.delivery.retry import UNKNOWN, Attempts, attempt_once, theirs, unknown_outcome
from lmstream.interfaces import Sink
from lmstream.model import NOT_TRIED, Failure, Kind, Pack

Verdict = Callable[[Pack, Failure | None], None]
"""Called once for each pack, as soon as it is not retried. None: delivered. A failure of kind permanent: refused
permanently. Any other: left pending because of a deadline, and not delivered."""

THROTTLING: Final = frozenset(
    {
        "throttled",  # our own name, for any sink
        "ServiceUnavailableException",  # Firehose says so for a record or a whole request over its quota
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "SlowDown",  # S3
        "LimitExceededException",
    }
)
"""Codes that mean: slower. The service's own words, and the only ones that lower the concurrency."""


class _Delivery(Struct):
    """One call of `deliver`: what its requests share."""

    packs: list[Pack | None]
    """None once its verdict is final: one pack that is tried on and on must not hold the others in memory."""
    verdicts: list[Failure | None]
    deadline: float | None
    on_verdict: Verdict
    halted: bool = False


class Sender:
    """Delivers packs to one sink. Lives in one event loop; any number of `deliver` calls may run at once."""

    def __init__(
        self,
        sink: Sink,
        attempts: Attempts,
        budget: MemoryBudget | None = None,
        counts: Counts | None = None,
    ) -> None:
        """`budget` bounds what the bodies of requests take, all together; one may always go."""
        self._sink = sink
        self._who: str = f"{module} answered " if (module := theirs(sink)) else ""
        self._attempts = attempts
        self._refusals = Refusals()
        self._limiter = ConcurrencyLimiter(attempts, budget or MemoryBudget())
        self.counts: Counts = counts or Counts()
        self.durations: LatencyHistogram = LatencyHistogram()
        """Of requests, answered or ended by a deadline."""
        self.trouble: Failure | None = None
        """The last failure that is being retried; None as soon as a pack is delivered."""
        self.fatal: Failure | None = None
        """Set while the sink answers that an operator must act: whoever reads must stop reading."""

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight at once just now."""
        return self._limiter.width

    @property
    def undecided(self) -> bool:
        """Whether one pack alone is refused by words that may be about the stream: the next one tells which it is."""
        return self.fatal is not None and self.fatal.unsure and self._refusals.pending == 1

    async def deliver(self, packs: Sequence[Pack], on_verdict: Verdict, deadline: float | None = None) -> None:
        """Deliver packs, and tell the verdict on each.

        Without a deadline a pack is tried until it is delivered or refused permanently, or this is cancelled. With a
        deadline (by `clock`), no request starts that could end after it, a fatal-config answer stops all attempts, and
        what is then neither delivered nor refused is left pending.
        """
        sizes = [len(request) for request in requests(packs, self._sink.limits)]
        call = _Delivery(list(packs), [NOT_TRIED] * len(packs), deadline, on_verdict)
        del packs
        start = 0
        async with asyncio.TaskGroup() as group:
            for size in sizes:
                group.create_task(self._send(call, list(range(start, start + size))))
                start += size
        if deadline is None:
            return
        await self._retry_refused(call)
        for pack, verdict in zip(call.packs, call.verdicts, strict=True):
            if pack is not None:
                on_verdict(pack, verdict)

    async def close(self) -> None:
        """Close the sink. Raises what it raises."""
        await self._sink.close()

    async def _retry_refused(self, call: _Delivery) -> None:
        """Before a deadline: packs that were refused, when others were taken since, are sent once more."""
        taken = self.counts.packs
        todo = [
            (at, each)
            for at, verdict in enumerate(call.verdicts)
            if verdict is not None and verdict.unsure and (each := call.packs[at]) and self._refusals.due(each, taken)
        ]
        start = 0
        async with asyncio.TaskGroup() as group:
            for request in requests([each for _, each in todo], self._sink.limits):
                group.create_task(self._send(call, [at for at, _ in todo[start : start + len(request)]]))
                start += len(request)

    async def _send(  # noqa: C901 - one request's life, read top to bottom
        self, call: _Delivery, todo: list[int]
    ) -> None:
        """See one request through: what fails retryably is sent again, alone."""
        attempt = 0
        while True:
            async with self._limiter.acquire(self._body(call, todo)) as entered:
                if call.halted or self._attempts.too_late(call.deadline):
                    return
                self.counts.retried_packs += len(todo) if attempt else 0
                began = self._attempts.clock()
                answers = await self._request([each for at in todo if (each := call.packs[at]) is not None])
                self.durations.add(self._attempts.clock() - began)
            answers = self._judged(call, todo, answers)
            self._count(answers, entered)
            wait = 0.0
            again = []
            for at, answer in zip(todo, answers, strict=True):
                call.verdicts[at] = answer
                if answer is not None and answer.kind is not Kind.PERMANENT:
                    if answer.unsure and call.deadline is not None:
                        continue  # the others continue, and tell whether it is this pack
                    again.append(at)
                    if answer.kind is Kind.FATAL_CONFIG and not answer.unsure:
                        wait = self._attempts.policy.backoff_max
                    continue
                each, call.packs[at] = call.packs[at], None
                assert each is not None  # noqa: S101 - for the type checker: a verdict is final once
                if answer is None:
                    self.counts.packs += 1
                    self.counts.bytes += len(each.data)
                call.on_verdict(each, answer)
                del each
            if not again:
                return
            if wait and call.deadline is not None:
                call.halted = True
            wait = wait or self._attempts.backoff(attempt)
            if call.halted or self._attempts.too_late(call.deadline, wait):
                return
            await self._attempts.sleep(wait)
            if len(again) > 1 and any(answer is not None and answer.apart for answer in answers):
                # One bad pack must not hold up the others for ever: halves, until it stands alone and is judged.
                middle = len(again) // 2
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._send(call, again[:middle]))
                    group.create_task(self._send(call, again[middle:]))
                return
            todo = again
            attempt += 1

    def _judged(self, call: _Delivery, todo: list[int], answers: Sequence[Failure | None]) -> Sequence[Failure | None]:
        """The answers, with refusals that may be the stream's told from those of packs."""
        if not self._refusals.pending and not any(each is not None and each.unsure for each in answers):
            return answers
        taken, beside = self.counts.packs, any(each is None for each in answers)
        return [
            self._refusals.judge(pack, answer, taken, beside=beside) if (pack := call.packs[at]) else answer
            for at, answer in zip(todo, answers, strict=True)
        ]

    def _body(self, call: _Delivery, todo: list[int]) -> int:
        limits = self._sink.limits
        if not limits.base64:
            return 0
        return sum(request_size(each, limits) for at in todo if (each := call.packs[at]) is not None)

    async def _request(self, packs: Sequence[Pack]) -> Sequence[Failure | None]:
        """Make one request. Whatever goes wrong, every pack has an answer, and an unknown outcome is no success."""
        seconds = None if self._sink.limits.uncut else self._attempts.policy.timeout
        answers = await attempt_once(self._sink.write(packs), seconds, self._sink)
        if isinstance(answers, Failure):
            return [answers] * len(packs)
        if not isinstance(answers, Sequence) or len(answers) != len(packs):
            many = len(answers) if isinstance(answers, Sequence) else type(answers).__name__
            return [unknown_outcome(f"{self._who}{many} verdicts for {len(packs)} packs")] * len(packs)
        odd = unknown_outcome(f"{self._who}an invalid verdict")
        return [each if each is None or isinstance(each, Failure) else odd for each in answers]

    def _count(self, answers: Sequence[Failure | None], entered: int) -> None:
        counts = self.counts
        failures = [each for each in answers if each is not None]
        if any(each.code in THROTTLING for each in failures):
            counts.throttled += 1
            self._limiter.on_throttle(entered)
        elif len(failures) < len(answers):
            self._limiter.on_success()
        lost = len(failures) == len(answers) and any(each.kind is not Kind.PERMANENT for each in failures)
        self._limiter.on_answer(failed=lost)
        unknown = sum(each.code == UNKNOWN for each in failures)
        counts.unknown_outcomes += unknown
        name = "ok" if not failures else "partial"
        if unknown:
            name = "unknown"
        elif len(failures) == len(answers):
            name = "throttled" if any(each.code in THROTTLING for each in failures) else "error"
        counts.requests[name] = counts.requests.get(name, 0) + 1
        if len(failures) < len(answers):
            self.trouble = self.fatal = None
        self._note(failures)

    def _note(self, failures: Sequence[Failure]) -> None:
        if failures and all(each.kind is Kind.PERMANENT and not each.unsure for each in failures):
            self.trouble = None  # the sink answers; what it refuses permanently is not retried
        for each in failures:
            if each.kind is not Kind.PERMANENT:
                self.trouble = each
            if each.kind is Kind.FATAL_CONFIG and self.fatal is None:
                self.fatal = each
