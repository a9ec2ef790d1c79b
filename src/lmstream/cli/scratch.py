"""A temporary folder that goes with its process, however that ends: at once, or with the next one of its kind."""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Make a folder for the time of this; folders of the prefix whose process has died are removed. SIGTERM ends the
    process as it always does, but for the folder that goes first."""
    with contextlib.suppress(OSError):
        _sweep(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix) as made, _ending_orderly():
        at = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(at, fcntl.LOCK_EX)  # until this process ends, in whatever way
            yield Path(made)
        finally:
            os.close(at)


@contextlib.contextmanager
def _ending_orderly() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that what is open is closed."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sweep(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            at = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                # Another user's folder is his; one that lives is locked, or was made in this moment.
                found = os.fstat(at)
                if found.st_uid == os.geteuid() and found.st_mtime < time.time() - 1:
                    fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(at)
