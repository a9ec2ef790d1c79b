"""Read chosen offsets of topics once, outside of any group: the source of a run that repairs. It commits nothing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, field

from lmstream.abilities import Traits
from lmstream.errors import SourceError
from lmstream.interfaces import Batch, Drain
from lmstream.kafka import connection
from lmstream.kafka.lag import look
from lmstream.kafka.range_reader import read_range
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.kafka.topics import no_partition
from lmstream.model import Record, TopicPartition

TRAITS: Final = Traits(finite=True, commits=False)
NAMED: Final = 20
"""Ranges without records that are named, of each kind."""
_RECORDS: Final = 500  # of one poll, at most
_GAP: Final = 500
"""Offsets between two ranges that are read and left out: a further fetch takes longer."""
_WAIT: Final = 0.5  # seconds a poll waits for its first record
_SHORT: Final = 0.02  # and for each further one


class Span(NamedTuple):
    """Offsets of one partition, from the first to before the last."""

    tp: TopicPartition
    start: int
    stop: int

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.tp.topic}/{self.tp.partition}={self.start}..{self.stop}"


class Settings(KafkaSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the brokers are reached, and what is read there."""

    spans: tuple[Span, ...] = ()


def settings_of(kafka: KafkaSettings, spans: Iterable[Span], *, client: bool) -> Settings:
    """The settings of a run's source for these offsets. `client`: whether its free settings are for this client, which
    is aiokafka whatever the run's own is."""
    same: dict[str, Any] = {name: getattr(kafka, name) for name in KafkaSettings.__struct_fields__}
    same |= {} if client else {"client": {}}
    spans = tuple(spans)
    return Settings(**same | {"topics": tuple(sorted({each.tp.topic for each in spans}))}, spans=spans)


def merged(spans: Iterable[Span], gap: int = 0) -> list[Span]:
    """The same offsets in order, each once; with those of gaps up to so many between them."""
    found: list[Span] = []
    for each in sorted(spans):
        if found and found[-1].tp == each.tp and each.start <= found[-1].stop + gap:
            found[-1] = found[-1]._replace(stop=max(found[-1].stop, each.stop))
        else:
            found.append(each)
    return found


class Some(Struct):
    """Ranges of one kind: all are counted, the first are named."""

    why: str
    offsets: int = 0
    ranges: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, span: Span) -> None:
        """Take note of a range."""
        self.offsets += span.stop - span.start
        self.ranges += 1
        if len(self.named) < NAMED:
            self.named.append(str(span))

    def join(self, other: "Some") -> None:
        """Take note of those of another reading."""
        self.offsets += other.offsets
        self.ranges += other.ranges
        self.named = (self.named + other.named)[:NAMED]

    def __str__(self) -> str:
        """For people."""
        more = f" and {self.ranges - len(self.named):,} ranges more" if self.ranges > len(self.named) else ""
        return f"{', '.join(self.named)}{more}: {self.offsets:,} offsets {self.why}"


class Missing(Struct):
    """Offsets that were asked for and gave no record."""

    gone: Some = field(
        default_factory=lambda: Some("are gone: the topic has deleted them, so their rows cannot be made again")
    )
    unwritten: Some = field(default_factory=lambda: Some("are not there: nothing is written at these offsets yet"))
    empty: Some = field(
        default_factory=lambda: Some("hold no record: aborted, markers of transactions, open ones, or compacted away")
    )

    @property
    def lost(self) -> bool:
        """Whether something that was asked for could not be had. Of offsets without a record nothing is owed."""
        return bool(self.gone.ranges or self.unwritten.ranges)

    @property
    def lines(self) -> list[str]:
        """What is missing and why, a line for each kind."""
        return [str(each) for each in (self.gone, self.unwritten, self.empty) if each.ranges]


