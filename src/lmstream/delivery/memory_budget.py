"""How many bytes may be in flight, what takes them, and what is left: for records, for bodies, for reading on."""

from typing import Final

from lmstream.settings import MIB

BUDGET: Final = 64 * MIB
"""Bytes in flight by default: all that is held of records that are not yet durable, and the bodies of requests."""
RESERVE: Final = 1 / 2
"""Share of the budget that records leave free where requests have bodies of their own, base64 of lines that are in
flight beside them: for those bodies, and for what the source has read ahead. A body is about as large as the lines in
it and their payload (4 MiB, of 3 and 1), so that each half holds as many requests: eight by default, as many as
`delivery.concurrency`."""
QUEUED: Final = 8 * MIB
"""Bytes of payload that may wait to be transformed: two fetches, a tenth of a second of work. With 16 MiB a process
comes to 5 to 10 MiB more (confluent), and no row is cheaper; with 4 MiB a fetch comes in two parts, and requests are a
quarter more."""


class MemoryBudget:
    """The bytes of one pipeline. It is told what is held and released, and asks nobody."""

    __slots__ = ("_bodies", "_queued", "_records", "_reserve", "total")

    def __init__(self, total: int = BUDGET, reserve: float = 0.0) -> None:
        """`reserve` is the share kept for bodies of requests."""
        self.total: int = total
        self._reserve = int(total * reserve)
        self._records = 0  # payload, encoded lines and overhead of all that is not settled
        self._queued = 0  # payload of what waits to be transformed, which is part of the former
        self._bodies = 0

    def hold(self, size: int) -> None:
        """Note that a record takes so many bytes more."""
        self._records += size

    def release(self, size: int) -> None:
        """Note that a record gave bytes back."""
        self._records -= size

    def queue(self, size: int) -> None:
        """Note that a payload of so many bytes waits to be transformed."""
        self._queued += size

    def unqueue(self, size: int) -> None:
        """Note that such a payload waits no more."""
        self._queued -= size

    def hold_body(self, size: int) -> None:
        """Note that a request is under way, with a body of its own of so many bytes."""
        self._bodies += size

    def release_body(self, size: int) -> None:
        """Note that a request ended."""
        self._bodies -= size

    def takes_body(self, size: int) -> bool:
        """Whether one more body of so many bytes keeps within the budget."""
        return self._records + self._bodies + size <= self.total

    @property
    def bodies(self) -> int:
        """Bytes of the bodies of requests under way."""
        return self._bodies

    @property
    def held(self) -> int:
        """What is held of all that is not settled."""
        return self._records + self._bodies

    @property
    def free(self) -> int:
        """What neither records nor bodies have, or is kept for bodies: as many bytes of lines may be made."""
        return self.total - self._records - max(self._reserve, self._bodies)

    @property
    def unqueued(self) -> int:
        """Bytes of payload that may still wait to be transformed."""
        return min(self.total // 4, QUEUED) - self._queued

    @property
    def room(self) -> int:
        """Bytes of payload to read now; 0 or less: none. What waits to be transformed may fill a quarter of a small
        budget, because lines are several times as large and need the rest."""
        return min(self.unqueued, self.free)
