"""How the partitions of a topic are divided into lanes, and the object that keeps them from being divided otherwise."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.errors import SinkError
from lmstream.lake.requests import Requests
from lmstream.model import TopicPartition

RECORD_BYTES: Final = 4096


class _Made(Struct, frozen=True, kw_only=True):
    """What the first member of a topic wrote."""

    lanes: int | None


class Division(Struct, frozen=True, kw_only=True):
    """All members that land a topic have the same."""

    lanes: int | None = None
    """Lanes of a topic: partition p is in lane p mod `lanes`. None: each partition is a lane."""
    incarnation: str = ""
    """Part of the names of lanes."""

    def lane_of(self, tp: TopicPartition) -> str:
        """The name of its lane: 5, 2of8, or again.2of8."""
        name = str(tp.partition) if self.lanes is None else f"{tp.partition % self.lanes}of{self.lanes}"
        return f"{self.incarnation}.{name}" if self.incarnation else name

    def partitions(self, tp: TopicPartition, count: int) -> set[int]:
        """Those of its lane, of a topic with so many partitions."""
        if self.lanes is None:
            return {tp.partition}
        return set(range(tp.partition % self.lanes, count, self.lanes))

    def count(self, topics: Mapping[str, int]) -> int:
        """Lanes of topics with so many partitions."""
        return sum(count if self.lanes is None else min(self.lanes, count) for count in topics.values())

    async def check(self, requests: Requests, at: str, topic: str) -> None:
        """See that the lanes of a topic are these, or make them so; below `at` it is written once. Raises SinkError
        `lake.lanes`: a lane of another number would not begin where those before it ended."""
        key = f"{at}{topic}/{self.incarnation or '_'}.json"
        if await requests.create(key, msgspec.json.encode(_Made(lanes=self.lanes)), {}):
            return
        data = await requests.get(key, RECORD_BYTES)
        place = requests.place(key)
        if data is None:
            raise SinkError("lake.chain", f"{place}: it is gone")
        try:
            made = msgspec.json.decode(data, type=_Made)
        except msgspec.MsgspecError as error:
            raise SinkError("lake.chain", f"{place}: not one that this version can read: {error}") from error
        if made.lanes != self.lanes:
            detail = f"{topic} is landed in {_said(made.lanes)}, and this process has {_said(self.lanes)} ({place})"
            raise SinkError("lake.lanes", detail)


def _said(lanes: int | None) -> str:
    return "a lane for each partition" if lanes is None else f"{lanes} lanes"
