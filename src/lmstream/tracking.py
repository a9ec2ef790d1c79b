"""The record on its way: what of it is still open, its dead letter, and the counts that must always add up."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from msgspec import Struct, field

from lmstream import __version__
from lmstream.errors import REASONS
from lmstream.fanout import FanOut
from lmstream.model import DeadLetter, Failure, Pack, Record, Status, TopicPartition
from lmstream.settings import KIB

KILLS: Final = "record.kills"
"""Reason of a letter without a value: the record killed the process, time and again."""

OVERHEAD: Final = KIB
"""Bytes that a record takes beside its payload and lines, about: the objects that track it, here and in the ledger."""
REJECTED: Final = 96
"""Bytes that a rejected point takes until the record's dead letter is durable: its ordinal and reason."""

_FRAME: Final = 16 * KIB  # of a letter, beside what came with the record: coordinates, reason, detail


class Counts(Struct, kw_only=True):
    """What was done since the start. At all times: records = tombstones + delivered + dead_letters + given_back +
    in flight, and rows = accepted + rows_dead + rows_given_back + rows in flight.
    """

    records: int = 0
    """Records taken up: transformed, or refused by the decoder."""
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


class Tracked:
    """One record on its way: acknowledged when `remaining` is 0 and its dead letter, if any, is durable."""

    __slots__ = (
        "batch",
        "epoch",
        "lines",
        "number",
        "overhead",
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
        self.overhead = OVERHEAD
        self.remaining = 0  # rows without a final verdict
        self.refused = 0  # rows that wait for the dead letter
        self.rejected: tuple[tuple[int, str], ...] = ()
        self.why: tuple[str, str] | None = None  # (reason, detail) when the whole record goes into the letter
        self.status = Status.PENDING


class Flight:
    """All records that are on their way, and the counts of those that arrived."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.bytes = 0
        """Payload, encoded lines and overhead of all that is not settled."""
        self.tracked: dict[int, Tracked] = {}
        self._by_tp: dict[TopicPartition, int] = {}
        self._next = 0

    def take(self, record: Record, batch: int, epoch: int) -> Tracked:
        """Track one more record."""
        each = Tracked(self._next, batch, record, epoch)
        self._next += 1
        self.tracked[each.number] = each
        self._by_tp[record.tp] = self._by_tp.get(record.tp, 0) + 1
        self.bytes += each.payload + each.overhead
        return each

    def encoded(self, each: Tracked, out: FanOut, size: int) -> None:
        """Note the rows a record became, `size` bytes of lines, and the points that became none."""
        each.remaining = out.rows
        each.lines = size
        each.rejected = out.rejected
        each.overhead += REJECTED * len(out.rejected)
        self.bytes += size + REJECTED * len(out.rejected)
        c = self.counts
        c.rows += out.rows
        add(c.skipped, out.skipped)
        add(c.noted, out.noted)
        for _, reason in out.rejected:
            c.rejected[reason] = c.rejected.get(reason, 0) + 1

    def judged(self, pack: Pack, failure: Failure | None) -> Iterator[Tracked]:
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

    def drop(self, each: Tracked) -> None:
        """Track a record no longer, and count nothing."""
        del self.tracked[each.number]
        self.bytes -= each.payload + each.lines + each.overhead
        tp = each.record.tp
        self._by_tp[tp] -= 1
        if not self._by_tp[tp]:
            del self._by_tp[tp]

    def settle(self, each: Tracked, status: Status) -> None:
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

    def give_back(self, each: Tracked) -> None:
        """A transformed record stays pending for good: its source brings it again."""
        self.counts.given_back += 1
        self.counts.rows_given_back += each.remaining + each.refused
        self.drop(each)

    def holds(self, tp: TopicPartition) -> bool:
        """Whether a record of that partition is on its way."""
        return tp in self._by_tp

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
            and c.rows == c.accepted + c.rows_dead + c.rows_given_back + self.rows
        )


def letter(each: Tracked, largest: int) -> DeadLetter:
    """The one letter of a record: why the whole of it was refused, else which of its points were.

    It has no value when that would make it larger than `largest` bytes, which its sink would never take, nor key and
    headers when they would: its coordinates say where they are.
    """
    record = each.record
    value = record.value
    beside = _in_base64(record.size - len(value or b"")) + REJECTED * len(each.rejected) + _FRAME
    if beside + _in_base64(len(value or b"")) > largest:
        value = None
    if each.why is None:
        rejected = each.rejected
        reason = rejected[0][1]
        detail = f"{len(rejected)} data points made no row, the first is number {rejected[0][0]}"
    else:
        reason, detail = each.why
        # A replayed letter of single points stays one of those points; a whole record is replayed as a whole.
        rejected = tuple((n, reason) for n in record.only or ())
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        value=None if reason == KILLS else value,  # nobody should have to take those bytes up again
        key=record.key if beside <= largest else None,
        headers=record.headers if beside <= largest else (),
        reason=reason,
        code=REASONS[reason].code,
        detail=detail,
        rejected=rejected,
        sha256=sha256(record.value or b"").hexdigest(),
        version=__version__,
    )


def _in_base64(size: int) -> int:
    return -(-size // 3) * 4


def add(into: dict[str, int], more: dict[str, int]) -> None:
    """Count `more` into `into`."""
    for name, n in more.items():
        into[name] = into.get(name, 0) + n


def since(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What was counted since `before` was copied."""
    return {name: n - before.get(name, 0) for name, n in now.items() if n != before.get(name, 0)}
