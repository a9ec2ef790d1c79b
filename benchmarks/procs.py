"""CPU time and memory of another process, from /proc: what benchmarks of several processes sample while they run."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a process has used so far."""

    cpu_seconds: float
    rss_bytes: int


def usage(pid: int) -> Usage | None:
    """Read it; None when the process has gone. CPU has a grain of one tick, usually 10 ms."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except OSError:
        return None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE)


def peak_mib() -> float:
    """Resident memory of this process at its highest, in MiB, from /proc.

    Not getrusage's ru_maxrss: that is kept over exec, so a child's begins at what its parent had when it started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
