"""Files of a landing folder: which of them hold rows, and their lines."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from lmstream import bounded
from lmstream.errors import SourceError

GZIP: Final = b"\x1f\x8b"
"""How gzip begins."""


def landed_files(root: Path, *, without: Iterable[Path] = ()) -> Iterator[Path]:
    """Files of rows below `root`, sorted; hidden ones (and what object stores call hidden) and `without` left out."""
    skip = {path.resolve() for path in without}

    def fail(e: OSError) -> None:
        raise SourceError("source.file", f"{e.filename}: {e.strerror}") from e

    for folder, folders, files in os.walk(root, onerror=fail):
        here = Path(folder)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() not in skip)
        # A leading underscore hides a file from Athena and Hive too; folders such as _other are partitions of lmstream.
        # And what is no file (a pipe that somebody planted) would be read for ever.
        yield from (here / f for f in sorted(files) if not f.startswith((".", "_")) and (here / f).is_file())


def is_gzip(path: Path) -> bool:
    """Whether the file is gzip, whatever its name says."""
    try:
        with path.open("rb") as raw:
            return raw.read(2) == GZIP
    except OSError as e:
        raise SourceError("source.file", f"{path}: {e.strerror}") from e


def lines_of(path: Path, most: int = bounded.ROW_LINE) -> Iterator[bytes]:
    """Lines of a file, gzip or plain; empty ones left out. Raises SourceError, and BoundError for one of more than
    `most` bytes, however little it takes in gzip."""
    try:
        with path.open("rb") as file:
            yield from lines(file, most, str(path))
    except OSError as e:
        raise SourceError("source.file", f"{path}: {e}") from e


def lines(stream: BufferedReader, most: int, name: str) -> Iterator[bytes]:
    """The same of a stream, which is called `name` in errors."""
    try:
        opened: Any = gzip.GzipFile(fileobj=stream) if stream.peek(2).startswith(GZIP) else stream
        yield from bounded.lines(opened, most, name)
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError("source.file", f"{name}: {e}") from e
