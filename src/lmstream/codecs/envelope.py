"""Open a record's value: see what format it is, and inflate gzip within bounds."""

import re
import zlib
from typing import Final

from lmstream.errors import DecodeError
from lmstream.settings import MIB, Limits

RATIO_FROM: Final = 8 * MIB
"""Output from which on the inflate ratio is judged: small bundles of repeated text compress honestly well."""
_STEP: Final = 1 * MIB
_GZIP: Final = b"\x1f\x8b"
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_BRACKETS: Final = frozenset(b"{[")
_TEXT: Final = re.compile(rb"[\t\n\r -~]*")


def open_value(value: bytes, limits: Limits) -> tuple[str, bytes]:
    """Return ("otlp_json" or "otlp_proto", the bundle's bytes). Raises DecodeError: decode.empty, decode.encoding,
    decode.gzip, limits.size, limits.ratio.
    """
    if len(value) > limits.record_bytes:
        raise DecodeError("limits.size", f"{len(value):,} bytes, the limit for a record is {limits.record_bytes:,}")
    if value[:2] == _GZIP:
        value = _inflate(value, limits)
        if value[:2] == _GZIP:
            raise DecodeError("decode.gzip", "gzip inside gzip")
    if value.startswith(b'{"'):  # how nearly all bundles begin
        return "otlp_json", value
    if not value:
        raise DecodeError("decode.empty")
    return sniff(value), value


def sniff(value: bytes) -> str:
    """JSON or protobuf. No bundle of either begins with a byte order mark, or has a NUL among its first two bytes."""
    head = value[:64].lstrip(b" \t\r\n")
    if value.startswith(_MARKS) or (b"\0" in value[:2] and _BRACKETS.intersection(value[:4])):
        raise DecodeError("decode.encoding", f"begins with {value[:4].hex(' ')}")
    if head[:1] in (b"{", b"[", b'"') and (value[0] != ord("\n") or not is_framed(value)):
        return "otlp_json"
    if not head or (value[0] != ord("\n") and _TEXT.fullmatch(value[:256])):
        return "otlp_json"  # text of some kind: the JSON codec's message is the one that helps
    return "otlp_proto"


def is_framed(value: bytes) -> bool:
    """Whether the value is a run of length-delimited fields number 1, as protobuf bundles are. A newline, the tag of
    field 1, may also begin JSON text; then the lengths do not add up.
    """
    at, end = 0, len(value)
    while at < end:
        if value[at] != ord("\n"):
            return False
        at += 1
        length = shift = 0
        while True:
            if at >= end or shift > 28:  # noqa: PLR2004 - a length of at most five bytes, as protobuf allows
                return False
            byte = value[at]
            at += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
                break
            shift += 7
        at += length
    return at == end


def _inflate(value: bytes, limits: Limits) -> bytes:
    """All members of a gzip value. Never holds more than one step over the bounds."""
    out: list[bytes] = []
    size = 0
    rest = value
    while rest:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                data = member.decompress(rest, _STEP)
            except zlib.error as error:
                raise DecodeError("decode.gzip", f"after {size:,} inflated bytes: {error}") from error
            rest = member.unconsumed_tail
            size += len(data)
            out.append(data)
            if size > limits.inflated_bytes:
                raise DecodeError("limits.size", f"gzip inflates to more than {limits.inflated_bytes:,} bytes")
            if size > RATIO_FROM and size > limits.inflate_ratio * len(value):
                raise DecodeError("limits.ratio", f"{len(value):,} bytes inflate more than {limits.inflate_ratio}-fold")
            if not data and not rest and not member.eof:
                raise DecodeError("decode.gzip", f"truncated after {size:,} inflated bytes")
        rest = member.unused_data
    return b"".join(out)
