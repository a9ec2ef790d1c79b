"""Deliver packs and dead letters: tries, verdicts, backoff, concurrency. The only place that retries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Final, TypeVar

from msgspec import Meta, Struct, field

from lmstream.durations import Durations
from lmstream.interfaces import Clock, DeadLetterSink, Sink, Sleep
from lmstream.model import NOT_TRIED, DeadLetter, Failure, Kind, Pack
from lmstream.packing import request_size, requests

Random = Callable[[], float]
"""A number from 0 up to 1; hosts pass random.random, tests something seeded."""
Verdict = Callable[[Pack, Failure | None], None]
"""Told once per pack, as soon as nothing will be tried again: None is delivered, else a permanent failure."""

T = TypeVar("T")

UNKNOWN: Final = "unknown_outcome"
"""Code of a request that may or may not have been taken. It is sent again: a duplicate is harmless, a loss is not."""

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


PROBES: Final = 4
"""Requests in a row that may fail whole before all wait together."""
PROBE_SECONDS: Final = 1.0
"""Seconds between two requests at most then: recovery is noticed this soon."""

LETTER_WRITES: Final = 8
"""Writes of dead letters at a time, at most."""


class DeliveryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hard to try."""

    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8
    """Requests in flight at once, at most; fewer after throttling. A client's pool must hold more than these."""
    timeout: Annotated[float, Meta(gt=0)] = 20.0
    """Seconds one request may take before its outcome is unknown. Longer than the client's own timeouts together."""
    backoff_base: Annotated[float, Meta(gt=0)] = 0.1
    """Seconds: the first retry waits a random part of this, each further one of the double."""
    backoff_max: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds no wait is longer than; also the wait between tries while the configuration is wrong."""


def backoff(policy: DeliveryPolicy, attempt: int, random: Random) -> float:
    """Seconds to wait before try `attempt` + 1 (full jitter: many senders must not come back together)."""
    # 2.0 ** 64 times any base is beyond any maximum, and a float still holds it.
    return random() * min(policy.backoff_max, policy.backoff_base * 2.0 ** min(attempt, 64))


def _doubt(message: str) -> Failure:
    return Failure(Kind.RETRYABLE, UNKNOWN, message)


async def _tried(work: Awaitable[T], seconds: float | None) -> T | Failure:
    """What a sink answers, or the failure to know: it may raise anything, hang, or be cancelled under our hands."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as e:
        return _doubt(str(e) or f"no answer within {seconds} s")
    except asyncio.CancelledError:
        # Clients leak this when a connection dies under them. Only a cancellation of ours may end the tries.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return _doubt("the sink was cancelled from inside")
    except Exception as e:  # noqa: BLE001 - whatever it raises, what it was given is neither lost nor known to be durable
        return _doubt(f"{type(e).__name__}: {e}")


class DeliveryCounts(Struct):
    """What was sent and how it went, since the start."""

    requests: dict[str, int] = field(default_factory=dict)
    """By outcome: ok, partial (some packs failed), throttled or error (all did), unknown (nobody knows of some)."""
    packs: int = 0
    """Packs delivered."""
    bytes: int = 0
    """Bytes of packs delivered, as sent (neither base64 nor compressed)."""
    throttled: int = 0
    """Requests with a throttling answer in them."""
    retried_packs: int = 0
    """Packs sent again, once for each time."""
    unknown_outcomes: int = 0
    """Packs of requests with an unknown outcome: each may have landed and will be sent again."""


