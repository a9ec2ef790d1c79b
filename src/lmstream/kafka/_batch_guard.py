"""Kafka's record batches as a fetch brings them: where each begins, whether it is whole, what it would inflate to.

Brokers check the sizes of compressed batches, not what they inflate to, and clients inflate a batch whole: a few
kilobytes can become gigabytes, in every process that reads them, before there is a record that anybody could skip. So
a batch is measured from its own framing first, and then inflated into pages that are there before, and no further.
"""

import mmap
import struct
import zlib
from collections.abc import Iterator
from typing import Final

import cramjam
from aiokafka.record.util import calc_crc32c

from lmstream.settings import KIB, MIB

# Kafka's record batch (kafka.apache.org/documentation/#recordbatch): base offset, length, leader epoch, magic, CRC,
# attributes, last offset delta, first and last timestamp, producer id, epoch and sequence, count.
HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LOG: Final = 12  # bytes before what `length` counts
_MAGIC: Final = 16  # where all formats have it
_NEW: Final = 2  # the magic of record batches
_CRC_FROM: Final = 21
_CODEC: Final = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20
_ATTRIBUTES: Final = 22  # the byte of them that holds codec and flags
OLD: Final = struct.Struct(">qiIbb")
"""A message of the formats before Kafka 0.11: offset, size, CRC, magic, attributes."""
_OLD_CRC: Final = 12
_DEFLATE: Final = 1032  # no byte of deflate becomes more (zlib.net/zlib_tech.html)
_STEP: Final = 256 * KIB
_ONCE: Final = 2 * MIB
_XERIAL: Final = b"\x82SNAPPY\0"
_BLOCK: Final = 128 * KIB  # of zstd, inflated, at most (RFC 8878, 3.1.1.2.4)
_LARGEST: Final = {4: 64 * KIB, 5: 256 * KIB, 6: MIB, 7: 4 * MIB}  # blocks of lz4, by their code


_DAMAGE: Final = (cramjam.DecompressionError, zlib.error, OSError, IndexError, struct.error, ValueError)


class TooLargeError(Exception):
    """A batch would inflate to more than it may."""


class UnreadableError(Exception):
    """Bytes that arrived as they were sent, and that nobody can take records out of."""


class Raw(bytes):
    """One batch as the broker holds it, the header included; or one message of the formats before Kafka 0.11."""

    __slots__ = ()

    @property
    def new(self) -> bool:
        """Whether it has the format of record batches, magic 2."""
        return self[_MAGIC] == _NEW

    @property
    def codec(self) -> int:
        """How it is compressed; 0 for not at all."""
        return self[_ATTRIBUTES if self.new else _MAGIC + 1] & _CODEC

    @property
    def control(self) -> bool:
        """Whether it holds a marker of a transaction, and no record."""
        return self.new and bool(self[_ATTRIBUTES] & CONTROL)

    @property
    def begin(self) -> int:
        """Its first offset; of an old compressed message its last, which is all that it says."""
        return int.from_bytes(self[:8], "big", signed=True)

    @property
    def last(self) -> int:
        """Its last offset, also where compaction has removed the last record."""
        return self.begin + (HEADER.unpack_from(self)[6] if self.new and len(self) >= HEADER.size else 0)

    @property
    def timestamp(self) -> int:
        """The time of its last record in ms; -1 when it has none."""
        if self.new:
            return int(HEADER.unpack_from(self)[8])
        return int.from_bytes(self[OLD.size : OLD.size + 8], "big", signed=True) if self[_MAGIC] else -1

    @property
    def intact(self) -> bool:
        """Whether its CRC fits."""
        if self[_MAGIC] > _NEW:
            return False  # the one byte that no CRC covers
        if not self.new:
            return len(self) >= OLD.size and zlib.crc32(self[_MAGIC:]) == int.from_bytes(self[_OLD_CRC:_MAGIC], "big")
        return len(self) >= HEADER.size and calc_crc32c(self[_CRC_FROM:]) == int.from_bytes(self[17:_CRC_FROM], "big")

    @property
    def bound(self) -> float:
        """Bytes that it holds inflated, at most, as far as its framing says; infinite where that says nothing."""
        try:
            return _bound(self.codec, self.packed)
        except (IndexError, KeyError, ValueError, struct.error):
            return float("inf")

    @property
    def likely(self) -> float:
        """Bytes that it holds inflated, as far as it says so itself: gzip ends with that number, true or not."""
        if self.codec == _GZIP:
            return min(self.bound, int.from_bytes(self.packed[-4:], "little"))
        return self.bound

    @property
    def packed(self) -> memoryview:
        """What is compressed in it."""
        view = memoryview(self)
        if self.new:
            return view[HEADER.size :]
        at = OLD.size + (8 if self[_MAGIC] else 0)
        value = view[at:at]
        for _ in ("key", "value"):
            size, at = int.from_bytes(view[at : at + 4], "big", signed=True), at + 4
            value, at = view[at : at + max(0, size)], at + max(0, size)
        return value


