"""How many partitions are active: Firehose allows 500 by default, and sends the rows of others to its error prefix."""

from collections.abc import Callable, Iterable
from typing import Final

WINDOW: Final = 300.0
"""Seconds a partition counts as active after its last row: Firehose's usual buffer interval."""
QUOTA: Final = 500
"""Firehose's default quota of active partitions of a stream (its page of quotas)."""
MOST: Final = 8 * QUOTA
"""Partitions that are remembered, at most."""
RATE: Final = 20.0
"""Records looked at in a second, at most: to look at all of them would take a tenth of the transform."""
BURST: Final = 100.0


class Active:
    """Partitions in which rows were put lately, from a sample of the records. Never changes a row."""

    def __init__(self) -> None:
        self.overflow = 0
        """Partitions that began while as many as the quota were active."""
        self._seen: dict[str, float] = {}  # oldest first
        self._allowed, self._at = BURST, 0.0

    def saw(self, paths: Callable[[], Iterable[str]], now: float) -> None:
        """Take note of the partitions of one record, when it is one that is looked at."""
        self._allowed = min(BURST, self._allowed + RATE * (now - self._at))
        self._at = now
        if self._allowed < 1.0:
            return
        self._allowed -= 1.0
        for path in paths():
            if self._seen.pop(path, None) is None:
                if self.count(now) >= QUOTA:
                    self.overflow += 1
                if len(self._seen) >= MOST:
                    del self._seen[next(iter(self._seen))]
            self._seen[path] = now

    def count(self, now: float) -> int:
        """Answer how many are active."""
        seen = self._seen
        while seen and next(iter(seen.values())) < now - WINDOW:
            del seen[next(iter(seen))]
        return len(seen)
