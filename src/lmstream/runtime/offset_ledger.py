"""Which offsets are safe to commit: the acknowledged prefix of each partition, per assignment epoch."""

from collections.abc import Mapping
from heapq import heappop, heappush

from lmstream.model import TopicPartition


class _Partition:
    """One partition in one assignment epoch."""

    __slots__ = ("acknowledged", "committed", "epoch", "heap", "open", "position", "read")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        # Offsets that were read and are not yet behind the position: in flight, or acknowledged behind one in flight.
        # A heap, although Kafka delivers in order (which makes a push cost nothing): replayed dead letters need not.
        self.heap: list[int] = []
        self.open: dict[int, int] = {}
        self.position: int | None = None
        self.committed = -1
        self.read = 0
        self.acknowledged = 0


class OffsetLedger:
    """Offsets opened and settled; `committable` is the only place a commit may come from.

    Safe at any time: a position never passes an offset that was read and is not acknowledged, never goes back within
    an epoch, and exists only for partitions that are assigned. Memory is one entry for each offset from the oldest in
    flight on (`held`); whoever reads must stop when that grows too far.
    """

    def __init__(self) -> None:
        self._owned: dict[TopicPartition, _Partition] = {}
        self._last: dict[TopicPartition, int] = {}
        self.held = 0
        """Offsets remembered: in flight, or acknowledged behind one in flight."""
        self.late = 0
        """Settlements dropped because their assignment had ended: the next owner repeats those records."""
        self.stale = 0
        """Offsets refused because they were read under an assignment that had ended."""

    def assign(self, tp: TopicPartition, epoch: int) -> bool:
        """Take a partition; False when that epoch (or a later one) was already given up. Idempotent."""
        part = self._owned.get(tp)
        if part is not None and part.epoch == epoch:
            return True
        if epoch <= self._last.get(tp, epoch - 1):
            return False
        self.revoke(tp)
        self._owned[tp] = _Partition(epoch)
        self._last[tp] = epoch
        return True

    def revoke(self, tp: TopicPartition) -> None:
        """Give a partition up: nothing of it is committable from now on."""
        part = self._owned.pop(tp, None)
        if part is not None:
            self.held -= len(part.heap)

    def epoch(self, tp: TopicPartition) -> int | None:
        """The epoch of a partition that is assigned."""
        part = self._owned.get(tp)
        return None if part is None else part.epoch

    def refuse(self, tp: TopicPartition, epoch: int) -> None:
        """Note that a record of that epoch was dropped: what follows it in a later batch must not pass over the gap."""
        if tp not in self._owned:
            self._last[tp] = max(epoch, self._last.get(tp, epoch))

    def opened(self, tp: TopicPartition, epoch: int, offset: int) -> bool:
        """Note that an offset was read; False, and nothing noted, when that assignment has ended."""
        part = self._owned.get(tp)
        if part is None or part.epoch != epoch:
            self.stale += 1
            return False
        part.read += 1
        part.open[offset] = part.open.get(offset, 0) + 1
        heappush(part.heap, offset)
        self.held += 1
        return True

    def settled(self, tp: TopicPartition, epoch: int, offset: int) -> bool:
        """Acknowledge an offset: all of it is durable. False when that assignment has ended (counted as late)."""
        part = self._owned.get(tp)
        if part is None or part.epoch != epoch:
            self.late += 1
            return False
        left = part.open.get(offset, 0) - 1
        if left < 0:
            raise ValueError(f"offset {offset} of {tp} was settled, but is not in flight")
        part.acknowledged += 1
        if left:
            part.open[offset] = left
            return True
        del part.open[offset]
        heap = part.heap
        while heap and heap[0] not in part.open:
            done = heappop(heap) + 1
            self.held -= 1
            if part.position is None or done > part.position:
                part.position = done
        return True

    def passed(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Note that the next offset to read is `offset`: below it lies no record that was not opened.

        Offsets without a record (markers of transactions, aborted records) would count as unread for ever, and as
        lost once retention has taken them. They are passed when all records before them are acknowledged.
        """
        part = self._owned.get(tp)
        if part is None or part.epoch != epoch:
            self.stale += 1
        elif part.heap:
            heappush(part.heap, offset - 1)  # without an entry in `open`: acknowledged from the start
            self.held += 1
        elif part.position is None or offset > part.position:
            part.position = offset

    def position(self, tp: TopicPartition) -> int | None:
        """The next offset to read after the acknowledged prefix; None before the first, or when not assigned."""
        part = self._owned.get(tp)
        return None if part is None else part.position

    def committable(self) -> dict[TopicPartition, int]:
        """Positions that moved beyond what `committed` was told, by partition."""
        return {
            tp: part.position
            for tp, part in self._owned.items()
            if part.position is not None and part.position > part.committed
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what the source has taken, so that it is not offered again."""
        for tp, offset in offsets.items():
            part = self._owned.get(tp)
            # A commit may return after its partition went away and came back: the new epoch starts from nothing.
            if part is not None and part.position is not None and offset <= part.position:
                part.committed = max(part.committed, offset)

    def crowded(self, share: int) -> frozenset[TopicPartition]:
        """Partitions that use up more than their part of `held`, when all of them together may have `share`."""
        most = max(1, share // max(1, len(self._owned)))
        return frozenset(tp for tp, part in self._owned.items() if len(part.heap) >= most)

    @property
    def in_flight(self) -> int:
        """Offsets read and not acknowledged, of the partitions that are assigned."""
        return sum(sum(part.open.values()) for part in self._owned.values())

    @property
    def balanced(self) -> bool:
        """The accounting invariant: read = acknowledged + in flight, in every partition."""
        return self.held == sum(len(part.heap) for part in self._owned.values()) and all(
            part.read == part.acknowledged + sum(part.open.values()) for part in self._owned.values()
        )
