"""Look at fetched record batches before the client inflates them: one that would hold too much stays closed.

Brokers check the sizes of compressed batches, not what they inflate to, and clients inflate a batch whole: half a
megabyte can become gigabytes, in every process that reads it, before there is a record that anybody could skip. Here a
batch is measured first, from its own framing where that bounds it, else by inflating within the bound. One past it is
replaced by a single record at its last offset, which holds the batch as it came and is dead-lettered as that.
"""

import asyncio
import mmap
import secrets
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import cramjam
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from lmstream.settings import KIB, MIB

# Kafka's record batch (kafka.apache.org/documentation/#recordbatch): base offset, length, leader epoch, magic, CRC,
# attributes, last offset delta, first and last timestamp, producer id, epoch and sequence, count.
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LOG: Final = 12  # bytes before what `length` counts
_MAGIC: Final = 16  # where all formats have it
_CRC_FROM: Final = 21
_CODEC: Final = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_TRANSACTIONAL: Final = 0x10
_OLD: Final = struct.Struct(">qiIbb")  # a message of the formats before: offset, size, CRC, magic, attributes
_DEFLATE: Final = 1032  # no byte of deflate becomes more (zlib.net/zlib_tech.html)
_STEP: Final = 64 * KIB
_XERIAL: Final = b"\x82SNAPPY\0"
_BLOCK: Final = 128 * KIB  # of zstd, inflated, at most (RFC 8878, 3.1.1.2.4)
_LARGEST: Final = {4: 64 * KIB, 5: 256 * KIB, 6: MIB, 7: 4 * MIB}  # blocks of lz4, by their code

MARK: Final = f"lmstream-closed-{secrets.token_hex(16)}"
"""Name of the header of what replaces a batch: of this process, so that no producer can write it."""


