"""Wait for a condition that has no event, with a bound: never sleep and hope."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

PATIENCE: Final = 3
"""Machines are shared: what takes ten seconds on one of two idle cores may take thirty beside other suites."""


async def until(condition: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Return once the condition holds; AssertionError after so many seconds, thrice, of the running loop, virtual or
    not."""
    seconds *= PATIENCE
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what or condition} did not come within {seconds} s") from None


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: one that starts up is ended by it without a word. True where the
    system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)
