"""The record on its way: what of it is still open, its dead letter, and the counts that must always add up."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct, field

from lmstream.delivery.active_partitions import Hour
from lmstream.engine import FanOut
from lmstream.model import KILLS, Failure, Pack, Record, Status, TopicPartition
from lmstream.settings import KIB

OVERHEAD: Final = KIB
"""Bytes that a record takes beside its payload and lines, about: the objects that track it, here and in the ledger."""
REJECTED: Final = 96
"""Bytes that a rejected point, or a part without ordinals, takes until the record's dead letter is durable: its ordinal
and reason, or its reason beside its path."""

_TOPICS: Final = 1_000  # topics that are counted by name; more come from no configuration, only from folders of letters
_INDEX: Final = re.compile(r"\[\d+\]")
_NAMES: Final = 10  # unknown members that are named, as in FanOut.unknown


class Counts(Struct, kw_only=True):
    """What was done since the start. At all times: records = tombstones + delivered + dead_letters + given_back +
    in flight, rows = accepted + rows_dead + rows_given_back + rows in flight, and records = understood + empty +
    undecodable + killers + valueless + unjudged.
    """

    records: int = 0
    """Records taken up: transformed, or refused by the decoder."""
    understood: int = 0
    """Records that gave at least one data point, whatever became of it."""
    empty: int = 0
    """Records with a value and without a data point, in which nothing was wrong or unknown."""
    undecodable: int = 0
    """Records refused as a whole before any point was judged."""
    killers: int = 0
    """Records that were not transformed, because processes had died over them."""
    unjudged: int = 0
    """Records over which lmstream itself failed."""
    valueless: int = 0
    """Records without a value, taken up; `tombstones` counts those that are settled."""
    all_skipped: int = 0
    """Understood records that gave no row because all of their points were skipped."""
    parts_undecodable: int = 0
    """Parts of bundles in which points could not be counted."""
    topic_rows: dict[str, int] = field(default_factory=dict)
    """Rows made, by topic."""
    topic_without_row: dict[str, int] = field(default_factory=dict)
    """Records with a value that gave no row, by topic."""
    tombstones: int = 0
    delivered: int = 0
    """Records of which every row was accepted."""
    dead_letters: int = 0
    """Records with a durable dead letter; its rows that were good were accepted too."""
    given_back: int = 0
    """Records transformed and left pending by a deadline: the host's source brings them again."""
    rows: int = 0
    accepted: int = 0
    """Rows that the sink accepted."""
    rows_dead: int = 0
    """Rows that the sink refused for good, in a durable dead letter."""
    rows_given_back: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)


class InFlightRecord:
    """One record on its way: acknowledged when `remaining` is 0 and its dead letter, if any, is durable."""

    __slots__ = (
        "batch",
        "detail",
        "epoch",
        "hours",
        "lines",
        "names",
        "number",
        "overhead",
        "parts",
        "payload",
        "record",
        "refused",
        "rejected",
        "remaining",
        "status",
        "why",
    )

    def __init__(self, number: int, batch: int, record: Record, epoch: int) -> None:
        self.number = number
        self.batch = batch
        self.record = record
        self.epoch = epoch
        self.payload = record.size
        self.lines = 0  # bytes of encoded lines
        self.hours: Sequence[Hour] = ()  # with partitions of its rows
        self.overhead = OVERHEAD
        self.remaining = 0  # rows without a final verdict
        self.refused = 0  # rows that wait for the dead letter
        self.rejected: tuple[tuple[int, str], ...] = ()
        self.parts: tuple[tuple[str, str], ...] = ()
        self.names = record.names  # engine.field_names under which its points were counted
        self.detail = ""  # which points and parts made no row, and why the first of them
        self.why: tuple[str, str] | None = None  # (reason, detail) when the whole record goes into the letter
        self.status = Status.PENDING


