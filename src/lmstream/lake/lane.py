"""One lane of a lake while it is ours: where it stands, which claims are to be made again, what is under way."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.lake.claims import Claim, Mark
from lmstream.lake.window import Window
from lmstream.model import TopicPartition


class Opening(NamedTuple):
    """What a chain of claims says of a lane that was just assigned."""

    sequence: int
    """Of the next claim."""
    position: Mapping[int, int]
    """By partition, the offset behind what has landed: where the first of `again` begins, or the next window."""
    again: Sequence[Claim] = ()
    """Claims whose objects are not all there, and what follows them, in order."""
    marks: Mapping[int, Mark] = {}
    """By partition, the last record that has landed: the log has to hold the same there."""
    jumps: Mapping[int, tuple[int, str]] = {}
    """By partition, an offset behind the end of the chain that reading is to continue at, and why."""
    begins: Mapping[int, int] = {}
    """By partition, the first offset to read."""
    ends: Mapping[int, int] = {}
    """By partition, where the chain ends."""
    lasts: Mapping[int, Mark] = {}
    """By partition, the last record that has a claim."""
    at: int = 0
    """When the newest claim was made, Unix milliseconds."""


class Lane:
    """State of one lane in one assignment."""

    def __init__(self, topic: str, name: str, partitions: Iterable[int], opening: Opening, after: int) -> None:
        """`after` is the last epoch whose records are not taken any more."""
        self.topic, self.name = topic, name
        self.partitions: frozenset[int] = frozenset(partitions)
        self.after: int = after
        self.sequence: int = opening.sequence
        self.begins: dict[int, int] = dict(opening.begins)
        """By partition, where reading began."""
        self.position: dict[int, int] = dict(opening.position)
        """By partition, where the next window begins."""
        self.again: deque[Claim] = deque(opening.again)
        self.marks: dict[int, Mark] = dict(opening.marks)
        self.lasts: dict[int, Mark] = dict(opening.lasts)
        """By partition, the last record that has a claim."""
        self.claimed_at: int = opening.at
        """When the newest claim was made, Unix milliseconds."""
        self.jumps: dict[int, tuple[int, str]] = dict(opening.jumps)
        self.undone: set[int] = {each.sequence for each in opening.again}
        """Sequence numbers whose objects are not all known to be there."""
        self.gathering: Window | None = None
        self.landing: deque[Window] = deque()
        """Windows that have ended and are not claimed yet, in order."""
        self.claiming: Window | None = None
        self.parked: dict[int, deque[InFlightRecord | int]] = {}
        """By partition, what waits for a window to end before its own can begin: records, and offsets below which no
        further one lies."""
        self.unparking: bool = False
        """Whether what is parked is being gathered."""
        self.closed: bool = False
        """Whether another lane of the same partitions took over: of this one only what is claimed continues."""
        self.busy: bool = False
        """Whether a task lands its windows."""
        self.admitted: bool = False
        """Whether there is memory to make its windows again, or it has none."""
        self.writing: dict[int, Window] = {}
        """By number of a record whose letter is not durable yet, the window that waits for it."""
        self.awake: asyncio.Event = asyncio.Event()

    @property
    def tps(self) -> list[TopicPartition]:
        """Its partitions."""
        return [TopicPartition(self.topic, each) for each in sorted(self.partitions)]

    @property
    def done(self) -> int:
        """The oldest sequence number whose objects may not all be there."""
        return min(self.undone, default=self.sequence)

    @property
    def unlanded(self) -> list[Window]:
        """Windows none of whose objects is being put."""
        some = [each for each in (self.claiming, self.gathering) if each is not None]
        return [*some, *self.landing]

    def clear(self) -> None:
        """Forget what is gathered and waits."""
        self.gathering = self.claiming = None
        self.landing.clear()
        self.parked.clear()
        self.writing.clear()
        self.awake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing of it is under way."""
        return not (self.gathering or self.landing or self.claiming or self.again or self.parked or self.undone)

    @property
    def makes_again(self) -> bool:
        """Whether windows of claims are made again."""
        return bool(self.again) or (self.gathering is not None and self.gathering.claim is not None)

    @property
    def again_bytes(self) -> int:
        """What its windows that are to be made again take in memory."""
        made = self.gathering.claim if self.gathering is not None else None
        return sum(each.held for each in self.again) + (made.held if made is not None else 0)

    def park(self, partition: int, what: "InFlightRecord | int") -> None:
        """Let this wait for a window to end: a record, or an offset below which no further one lies."""
        parked = self.parked.setdefault(partition, deque())
        if isinstance(what, int) and parked and isinstance(parked[-1], int):
            parked.pop()
        parked.append(what)

    def unparked(self) -> list[InFlightRecord]:
        """Take out all records that wait."""
        records = [each for parked in self.parked.values() for each in parked if not isinstance(each, int)]
        self.parked.clear()
        return records

    def skips(self, partition: int, offset: int) -> bool:
        """Whether this record lies before what is to be gathered next: it has landed, or was left out on purpose."""
        at = self.position if self.gathering is None else self.gathering.position
        return offset < at.get(partition, 0)
