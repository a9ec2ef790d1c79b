"""The record on its way: what of it is still open, who is told when it is done, and the bytes it holds."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lmstream.delivery.active_partitions import Hour
from lmstream.delivery.counts import Counts, add, one_more
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.engine import FanOut
from lmstream.engine.dimension_line import DimensionLine
from lmstream.interfaces import Clock
from lmstream.model import KILLS, Failure, Record, Status, TopicPartition
from lmstream.settings import KIB

OVERHEAD: Final = KIB
"""Bytes that a record takes beside its payload and lines, about: the objects that track it, here and in the ledger."""
REJECTED: Final = 96
"""Bytes that a rejected point, or a part without ordinals, takes until the record's dead letter is durable: its ordinal
and reason, or its reason beside its path."""

_INDEX: Final = re.compile(r"\[\d+\]")
_NAMES: Final = 10  # unknown members that are named, as in FanOut.unknown

_NO_EPOCHS: Final[Mapping[TopicPartition, int]] = {}

Settled = Callable[[TopicPartition, int, int, Status], object]
"""(partition, epoch, offset, status), called once for each record that may be acknowledged."""


class Submission:
    """What the records of one `Pipeline.submit` share: who hears of each, until when, and why some stay pending."""

    __slots__ = ("deadline", "failures", "letters", "rows", "settled")

    def __init__(self, settled: Settled, deadline: float | None = None) -> None:
        """`settled` is called for each record that may be acknowledged."""
        self.settled: Settled = settled
        self.deadline: float | None = deadline
        """By the clock: no request begins that could end after it, and what fails is not retried for ever. Only
        hosts that are called have one."""
        self.failures: dict[str, Failure] = {}
        """Why records were left pending at the deadline, one of each code."""
        self.rows: int = 0
        """Rows that its records have become so far."""
        self.letters: dict[str, int] = {}
        """How many of its records are in a durable dead letter, by the reason of the letter."""

    def is_over(self, clock: Clock) -> bool:
        """Whether nothing more is to be begun."""
        return self.deadline is not None and clock() >= self.deadline

    def gave_up(self, failure: Failure) -> None:
        """Note why some of the records are left pending."""
        self.failures.setdefault(failure.code, failure)


class InFlightRecord:
    """One record on its way, with its own acknowledgement: `settled` is called when `remaining` and `keys_open` are 0
    and its dead letter, if any, is durable."""

    __slots__ = (
        "detail",
        "epoch",
        "hours",
        "keys",
        "keys_open",
        "lines",
        "names",
        "number",
        "offset",
        "overhead",
        "parts",
        "payload",
        "points",
        "record",
        "refused",
        "rejected",
        "remaining",
        "submission",
        "tp",
        "why",
    )

    def __init__(self, number: int, submission: Submission, record: Record, tp: TopicPartition, epoch: int) -> None:
        self.number: int = number
        self.submission: Submission = submission
        self.record: Record = record
        self.tp: TopicPartition = tp
        self.offset: int = record.offset if record.position is None else record.position.offset
        self.epoch: int = epoch
        self.payload: int = record.size
        self.lines: int = 0  # bytes of encoded lines
        self.hours: Sequence[Hour] = ()  # with partitions of its rows
        self.overhead: int = OVERHEAD
        self.points: int = 0  # data points that were counted in it
        self.remaining: int = 0  # rows without a final verdict
        self.keys: Sequence[DimensionLine] = ()  # dimension rows that travel with it
        self.keys_open: int = 0  # chunks of them without a final verdict
        self.refused: int = 0  # rows that wait for the dead letter
        self.rejected: tuple[tuple[int, str], ...] = ()
        self.parts: tuple[tuple[str, str], ...] = ()
        self.names: str = record.names  # engine.field_names under which its points were counted
        self.detail: str = ""  # which points and parts made no row, and why the first of them
        self.why: tuple[str, str] | None = None  # (reason, detail) when the whole record goes into the letter

    def settled(self, status: Status) -> None:
        """Acknowledge it: everything of it is durable."""
        self.submission.settled(self.tp, self.epoch, self.offset, status)


class InFlight:
    """All records that are on their way: by number, for verdicts on packs, and how many of each partition."""

    def __init__(self, budget: MemoryBudget | None = None) -> None:
        """`budget` is told what they hold."""
        self.counts: Counts = Counts()
        self.records: dict[int, InFlightRecord] = {}
        """By running number, the oldest first."""
        self.unknown: dict[str, str] = {}
        """The first names of fields that OTLP metrics do not define, with the coordinates of a record that has them."""
        self._budget = budget or MemoryBudget()
        self._by_tp: dict[TopicPartition, int] = {}
        self._kinds: set[str] = set()
        self._next = 0

    def track(
        self, record: Record, submission: Submission, epochs: Mapping[TopicPartition, int] = _NO_EPOCHS
    ) -> InFlightRecord:
        """Track one more record. `epochs` has the assignment epoch of its partition, 0 without one."""
        tp = record.tp
        each = InFlightRecord(self._next, submission, record, tp, epochs.get(tp, 0))
        self._next += 1
        self.records[each.number] = each
        self._by_tp[tp] = self._by_tp.get(tp, 0) + 1
        self._budget.hold(each.payload + each.overhead)
        return each

    def encoded(self, each: InFlightRecord, out: FanOut, size: int) -> None:
        """Note the rows a record became, `size` bytes of lines, and the points that became none."""
        each.remaining = out.rows
        each.lines = size
        c = self.counts
        c.rows += out.rows
        each.submission.rows += out.rows
        each.points = out.points
        if each.record.only is None and not each.record.below:
            c.points += out.points
        else:  # a replay judges some of them
            c.points += out.rows + sum(out.skipped.values()) + sum(out.dropped.values()) + len(out.rejected)
        add(c.skipped, out.skipped)
        add(c.dropped, out.dropped)
        add(c.noted, out.noted)
        if out.rejected or out.parts:
            self._refused(each, out)
        self._budget.hold(size)
        if each.record.value is None:
            c.valueless += 1
            return
        if out.rows:
            c.understood += 1
            one_more(c.topic_rows, each.record.topic, out.rows)
        else:
            self._without_row(each.record.topic, out)
        for name in out.unknown:
            kind = _INDEX.sub("[]", name)  # the same member of each metric is one finding
            if kind not in self._kinds and len(self._kinds) < _NAMES:
                self._kinds.add(kind)
                self.unknown[name] = each.record.coordinates

    def refused(self, each: InFlightRecord) -> None:
        """Note that a whole record was refused, for the reason in `why`."""
        if each.why is not None and each.why[0] == KILLS:
            self.counts.killers += 1
        else:
            self.counts.undecodable += 1
        one_more(self.counts.topic_without_row, each.record.topic)

    def drop(self, each: InFlightRecord) -> None:
        """Track a record no longer, and count nothing."""
        del self.records[each.number]
        self._budget.release(each.payload + each.lines + each.overhead)
        left = self._by_tp[each.tp] - 1
        if left:
            self._by_tp[each.tp] = left
        else:
            del self._by_tp[each.tp]

    def give_back(self, each: InFlightRecord) -> None:
        """A transformed record stays pending permanently: its source redelivers it."""
        self.counts.given_back += 1
        self.counts.rows_given_back += each.remaining + each.refused
        self.drop(each)

    def holds(self, tp: TopicPartition) -> bool:
        """Whether a record of that partition is on its way."""
        return tp in self._by_tp

    def oldest(self) -> dict[TopicPartition, Record]:
        """Of each partition with records on their way, the one that came first."""
        found: dict[TopicPartition, Record] = {}
        for each in self.records.values():
            found.setdefault(each.tp, each.record)
            if len(found) == len(self._by_tp):
                break
        return found

    @property
    def rows(self) -> int:
        """Rows made, and neither accepted nor in a durable dead letter."""
        return sum(each.remaining + each.refused for each in self.records.values())

    def balanced(self, waiting: int) -> bool:
        """The accounting invariant (see Counts), when `waiting` of the records are not yet taken up."""
        c = self.counts
        return (
            c.records == c.settled + c.given_back + len(self.records) - waiting
            and c.sums.right
            and c.rows_in_flight == self.rows
        )

    def _without_row(self, topic: str, out: FanOut) -> None:
        c = self.counts
        # A replay judges only some of the points: then rejected and skipped ones are fewer than `points`.
        if out.points or out.rejected or out.skipped or out.dropped:
            c.understood += 1
            c.all_skipped += not (out.rejected or out.parts)
        elif out.parts:
            c.undecodable += 1
        else:
            c.empty += 1
        one_more(c.topic_without_row, topic)

    def _refused(self, each: InFlightRecord, out: FanOut) -> None:
        c = self.counts
        for _, reason in out.rejected:
            c.rejected[reason] = c.rejected.get(reason, 0) + 1
        c.parts_undecodable += len(out.parts)
        each.rejected = out.rejected
        each.parts = tuple((part.path, part.reason) for part in out.parts)
        held = refused_bytes(each.rejected, each.parts) + len(each.detail)
        each.overhead += held
        self._budget.hold(held)


def refused_bytes(rejected: Sequence[tuple[int, str]], parts: Sequence[tuple[str, str]]) -> int:
    """Bytes that these take in memory and in a letter, about."""
    return REJECTED * (len(rejected) + len(parts)) + sum(len(path) for path, _ in parts)
