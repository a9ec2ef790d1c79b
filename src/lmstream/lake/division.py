"""How the partitions of a topic are divided into lanes, and how lanes are named."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from lmstream.errors import SinkError
from lmstream.lake.claims import Divided
from lmstream.model import TopicPartition

_NAME: Final = re.compile(r"(?:(.*)\.)?([0-9]+)(?:of([0-9]+))?(?:_([0-9]+))?")


class Division(Struct, frozen=True, kw_only=True):
    """All members that land a topic have the same."""

    lanes: int | None = None
    """Lanes of a topic: partition p is in lane p mod `lanes`. None: each partition is a lane."""
    incarnation: str = ""
    """Part of the names of lanes."""
    number: int = 0
    """Which division of the topic this is: raised to divide it otherwise. Part of the names of lanes."""

    def lane_of(self, tp: TopicPartition) -> str:
        """The name of its lane: 5, 2of8, again.2of8, or in a later division 2of4_1."""
        name = str(tp.partition) if self.lanes is None else f"{tp.partition % self.lanes}of{self.lanes}"
        name = f"{name}_{self.number}" if self.number else name
        return f"{self.incarnation}.{name}" if self.incarnation else name

    def partitions(self, tp: TopicPartition, count: int) -> set[int]:
        """Those of its lane, of a topic with so many partitions."""
        if self.lanes is None:
            return {tp.partition}
        return set(range(tp.partition % self.lanes, count, self.lanes))

    def count(self, topics: Mapping[str, int]) -> int:
        """Lanes of topics with so many partitions."""
        return sum(count if self.lanes is None else min(self.lanes, count) for count in topics.values())

    @property
    def divided(self) -> Divided:
        """What is written down of it."""
        return Divided(number=self.number, lanes=self.lanes)


class LaneName(NamedTuple):
    """What the name of a lane says."""

    incarnation: str
    at: int
    divided: Divided

    def has(self, partition: int) -> bool:
        """Whether a partition is in this lane."""
        lanes = self.divided.lanes
        return partition == self.at if lanes is None else partition % lanes == self.at


def lane_name(text: str) -> LaneName | None:
    """What the name of a lane says; None when it is none that `lane_of` gives."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    incarnation, index, lanes, number = found.groups()
    divided = Divided(number=int(number or 0), lanes=int(lanes) if lanes else None)
    return LaneName(incarnation or "", int(index), divided)


def other_division(topic: str, there: Divided, mine: Divided | None, place: str) -> SinkError:
    """Say that a topic is divided otherwise than this process believes."""
    what = f"{topic} is landed in division {there.number}, {there} ({place})"
    if mine is not None:
        what += f", and this process has division {mine.number}, {mine}"
    lanes = "leave sink.lanes out" if there.lanes is None else f"set sink.lanes = {there.lanes}"
    again = f"to divide it anew, set another sink.lanes and sink.division = {there.number + 1}"
    return SinkError("lake.lanes", what, f"{lanes} and sink.division = {there.number}; {again}, on all members")
