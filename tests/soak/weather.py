"""What a soak does to its members, and how much memory they have."""

import contextlib
import random
from pathlib import Path

from lmstream.lab import Fault
from lmstream.lab.weather import Endless, fault


class Weather(Endless):
    """Faults of the Firehose, drawn for each call while there is a storm."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__(Fault(), lambda: fault(draw) if self.stormy else Fault())
        self.stormy = False


def resident(pid: int) -> int:
    """The most bytes of resident memory that a process had since the last question; 0 when it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        most = int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        with contextlib.suppress(OSError):  # where it may not be set back, peaks are those since the start
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        return most * 1024
    return 0
