"""Open a record's value: see what format it is, and inflate gzip within bounds."""

import re
import zlib
from typing import Final

from lmstream.errors import DecodeError
from lmstream.settings import MIB, Limits

RATIO_FROM: Final = 8 * MIB
"""Output from which on the inflate ratio is judged: small bundles of repeated text compress honestly well."""
_STEP: Final = 1 * MIB
_MEMBERS: Final = 1000
_GZIP: Final = b"\x1f\x8b"
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
FIRST_TAG: Final = b"\n"
"""Tag of resource_metrics, field 1 of the request."""
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
    if not value:
        raise DecodeError("decode.empty")
    return sniff(value), value


def sniff(value: bytes) -> str:
    """JSON or protobuf, by the first bytes. A line feed is the tag of a bundle's first field: that is protobuf, unless
    protobuf refuses it; then `sniff_text` has the last word."""
    return "otlp_proto" if value[:1] == FIRST_TAG else sniff_text(value)


def sniff_text(value: bytes) -> str:
    """JSON or protobuf, for what does not begin like protobuf. Neither begins with a byte order mark, or has a NUL
    among its first two bytes. Raises DecodeError decode.encoding."""
    if value.startswith(_MARKS) or (b"\0" in value[:2] and _BRACKETS.intersection(value[:4])):
        raise DecodeError("decode.encoding", f"begins with {value[:4].hex(' ')}")
    head = value[:64].lstrip(b" \t\r\n")
    if not head or head[0] in b'{["' or _TEXT.fullmatch(value[:256]):
        return "otlp_json"  # of other text, the JSON codec's message is the one that helps
    return "otlp_proto"


def _inflate(value: bytes, limits: Limits) -> bytes:
    """All members of a gzip value. Never holds more than one step over the bounds."""
    out: list[bytes] = []
    size = members = 0
    rest = value
    while rest:
        members += 1
        if members > _MEMBERS:  # what follows a member is copied for the next one: thousands would take hours
            raise DecodeError("decode.gzip", f"more than {_MEMBERS:,} gzip members")
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