class ChosenOffsets:
    """A source that ends with the last of its offsets. `missing` then has those that gave no record."""

    def __init__(self, settings: Settings, pick: Callable[[Record], Record | None] = lambda record: record) -> None:
        """Nothing connects before the first poll. `pick` is asked about each record, and may change or leave it out."""
        self.on_revoke: Drain | None = None
        self.missing = Missing()
        self._settings, self._pick = settings, pick
        self._wanted = merged(settings.spans)
        self._reading: AsyncGenerator[Record] | None = None
        self._next: asyncio.Task[Record | None] | None = None
        self._ended = False

    async def poll(self, room: int, /) -> Batch:
        """Records of at most about `room` bytes."""
        if room <= 0 or self._ended:
            await asyncio.sleep(0 if self._ended else 0.01)
            return Batch((), end=self._ended)
        records: list[Record] = []
        while room > 0 and len(records) < _RECORDS:
            self._reading = self._reading or self._read()
            self._next = self._next or asyncio.ensure_future(anext(self._reading, None))
            await asyncio.wait({self._next}, timeout=_SHORT if records else _WAIT)
            if not self._next.done():
                break
            task, self._next = self._next, None
            if (record := task.result()) is None:
                self._ended = True
                break
            records.append(record)
            room -= record.size
        return Batch(records, end=self._ended)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Nothing is committed: the group continues where it is."""

    async def close(self) -> None:
        """Stop reading."""
        task, self._next, self._ended = self._next, None, True
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if self._reading is not None:
            with contextlib.suppress(SourceError):
                await self._reading.aclose()

    async def _read(self) -> AsyncGenerator[Record]:
        """The records, topic by topic, range by range: the n-th ranges of all partitions of a topic at once."""
        for topic, spans in groupby(self._wanted, key=lambda span: span.tp.topic):
            there = await self._there(topic, list(spans))
            by_partition = [list(some) for _, some in groupby(merged(there, _GAP), key=lambda span: span.tp)]
            watch = _Watch(there, self.missing)
            for some in zip_longest(*by_partition):
                ranges = {span.tp.partition: (span.start, span.stop) for span in some if span is not None}
                async for record in read_range(self._settings, topic, ranges):
                    if watch.saw(record) and (picked := self._pick(record)) is not None:
                        yield picked
            watch.end()

    async def _there(self, topic: str, spans: Sequence[Span]) -> list[Span]:
        """What the topic can have of these; notes the rest. Raises SourceError for a partition that it has not."""
        one = msgspec.structs.replace(self._settings, topics=(topic,))
        async with connection.connected(one) as consumer:
            known = set(consumer.partitions_for_topic(topic) or ())
        if unknown := sorted({span.tp.partition for span in spans} - known):
            raise no_partition(topic, unknown, known)
        looks = await look(one, {span.tp: 0 for span in spans})
        there: list[Span] = []
        for span in spans:
            begin, end = looks[span.tp].begin, looks[span.tp].end
            if end is None:
                raise SourceError("source.unreachable", f"{topic}/{span.tp.partition}: it does not say where it ends")
            for note, start, stop in (
                (self.missing.gone.add, span.start, min(span.stop, begin)),
                (there.append, max(span.start, begin), min(span.stop, end)),
                (self.missing.unwritten.add, max(span.start, end), span.stop),
            ):
                if start < stop:
                    note(Span(span.tp, start, stop))
        return there


class _Watch:
    """Sees which offsets of some ranges came. Records of a partition come in order."""

    def __init__(self, spans: Sequence[Span], missing: Missing) -> None:
        self._left: dict[TopicPartition, list[Span]] = {}
        for span in reversed(spans):
            self._left.setdefault(span.tp, []).append(span)
        self._missing = missing

    def saw(self, record: Record) -> bool:
        """Take note of a record; whether it was asked for."""
        left = self._left.get(record.tp, [])
        whole = bool(record.closed)  # it stands at the end of its batch, for all offsets of it
        while left and left[-1].stop <= record.offset:
            self._empty(left.pop())
        if not left or record.offset < left[-1].start:
            return False
        span = left.pop()
        if not whole:
            self._empty(span._replace(stop=record.offset))
        left.append(span._replace(start=record.offset + 1))
        return True

    def end(self) -> None:
        """Nothing more comes."""
        for spans in self._left.values():
            while spans:
                self._empty(spans.pop())

    def _empty(self, span: Span) -> None:
        if span.start < span.stop:
            self._missing.empty.add(span)


make = ChosenOffsets
