"""What shows a run while it lasts."""

from contextlib import AbstractContextManager
from typing import Protocol

from lmstream.observability.readings import Readings
from lmstream.runtime import Progress


class Observer(AbstractContextManager[None], Protocol):
    """Shows how a run is doing, while it is open."""

    readings: Readings | None
    """Set before the run begins."""

    def __call__(self, progress: Progress, /) -> None:
        """Take note of where the run stands."""
        ...
