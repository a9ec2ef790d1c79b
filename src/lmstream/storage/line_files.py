"""Files of a landing folder: which of them hold rows, and their lines."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from lmstream import bounded
from lmstream.errors import SourceError


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
            return raw.read(2) == b"\x1f\x8b"
    except OSError as e:
        raise SourceError("source.file", f"{path}: {e.strerror}") from e


def lines_of(path: Path, most: int = bounded.ROW_LINE) -> Iterator[bytes]:
    """Lines of a file, gzip or plain; empty ones left out. Raises SourceError, and BoundError for one of more than
    `most` bytes, however little it takes in gzip."""
    try:
        with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as file:
            yield from bounded.lines(file, most, str(path))
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError("source.file", f"{path}: {e}") from e
