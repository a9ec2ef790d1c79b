"""How many bytes may be in flight, what takes them, and what is left: for records, for bodies, for reading on."""

from collections.abc import Callable
from typing import Final

from lmstream.delivery.in_flight import InFlight
from lmstream.delivery.record_queue import RecordQueue
from lmstream.settings import MIB

BUDGET: Final = 64 * MIB
"""Bytes in flight by default: all that is held of records that are not yet durable, and the bodies of requests."""
RESERVE: Final = 3 / 8
"""Share of the budget that records leave free where requests have bodies of their own, base64 of lines that are in
flight beside them: for those bodies, and for what the source has read ahead."""


class MemoryBudget:
    """The bytes of one pipeline."""

    def __init__(
        self, total: int, flight: InFlight, inbox: RecordQueue, *, bodies: Callable[[], int], reserve: float
    ) -> None:
        """`bodies` says how many bytes the bodies of requests have just now; `reserve` is the share kept for them."""
        self.total = total
        self._flight, self._inbox, self._bodies = flight, inbox, bodies
        self._reserve = int(total * reserve)

    @property
    def held(self) -> int:
        """What is held of all that is not settled."""
        return self._flight.bytes + self._bodies()

    @property
    def spare(self) -> int:
        """What the bodies of requests may have, all together; one request may always go."""
        return self.total - self._flight.bytes

    @property
    def free(self) -> int:
        """What neither records nor bodies have, or is kept for bodies: as many bytes of lines may be made."""
        return self.total - self._flight.bytes - max(self._reserve, self._bodies())

    @property
    def room(self) -> int:
        """Bytes of payload to read now; 0 or less: none. What waits to be transformed may fill a quarter of the budget,
        because lines are several times as large and need the rest."""
        return min(self.total // 4 - self._inbox.bytes, self.free)