def detail_of(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """Why the batch stayed closed, when a record with these headers replaces one."""
    return (headers[0][1] or b"").decode() if headers and headers[0][0] == MARK else None


class Guard:
    """Stands where the fetcher of one consumer has its client, and looks at what fetches bring."""

    def __init__(self, client: Any, limit: int) -> None:
        """`limit`: bytes that a batch may hold once inflated."""
        self._client = client
        self._limit = limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: Any, request: Any, **more: Any) -> Any:
        """As the client's."""
        response = await self._client.send(node, request, **more)
        # In a thread, because measuring may mean inflating; fetches without a compressed batch cost no thread.
        if type(response).__name__.startswith("FetchResponse") and any(
            compressed(bytes(partition[-1] or b"")) for _, partitions in response.topics for partition in partitions
        ):
            response.topics = await asyncio.to_thread(self._guarded, response.topics)
        return response

    def _guarded(self, topics: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> list[Any]:
        return [
            (topic, [(*partition[:-1], guarded(bytes(partition[-1] or b""), self._limit)) for partition in partitions])
            for topic, partitions in topics
        ]


def compressed(data: bytes) -> bool:
    """Whether any batch in there is compressed."""
    return any(_codec(data, at) for at, _ in _batches(data))


def guarded(data: bytes, limit: int) -> bytes:
    """The batches of one partition with those replaced that would inflate to more than `limit` bytes."""
    parts = []
    done = 0
    for at, end in _batches(data):
        stub = _stub(data[at:end], limit) if _codec(data, at) else None
        if stub is not None:
            parts += [data[done:at], stub]
            done = end
    return b"".join((*parts, data[done:])) if parts else data


def _batches(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of each whole batch; brokers cut the last one off where a fetch is full."""
    found = []
    at = 0
    while at + _HEADER.size - 35 <= len(data):  # the shortest message of the first format
        end = at + _LOG + int.from_bytes(data[at + 8 : at + _LOG], "big", signed=True)
        if not at + _LOG < end <= len(data):
            break
        found.append((at, end))
        at = end
    return found


def _codec(data: bytes, at: int) -> int:
    new = data[at + _MAGIC] >= 2  # noqa: PLR2004 - the format of record batches
    return data[at + _CRC_FROM + 1 if new else at + _MAGIC + 1] & _CODEC


def _stub(batch: bytes, limit: int) -> bytes | None:
    """What replaces a batch; None when it may be opened, or is damaged, which is the client's to find."""
    codec = _codec(batch, 0)
    if batch[_MAGIC] < 2:  # noqa: PLR2004 - as above
        return _old_stub(batch, codec, limit)
    base, _, _, magic, crc, attributes, delta, _, last, producer, epoch, sequence, count = _HEADER.unpack_from(batch)
    if fits(codec, memoryview(batch)[_HEADER.size :], limit) or calc_crc32c(batch[_CRC_FROM:]) != crc:
        return None
    what = f"{count:,} records at offsets {base} to {base + delta}, one compressed batch of {len(batch):,} bytes that"
    builder = DefaultRecordBatchBuilder(
        magic=magic,
        compression_type=0,
        is_transactional=bool(attributes & _TRANSACTIONAL),
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=len(batch) + 4 * KIB,
    )
    return _built(builder, base + delta, last, batch, f"{what} would inflate to more than {limit:,}")


def _old_stub(message: bytes, codec: int, limit: int) -> bytes | None:
    """The same for a wrapper message of the formats before Kafka 0.11: its offset is that of its last record."""
    offset, _, _, magic, _ = _OLD.unpack_from(message)
    at = _OLD.size + (8 if magic else 0)
    timestamp = int.from_bytes(message[_OLD.size : at], "big", signed=True) if magic else -1
    for _ in ("key", "value"):
        size, at = int.from_bytes(message[at : at + 4], "big", signed=True), at + 4
        value, at = message[at : at + max(0, size)], at + max(0, size)
    if fits(codec, memoryview(value), limit):
        return None
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=False, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=len(message) + 4 * KIB,
    )  # fmt: skip
    what = f"records up to offset {offset}, one compressed message of {len(message):,} bytes that"
    return _built(builder, offset, timestamp, message, f"{what} would inflate to more than {limit:,}")


def _built(builder: Any, offset: int, timestamp: int, value: bytes, detail: str) -> bytes:
    builder.append(offset=0, timestamp=timestamp, key=None, value=value, headers=[(MARK, detail.encode())])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, offset)  # the CRC does not cover it
    return bytes(built)


def fits(codec: int, data: memoryview, limit: int) -> bool:
    """Whether compressed data inflates, and to no more than `limit` bytes. Takes at most that much memory."""
    try:
        if codec == _GZIP:
            return len(data) * _DEFLATE <= limit or _gzip_fits(data, limit)
        if codec == _SNAPPY:
            return _snappy_size(data) <= limit
        try:
            bound = _lz4_bound(data) if codec == _LZ4 else _zstd_bound(data) if codec == _ZSTD else 0
        except (IndexError, KeyError, ValueError):
            bound = limit + 1  # framing of a kind that is not read here
        if bound <= limit:
            return True
        # Only pages that are written to cost memory.
        with mmap.mmap(-1, limit + 1) as room:
            return int((cramjam.lz4 if codec == _LZ4 else cramjam.zstd).decompress_into(bytes(data), room)) <= limit
    except (cramjam.DecompressionError, zlib.error, OSError, IndexError, struct.error):
        return False  # does not fit; or is damaged, although what its CRC covers arrived as it was sent


def _gzip_fits(data: memoryview, limit: int) -> bool:
    size = 0
    rest = bytes(data)
    while rest:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            size += len(member.decompress(rest, _STEP))
            rest = member.unconsumed_tail
            if size > limit:
                return False
            if not rest and not member.eof:
                return True  # cut off: the client says so, within these bounds
        rest = member.unused_data
    return True


def _snappy_size(data: memoryview) -> int:
    """What the blocks say of themselves; no reader of snappy makes more of them."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _varint(data)
    at, size = 16, 0
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        size += _varint(data[at + 4 :])
        at += 4 + max(0, length)
    return size


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