class _Gate:
    """A semaphore whose width follows the service: up by one each round, halved when it throttles (AIMD).

    It also bounds what an outage costs: after some requests in a row that failed whole, all packs that wait share one
    backoff, so that a service that is down is asked once a second and not once for each of them. And it bounds what
    bodies of requests take: one may always go, more only while there is memory to spare for them.
    """

    def __init__(
        self, policy: DeliveryPolicy, clock: Clock, sleep: Sleep, random: Random, spare: Callable[[], int] | None
    ) -> None:
        self._policy, self._clock, self._sleep, self._random, self._spare = policy, clock, sleep, random, spare
        self.bodies = 0
        self._widest = policy.concurrency
        self._width = float(policy.concurrency)
        self._busy = 0
        self._cuts = 0
        self._failed = 0  # requests in a row
        self._until = 0.0
        self._changed = asyncio.Event()

    @property
    def width(self) -> int:
        return int(self._width)

    @contextlib.asynccontextmanager
    async def through(self, body: int) -> AsyncIterator[int]:
        """Wait for a place for a request with a body of so many bytes; gives what `slower` wants to know."""
        # An event and a loop, not a queue of futures: nothing is handed over, so a cancelled waiter loses nothing.
        while True:
            while self._busy >= self.width or self._crowded(body):
                self._changed.clear()
                await self._changed.wait()
            if self._failed <= PROBES or (hold := self._until - self._clock()) <= 0.0:
                break
            await self._sleep(hold)
        self._busy += 1
        self.bodies += body
        try:
            yield self._cuts
        finally:
            self._busy -= 1
            self.bodies -= body
            self._changed.set()

    def _crowded(self, body: int) -> bool:
        return bool(self._busy and body) and self._spare is not None and self.bodies + body > self._spare()

    def answered(self, *, failed: bool) -> None:
        """Note how a request went: whether nothing of it was delivered."""
        self._failed = self._failed + 1 if failed else 0
        if self._failed > PROBES:
            wait = min(PROBE_SECONDS, backoff(self._policy, self._failed - PROBES, self._random))
            self._until = self._clock() + wait

    def faster(self) -> None:
        self._width = min(self._widest, self._width + 1 / self._width)
        self._changed.set()

    def slower(self, entered: int) -> None:
        # One halving for all requests that were in flight together: they report one and the same overload.
        if entered == self._cuts:
            self._cuts += 1
            self._width = max(1.0, self._width / 2)


class _Call(Struct):
    """What the requests of one `deliver` share."""

    packs: list[Pack | None]
    """None once its verdict is final: one pack that is tried on and on must not hold the others in memory."""
    verdicts: list[Failure | None]
    deadline: float | None
    on_verdict: Verdict | None
    halted: bool = False


