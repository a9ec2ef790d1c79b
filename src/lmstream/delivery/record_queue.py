"""Records that wait to be transformed: in the order they came, and never more bytes of payload than are counted."""

from collections import deque
from collections.abc import Container, Iterable

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.model import TopicPartition


class RecordQueue:
    """A queue that tells the budget how many bytes wait in it."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._waiting: deque[InFlightRecord] = deque()
        self._budget = budget

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._waiting)

    @property
    def first(self) -> InFlightRecord | None:
        """The next to be taken."""
        return self._waiting[0] if self._waiting else None

    def partitions(self) -> set[TopicPartition]:
        """Those of which records wait."""
        return {each.tp for each in self._waiting}

    def extend(self, records: Iterable[InFlightRecord]) -> None:
        """Put records behind the others."""
        for each in records:
            self._waiting.append(each)
            self._budget.queue(each.payload)

    def take(self) -> InFlightRecord:
        """Take the first."""
        each = self._waiting.popleft()
        self._budget.unqueue(each.payload)
        return each

    def remove(self, partitions: Container[TopicPartition] | None = None) -> list[InFlightRecord]:
        """Take out what waits of these partitions, or all of it."""
        out = [each for each in self._waiting if partitions is None or each.tp in partitions]
        self._waiting = deque(each for each in self._waiting if partitions is not None and each.tp not in partitions)
        for each in out:
            self._budget.unqueue(each.payload)
        return out
