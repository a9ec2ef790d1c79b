"""Which files a run reads of the paths that it is given: by name, or by what Lambda and Firehose write."""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lmstream.dead_letters import firehose_failures, lambda_failures
from lmstream.errors import ConfigError, SourceError
from lmstream.sources._framing import Named
from lmstream.sources._inflating import Inflating
from lmstream.storage.line_files import CLAIMS

STDIN: Final = "-"
SUFFIXES: Final[Mapping[str, Named]] = {
    ".json": "json",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".pb": "frames",
    ".binpb": "frames",
}
"""Names that are read in a folder, each also with .gz or .zst behind it. How a file is cut its bytes say."""
_ENDINGS: Final = 10  # endings of file names in one message


def listing(paths: Sequence[str], without: Sequence[str] = ()) -> list[str]:
    """Every input in order; folders below the paths that are `without` are left out. Raises SourceError for a path that
    was named and is not there."""
    listed: list[str] = []
    for name in paths:
        if name == STDIN:
            listed.append(name)
        elif Path(name).is_dir():
            found = sorted(_walk(Path(name), without))
            if not found:
                known = f"no files with a known name ({' '.join(SUFFIXES)}, each also .gz or .zst)"
                own = f"not read: {', '.join(skipped)}" if (skipped := apart([name], without)) else ""
                what = "; ".join(filter(None, (known, left_out([name], without), own)))
                raise SourceError("source.file", f"{name}: {what}")
            listed += found
        elif Path(name).exists():
            listed.append(name)
        else:
            raise SourceError("source.file", f"{name}: no such file or folder")
    if not listed:
        raise SourceError("source.file", "no paths to read")
    return listed


def left_out(paths: Sequence[str], without: Sequence[str] = ()) -> str:
    """How many files of the folders among the paths are skipped for their names, and which endings they have. Empty
    when there are none; hidden files are not counted."""
    endings: set[str] = set()
    count = 0
    for root in paths:
        if root != STDIN and Path(root).is_dir():
            for name in _walk(Path(root), without, wanted=False):
                count += 1
                endings.add(suffix(name) or "(without an ending)")
    if not count:
        return ""
    named = " ".join(sorted(endings)[:_ENDINGS]) + (" ..." if len(endings) > _ENDINGS else "")
    return f"{count:,} file{'s' * (count > 1)} left out: {named}"


def apart(paths: Sequence[str], without: Sequence[str]) -> list[str]:
    """Those folders of `without` that are there, below one of the paths, and would be read."""
    roots = [Path(name).resolve() for name in paths if name != STDIN]
    found = {folder: Path(folder).resolve() for folder in without}
    return [folder for folder, real in found.items() if real.is_dir() and any(root in real.parents for root in roots)]


def suffix(name: str) -> str:
    """The ending of a file's name without that of a compression."""
    return Path(name.lower().removesuffix(".gz").removesuffix(".zst")).suffix


def _walk(root: Path, without: Sequence[str] = (), *, wanted: bool = True) -> Iterator[str]:
    skip = {Path(folder).resolve() for folder in without}
    for folder, below, names in os.walk(root):
        seen = [name for name in below if not name.startswith(".") and name != CLAIMS]
        below[:] = [name for name in seen if not skip or Path(folder, name).resolve() not in skip]
        for name in names:
            read = suffix(name) in SUFFIXES or _is_document(Path(folder, name))
            if not name.startswith(".") and read is wanted:
                yield f"{folder}/{name}"


def _is_document(path: Path) -> bool:
    """Whether a file is one of Lambda's or Firehose's failures: their names end in nothing that says so."""
    try:
        with path.open("rb") if path.is_file() else io.BytesIO() as file:
            inflating = Inflating()
            head = b"".join(inflating.feed(file.read(lambda_failures.HEAD)))
    except (OSError, ConfigError):  # as any other file that lmstream did not write; zstd without its library
        return False
    return lambda_failures.begins(head) or firehose_failures.begins(head)
