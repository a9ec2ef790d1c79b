"""Standard error that never makes its writer wait and never fails: what nobody reads is dropped and counted."""

import contextlib
import io
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, TextIO

HELD: Final = 1024 * 1024
"""Bytes that wait for a reader, at most; what comes while so many wait is dropped."""
LAST: Final = 1.0
"""Seconds that the end of a process waits for what it said to be taken."""
_dropped = 0
_current: "Unblocked | None" = None


def dropped() -> int:
    """Lines that this process said and nobody took."""
    return _dropped


def last_words(text: str, seconds: float = 0.2) -> None:
    """Say something before the process ends at once, if that can be done without waiting for a reader. Past whatever
    stands in front of standard error, like a live view."""
    if _current is not None:
        _current.write(text + "\n")
        _current.drain(seconds)


class Unblocked(io.TextIOBase):
    """Takes the place of `sys.stderr`. A thread writes: a pipe that is full, a disk that is full or hangs, and a reader
    that has gone cost lines, never the caller's time. Without a thread (none can be started) lines are dropped too.
    """

    def __init__(self, stream: TextIO) -> None:
        """`stream` has a file descriptor. It stays the caller's."""
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self._held = self._missed = 0
        self._lock = threading.RLock()  # a signal's handler may come in the middle of a write, and write
        self._some = threading.Semaphore(0)
        self._busy = False
        self._json = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="lmstream-log")
        self._works = False
        with contextlib.suppress(RuntimeError):  # no more threads: at a limit of processes or memory
            self._thread.start()
            self._works = True

    # As a text stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        """Take a text to be written soon, or drop it."""
        data = text.encode(self.encoding, "backslashreplace")
        with self._lock:
            if not self._works or self._held + len(data) > HELD:
                self._drop(data)
                return len(text)
            self._json = data.startswith(b"{")
            self._held += len(data)
            self._waiting.append(data)
        self._some.release()
        return len(text)

    def flush(self) -> None:
        """Nothing: nobody waits for a reader."""

    def drain(self, seconds: float = LAST) -> None:
        """Wait until all is written, but not longer than this."""
        until = time.monotonic() + seconds
        while (self._waiting or self._busy) and time.monotonic() < until:
            time.sleep(0.005)

    # The thread

    def _work(self) -> None:
        while True:
            self._some.acquire()
            with self._lock:
                if not self._waiting:
                    continue
                self._busy = True
                data = self._waiting.popleft()
            taken = _written(self._stream.fileno(), data)
            with self._lock:
                self._held -= len(data)
                if not taken:
                    self._drop(data)
                elif self._missed and self._held < HELD // 2:
                    self._tell()
                self._busy = False

    def _drop(self, data: bytes) -> None:
        global _dropped  # noqa: PLW0603 - of the process, as standard error is
        lines = max(1, data.count(b"\n"))
        self._missed += lines
        _dropped += lines

    def _tell(self) -> None:
        """Say how many lines are missing, in the form of the others."""
        missed, self._missed = self._missed, 0
        text = f"{missed:,} lines were dropped because standard error was blocked, see lmstream_log_lines_dropped_total"
        self.write(json.dumps({"event": text, "level": "warning"}) + "\n" if self._json else text + "\n")


def _written(descriptor: int, data: bytes) -> bool:
    """Write all of it, however long that takes; whether it was taken."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody made the pipe non-blocking: his reader may come back
            time.sleep(0.05)
        except OSError:  # the reader has gone, the disk is full
            return False
    return True


@contextlib.contextmanager
def unblocked() -> Iterator[None]:
    """Let nothing that is said wait for its reader, as long as this lasts; in the end it has a second to be taken."""
    global _current  # noqa: PLW0603 - there is one standard error
    before = sys.stderr
    try:
        before.fileno()
    except (AttributeError, OSError, ValueError):  # None, or kept in memory: there is nobody to wait for
        yield
        return
    if isinstance(before, Unblocked):
        yield
        return
    with contextlib.suppress(OSError, ValueError):
        before.flush()
    made = sys.stderr = _current = Unblocked(before)
    try:
        yield
    finally:
        made.drain()
        sys.stderr, _current = before, None
