"""Write a file so that it is either there, whole and durable, or not there: for sinks that land in a folder."""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from lmstream.aws.asking import FULL, is_full
from lmstream.errors import ConfigError, SinkError
from lmstream.model import Failure, Kind

T = TypeVar("T")
DRAFTS: Final = ".drafts"
"""Folder below a root in which files are made. One place for all, so that a start finds what a kill left behind."""
_CHECK: Final = ".lmstream-check-"
_PAGE: Final = 4096
_TRIES: Final = 3  # of a file whose draft is taken for a leftover
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Below the root no part of a path may be a link: a link planted there would carry rows out of the landing folder.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | getattr(os, "O_CLOEXEC", 0)

# Somebody put a link or a file where a folder belongs, or the path template makes names no disk takes: no retry fixes
# that.
_PLANTED: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})


def failure(error: OSError) -> Failure:
    """Judge a pack whose file could not be written. Retryable under the name of the errno, as a full disk is."""
    code = errno.errorcode.get(error.errno or 0, "EIO")
    if error.errno in _PLANTED:
        return Failure(Kind.FATAL_CONFIG, "sink.disk", f"{code}: {error}")
    return Failure(Kind.RETRYABLE, code, str(error))


def parts_of(path: str) -> list[str] | None:
    """Cut a partition path into folders; None for a path that could leave the landing root or hide a file."""
    parts = [part for part in path.split("/") if part] if not path.startswith("/") else [""]
    if any(not part or part.startswith(".") or "\0" in part or "\\" in part for part in parts):
        return None
    return parts


@contextlib.contextmanager
def folder(root: Path, parts: Sequence[str], *, private: bool = False) -> Iterator[int]:
    """Open the folder `root/parts...`; those that are missing are made, durably. Raises OSError.

    `private`: what is made is for this user alone (mode 0700), for files with original bytes in them.
    """
    mode = 0o700 if private else 0o755
    if not root.is_dir():
        for each in (*reversed(root.parents), root):
            if not each.is_dir():
                each.mkdir(mode if private else 0o777, exist_ok=True)
    at = os.open(root, _FOLDER)
    try:
        for part in parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, mode, dir_fd=at)
                os.fsync(at)
            below = os.open(part, _FOLDER | _NO_LINK, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


@contextlib.contextmanager
def drafts(root: Path, *, private: bool = False) -> Iterator[int]:
    """Open the folder in which files below `root` are made before they get their names. Raises OSError."""
    with folder(root, (DRAFTS,), private=private) as at:
        yield at


def sweep(root: Path, *, private: bool = False) -> None:
    """Remove what processes that were killed left half made. Raises OSError.

    A file that is being written is locked by its owner. If one is taken for a leftover all the same (some network disks
    know no locks across machines), its owner cannot give it its name, and writes it again.
    """
    with folder(root, (), private=private) as top, drafts(root, private=private) as made:
        for at, ours in ((made, ".tmp"), (top, _CHECK)):
            with os.scandir(at) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                if name.endswith(ours) or name.startswith(ours):
                    with contextlib.suppress(OSError):
                        _remove_if_free(at, name)


def _remove_if_free(at: int, name: str) -> None:
    file = os.open(name, os.O_WRONLY | _NO_LINK | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=at)
    finally:
        os.close(file)


def try_out(root: Path, *, private: bool = False) -> None:
    """Write a file in the folder `root` and take it away again. Raises OSError. Its name is our own: other workers do
    the same at the same time."""
    name = f"{_CHECK}{secrets.token_hex(6)}"
    with folder(root, (), private=private) as at, drafts(root, private=private) as made:
        replace(at, name, bytes(_PAGE), made, private=private)  # an empty file fits on a full disk
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=at)


def check(root: Path, what: str, *, private: bool = False) -> None:
    """See, before a start, whether files can be written below `root`, which is made. Raises ConfigError when not, and
    SinkError `sink.full` for want of room: a run that is under way would wait for that. `what` names it."""
    try:
        sweep(root, private=private)  # first: on a full disk that may be what is in the way
        try_out(root, private=private)
    except OSError as error:
        detail = f"{what}: {error.strerror or error}"
        if is_full(error):
            raise SinkError(FULL, detail) from error
        raise ConfigError("sink.disk", detail) from error


class Writes(Generic[T]):
    """Writes in threads, which cannot be cancelled: `close` waits for those whose caller has gone."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[T]] = set()

    async def run(self, write: Callable[..., T], *arguments: Any) -> T:
        """Call `write` in a thread."""
        task = asyncio.create_task(asyncio.to_thread(write, *arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._running, return_exceptions=True)


def replace(at: int, name: str, data: bytes, drafts: int, *, private: bool = False) -> None:
    """Write `data` as `name` in the folder `at`: made in the folder `drafts`, fsync, rename, fsync of the folder.
    `private`: mode 0600.

    Raises OSError, and then no file of that name was made or changed, except when only the last fsync failed.
    """
    for tries in range(_TRIES):
        try:
            _put(at, name, data, drafts, private=private)
            break
        except OSError as error:
            if error.errno == errno.EXDEV and drafts != at:
                drafts = at  # a disk of its own below the root
            elif error.errno != errno.ENOENT or tries == _TRIES - 1:
                raise
    os.fsync(at)


def _put(at: int, name: str, data: bytes, drafts: int, *, private: bool) -> None:
    hidden = f".{name}.{secrets.token_hex(4)}.tmp"  # not the process number: containers on one volume are all 1
    file = os.open(hidden, _CREATE, 0o600 if private else 0o644, dir_fd=drafts)
    try:
        try:
            with contextlib.suppress(OSError):  # a disk without locks; see `sweep`
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
            os.replace(hidden, name, src_dir_fd=drafts, dst_dir_fd=at)
        finally:
            os.close(file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(hidden, dir_fd=drafts)
        raise