def batches(data: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each whole batch; brokers cut the last one off where a fetch is full."""
    at = 0
    while at + OLD.size + 8 <= len(data):  # the shortest message of the first format
        end = at + _LOG + int.from_bytes(data[at + 8 : at + _LOG], "big", signed=True)
        if not at + OLD.size + 8 <= end <= len(data):
            return
        yield at, end
        at = end


def inflated(raw: Raw, limit: int) -> memoryview:
    """The batch with its records inflated behind its header, in pages of its own: as long as somebody looks at it.

    Takes as many bytes of memory as it inflates to, and no more than `limit` even for what inflates further, which
    raises TooLargeError. Raises UnreadableError for what cannot be inflated at all.
    """
    bound = raw.bound
    room = int(min(bound, limit))
    if raw.likely <= min(_ONCE, room) and (small := _small(raw, int(raw.likely))) is not None:
        return small
    # Only pages that are written to cost memory. One byte more, so that what is too long is told from what fits.
    pages = memoryview(mmap.mmap(-1, HEADER.size + room + 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    try:
        size = _inflate(raw.codec, raw.packed, pages[HEADER.size :])
    except _DAMAGE as error:
        if bound > limit and "buffer" in str(error):  # which is full; other words are about the bytes
            raise TooLargeError from error
        raise UnreadableError(str(error)) from error
    if size > room:
        raise TooLargeError
    return _headed(raw, pages, size)


def _small(raw: Raw, room: int) -> memoryview | None:
    """The same for what says that it is small, in memory that the process has already; None when it is not so."""
    pages = memoryview(bytearray(HEADER.size + room + 1))
    try:
        size = _inflate(raw.codec, raw.packed, pages[HEADER.size :])
    except (*_DAMAGE, UnreadableError):
        return None
    return _headed(raw, pages, size) if size <= room else None


def _headed(raw: Raw, pages: memoryview, size: int) -> memoryview:
    if raw.new:
        pages[: HEADER.size] = raw[: HEADER.size]
        pages[_ATTRIBUTES] &= ~_CODEC & 0xFF
    return pages[: HEADER.size + size]


def _inflate(codec: int, data: memoryview, room: memoryview) -> int:
    """Inflate into `room`, and answer how many bytes it took; more than there is room for is as good as any error."""
    if codec == _GZIP:
        return _gunzip(data, room)
    if codec == _SNAPPY:
        return _unsnap(data, room)
    if codec == _LZ4:
        return int(cramjam.lz4.decompress_into(bytes(data), room))
    if codec == _ZSTD:
        return int(cramjam.zstd.decompress_into(bytes(data), room))
    raise UnreadableError(f"compressed with codec {codec}, which Kafka does not know")


def _gunzip(data: memoryview, room: memoryview) -> int:
    size = 0
    rest = bytes(data)
    step = max(_STEP, min(_ONCE, int.from_bytes(data[-4:], "little") + 1))
    while rest:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            # Most are small: those in one step, within what they say of themselves.
            out = member.decompress(rest, step)
            if size + len(out) >= len(room):
                return len(room)
            room[size : size + len(out)] = out
            size += len(out)
            rest = member.unconsumed_tail
            if not out and not rest and not member.eof:
                raise UnreadableError("ends inside its gzip data")
        rest = member.unused_data
    return size


def _unsnap(data: memoryview, room: memoryview) -> int:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return int(cramjam.snappy.decompress_raw_into(bytes(data), room))
    size = 0
    for length, block in _blocks(data):
        if length != len(block):
            raise UnreadableError("a block of snappy that is longer than the batch")
        size += int(cramjam.snappy.decompress_raw_into(bytes(block), room[size:]))
    return size


def _blocks(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(length as it says, bytes that are there) of each block in the framing that Java writes around snappy."""
    at = 16
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        yield length, data[at + 4 : at + 4 + max(0, length)]
        at += 4 + max(0, length)


def _bound(codec: int, data: memoryview) -> int:
    if codec == _GZIP:
        return len(data) * _DEFLATE
    return {_SNAPPY: _snappy_size, _LZ4: _lz4_bound, _ZSTD: _zstd_bound}[codec](data)


def _snappy_size(data: memoryview) -> int:
    """What the blocks say of themselves; no reader of snappy makes more of them."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _varint(data)
    return sum(_varint(block) for _, block in _blocks(data))


def _varint(data: memoryview) -> int:
    value = 0
    for index in range(5):
        value |= (data[index] & 0x7F) << 7 * index
        if data[index] < 0x80:  # noqa: PLR2004 - the last byte of a varint
            break
    return value


def _lz4_bound(data: memoryview) -> int:
    """The most that frames of lz4 can inflate to (github.com/lz4/lz4, doc/lz4_Frame_format.md)."""
    at = bound = 0
    while at < len(data):
        if bytes(data[at : at + 4]) != b"\x04\x22\x4d\x18":
            raise ValueError
        flags, largest = data[at + 4], _LARGEST[data[at + 5] >> 4 & 7]
        at += 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
        while size := int.from_bytes(data[at : at + 4], "little"):
            bound += largest
            at += 4 + (size & 0x7FFFFFFF) + (4 if flags & 0x10 else 0)
        at += 4 + (4 if flags & 0x04 else 0)
    return bound


def _zstd_bound(data: memoryview) -> int:
    """The most that frames of zstd can inflate to (RFC 8878, 3.1.1)."""
    at = bound = 0
    while at < len(data):
        if bytes(data[at : at + 4]) != b"\x28\xb5\x2f\xfd":
            raise ValueError
        flags = data[at + 4]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        last = 0
        while not last:
            if at + 3 > len(data):
                raise ValueError
            header = int.from_bytes(data[at : at + 3], "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            bound += _BLOCK if kind == 2 else size  # noqa: PLR2004 - a compressed block
            at += 3 + (1 if kind == 1 else size)
        at += 4 if flags & 0x04 else 0
    return bound