class InFlight:
    """All records that are on their way, and the counts of those that arrived."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.bytes = 0
        """Payload, encoded lines and overhead of all that is not settled."""
        self.tracked: dict[int, InFlightRecord] = {}
        self._by_tp: dict[TopicPartition, int] = {}
        self.unknown: dict[str, str] = {}
        """The first names of members that OTLP metrics do not know, with the coordinates of a record that has them."""
        self._kinds: set[str] = set()
        self._next = 0

    def take(self, record: Record, batch: int, epoch: int) -> InFlightRecord:
        """Track one more record."""
        each = InFlightRecord(self._next, batch, record, epoch)
        self._next += 1
        self.tracked[each.number] = each
        self._by_tp[record.tp] = self._by_tp.get(record.tp, 0) + 1
        self.bytes += each.payload + each.overhead
        return each

    def encoded(self, each: InFlightRecord, out: FanOut, size: int) -> None:
        """Note the rows a record became, `size` bytes of lines, and the points that became none."""
        each.remaining = out.rows
        each.lines = size
        c = self.counts
        c.rows += out.rows
        add(c.skipped, out.skipped)
        add(c.noted, out.noted)
        if out.rejected or out.parts:
            self._refused(each, out)
        self.bytes += size
        if each.record.value is None:
            c.valueless += 1
            return
        if out.rows:
            c.understood += 1
            _one_more(c.topic_rows, each.record.topic, out.rows)
        else:
            self._without_row(each.record.topic, out)
        for name in out.unknown:
            kind = _INDEX.sub("[]", name)  # the same member of each metric is one finding
            if kind not in self._kinds and len(self._kinds) < _NAMES:
                self._kinds.add(kind)
                self.unknown[name] = each.record.coordinates

    def given_up(self, each: InFlightRecord) -> None:
        """Note that a whole record was refused, for the reason in `why`."""
        if each.why is not None and each.why[0] == KILLS:
            self.counts.killers += 1
        else:
            self.counts.undecodable += 1
        _one_more(self.counts.topic_without_row, each.record.topic)

    def _without_row(self, topic: str, out: FanOut) -> None:
        c = self.counts
        # A replay judges only some of the points: then rejected and skipped ones are fewer than `points`.
        if out.points or out.rejected or out.skipped:
            c.understood += 1
            c.all_skipped += not (out.rejected or out.parts)
        elif out.parts:
            c.undecodable += 1
        else:
            c.empty += 1
        _one_more(c.topic_without_row, topic)

    def _refused(self, each: InFlightRecord, out: FanOut) -> None:
        c = self.counts
        for _, reason in out.rejected:
            c.rejected[reason] = c.rejected.get(reason, 0) + 1
        c.parts_undecodable += len(out.parts)
        each.rejected = out.rejected
        each.parts = tuple((part.path, part.reason) for part in out.parts)
        held = refused_bytes(each.rejected, each.parts) + len(each.detail)
        each.overhead += held
        self.bytes += held

    def judged(self, pack: Pack, failure: Failure | None) -> Iterator[InFlightRecord]:
        """Note the final verdict on a pack; answer each record of which every row has one now."""
        for number, rows in pack.spans:
            each = self.tracked[number]
            each.remaining -= rows
            if failure is None:
                self.counts.accepted += rows
            else:
                each.refused += rows
                each.why = each.why or ("sink.permanent", f"{failure.code}: {failure.message}")
            if each.remaining == 0:
                yield each

    def drop(self, each: InFlightRecord) -> None:
        """Track a record no longer, and count nothing."""
        del self.tracked[each.number]
        self.bytes -= each.payload + each.lines + each.overhead
        tp = each.record.tp
        self._by_tp[tp] -= 1
        if not self._by_tp[tp]:
            del self._by_tp[tp]

    def settle(self, each: InFlightRecord, status: Status) -> None:
        """Everything of a record is durable."""
        c = self.counts
        if status is Status.DEAD_LETTERED:
            c.dead_letters += 1
            c.rows_dead += each.refused
        elif status is Status.TOMBSTONE:
            c.tombstones += 1
        else:
            c.delivered += 1
        each.status = status
        self.drop(each)

    def give_back(self, each: InFlightRecord) -> None:
        """A transformed record stays pending for good: its source brings it again."""
        self.counts.given_back += 1
        self.counts.rows_given_back += each.remaining + each.refused
        self.drop(each)

    def holds(self, tp: TopicPartition) -> bool:
        """Whether a record of that partition is on its way."""
        return tp in self._by_tp

    def oldest(self) -> dict[TopicPartition, Record]:
        """Of each partition with records on their way, the one that came first."""
        found: dict[TopicPartition, Record] = {}
        for each in self.tracked.values():
            found.setdefault(each.record.tp, each.record)
            if len(found) == len(self._by_tp):
                break
        return found

    @property
    def rows(self) -> int:
        """Rows made, and neither accepted nor in a durable dead letter."""
        return sum(each.remaining + each.refused for each in self.tracked.values())

    def balanced(self, waiting: int) -> bool:
        """The accounting invariant (see Counts), when `waiting` of the records are not yet taken up."""
        c = self.counts
        settled = c.tombstones + c.delivered + c.dead_letters + c.given_back
        return (
            c.records == settled + len(self.tracked) - waiting
            and c.records == c.understood + c.empty + c.undecodable + c.killers + c.valueless + c.unjudged
            and c.rows == c.accepted + c.rows_dead + c.rows_given_back + self.rows
        )


def refused_bytes(rejected: Sequence[tuple[int, str]], parts: Sequence[tuple[str, str]]) -> int:
    """Bytes that these take in memory and in a letter, about."""
    return REJECTED * (len(rejected) + len(parts)) + sum(len(path) for path, _ in parts)


def _one_more(into: dict[str, int], topic: str, n: int = 1) -> None:
    if topic in into or len(into) < _TOPICS:
        into[topic] = into.get(topic, 0) + n


def add(into: dict[str, int], more: dict[str, int]) -> None:
    """Count `more` into `into`."""
    for name, n in more.items():
        into[name] = into.get(name, 0) + n


def since(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What was counted since `before` was copied."""
    return {name: n - before.get(name, 0) for name, n in now.items() if n != before.get(name, 0)}
