"""Files and folders that are one user's own: links are not followed, what somebody else planted is refused."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

_NO_LINK: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_TRUSTED: Final = 0
"""root may own a folder too: it can write everywhere anyway, and Kubernetes makes volumes in its name."""


def folder(path: Path, ours: tuple[str, ...]) -> int:
    """Open a folder of this user's own, which is made with mode 0700 when it is missing; answer its file descriptor.

    One that is there already and holds nothing but files whose names end in `ours` gets that mode too. Any other keeps
    its mode, which must not let others write, unless it is root's: that of a volume, whose files are checked each.
    Raises OSError, for a link as well.
    """
    for each in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            if not each.exists():
                each.mkdir(mode=0o700)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a link, which somebody else may have planted: name the folder itself")
    at = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        found = os.fstat(at)
        _check(found)
        if found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
            _close_to_others(at, found.st_mode, ours)
    except BaseException:
        os.close(at)
        raise
    return at


def names(at: int) -> list[str]:
    """Names in the folder `at`, sorted."""
    with os.scandir(at) as entries:
        return sorted(entry.name for entry in entries)


def opened(at: int, name: str, flags: int) -> int:
    """Open a regular file of this user's own in the folder `at`, with mode 0600 if it is made. Raises OSError."""
    # Not blocking: of a named pipe that somebody planted, opening would wait for a writer.
    try:
        file = os.open(name, flags | _NO_LINK | os.O_NONBLOCK, 0o600, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(error.errno, f"{name} in it is a link, which is not followed: remove it") from error
        raise
    try:
        found = os.fstat(file)
        _check(found, f"{name} in it ")
        _check_regular(found, name)
    except BaseException:
        os.close(file)
        raise
    return file


def created(at: int, name: str) -> int:
    """Make a file with mode 0600 in the folder `at`, to read and write. Raises OSError when the name is taken."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600, dir_fd=at)


def _close_to_others(at: int, mode: int, ours: tuple[str, ...]) -> None:
    if all(name.endswith(ours) for name in names(at)):
        os.fchmod(at, 0o700)
    elif mode & _OTHERS_WRITE:
        why = f"others may write there (mode {mode & 0o7777:04o}): chmod 700, or name another"
        raise OSError(errno.EPERM, why)


def _check(found: os.stat_result, what: str = "") -> None:
    if found.st_uid not in (os.geteuid(), _TRUSTED):
        raise OSError(
            errno.EPERM, f"{what}belongs to another user (uid {found.st_uid}): name a folder of this one's own"
        )


def _check_regular(found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EPERM, f"{name} in it is no regular file: remove it")
