"""Read what landed: id and digest of a row, and the rows that Firehose put below its error prefix."""

import base64
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct, field

from lmstream.storage.objects import Place

_ORDINAL: Final = re.compile(rb"0|[1-9][0-9]{0,9}")


class _RowId(Struct):
    row_id: str = field(name="rowId", default="")


_ROW_DECODER: Final = msgspec.json.Decoder(_RowId)


def row_id(line: bytes) -> tuple[bytes, bytes]:
    """Answer bundle id and ordinal of a line, from its top level alone; empty when it has none."""
    try:
        key, _, number = _ROW_DECODER.decode(line).row_id.partition(":")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"", b""
    found = number.encode("utf-8", "replace")
    return (key.encode("utf-8", "replace"), found) if key and _ORDINAL.fullmatch(found) else (b"", b"")


class _Time(Struct):
    ts_unix_ms: int = field(name="tsUnixMs", default=-1)


_TIME_DECODER: Final = msgspec.json.Decoder(_Time)


def event_time(line: bytes) -> int:
    """Answer the time of a row in ms since 1970; -1 when it has none."""
    try:
        return _TIME_DECODER.decode(line).ts_unix_ms
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return -1


def digest(text: bytes) -> int:
    """Of a row's line: 64 bits. What changes rows here is accident, which hits the same digest once in 2**64."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def path_digest(path: str) -> int:
    """Of a row's partition path, with or without its last slash: 32 bits."""
    return int.from_bytes(blake2b(path.strip("/").encode("utf-8", "replace"), digest_size=4).digest(), "big")


class _FirehoseError(msgspec.Struct, rename="camel"):
    """What Firehose writes for a record that it could not partition."""

    raw_data: str = ""


def failed_lines(errors: Place) -> Iterator[bytes]:
    """Lines that Firehose put under its error prefix, as they were sent."""
    if not errors.exists():
        return
    decoder = msgspec.json.Decoder(_FirehoseError)
    for _, lines in errors.objects():
        for line in lines:
            try:
                yield from base64.b64decode(decoder.decode(line).raw_data, validate=True).splitlines()
            except (msgspec.DecodeError, ValueError, RecursionError):  # also UnicodeDecodeError, and base64's
                continue  # somebody else's file
