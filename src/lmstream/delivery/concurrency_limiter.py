"""How many requests may be under way: as many as the service takes, fewer while it throttles or is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.delivery.retry import Attempts

PROBES: Final = 4
"""Requests in a row that may fail whole before all wait together."""
PROBE_SECONDS: Final = 1.0
"""Seconds between two requests at most then: recovery is noticed this soon."""


class ConcurrencyLimiter:
    """A semaphore whose width follows the service: up by one each round, halved when it throttles (AIMD).

    It also bounds what an outage costs: after some requests in a row that failed whole, all packs that wait share one
    backoff, so that a service that is down is asked once a second and not once for each of them. And it bounds what
    bodies of requests take: one may always go, more only while there is memory to spare for them.
    """

    def __init__(self, attempts: Attempts, budget: MemoryBudget) -> None:
        """`budget` counts each body, and says whether there is memory for one more."""
        self._attempts, self._budget = attempts, budget
        self._widest = attempts.policy.concurrency
        self._width = float(self._widest)
        self._busy = 0
        self._cuts = 0
        self._failed = 0  # requests in a row
        self._until = 0.0
        self._changed = asyncio.Event()

    @property
    def width(self) -> int:
        """Requests that may be under way at once just now."""
        return int(self._width)

    @contextlib.asynccontextmanager
    async def acquire(self, body: int) -> AsyncIterator[int]:
        """Wait for a place for a request with a body of so many bytes; gives what `on_throttle` wants to know."""
        # An event and a loop, not a queue of futures: nothing is handed over, so a cancelled waiter loses nothing.
        while True:
            while self._busy >= self.width or (self._busy and body and not self._budget.takes_body(body)):
                self._changed.clear()
                await self._changed.wait()
            if self._failed <= PROBES or (hold := self._until - self._attempts.clock()) <= 0.0:
                break
            await self._attempts.sleep(hold)
        self._busy += 1
        self._budget.hold_body(body)
        try:
            yield self._cuts
        finally:
            self._busy -= 1
            self._budget.release_body(body)
            self._changed.set()

    def on_answer(self, *, failed: bool) -> None:
        """Note how a request went: whether nothing of it was delivered."""
        self._failed = self._failed + 1 if failed else 0
        if self._failed > PROBES:
            wait = min(PROBE_SECONDS, self._attempts.backoff(self._failed - PROBES))
            self._until = self._attempts.clock() + wait

    def on_success(self) -> None:
        """Something was delivered: open a little."""
        self._width = min(self._widest, self._width + 1 / self._width)
        self._changed.set()

    def on_throttle(self, entered: int) -> None:
        """The service throttles: halve. `entered` is what `acquire` gave the request."""
        # One halving for all requests that were in flight together: they report one and the same overload.
        if entered == self._cuts:
            self._cuts += 1
            self._width = max(1.0, self._width / 2)
