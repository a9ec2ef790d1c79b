"""Recognize how bytes are compressed, by magic numbers or by structure."""

import zlib
from typing import Any, Final

from lmstream.codecs.proto_limits import varint
from lmstream.settings import KIB

_MAGIC: Final = (
    # snappy: framing_format.txt section 4.1; snappy-java's SnappyOutputStream, which Kafka's clients wrote.
    (b"\xff\x06\x00\x00sNaPpY", "snappy (framing format)"),
    (b"\x82SNAPPY\x00", "snappy (snappy-java)"),
    (b"\x04\x22\x4d\x18", "lz4 (frame)"),  # lz4_Frame_format.md, "Magic Number"
    (b"\x02\x21\x4c\x18", "lz4 (legacy frame)"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"LZIP", "lzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a Parquet file"),
)
_BZIP2: Final = (b"BZh", b"1AY&SY", b"\x17rE8P\x90")
_LOOK: Final = 64 * KIB
_START: Final = (b'{"', b"{ ", b"{\n", b"{\r", b"[{", b"\n")
"""How a bundle begins, for compressions that have no magic number."""
_ENOUGH: Final = 64  # inflated bytes of a raw stream that say what it is
_LITERAL, _MATCH_MIN, _NIBBLE = 60, 4, 15
_ELEMENTS: Final = 10_000


def compression(data: bytes) -> str:
    """How the bytes are compressed; empty when that is not seen."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data.startswith(_BZIP2[0]) and data[4:10] in _BZIP2[1:]:
        return "bzip2"
    # By chance one beginning of 500 has a header of zlib's, and few of those a block.
    if len(data) > 6 and inflated(data) is not None:  # noqa: PLR2004 - header and checksum: RFC 1950 section 2.2
        return "zlib"
    if _snappy(data):
        return "snappy (raw block)"
    if _lz4(data) or (len(data) > _MATCH_MIN and _lz4(data[4:], int.from_bytes(data[:4], "little"))):
        return "lz4 (raw block)"
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    raw = inflated(data, stream) or b""
    known = raw.startswith(_START) and (stream.eof or len(raw) >= _ENOUGH)
    return "deflate (without a header)" if known else ""


def inflated(data: bytes, stream: Any = None) -> bytes | None:
    """The beginning of what it inflates to; None when it is no such stream. `stream` is zlib's, unless told."""
    try:
        out: bytes = (stream or zlib.decompressobj()).decompress(data[:_LOOK], _LOOK)
    except zlib.error:
        return None
    return out


def _snappy(data: bytes) -> bool:
    """Whether it is a raw block of snappy that begins like a bundle. format_description.txt: a varint with the size,
    then literals and copies, which have to give that size, and never copy from before the beginning."""
    size, at = varint(data, 0, min(len(data), 5))
    if not size:
        return False
    made = 0
    first = b""
    for _ in range(_ELEMENTS):
        if at >= len(data):
            return made == size and first.startswith(_START)
        tag = data[at]
        at += 1
        if not tag & 3:
            length = tag >> 2
            if length >= _LITERAL:
                extra = length - _LITERAL + 1
                length = int.from_bytes(data[at : at + extra], "little")
                at += extra
            first = first or data[at : at + 2]
            at += length + 1
            made += length + 1
        else:
            width = (0, 1, 2, 4)[tag & 3]
            offset = int.from_bytes(data[at : at + width], "little") | ((tag >> 5) << 8 if width == 1 else 0)
            at += width
            if not 0 < offset <= made:
                return False
            made += (tag >> 2 & 7) + 4 if width == 1 else (tag >> 2) + 1
        if made > size:
            return False
    return first.startswith(_START)


def _lz4(data: bytes, size: int | None = None) -> bool:
    """Whether it is a raw block of lz4 that begins like a bundle. lz4_Block_format.md: literals and matches by turns,
    which end with literals, and never copy from before the beginning."""
    at = made = 0
    first = b""
    for _ in range(_ELEMENTS):
        if at >= len(data):
            return False
        token = data[at]
        length, at = _lz4_length(data, at + 1, token >> 4)
        first = first or data[at : at + 2]
        at += length
        made += length
        if at == len(data):  # the last sequence has literals only
            return bool(length) and first.startswith(_START) and size in (None, made) and made > len(data)
        offset = int.from_bytes(data[at : at + 2], "little")
        if at + 2 > len(data) or not 0 < offset <= made or not first.startswith(_START):
            return False
        length, at = _lz4_length(data, at + 2, token & _NIBBLE)
        made += length + _MATCH_MIN
        if size is not None and made > size:
            return False
    return True


def _lz4_length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    length = nibble
    if nibble == _NIBBLE:
        while at < len(data):
            byte = data[at]
            at += 1
            length += byte
            if byte != 0xFF:  # noqa: PLR2004 - more follow
                break
    return length, at
