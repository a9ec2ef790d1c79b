"""How far a group is behind in a partition: the oldest record that is not settled, and when retention takes it.

One definition for all who say it: the live view, /statusz, /metrics and its alarms, /readyz and `lmstream health`,
`lmstream lag`, and the last words of a stop. Pure: it asks no broker and reads no clock.

A record is not settled from the moment it is in the topic until its rows and letters are durable. A partition without a
commit is behind since the beginning of its log. What is not known stays None, and is said to be unknown.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from lmstream.model import TopicPartition
from lmstream.settings import human

SOON: Final = 0.25
"""Part of the retention: with less of it left, somebody should look."""


class Retention(NamedTuple):
    """How long a topic keeps its records, as brokers report it; it may keep them for longer, never for less.

    Both are limits of cleanup.policy=delete: https://kafka.apache.org/documentation/#topicconfigs (retention.ms and
    retention.bytes). A segment goes by time once its newest record is older, and by size before that.
    """

    seconds: float | None
    """None: no limit of time."""
    bytes: int | None = None
    """Of one partition; None: no limit of size."""
    segment: float = 7 * 86_400.0
    """Seconds after which a segment is closed, segment.ms, here its default: a record stays so much longer at most, for
    it goes with the newest one of its segment."""


def longest(kept: Iterable[Retention]) -> Retention | None:
    """The one under which a record may stay longest; None of none."""
    return max(
        kept, key=lambda each: float("inf") if each.seconds is None else each.seconds + each.segment, default=None
    )


class Look(NamedTuple):
    """What brokers said of one partition, asked from an offset on."""

    begin: int
    """The first offset that the log still has."""
    end: int | None
    """Offset that the next record will have; None when the partition did not answer."""
    next: int
    """Where a reader from that offset on stands now: no record that may be read lies between."""
    first: tuple[int, int] | None
    """Offset and timestamp (ms) of the first record from there on; None when none waits."""


class Behind(Struct, frozen=True, kw_only=True):
    """One partition. Times are in seconds; what cannot be known is None."""

    topic: str
    partition: int
    committed: int | None
    """Next offset of the group; None when it has committed nothing."""
    begin: int | None
    """The first offset that the log still has."""
    end: int | None
    """Offset that the next record will have; None when the partition did not answer."""
    records: int | None
    """Records that are not settled, as far as the log or this process still has them."""
    gone: int
    """Offsets that are not settled and that retention has taken."""
    oldest: float | None
    """Unix time of the oldest record that is not settled."""
    seconds: float | None
    """Age of that record, 0 when all are settled."""
    loss: float | None
    """Until retention takes it; 0 or less: it may be taken at any moment, or others are gone already."""
    retention: float | None
    """Seconds that the topic keeps records; None without a limit of time, or when brokers do not say."""
    retention_bytes: int | None
    """Bytes that a partition of the topic keeps; None without a limit of size, or when brokers do not say."""
    retention_known: bool
    """Whether the topic's retention is known."""

    @property
    def waits(self) -> bool:
        """Whether something is not settled, as far as is known: see `records`."""
        return bool(self.records) or self.gone > 0

    @property
    def soon(self) -> bool:
        """Whether retention takes it soon: in less than a quarter of the time that it leaves."""
        return self.loss is not None and (self.loss <= 0 or self.loss < SOON * (self.retention or 0.0))


