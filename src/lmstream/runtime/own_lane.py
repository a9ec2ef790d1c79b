"""Any source in front of a lake: its records get a lane of their own, so that they land at least once."""

import secrets
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from lmstream.delivery import Settled
from lmstream.errors import SourceError
from lmstream.interfaces import Assign, Assigned, Batch, Drain, Source
from lmstream.model import Position, Record, Status, TopicPartition

_NOTHING: Final = Assigned(next=0, committed=False, begin=0, end=1 << 62, same=True)


class OwnLane:
    """A source that cannot be read again, as one that is Placed. What it hands out lands once in this run."""

    def __init__(self, source: Source, settled: Settled | None = None) -> None:
        """`settled` is told of records by their own coordinates."""
        self.on_assign: Assign | None = None
        self._source, self._then = source, settled
        self._tp = TopicPartition(f"replayed-{secrets.token_hex(16)}", 0)
        self._assigned = False
        self._number = 0
        self._open: dict[int, Record] = {}

    @property
    def on_revoke(self) -> Drain | None:
        """Of the source itself."""
        return self._source.on_revoke

    @on_revoke.setter
    def on_revoke(self, drain: Drain | None) -> None:
        self._source.on_revoke = drain

    async def poll(self, room: int, /) -> Batch:
        """As the source itself."""
        if not self._assigned and self.on_assign is not None:
            await self.on_assign({self._tp: _NOTHING})
            self._assigned = True
        batch = await self._source.poll(room)
        return Batch([self._placed(each) for each in batch.records], {self._tp: 0}, batch.end)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """The source has no such offsets."""

    async def seek(self, places: Mapping[TopicPartition, int], /) -> None:  # noqa: ARG002 - as of the protocol
        """Raises SourceError: nothing can be read again, and nobody else lands in this lane."""
        raise SourceError("source.file", f"{self._tp.topic}: cannot be read again")

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    def settled(self, _tp: TopicPartition, epoch: int, offset: int, status: Status) -> None:
        """Tell whose record that was."""
        record = self._open.pop(offset)
        if self._then is not None:
            self._then(TopicPartition(record.topic, record.partition), epoch, record.offset, status)

    def _placed(self, record: Record) -> Record:
        placed = structs.replace(record, position=Position(self._tp, self._number))
        self._open[self._number] = structs.replace(record, value=None, key=None, headers=())
        self._number += 1
        return placed
