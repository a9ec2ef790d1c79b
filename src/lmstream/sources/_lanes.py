"""What a run reads, as a lane of a lake: named after what files hold, so that the same content never lands twice."""

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from lmstream.errors import SourceError
from lmstream.interfaces import Assigned
from lmstream.model import TopicPartition
from lmstream.settings import KIB
from lmstream.sources._listing import STDIN

END: Final = 1 << 62
"""Offset of a lane that has been read to its end: behind every record."""
NOTHING: Final = Assigned(next=0, committed=False, begin=0, end=END, same=True)
"""Where a lane stands, as far as its source knows."""
_CHUNK: Final = 1024 * KIB


class File(NamedTuple):
    """One input of a run."""

    place: int
    """In the listing of all inputs."""
    name: str
    digest: bytes = b""
    """Of its bytes; empty when it cannot be read twice."""


class FileLane(NamedTuple):
    """The inputs of one process in the order in which they are read."""

    name: str
    files: Sequence[File]
    again: bool
    """Whether they can be read again, and what they hold is their name. Else the name is made up."""

    @property
    def tp(self) -> TopicPartition:
        """Where its records are settled, and what its claims and objects are called."""
        return TopicPartition(f"files-{self.name}", 0)


def hasher() -> Any:
    """What makes the digest of a file."""
    return blake2b(digest_size=32)


def lane_of(
    listed: Sequence[str], share: tuple[int, int], salt: Iterable[str], *, named: bool, stopped: Callable[[], bool]
) -> FileLane:
    """The lane of the files that are this process's share. Each is read once, in bounded pieces, for its digest; a pipe
    cannot be, and then the lane has a name of its own.

    `salt` is what row ids are made of beside the content; with `named` that is also name and place of each file.
    `stopped` ends the reading early. Raises SourceError.
    """
    which, of = share
    files = [File(place, name) for place, name in enumerate(listed)]
    if not all(name != STDIN and stat.S_ISREG(_status(name).st_mode) for name in listed):
        return FileLane(secrets.token_hex(16), files[which::of], again=False)
    files = [each._replace(digest=_digest(each.name, stopped)) for each in files]
    # Shares are made of this order too: by names, a file that is renamed would move to another process.
    files = sorted(files, key=lambda each: (each.digest, each.place))[which::of]
    text = hasher()
    for part in ("1", str(share) if of > 1 else "", *salt):
        text.update(b"%d:%b" % (len(part.encode()), part.encode()))
    for each in files:
        text.update(each.digest)
        if named:
            name = os.fsencode(each.name)
            text.update(b"%d:%d:%b" % (each.place, len(name), name))
    return FileLane(text.hexdigest()[:32], files, again=True)


def _status(name: str) -> os.stat_result:
    try:
        return Path(name).stat()
    except OSError as error:
        raise SourceError("source.file", f"{name}: {error.strerror or error}") from error


def _digest(name: str, stopped: Callable[[], bool]) -> bytes:
    made = hasher()
    try:
        with Path(name).open("rb", buffering=0) as file:
            while (piece := file.read(_CHUNK)) and not stopped():
                made.update(piece)
    except OSError as error:  # without what it holds there is no name for the others either
        raise SourceError("source.file", f"{name}: {error.strerror or error}") from error
    digest: bytes = made.digest()
    return digest
