"""Requests to the object store: repeated until they are answered, as many at a time as the store takes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from lmstream.delivery.concurrency_limiter import ConcurrencyLimiter
from lmstream.delivery.counts import Counts
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.delivery.retry import UNKNOWN, Attempts, attempt_once
from lmstream.delivery.sender import THROTTLING
from lmstream.errors import REASONS, LmstreamError, SinkError
from lmstream.interfaces import ObjectStore, ReplacingStore, StoreError, Tagged
from lmstream.model import Failure, Kind

T = TypeVar("T")


class Requests:
    """A Way to one store. Nothing of a claim can become a dead letter, so no failure is final: an operator acts, or it
    passes."""

    def __init__(self, store: ObjectStore, attempts: Attempts, counts: Counts) -> None:
        self._store, self._attempts = store, attempts
        self._limiter = ConcurrencyLimiter(attempts, MemoryBudget())
        self.counts: Counts = counts
        self.durations: LatencyHistogram = LatencyHistogram()
        self.trouble: Failure | None = None
        self.fatal: Failure | None = None
        self.undecided: bool = False

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once just now."""
        return self._limiter.width

    def place(self, key: str) -> str:
        """A key for people."""
        return f"{self._store.name.rstrip('/')}/{key}"

    async def create(self, key: str, data: bytes, meta: Mapping[str, str]) -> bool:
        """Make an object; False when it is there, also by an earlier attempt of this call."""
        return await self._until_answered(lambda: self._store.create(key, data, meta))

    async def get(self, key: str, most: int) -> bytes | None:
        """The object; None when there is none. Raises BoundError."""
        return await self._until_answered(lambda: self._store.get(key, most))

    async def stat(self, key: str) -> Mapping[str, str] | None:
        """What was kept beside an object; None when there is none."""
        return await self._until_answered(lambda: self._store.stat(key))

    async def names(self, prefix: str, most: int) -> Sequence[str]:
        """The first keys below a prefix."""
        return await self._until_answered(lambda: self._store.names(prefix, most))

    async def folders(self, prefix: str, most: int) -> Sequence[str]:
        """The first parts of keys below a prefix, which ends with a slash, up to the next slash."""
        return await self._until_answered(lambda: self._store.folders(prefix, most))

    async def close(self) -> None:
        """Close the store. Raises what it raises."""
        await self._store.close()

    async def _until_answered(self, request: Callable[[], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            async with self._limiter.acquire(0) as entered:
                began = self._attempts.clock()
                # In a tuple: what a store answers is told from the failure of the attempt.
                answer = await attempt_once(_answered(request), self._attempts.policy.timeout)
                self.durations.add(self._attempts.clock() - began)
                failed = self._failed(answer, entered)
                if failed is None:
                    assert isinstance(answer, tuple) and not isinstance(answer[0], StoreError)  # noqa: S101, PT018
                    if isinstance(answer[0], LmstreamError):
                        raise answer[0]
                    return answer[0]
            wait = self._attempts.backoff(attempt)
            await self._attempts.sleep(self._attempts.policy.backoff_max if failed.kind is Kind.FATAL_CONFIG else wait)
            attempt += 1

    def _failed(self, answer: "Failure | tuple[object]", entered: int) -> Failure | None:
        """Count an attempt; answer why it failed."""
        failure = answer if isinstance(answer, Failure) else None
        if failure is None and isinstance(answer, tuple) and isinstance(answer[0], StoreError):
            failure = answer[0].failure
        outcomes = self.counts.requests
        self._limiter.on_answer(failed=failure is not None)
        if failure is None:
            self._limiter.on_success()
            self.trouble = self.fatal = None
            outcomes["ok"] = outcomes.get("ok", 0) + 1
            return None
        name = "unknown" if failure.code == UNKNOWN else "error"
        if failure.code in THROTTLING:
            name = "throttled"
            self.counts.throttled += 1
            self._limiter.on_throttle(entered)
        outcomes[name] = outcomes.get(name, 0) + 1
        self.counts.unknown_outcomes += name == "unknown"
        self.trouble = failure
        if failure.kind is Kind.FATAL_CONFIG:
            self.fatal = self.fatal or failure
        return failure


class ReplacingRequests(Requests):
    """Requests of a compaction."""

    def __init__(self, store: ReplacingStore, attempts: Attempts, counts: Counts) -> None:
        super().__init__(store, attempts, counts)
        self._replacing = store

    async def tagged(self, key: str) -> Tagged | None:
        """The version of an object that is there; None when there is none."""
        return await self._until_answered(lambda: self._replacing.tagged(key))

    async def replace(self, key: str, data: bytes, meta: Mapping[str, str], tag: str) -> bool:
        """Put this in the place of the version with that tag; False when another one is there, also by an earlier
        attempt of this call, or none."""
        return await self._until_answered(lambda: self._replacing.replace(key, data, meta, tag))


class Impatient(ReplacingRequests):
    """Requests of a verb, for which somebody waits. Raises SinkError for what an operator has to change, and when the
    store has failed many times in a row."""

    def __init__(self, store: ReplacingStore, attempts: Attempts, counts: Counts, most: int = 12) -> None:
        """`most` are failures in a row."""
        super().__init__(store, attempts, counts)
        self._most, self._row = most, 0

    def _failed(self, answer: "Failure | tuple[object]", entered: int) -> Failure | None:
        failure = super()._failed(answer, entered)
        self._row = 0 if failure is None else self._row + 1
        if failure is None:
            return None
        detail, _, fix = f"{self._store.name}: {failure.code}: {failure.message}".partition(". Fix: ")
        if failure.kind is Kind.FATAL_CONFIG:
            reason = failure.code if failure.code in REASONS else _WRONG.get(failure.code, "config.invalid")
            raise SinkError(reason, detail, fix)
        if self._row >= self._most:
            raise SinkError("place.unreachable", f"{detail} ({self._row} failures in a row)")
        return failure


_WRONG: Final = {"AccessDenied": "place.denied", "NoSuchBucket": "place.missing", "http_403": "place.denied"}
"""Reasons of failures that are not about settings."""


async def _answered(request: Callable[[], Awaitable[T]]) -> tuple[T] | tuple[StoreError | LmstreamError]:
    try:
        return (await request(),)
    except (StoreError, LmstreamError) as error:  # the latter no attempt would change
        return (error,)
