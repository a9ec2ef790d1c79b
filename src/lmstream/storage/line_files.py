"""Files of a landing folder: which of them hold rows, and their lines."""

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from lmstream import bounded
from lmstream.bounded import BoundError
from lmstream.codecs.inflating import SLICE, ZSTD, zstandard, zstd_frame
from lmstream.errors import SourceError
from lmstream.model import DIMENSIONS
from lmstream.settings import MIB

Form = Literal["plain", "gzip", "zstd", "parquet"]
"""How rows lie in a file: as lines, compressed or not, or as columns."""
GZIP: Final = b"\x1f\x8b"
"""How gzip begins."""
PARQUET: Final = b"PAR1"
"""How Parquet begins, and ends."""
_HEAD: Final = 4
_WINDOW: Final = 128 * MIB  # what the zstd command reads without a flag of its own
_LARGEST: Final = 512 * MIB
"""Bytes of a Parquet file that is read from a stream: it is held as a whole, for its index is at its end."""


class _Line(Struct, rename="camel"):
    metric_key: str = ""


_line: Final = msgspec.json.Decoder(_Line)

CLAIMS: Final = "_lmstream"
"""Folder or prefix below the place of rows where a lake keeps its claims, which are no rows."""


def landed_files(root: Path, *, without: Iterable[Path] = ()) -> Iterator[Path]:
    """Files of rows below `root`, sorted; hidden ones (and what object stores call hidden) and `without` left out."""
    skip = {path.resolve() for path in without}

    def fail(e: OSError) -> None:
        raise SourceError("source.file", f"{e.filename}: {e.strerror}") from e

    for folder, folders, files in os.walk(root, onerror=fail):
        here = Path(folder)
        folders[:] = sorted(
            f
            for f in folders
            if not f.startswith(".") and not (here == root and f == CLAIMS) and (here / f).resolve() not in skip
        )
        # A leading underscore hides a file from Athena and Hive too; folders such as _other are partitions of lmstream.
        # And what is no file (a pipe that somebody planted) would be read for ever.
        yield from (here / f for f in sorted(files) if not f.startswith((".", "_")) and (here / f).is_file())


def form_of(path: Path) -> Form:
    """How rows lie in the file, whatever its name says."""
    try:
        with path.open("rb") as raw:
            return form_in(raw.read(_HEAD))
    except OSError as e:
        raise SourceError("source.file", f"{path}: {e.strerror}") from e


def of_dimensions(path: Path, form: Form) -> bool:
    """Whether a file begins with a dimension row; not of one that cannot be read."""
    if form == "parquet":
        return False
    with contextlib.suppress(SourceError, BoundError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _line.decode(next(lines_of(path), b"{}")).metric_key == DIMENSIONS
    return False


def form_in(head: bytes) -> Form:
    """How rows lie in what begins with these bytes."""
    if head.startswith(GZIP):
        return "gzip"
    if head.startswith(ZSTD):
        return "zstd"
    return "parquet" if head.startswith(PARQUET) else "plain"


def lines_of(path: Path, most: int = bounded.ROW_LINE) -> Iterator[bytes]:
    """Lines of a file, compressed or plain, or of Parquet as the engine wrote them; empty ones left out. Raises
    SourceError, and BoundError for one of more than `most` bytes, however little it takes compressed."""
    try:
        with path.open("rb") as file:
            yield from lines(file, most, str(path))
    except OSError as e:
        raise SourceError("source.file", f"{path}: {e}") from e


def lines(stream: BufferedReader, most: int, name: str) -> Iterator[bytes]:
    """The same of a stream, which is called `name` in errors."""
    try:
        form = form_in(stream.peek(_HEAD)[:_HEAD])
        if form == "parquet":
            from lmstream.storage import parquet_rows  # an extra

            whole = BytesIO(bounded.read(stream, _LARGEST, name))
            yield from (line.rstrip(b"\n") for line in parquet_rows.lines(whole, name))
            return
        opened: Any = stream
        if form == "gzip":
            opened = gzip.GzipFile(fileobj=stream)
        elif form == "zstd":
            opened = BufferedReader(_Zstd(stream), MIB)
        yield from bounded.lines(opened, most, name)
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError("source.file", f"{name}: {e}") from e


class _Zstd(RawIOBase):
    """What is in zstd frames, one behind another. Raises EOFError for one that breaks off, which the library's own
    reader takes for the end, and OSError for damage."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._frame: Any = None
        self._unread = self._made = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._made and self._more():
            pass
        count = min(len(buffer), len(self._made))
        buffer[:count] = self._made[:count]
        self._made = self._made[count:]
        return count

    def _more(self) -> bool:
        """Inflate a little; False at the end."""
        piece, self._unread = self._unread or self._stream.read(SLICE), b""
        if not piece:
            if self._frame is not None:
                raise EOFError("ends inside its zstd data")
            return False
        if self._frame is None:
            self._frame = zstd_frame(_WINDOW)
        try:
            self._made = self._frame.decompress(piece)
        except zstandard().ZstdError as e:
            raise OSError(f"damaged zstd data: {e}") from e
        if self._frame.eof:
            self._unread, self._frame = self._frame.unused_data, None
        return True
