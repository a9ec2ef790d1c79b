"""Which offsets are safe to commit: the acknowledged prefix of each partition, per assignment epoch.

Theory of operation
-------------------
Kafka keeps one number for each partition of a group: the offset to read next. To commit it says that everything below
is done. Records are settled in any order, so the ledger keeps, for each partition, what was read and what of it is
done:

* `open`: the offsets in flight, each with how often it was read and not yet settled.
* `heap`: all offsets read that are not yet behind the position, in flight or not; the smallest is on top.
* `position`: the next offset to read after the acknowledged prefix. `settled` pops from the heap what is not in `open`
  any more, and moves the position behind it. It stops at the first offset that is in flight.
* `committed`: the position that the source has taken. `committable` offers what is beyond.

An assignment has an *epoch*, a number that grows each time the partition comes to this member. A record that is settled
after its partition was revoked has the old epoch: it is counted (`late`) and changes nothing, because the next owner
reads it again. So nobody has to find and stop what is in flight when a partition goes away.

Who calls whom: `Assignments` is the only caller of `assign`, `opened`, `passed`, `refuse`, `revoke`, `committable` and
`committed`. `settled` is handed to `Pipeline.submit` with each batch, and the pipeline calls it for each record that is
durable, as the last thing it does for it (Settlement). No task or lock is needed: all of it runs in one event loop, and
no method waits.

These hold at all times, and a state machine in the tests tries to break them:

* A position never passes an offset that was read and is not acknowledged.
* It never goes back within an epoch, and starts from nothing in a new one.
* It exists only for partitions that are assigned: nothing can be committed for others.
* read = acknowledged + in flight, in every partition (`balanced`); an offset is settled as often as it was opened, and
  once more is an error that stops the run.

What it does not do: it does not know what a record is, why it was settled, or how far the topic reaches. Offsets
without a record are passed by what the source says of them (`passed`), never guessed.

Memory is one entry for each offset from the oldest in flight on (`held`), also of offsets that are done behind one that
is stuck. Whoever reads must stop when that grows too far: see `Assignments.room` and `crowded`.
"""

from collections.abc import Mapping
from heapq import heappop, heappush

from lmstream.model import Status, TopicPartition


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
    """Offsets opened and settled (see above); `committable` is the only place a commit may come from."""

    def __init__(self) -> None:
        self._owned: dict[TopicPartition, _Partition] = {}
        self._last: dict[TopicPartition, int] = {}
        self.held: int = 0
        """Offsets remembered: in flight, or acknowledged behind one in flight."""
        self.late: int = 0
        """Settlements dropped because their assignment had ended: the next owner repeats those records."""
        self.stale: int = 0
        """Offsets refused because they were read under an assignment that had ended."""

    def assign(self, tp: TopicPartition, epoch: int) -> bool:
        """Take a partition; False when that epoch (or a later one) was already revoked. Idempotent."""
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
        """Note that a record of that epoch was dropped: what follows it in a later batch must not skip the gap."""
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

    def settled(self, tp: TopicPartition, epoch: int, offset: int, status: Status = Status.DELIVERED) -> bool:
        """Acknowledge an offset: all of it is durable. False when that assignment has ended (counted as late).

        Raises ValueError for an offset that is not in flight, and for one that is still pending.
        """
        if status is Status.PENDING:
            raise ValueError(f"offset {offset} of {tp} was settled, but is pending")
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
