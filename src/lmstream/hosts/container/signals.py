"""SIGTERM and Ctrl-C of a run: the first stops it cleanly, the second ends it at once, and nothing can keep either."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from lmstream.observability.unblocked import last_words

AGAIN: Final = 75
"""Exit code of a stop that left records unacknowledged: start again, they come back (EX_TEMPFAIL of sysexits)."""
AT_ONCE: Final = 130
"""Exit code of a process that was told twice."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR: Final = "\033[?25h"  # a live view hides it


class LastResort:
    """Ends the process by a given time, come what may: a disk that hangs holds threads that Python waits for, for ever.

    Its thread is made before it is needed: at a limit of processes or memory none can be made any more. Without one a
    timer of the system does it.
    """

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._told = threading.Event()
        self._thread: threading.Thread | None = threading.Thread(target=self._wait, daemon=True, name="lmstream-end")
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None

    def arm(self, seconds: float) -> None:
        """Begin to count. Safe in a signal's handler."""
        self._seconds = seconds
        if self._thread is not None:
            self._told.set()
        else:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(AGAIN))
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def close(self) -> None:
        """End the thread, unless it counts: the interpreter's own end may hang too."""
        self._told.set()

    def _wait(self) -> None:
        self._told.wait()
        if self._seconds is not None:
            time.sleep(self._seconds)
            # Nothing is written here itself: a reader that has stopped reading must not keep this from happening.
            last_words("some parts did not close in time; the next start reads uncommitted records again")
            os._exit(AGAIN)


@contextlib.contextmanager
def heard(stop: Callable[[], None], seconds: float, say: Callable[[str], None]) -> Iterator[None]:
    """Call `stop` in the running loop at the first signal, and end the process `seconds` later whatever happens.

    The handlers are the interpreter's own, not the loop's: they also run while one of our calls blocks the loop.
    """
    loop = asyncio.get_running_loop()
    last = LastResort()
    told = False

    def stopping() -> None:
        stop()
        say(f"stopping: finishing records in flight, for {seconds:.0f} s at most; interrupt again to exit at once")

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told:
            _leave()
        told = True
        last.arm(seconds)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(stopping)

    for number in _SIGNALS:
        loop.add_signal_handler(number, lambda: None)  # so that the loop wakes up for one
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        last.close()


def _leave() -> None:
    """Exit at once, as asked twice: what is not committed comes again."""
    with contextlib.suppress(Exception):
        if sys.stderr.isatty():
            last_words(_SHOW_CURSOR)
    os._exit(AT_ONCE)
