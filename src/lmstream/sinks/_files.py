"""Write a file so that it is either there, whole and durable, or not there: for sinks that land in a folder."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lmstream.model import Failure, Kind

_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Below the root no part of a path may be a link: a link planted there would carry rows out of the landing folder.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | getattr(os, "O_CLOEXEC", 0)

# Somebody put a link or a file where a folder belongs, or the path template makes names no disk takes: no retry mends
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


def try_out(at: int) -> None:
    """Write a file in the folder `at` and take it away again. Raises OSError. Its name is our own: other workers do the
    same at the same time."""
    name = f".lmstream-check-{secrets.token_hex(6)}"
    replace(at, name, b"")
    os.unlink(name, dir_fd=at)


def replace(at: int, name: str, data: bytes, *, private: bool = False) -> None:
    """Write `data` as `name` in the folder `at`: hidden file, fsync, rename, fsync of the folder. `private`: mode 0600.

    Raises OSError, and then no file of that name was made or changed, except when only the last fsync failed.
    """
    hidden = f".{name}.{secrets.token_hex(4)}.tmp"  # not the process number: containers on one volume are all 1
    try:
        file = os.open(hidden, _CREATE, 0o600 if private else 0o644, dir_fd=at)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(hidden, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(hidden, dir_fd=at)
        raise
    os.fsync(at)
