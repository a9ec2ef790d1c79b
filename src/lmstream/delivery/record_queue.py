"""Records that wait to be transformed: in the order they came, and never more bytes of payload than are counted."""

from collections import deque
from collections.abc import Container, Iterable

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.model import TopicPartition


class RecordQueue:
    """A queue that knows its bytes."""

    def __init__(self) -> None:
        self._waiting: deque[InFlightRecord] = deque()
        self.bytes = 0
        """Payload of all that waits."""

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._waiting)

    @property
    def first(self) -> InFlightRecord:
        """The next to be taken."""
        return self._waiting[0]

    def extend(self, records: Iterable[InFlightRecord]) -> None:
        """Put records behind the others."""
        for each in records:
            self._waiting.append(each)
            self.bytes += each.payload

    def take(self) -> InFlightRecord:
        """Take the first."""
        each = self._waiting.popleft()
        self.bytes -= each.payload
        return each

    def remove(self, partitions: Container[TopicPartition] | None = None) -> list[InFlightRecord]:
        """Take out what waits of these partitions, or all of it."""
        out = [each for each in self._waiting if partitions is None or each.record.tp in partitions]
        self._waiting = deque(
            each for each in self._waiting if partitions is not None and each.record.tp not in partitions
        )
        self.bytes -= sum(each.payload for each in out)
        return out
