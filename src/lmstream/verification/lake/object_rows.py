"""Read the rows of one object: how many, their digest, and their ids; whatever the format, and a piece at a time."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader, BytesIO
from typing import Any, Final, NamedTuple

import msgspec

from lmstream.bounded import INFLATED, ROW_LINE, Bound, BoundError, read
from lmstream.engine.row_digest import of_lines
from lmstream.errors import ConfigError, SourceError
from lmstream.lake.digests import add, hexadecimal
from lmstream.settings import KIB, MIB
from lmstream.storage.line_files import PARQUET
from lmstream.storage.parquet_rows import lines as parquet_lines
from lmstream.verification.landed import row_id

_CHUNK: Final = 256 * KIB
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LARGEST: Final = 512 * MIB
"""Bytes of a Parquet file; its rows as lines are bounded by _SORTED."""
_IDS: Final = re.compile(rb'"rowId":"([^":\\]{1,64}):(0|[1-9][0-9]{0,9})"')

_SORTED: Final = 1024 * MIB
"""Bytes of lines that are held at once to digest an object in which rows of one record do not lie together."""

Id = tuple[bytes, int]
"""Bundle id and ordinal of a row."""
Noted = Callable[[list[Id]], None]
Lines = Callable[[list[bytes]], None]


class Seen(NamedTuple):
    """What an object was seen to hold."""

    rows: int
    digest: str
    """Of its rows; empty when there is none."""
    why: str = ""
    """Why its rows have no digest."""
    scattered: bool = False
    """Rows of one record do not lie together: `scattered` has to read it."""


def seen(stream: BufferedReader, name: str, noted: Noted, told: Lines | None = None) -> Seen:
    """Read an object to its end. `noted` gets the ids of its rows, and `told` the rows. What is damaged is told by the
    answer; SourceError and BoundError are raised for a place that cannot be read."""
    rows = 0
    runs = _Runs()
    try:
        if stream.peek(4)[:4] == PARQUET:
            return _columns(stream, name, noted)
        for chunk in _lines(stream, name):
            lines = chunk.splitlines(keepends=True)
            ids = _ids(chunk, lines)
            noted([each for each in ids if each is not None])
            rows += len(lines)
            runs.add(ids, lines)
            if told is not None:
                told(lines)
        digest = runs.end()
    except _DAMAGE as error:
        return Seen(rows, "", f"its rows cannot be read: {error}")
    if runs.nameless:
        return Seen(rows, "", f"{runs.nameless:,} of its lines have no row id")
    return Seen(rows, hexadecimal(digest), scattered=runs.scattered)


def _columns(stream: BufferedReader, name: str, noted: Noted) -> Seen:
    """Read an object of Parquet. Its rows lie sorted, not by records."""
    lines = list(_lines(stream, name))
    noted([each for line in lines if (each := _ids(line, [line])[0]) is not None])
    return Seen(len(lines), hexadecimal(of_lines(lines)))


def scattered(objects: Iterable[tuple[str, BufferedReader | None]]) -> Seen:
    """Read the rows of objects together, in whatever order they lie: all of them are held. Each object is given as its
    name and its bytes. Raises BoundError for more than _SORTED bytes."""
    lines: list[bytes] = []
    size = 0
    try:
        for name, stream in objects:
            if stream is None:
                continue  # it is gone since it was first read: the digest is another then
            with stream:
                for chunk in _lines(stream, name):
                    lines += chunk.splitlines(keepends=True)
                    size += len(chunk)
                    if size > _SORTED:
                        raise BoundError(name, f"rows that are not in order of records, of more than {_SORTED:,} bytes")
        return Seen(len(lines), hexadecimal(of_lines(lines)))
    except _DAMAGE as error:
        return Seen(len(lines), "", f"its rows cannot be read: {error}")


class _Runs:
    """Digests the rows of an object, run by run: lines of one record that lie together."""

    def __init__(self) -> None:
        self.nameless = 0
        """Rows without an id."""
        self.scattered = False
        self._digest = 0
        self._bundle = b""
        self._run: list[tuple[int, bytes]] = []
        self._seen: set[int] = set()

    def add(self, ids: list[Id | None], lines: list[bytes]) -> None:
        """Take the next lines."""
        for each, line in zip(ids, lines, strict=True):
            if each is None:
                self.nameless += 1
                continue
            bundle, ordinal = each
            if bundle != self._bundle:
                self._close()
                self._bundle = bundle
            self._run.append((ordinal, line))

    def end(self) -> int:
        """The digest of all."""
        self._close()
        return self._digest

    def _close(self) -> None:
        if not self._run:
            return
        number = hash(self._bundle)
        self.scattered = self.scattered or number in self._seen
        self._seen.add(number)
        self._run.sort()
        self._digest = add(self._digest, b"".join([line for _, line in self._run]))
        self._run = []


class _DamagedError(Exception):
    """An object is not what it seems."""


def _lines(stream: BufferedReader, name: str) -> Iterator[bytes]:
    """The lines of an object, whole ones, some at a time, each with its newline."""
    if stream.peek(4)[:4] == PARQUET:
        # Its index is at its end, so the file is held as a whole; a line a row.
        data = read(stream, _LARGEST, name, seconds=None)
        try:
            yield from parquet_lines(BytesIO(data), name)
        except SourceError as error:
            raise _DamagedError(str(error)) from error
        return
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
            raise ConfigError.missing(f"{name}, which is zstd,", "lake", "cli", "consumer") from error
        return _Zstd(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True), zstandard.ZstdError)
    return stream


_DAMAGE: Final = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    ArithmeticError,
    msgspec.MsgspecError,
    _DamagedError,
)


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


def _ids(chunk: bytes, lines: list[bytes]) -> list[Id | None]:
    found = _IDS.findall(chunk)
    if len(found) == len(lines):
        return [(bundle, int(ordinal)) for bundle, ordinal in found]
    # An attribute may be called rowId as well: then each line is decoded, which takes several times as long.
    return [(bundle, int(ordinal)) if bundle else None for bundle, ordinal in map(row_id, lines)]
