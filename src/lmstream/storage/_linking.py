"""Give a file its name only once it is whole: made hidden, synced, then linked; a link never replaces."""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from typing import Final

CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is made that must not be there."""


def linked(at: int, name: str, data: bytes, drafts: int) -> bool:
    """Make a file of that name; False when there is one. Raises OSError, and then it was not made, or not by us."""
    hidden = f".{secrets.token_hex(12)}.tmp"  # not the process number: containers on one volume are all 1
    file = os.open(hidden, CREATE, 0o644, dir_fd=drafts)
    try:
        try:
            with contextlib.suppress(OSError):  # a disk without locks; see durable_files.sweep
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
            try:
                os.link(hidden, name, src_dir_fd=drafts, dst_dir_fd=at, follow_symlinks=False)
            except OSError as error:
                # Network disks repeat a call whose answer was lost: then EEXIST is our own link, and so may be EIO.
                if (found := found_at(at, name)) is None:
                    raise
                mine = os.fstat(file)
                if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                    return True
                if error.errno != errno.EEXIST:
                    raise
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(errno.ELOOP, "something that is no object has its name", name) from error
                return False
            return True
        finally:
            os.close(file)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(hidden, dir_fd=drafts)


def found_at(at: int, name: str) -> os.stat_result | None:
    """What has that name in a folder, be it a link."""
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
