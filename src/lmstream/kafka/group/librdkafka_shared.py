"""What the event loop and the thread of a confluent_kafka.Consumer tell each other."""

from collections.abc import Mapping
from typing import NamedTuple

from lmstream.model import Record, TopicPartition


class Passed(NamedTuple):
    """The next offset to read of a partition: all records below it were taken before."""

    tp: TopicPartition
    offset: int
    size: int = 0


class Barred(NamedTuple):
    """A partition that the client cannot read from an offset on (negative: its beginning)."""

    tp: TopicPartition
    offset: int
    size: int = 0


Taken = tuple[int, Record | Passed | Barred]
"""The epoch of its partition when it was taken, and the record, or how far the client is without one."""


class Shared:
    """What the event loop and the client's thread both see of a member.

    Without a lock: a value is replaced and never changed in place, so that the other side has the old one or the new.
    """

    def __init__(self) -> None:
        self.owned: Mapping[TopicPartition, int] = {}
        """Partitions that are ours, with their epochs. Written on the loop."""
        self.unknown = False
        """Whether the client met a topic that is not there. Written by whoever meets it, taken back on the loop."""
        self.closed = False
        """Whether partitions are no longer taken and given up in order. Written on the loop."""
        self.failure: Exception | None = None
        """The end of the member, raised by its next poll. Written by whoever meets it."""