def behind(
    tp: TopicPartition,
    *,
    settled: int | None,
    committed: int | None,
    end: int | None = None,
    oldest: tuple[int, int] | None = None,
    look: Look | None,
    retention: Retention | None,
    now: float,
) -> Behind:
    """Judge one partition at `now` (Unix time).

    `settled` is the offset behind everything that is settled, None when nothing ever was; `end` is where the partition
    ends as far as this process knows, `oldest` is offset and
    timestamp (ms, negative for none) of the oldest record that this process has and has not settled; `look` is what
    brokers said, perhaps a while ago; `retention` is None when they do not say.
    """
    begin = None if look is None else look.begin
    # What lies before the first record that may be read (markers of transactions, aborted records) nobody waits for.
    start = settled if look is None else max(settled or 0, look.next if look.first is None else look.first[0])
    first = settled
    if oldest is not None:
        start = oldest[0]
        first = start if settled is None else settled
    elif look is not None and look.first is not None and look.first[0] == start:
        oldest = look.first
    end = max((each for each in (end, None if look is None else look.end) if each is not None), default=None)
    gone = 0 if begin is None or first is None else max(0, begin - first)
    records = None if start is None or end is None else max(0, end - start)
    at = None if not records or oldest is None or oldest[1] < 0 else oldest[1] / 1000
    age = 0.0 if records == 0 else None if at is None else max(0.0, now - at)
    kept = None if retention is None else retention.seconds
    loss = kept - age if records and age is not None and kept is not None else None
    return Behind(
        topic=tp.topic,
        partition=tp.partition,
        committed=committed,
        begin=begin,
        end=end,
        records=records,
        gone=gone,
        oldest=at,
        seconds=age,
        loss=min(0.0, loss or 0.0) if gone else loss,
        retention=kept,
        retention_bytes=None if retention is None else retention.bytes,
        retention_known=retention is not None,
    )


def worst(found: Iterable[Behind]) -> Behind | None:
    """The partition that retention reaches first, else the one with the oldest record; None when nothing waits."""
    waiting = [each for each in found if each.waits]
    infinite = float("inf")
    return min(
        waiting,
        key=lambda each: (infinite if each.loss is None else each.loss, -(each.seconds or 0.0)),
        default=None,
    )


def said(found: Iterable[Behind], now: float) -> str:
    """One sentence for people, at `now`: how many partitions are not settled, since when, and until when that is safe;
    empty when everything is settled."""
    found = list(found)
    mute = sum(each.records is None and not each.gone for each in found)
    silent = f"{mute:,} of {len(found):,} partitions have not answered yet" if mute else ""
    first = worst(found)
    if first is None:
        return silent
    many = sum(each.waits for each in found)
    what = "1 partition is" if many == 1 else f"{many:,} partitions are"
    where = f"{first.topic}/{first.partition}"
    if first.oldest is None:
        age = f"the age of the oldest record is unknown ({where})"
    else:
        age = f"the oldest record is of {utc(first.oldest)} ({human(now - first.oldest)} old, {where})"
    return f"{what} not settled; {age}; {taken(first, now)}" + (f"; {silent}" if silent else "")


def farewell(found: Iterable[Behind], now: float) -> str:
    """The same for the end of a run, with what to do; empty when everything is settled."""
    waiting = [each for each in found if each.waits]
    first = worst(waiting)
    if first is None:
        return ""
    if first.loss is not None:
        advice = ": start again before" if first.loss > 0 else ": start again now"
    else:
        kept = first.retention_known and first.retention is None and first.retention_bytes is None
        advice = "" if kept else "; start again soon"
    return said(waiting, now) + advice


def taken(each: Behind, now: float) -> str:
    """When retention takes the oldest record of a partition, as a clause."""
    size = "" if each.retention_bytes is None else f"retention.bytes = {each.retention_bytes:,}"
    if each.gone:
        return f"retention has taken {each.gone:,} offsets already, more may follow at any moment"
    if not each.retention_known:
        return "retention is unknown: the brokers do not report it"
    if each.retention is None:
        return (
            f"retention is by size alone ({size}): the time that is left is unknown"
            if size
            else "retention never takes it"
        )
    earlier = f", or earlier by size ({size})" if size else ""
    if each.oldest is None:
        return f"retention takes it {human(each.retention)} after its time{earlier}"
    at = each.oldest + each.retention
    if at <= now:
        return f"retention ({human(each.retention)}) takes it at any moment"
    return f"retention takes it at {utc(at)} (in {human(at - now)}){earlier}"


def utc(seconds: float) -> str:
    """A Unix time as people and machines read it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
