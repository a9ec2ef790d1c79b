"""What a soak does to its members, and how much memory they have."""

import contextlib
import random
from collections import deque
from pathlib import Path

from lmstream.lab import Fault


class Weather(deque):
    """Faults of the Firehose, drawn for each call while there is a storm."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__([Fault()])  # never empty, so that each call asks
        self._draw = draw
        self.stormy = False

    def popleft(self) -> Fault:
        if not self.stormy:
            return Fault()
        what = self._draw.random()
        if what < 0.30:
            return Fault.some(0.3, self._draw.randrange(10**9))
        if what < 0.40:
            return Fault.unavailable()
        if what < 0.42:
            return Fault.accept_then_reset()
        if what < 0.44:
            return self._draw.choice([Fault.html(), Fault.short_answer(), Fault.reset(), Fault.server_error()])
        return Fault.slow(0.3) if what < 0.46 else Fault()


def resident(pid: int) -> int:
    """The most bytes of resident memory that a process had since the last question; 0 when it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        most = int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        with contextlib.suppress(OSError):  # where it may not be set back, peaks are those since the start
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        return most * 1024
    return 0
