"""Read the rows of one object: how many, their digest, and their ids; whatever the format, and a piece at a time."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Any, Final, NamedTuple

import msgspec

from lmstream.bounded import INFLATED, ROW_LINE, Bound, BoundError
from lmstream.errors import ConfigError, SourceError
from lmstream.lake.digests import add, hexadecimal
from lmstream.settings import KIB
from lmstream.verification.landed import row_id

_CHUNK: Final = 256 * KIB
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_PARQUET: Final = b"PAR1"
_IDS: Final = re.compile(rb'"rowId":"([^":\\]{1,64}):(0|[1-9][0-9]{0,9})"')

Id = tuple[bytes, int]
"""Bundle id and ordinal of a row."""
Noted = Callable[[list[Id]], None]


class Seen(NamedTuple):
    """What an object was seen to hold."""

    rows: int
    digest: str
    """Of its rows; empty when they cannot be read."""
    malformed: int = 0
    """Rows without an id."""
    why: str = ""
    """Why its rows cannot be read."""


def seen(stream: BufferedReader, name: str, noted: Noted) -> Seen:
    """Read an object to its end. `noted` gets the ids of its rows. What is damaged is told by the answer; SourceError
    and BoundError are raised for a place that cannot be read."""
    rows = malformed = 0
    digest = 0
    try:
        for chunk in _lines(stream, name):
            count = chunk.count(b"\n")
            ids = _ids(chunk, count)
            noted(ids)
            malformed += count - len(ids)
            rows += count
            digest = add(digest, chunk, count)
    except (OSError, EOFError, zlib.error, ValueError, ArithmeticError, msgspec.MsgspecError, _DamagedError) as error:
        return Seen(rows, "", malformed, f"its rows cannot be read: {error}")
    return Seen(rows, hexadecimal(digest), malformed)


class _DamagedError(Exception):
    """An object is not what it seems."""


def _lines(stream: BufferedReader, name: str) -> Iterator[bytes]:
    """The lines of an object, whole ones, some at a time, each with its newline."""
    bound = Bound(name, INFLATED, seconds=None)
    opened = _opened(stream, name)
    rest: list[bytes] = []
    size = 0
    while chunk := bound.take(opened.read(_CHUNK)):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join((*rest, chunk[:end]))
            rest, size = [], 0
        rest.append(chunk[end:])
        size += len(chunk) - end
        if size > ROW_LINE:
            raise BoundError(name, f"a line of more than {ROW_LINE:,} bytes")
    if last := b"".join(rest):
        yield last + b"\n"


def _opened(stream: BufferedReader, name: str) -> Any:
    """A stream of the lines, by what the object begins with: an object's name may say anything."""
    start = stream.peek(4)[:4]
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=stream)
    if start == _ZSTD:
        try:
            import zstandard
        except ImportError as error:
            raise ConfigError("config.extra", f"{name} is zstd, which needs: pip install zstandard") from error
        return _Zstd(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True), zstandard.ZstdError)
    if start == _PARQUET:
        raise SourceError("source.file", f"{name}: this version cannot verify Parquet")
    return stream


class _Zstd:
    """A stream whose errors are those of this module."""

    def __init__(self, stream: Any, error: type[Exception]) -> None:
        self._stream, self._error = stream, error

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except self._error as error:
            raise _DamagedError(str(error)) from error
        return data


def _ids(chunk: bytes, count: int) -> list[Id]:
    found = _IDS.findall(chunk)
    if len(found) == count:
        return [(bundle, int(ordinal)) for bundle, ordinal in found]
    # An attribute may be called rowId as well: then each line is decoded, which takes several times as long.
    ids = map(row_id, chunk.splitlines())
    return [(bundle, int(ordinal)) for bundle, ordinal in ids if bundle]