class Delivery:
    """Delivers packs to one sink. Lives in one event loop; any number of `deliver` calls may run at once."""

    def __init__(
        self,
        sink: Sink,
        policy: DeliveryPolicy,
        *,
        sleep: Sleep,
        clock: Clock,
        random: Random,
        spare: Callable[[], int] | None = None,
    ) -> None:
        """`spare` says how many bytes the bodies of requests may have now, all together; one may always go."""
        self._sink = sink
        self._policy = policy
        self._sleep = sleep
        self._clock = clock
        self._random = random
        self._gate = _Gate(policy, clock, sleep, random, spare)
        self.counts = DeliveryCounts()
        self.durations = Durations()
        """Of requests, answered or given up."""
        self.trouble: Failure | None = None
        """The last failure that is being retried; None as soon as a pack is delivered."""
        self.fatal: Failure | None = None
        """Set while the sink answers that an operator must act: whoever reads must stop reading."""
        self.on_fatal: Callable[[Failure], None] | None = None
        """Called when `fatal` is set anew."""

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight at once just now."""
        return self._gate.width

    @property
    def body_bytes(self) -> int:
        """Bytes of requests under way that are copies of their packs: bodies in base64."""
        return self._gate.bodies

    async def deliver(
        self, packs: Sequence[Pack], deadline: float | None = None, on_verdict: Verdict | None = None
    ) -> list[Failure | None]:
        """Deliver packs; a verdict each, in order. None is delivered, a permanent failure is final.

        Without a deadline only those two are answered: the rest is tried until it works or this is cancelled. With a
        deadline (by `clock`), no request starts that could end after it, a fatal-config answer stops all tries, and
        retryable verdicts are left for the caller to give the records back.
        """
        sizes = [len(request) for request in requests(packs, self._sink.limits)]
        call = _Call(list(packs), [NOT_TRIED] * len(packs), deadline, on_verdict)
        del packs
        start = 0
        async with asyncio.TaskGroup() as group:
            for size in sizes:
                group.create_task(self._send(call, list(range(start, start + size))))
                start += size
        return call.verdicts

    async def _send(  # noqa: C901 - one request's life, read top to bottom
        self, call: _Call, todo: list[int]
    ) -> None:
        """See one request through: what fails retryably is sent again, alone."""
        attempt = 0
        while True:
            async with self._gate.through(self._body(call, todo)) as entered:
                if call.halted or self._too_late(call, 0.0):
                    return
                self.counts.retried_packs += len(todo) if attempt else 0
                began = self._clock()
                answers = await self._once([each for at in todo if (each := call.packs[at]) is not None])
                self.durations.add(self._clock() - began)
            self._count(answers, entered)
            wait = 0.0
            again = []
            for at, answer in zip(todo, answers, strict=True):
                call.verdicts[at] = answer
                if answer is not None and answer.kind is not Kind.PERMANENT:
                    again.append(at)
                    wait = self._policy.backoff_max if answer.kind is Kind.FATAL_CONFIG else wait
                    continue
                each, call.packs[at] = call.packs[at], None
                assert each is not None  # noqa: S101 - for the type checker: a verdict is final once
                if answer is None:
                    self.counts.packs += 1
                    self.counts.bytes += len(each.data)
                if call.on_verdict is not None:
                    call.on_verdict(each, answer)
                del each
            if not again:
                return
            if wait and call.deadline is not None:
                call.halted = True
            wait = wait or backoff(self._policy, attempt, self._random)
            if call.halted or self._too_late(call, wait):
                return
            await self._sleep(wait)
            if len(again) > 1 and any(answer is not None and answer.apart for answer in answers):
                # One bad pack must not hold up the others for ever: halves, until it stands alone and is judged.
                middle = len(again) // 2
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._send(call, again[:middle]))
                    group.create_task(self._send(call, again[middle:]))
                return
            todo = again
            attempt += 1

    def _body(self, call: _Call, todo: list[int]) -> int:
        limits = self._sink.limits
        if not limits.base64:
            return 0
        return sum(request_size(each, limits) for at in todo if (each := call.packs[at]) is not None)

    def _too_late(self, call: _Call, wait: float) -> bool:
        return call.deadline is not None and self._clock() + wait + self._policy.timeout > call.deadline

    async def _once(self, packs: Sequence[Pack]) -> Sequence[Failure | None]:
        """Make one request. Whatever goes wrong, every pack has an answer, and doubt is never taken for success."""
        seconds = None if self._sink.limits.uncut else self._policy.timeout
        answers = await _tried(self._sink.write(packs), seconds)
        if isinstance(answers, Failure):
            return [answers] * len(packs)
        if not isinstance(answers, Sequence) or len(answers) != len(packs):
            many = len(answers) if isinstance(answers, Sequence) else type(answers).__name__
            return [_doubt(f"{many} verdicts for {len(packs)} packs")] * len(packs)
        odd = _doubt("a verdict that is none")
        return [each if each is None or isinstance(each, Failure) else odd for each in answers]

    def _count(self, answers: Sequence[Failure | None], entered: int) -> None:
        counts = self.counts
        failures = [each for each in answers if each is not None]
        if any(each.code in THROTTLING for each in failures):
            counts.throttled += 1
            self._gate.slower(entered)
        elif len(failures) < len(answers):
            self._gate.faster()
        lost = len(failures) == len(answers) and any(each.kind is not Kind.PERMANENT for each in failures)
        self._gate.answered(failed=lost)
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
        for each in failures:
            if each.kind is not Kind.PERMANENT:
                self.trouble = each
            if each.kind is Kind.FATAL_CONFIG and self.fatal is None:
                self.fatal = each
                if self.on_fatal is not None:
                    self.on_fatal(each)


class LetterDelivery:
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
                answer = await _tried(self._sink.write(letters), self._policy.timeout)
            if not isinstance(answer, Failure):
                self._failing.pop(key, None)
                return None
            failure = self._failing[key] = answer
            wait = backoff(self._policy, attempt, self._random)
            attempt += 1
        return failure

    def _too_late(self, deadline: float | None, wait: float) -> bool:
        return deadline is not None and self._clock() + wait + self._policy.timeout > deadline
