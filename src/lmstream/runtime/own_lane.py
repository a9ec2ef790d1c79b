"""Any source in front of a lake: its records get a lane of their own, so that they land at least once."""

import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import structs

from lmstream.delivery import Settled
from lmstream.errors import SourceError
from lmstream.interfaces import Assign, Assigned, Batch, Drain, Source
from lmstream.model import Position, Record, Status, TopicPartition

_NOTHING: Final = Assigned(next=0, committed=False, begin=0, end=1 << 62, same=True)


class OwnLane:
    """A source that cannot be read again, as one that is Placed: what it hands out lands once in this run, and what it
    hands out to the next run lands again."""

    def __init__(self, source: Source, settled: Settled | None = None) -> None:
        """`settled` is told of records by their own coordinates."""
        self.on_assign: Assign | None = None
        self._source, self._then = source, settled
        self._tp = TopicPartition(f"own-{secrets.token_hex(16)}", 0)
        self._assigned = False
        self._number = self._epoch = 0
        self._open: dict[int, Record] = {}
        self._handed: deque[tuple[int, TopicPartition, int]] = deque()  # by number, what a commit moves the source over
        self._drain: Drain | None = None

    @property
    def on_revoke(self) -> Drain | None:
        """Of the source itself."""
        return self._source.on_revoke

    @on_revoke.setter
    def on_revoke(self, drain: Drain | None) -> None:
        self._drain = drain
        self._source.on_revoke = None if drain is None else self._revoked

    async def poll(self, room: int, /) -> Batch:
        """As the source itself."""
        if not self._assigned and self.on_assign is not None:
            await self.on_assign({self._tp: _NOTHING})
            self._assigned = True
        batch = await self._source.poll(room)
        records = [self._placed(each) for each in batch.records]
        return Batch(records, {self._tp: self._epoch}, batch.end, cramped=batch.cramped)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Commit what the numbers stand for. Numbers are given in the order in which records were handed out, so all
        before one are settled in every partition."""
        theirs: dict[TopicPartition, int] = {}
        until = offsets.get(self._tp, 0)
        for number, tp, offset in self._handed:
            if number >= until:
                break
            theirs[tp] = max(offset + 1, theirs.get(tp, 0))
        if theirs:
            await self._source.commit(theirs)
        while self._handed and self._handed[0][0] < until:  # only now: a commit that fails is made again
            self._handed.popleft()

    async def seek(self, places: Mapping[TopicPartition, int], /) -> None:  # noqa: ARG002 - as of the protocol
        """Raises SourceError: nothing can be read again, and nobody else lands in this lane."""
        raise SourceError("source.file", f"{self._tp.topic}: cannot be read again")

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    def settled(self, _tp: TopicPartition, epoch: int, offset: int, status: Status) -> None:
        """Tell whose record that was."""
        record = self._open.pop(offset, None)
        if self._then is not None and record is not None:  # None: of an epoch that has ended
            self._then(TopicPartition(record.topic, record.partition), epoch, record.offset, status)

    async def _revoked(self, _partitions: Iterable[TopicPartition]) -> None:
        """Settle and commit all of the lane: numbers do not say of which partition they are."""
        if self._drain is not None:
            await self._drain([self._tp])
        self._epoch += 1
        self._handed.clear()
        self._open.clear()

    def _placed(self, record: Record) -> Record:
        placed = structs.replace(record, position=Position(self._tp, self._number))
        self._open[self._number] = structs.replace(record, value=None, key=None, headers=())
        self._handed.append((self._number, TopicPartition(record.topic, record.partition), record.offset))
        self._number += 1
        return placed
