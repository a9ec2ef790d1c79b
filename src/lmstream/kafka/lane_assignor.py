"""Give members of a group whole lanes: partitions that a sink lands together, and one member must read together."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

NAME = "lmstream-lanes-"
"""And the number of lanes. A group's members must have one assignor in common: a member of another number, or of none,
is refused by the broker (INCONSISTENT_GROUP_PROTOCOL, kafka.apache.org/protocol, JoinGroup)."""


class LaneAssignor(AbstractPartitionAssignor):  # type: ignore[misc] # aiokafka is untyped
    """Lanes of all topics in turn to all members; partition p is in lane p mod `lanes`."""

    lanes: ClassVar[int]
    name: ClassVar[str]
    version: ClassVar[int] = 0

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """By member; what it is assigned of a topic are whole lanes."""
        given: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        turns = itertools.cycle(sorted(members))
        for topic in sorted({topic for each in members.values() for topic in each.subscription}):
            known = cluster.partitions_for_topic(topic) or ()
            for lane in sorted({partition % cls.lanes for partition in known}):
                # Each topic is one that a member has subscribed to, so that this ends.
                member = next(each for each in turns if topic in members[each].subscription)
                given[member].setdefault(topic, []).extend(p for p in sorted(known) if p % cls.lanes == lane)
        return {
            member: ConsumerProtocolMemberAssignment(
                cls.version, [(topic, sorted(some)) for topic, some in sorted(topics.items())], b""
            )
            for member, topics in given.items()
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What a member says of itself when it joins."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing is remembered."""


def lane_assignor(lanes: int) -> type[LaneAssignor]:
    """The assignor of a number of lanes: as aiokafka takes one, its class."""
    return type("LaneAssignor", (LaneAssignor,), {"lanes": lanes, "name": f"{NAME}{lanes}"})
