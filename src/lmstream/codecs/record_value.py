"""Open a record's value: inflate it if it is compressed, and see what format it is."""

import re
from typing import Final

from lmstream.codecs.inflating import COMPRESSED, inflate
from lmstream.errors import DecodeError
from lmstream.settings import Limits

_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_ENCODINGS: Final = (
    ("a byte order mark in front of UTF-8", b"\xef\xbb\xbf"),
    ("UTF-32", b"\xff\xfe\0\0"),
    ("UTF-32", b"\0\0"),
    ("UTF-16", b""),
)
FIRST_TAG: Final = b"\n"
"""Tag of resource_metrics, field 1 of the request."""
_BRACKETS: Final = frozenset(b"{[")
_TEXT: Final = re.compile(rb"[\t\n\r -~]*")


def open_value(value: bytes, limits: Limits) -> tuple[str, bytes]:
    """Return ("otlp_json" or "otlp_proto", the bundle's bytes). Raises DecodeError: decode.empty, decode.encoding,
    decode.gzip, limits.size, limits.ratio; ConfigError config.extra for zstd without zstandard.
    """
    if len(value) > limits.record_bytes:
        raise DecodeError("limits.size", f"{len(value):,} bytes, the limit for a record is {limits.record_bytes:,}")
    if value.startswith(COMPRESSED):
        value = inflate(value, limits)
        if value.startswith(COMPRESSED):
            raise DecodeError("decode.gzip", "compressed twice; compress once, or leave it to Kafka")
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
        name = next(name for name, head in _ENCODINGS if value.startswith(head))
        raise DecodeError("decode.encoding", f"{name}: it begins with {value[:4].hex(' ')}")
    head = value[:64].lstrip(b" \t\r\n")
    if not head or head[0] in b'{["' or _TEXT.fullmatch(value[:256]):
        return "otlp_json"  # of other text, the JSON codec's message is the one that helps
    return "otlp_proto"
