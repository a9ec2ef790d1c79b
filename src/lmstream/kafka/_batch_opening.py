"""The records of one batch, opened: by the client's own parser as long as it can, and beyond that by one that holds a
fault to its record."""

import mmap
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from lmstream.kafka._batch_guard import HEADER, Raw, TooLargeError, UnreadableError, inflated
from lmstream.model import CLOSED, UNREADABLE, Record, TopicPartition
from lmstream.settings import MIB

_LOG_APPEND: Final = 0x08  # attribute: the time is that of the broker, one for the whole batch
_VARINT: Final = 10  # bytes of the longest


class Opened:
    """The records of one batch from an offset on. Holds it inflated, and gives pages back as they are read."""

    def __init__(self, tp: TopicPartition, raw: Raw, limit: int, *, start: int) -> None:
        """`limit` is how many bytes it may hold inflated. What cannot be opened is one record that holds it closed."""
        self.tp = tp
        self._raw, self._limit = raw, limit
        self._next = start
        self._pages: memoryview | None = None
        self._given = self._returned = 0
        self._records = self._open()

    @property
    def held(self) -> int:
        """Bytes of memory that it still takes, beside the batch as it came."""
        return 0 if self._pages is None else len(self._pages) - self._returned

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        record = next(self._records)
        self._next = record.offset + 1
        self._given += record.size
        pages: Any = None if self._pages is None else self._pages.obj
        if isinstance(pages, mmap.mmap) and self._given - self._returned >= MIB:
            # What was read is in the records now: nobody looks at those pages any more.
            upto = (HEADER.size + self._given) // mmap.PAGESIZE * mmap.PAGESIZE
            pages.madvise(mmap.MADV_DONTNEED, self._returned, upto - self._returned)
            self._returned = upto
        return record

    def _open(self) -> Iterator[Record]:
        raw = self._raw
        try:
            if raw.codec:
                self._pages = inflated(raw, self._limit)
        except TooLargeError:
            return iter((self._closed(CLOSED, f"would inflate to more than {self._limit:,}"),))
        except UnreadableError as error:
            return iter((self._closed(UNREADABLE, f"cannot be inflated: {error}"),))
        return self._read()

    def _read(self) -> Iterator[Record]:
        raw, tp = self._raw, self.tp
        if not raw.new:
            self._pages = None  # measured: the client inflates it once more, within the same bound
        batch: Any = DefaultRecordBatch(self._pages or raw) if raw.new else LegacyRecordBatch(raw, raw[16])
        try:
            for each in batch:
                if each.offset >= self._next:
                    yield record_of(tp, each, tuple(each.headers))
        except (ValueError, IndexError, KafkaError) as error:
            # A header's key that is no UTF-8, or bytes that are no record. Its parser cannot continue after either.
            del batch
            self._pages, self._given, self._returned = None, 0, 0
            if raw.new:
                self._pages = inflated(raw, self._limit) if raw.codec else None
                yield from self._patiently(memoryview(raw) if self._pages is None else self._pages)
            else:
                yield self._closed(UNREADABLE, f"cannot be read: {error}")
        self._pages = None

    def _patiently(self, view: memoryview) -> Iterator[Record]:
        """Read the rest record by record: each says how long it is, so that one fault does not cost the others."""
        attributes, first, last, count = (HEADER.unpack_from(view)[n] for n in (5, 7, 8, 12))
        at = HEADER.size
        for _ in range(count):
            try:
                length, at = _varint(view, at)
                if not 0 < length <= len(view) - at:
                    raise ValueError(f"a record of {length:,} bytes in {len(view) - at:,}")  # noqa: TRY301 - as any other
            except (ValueError, IndexError) as error:
                yield self._closed(UNREADABLE, f"cannot be read from byte {at:,} on: {error}")
                return
            record = self._record(view[at : at + length], first, last if attributes & _LOG_APPEND else None)
            at += length
            if record.offset >= self._next:
                yield record

    def _record(self, data: memoryview, first: int, appended: int | None) -> Record:
        """One record by its bytes; held closed when they are none (kafka.apache.org/documentation/#record)."""
        at, offset, timestamp = 1, self._next, -1
        try:
            delta, at = _varint(data, at)
            timestamp = first + delta if appended is None else appended
            delta, at = _varint(data, at)
            offset = self._raw.begin + delta
            key, at = _bytes(data, at)
            value, at = _bytes(data, at)
            count, at = _varint(data, at)
            headers = []
            for _ in range(count):
                name, at = _bytes(data, at)
                text, at = _bytes(data, at)
                headers.append(((name or b"").decode(errors="surrogateescape"), text))
            if at != len(data):
                raise ValueError(f"{len(data) - at:,} bytes too many")  # noqa: TRY301 - as any other
        except (ValueError, IndexError) as error:
            what = f"the {len(data):,} bytes of a record in a batch of Kafka that cannot be read: {error}"
            place = offset if self._raw.begin <= offset <= self._raw.last else self._next
            return _unopened(self.tp, place, timestamp, bytes(data), what)
        return Record(
            topic=self.tp.topic,
            partition=self.tp.partition,
            offset=offset,
            timestamp=timestamp,
            value=value,
            key=key,
            headers=tuple(headers),
        )

    def _closed(self, reason: str, why: str) -> Record:
        return closed(self.tp, self._raw, reason, why)


def record_of(tp: TopicPartition, message: Any, headers: tuple[tuple[str, bytes | None], ...]) -> Record:
    """What aiokafka read, as a record of lmstream: a message of its consumer, or one of its parser of batches."""
    return Record(
        topic=tp.topic,
        partition=tp.partition,
        offset=message.offset,
        timestamp=-1 if message.timestamp is None else message.timestamp,
        value=message.value,
        key=message.key,
        headers=headers,
    )


def closed(tp: TopicPartition, raw: Raw, reason: str, why: str) -> Record:
    """The record that stands for a whole batch, at its last offset, and holds it as it came."""
    begin, last = raw.begin, raw.last
    if raw.new:
        count = HEADER.unpack_from(raw)[12]
        kind = "compressed batch" if raw.codec else "batch"
        what = f"{count:,} records at offsets {begin} to {last}, one {kind} of {len(raw):,} bytes"
    else:
        what = f"records up to offset {last}, one compressed message of {len(raw):,} bytes"
    return _unopened(tp, last, raw.timestamp, bytes(raw), f"{what} that {why}", reason)


def damaged(tp: TopicPartition, raw: bytes, first: int, last: int) -> Record:
    """The record that stands for a batch whose CRC does not fit: what it says of itself may be wrong."""
    what = f"offsets {first} to {last}, {len(raw):,} bytes with a wrong checksum each time they were read"
    return _unopened(tp, last, -1, raw, what)


def _unopened(
    tp: TopicPartition, offset: int, timestamp: int, value: bytes, what: str, reason: str = UNREADABLE
) -> Record:
    return Record(**tp._asdict(), offset=offset, timestamp=timestamp, value=value, closed=what, closed_for=reason)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """(a number in Kafka's zigzag form, where it ends). Raises IndexError at the end of the data."""
    value = 0
    for index in range(_VARINT):
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return (value >> 1) ^ -(value & 1), at + index + 1
    raise ValueError("a number without an end")


def _bytes(data: memoryview, at: int) -> tuple[bytes | None, int]:
    size, at = _varint(data, at)
    if size < 0:
        return None, at
    if size > len(data) - at:
        raise ValueError(f"{size:,} bytes in {len(data) - at:,}")
    return bytes(data[at : at + size]), at + size
