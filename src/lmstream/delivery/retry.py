"""One attempt of a write and its outcome, and how long to wait before the next one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, NamedTuple, TypeVar

from msgspec import Meta, Struct

from lmstream.errors import PluginError
from lmstream.interfaces import Clock, Sleep
from lmstream.model import Failure, Kind

Random = Callable[[], float]
"""A number from 0 up to 1; hosts pass random.random, tests something seeded."""

T = TypeVar("T")

UNKNOWN: Final = "unknown_outcome"
"""Code of a request that may or may not have been taken. It is sent again: a duplicate is harmless, a loss is not."""


class DeliveryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hard to try."""

    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8
    """Requests in flight at once, at most; fewer after throttling. A client's pool must hold more than these.
    Costs: memory, money: more requests, each with fewer rows, while there is little to deliver.
    Limit: lmstream's own: the connections of one client."""
    timeout: Annotated[float, Meta(gt=0)] = 20.0
    """Seconds one request may take before its outcome is unknown. Longer than the client's own timeouts together.
    Costs: duplicates: a request that is cut off is sent again, and may have been taken. Row ids are the same."""
    partitions: Annotated[int, Meta(ge=0)] = 500
    """Active partitions (organizations x metrics x hours) that the stream takes, of sinks that partition rows
    themselves; rows of one more would go to its error prefix. Past it hours wait for each other, the oldest first,
    which only a catch-up after an outage meets. Default: Firehose's quota. Members that share a stream share its quota
    too. 0: no bound.
    Unit: partitions.
    Costs: delay: a higher bound than the stream's own sends rows to its error prefix."""
    partition_seconds: Annotated[float, Meta(gt=0)] = 300.0
    """Seconds without a row after which a partition counts as written: the stream's buffer interval.
    Costs: delay: with more of it hours wait longer for each other in a catch-up."""
    backoff_base: Annotated[float, Meta(gt=0)] = 0.1
    """Seconds: the first retry waits a random part of this, each further one of the double.
    Costs: delay."""
    backoff_max: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds no wait is longer than; also the wait between attempts while the configuration is wrong.
    Costs: delay: how soon delivery continues after an outage."""


class Attempts(NamedTuple):
    """How attempts are made: how hard, and by whose clock."""

    policy: DeliveryPolicy
    clock: Clock
    sleep: Sleep
    random: Random

    def backoff(self, attempt: int) -> float:
        """Seconds to wait before attempt `attempt` + 1 (full jitter: many senders must not come back together)."""
        policy = self.policy
        # 2.0 ** 64 times any base is beyond any maximum, and a float still holds it.
        return self.random() * min(policy.backoff_max, policy.backoff_base * 2.0 ** min(attempt, 64))

    def too_late(self, deadline: float | None, wait: float = 0.0) -> bool:
        """Whether an attempt could end after the deadline, when it begins after so many seconds."""
        return deadline is not None and self.clock() + wait + self.policy.timeout > deadline


def unknown_outcome(message: str) -> Failure:
    """A failure after which it is not known whether the request was taken."""
    return Failure(Kind.RETRYABLE, UNKNOWN, message)


def theirs(part: object) -> str:
    """The module of a part, when it is not one of lmstream's; else empty."""
    module = type(part).__module__
    return "" if part is None or module.partition(".")[0] in {"lmstream", "builtins"} else module


async def attempt_once(work: Awaitable[T], seconds: float | None, part: object = None) -> T | Failure:
    """Call a sink once. An exception, a timeout, or a cancellation by the client library, is answered as a failure with
    an unknown outcome. It names the module of `part`, whose call it is, when that is somebody else's."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as e:
        return unknown_outcome(str(e) or f"no response within {seconds} s")
    except asyncio.CancelledError:
        # Clients leak this when a connection dies under them. Only our own cancellation may end the attempts.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return unknown_outcome("the sink's client library cancelled the call")
    except Exception as e:  # noqa: BLE001 - whatever it raises, what it was given is neither lost nor known to be durable
        module = theirs(part)
        return unknown_outcome(PluginError.raised(module, e).detail if module else f"{type(e).__name__}: {e}")
