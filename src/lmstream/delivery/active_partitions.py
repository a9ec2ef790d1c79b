"""How many partitions are active: Firehose allows 500 by default, and sends the rows of others to its error prefix."""

from collections.abc import Iterable, Sequence
from typing import Final

from lmstream.engine.fan_out import Named, Spread
from lmstream.interfaces import Clock

WINDOW: Final = 300.0
"""Seconds a partition counts as active after its last row: Firehose's usual buffer interval."""
QUOTA: Final = 500
"""Firehose's default quota of active partitions of a stream (its page of quotas)."""
MOST: Final = 8 * QUOTA
"""Partitions of one hour that are remembered, at most; and of all hours, when there is no bound."""
_FIRST, _EVERY = 64, 16  # records of an hour that are looked at, far from the bound: the first, and one of so many
_IDS: Final = 16 * 1024  # metrics of one hour that are known by their place in memory


class Hour:
    """The partitions of one organization and hour. They count as one, as old as the last row of any of them."""

    __slots__ = ("alone", "held", "ids", "keys", "open", "seen", "used")

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.held: list[object] = []  # so that no other metric gets an id that is known
        self.keys: set[str] = set()
        self.open: int = 0  # records that are not settled: the service may get rows of them at any time
        self.used: float = 0.0
        self.seen: int = 0
        self.alone: tuple[Hour] = (self,)


class ActivePartitions:
    """Partitions in which rows were put lately: hours by all records, paths by all of them near the bound. With a bound
    it says which records should wait.

    An outage multiplies partitions by its hours: so hours wait for each other, the oldest first, until older ones have
    had no rows for the buffer interval. One hour alone is never held, for that would help nobody.
    """

    def __init__(self, most: int = QUOTA, seconds: float = WINDOW, *, bounded: bool = False) -> None:
        """`most` partitions may be active; 0 is no bound."""
        self.most: int = most
        self._seconds, self._bounded = seconds, bounded and most > 0
        self.overflow: int = 0
        """Partitions that began while as many as may be were active."""
        self._hours: dict[tuple[str, bytes], Hour] = {}
        self._total = 0

    def passed(self, hour: tuple[str, bytes]) -> Sequence[Hour] | None:
        """Take note of a record of one organization and hour that is in flight already, without a look at its metrics;
        None when it has to be looked at: the first ones of an hour, all near the bound, and a few of the others."""
        found = self._hours.get(hour)
        if found is None:
            return None
        found.seen = seen = found.seen + 1
        if seen < _FIRST or not seen % _EVERY or self._total * 2 > self.most:
            return None
        found.open += 1
        return found.alone

    def admit(self, spread: Sequence[Spread], now: float, *, must: bool = False) -> list[Hour] | None:
        """Take note of the partitions of one record, and answer their hours, for `settled`; None when it has to wait.
        `must`: it cannot wait."""
        hours = []
        for org, hour, metrics in spread:
            found = self._hours.get((org, hour))
            if found is None or not found.ids.issuperset(map(id, metrics)):
                if not self._begin(spread, now, must=must):
                    return None
                known = (self._hours.get((each.org, each.hour)) for each in spread)
                hours = [each for each in known if each is not None]
                break
            hours.append(found)
        for found in hours:
            found.open += 1
        return hours

    def settled(self, hours: Iterable[Hour], clock: Clock) -> None:
        """Note that the rows of a record were taken by now, or never will be."""
        for hour in hours:
            hour.open -= 1
            if not hour.open:
                hour.used = clock()

    def count(self, now: float) -> int:
        """Answer how many are active."""
        self._expire(now)
        return self._total

    def _begin(self, spread: Sequence[Spread], now: float, *, must: bool) -> bool:
        new = self._new(spread)
        if new and self.most and self._total + new > self.most:
            self._expire(now)
            new = self._new(spread)
            over = self._total + new - self.most
            if over > 0:
                hours = {hour for _, hour, _ in spread}
                if self._bounded and not must and any(hour not in hours for _, hour in self._hours):
                    return False
                self.overflow += min(over, new)
        for org, hour, metrics in spread:
            self._add(self._hours.get((org, hour)) or self._made(org, hour), metrics, now)
        return True

    def _new(self, spread: Iterable[Spread]) -> int:
        count = 0
        for org, hour, metrics in spread:
            found = self._hours.get((org, hour))
            keys = {metric.key for metric in metrics}
            count += len(keys if found is None else keys - found.keys)
        return count

    def _made(self, org: str, hour: bytes) -> Hour:
        made = self._hours[org, hour] = Hour()
        return made

    def _add(self, to: Hour, metrics: Sequence[Named], now: float) -> None:
        to.used = now
        if len(to.ids) > _IDS:  # new metrics come all the time
            to.ids, to.held = set(), []
        before = len(to.keys)
        for metric in metrics:
            if id(metric) not in to.ids:
                to.ids.add(id(metric))
                to.held.append(metric)
                if len(to.keys) < MOST:
                    to.keys.add(metric.key)
        self._total += len(to.keys) - before
        while self._total > MOST and len(self._hours) > 1 and not self._bounded:
            self._drop(min(self._hours, key=lambda each: self._hours[each].used))

    def _expire(self, now: float) -> None:
        since = now - self._seconds
        for each in [each for each, hour in self._hours.items() if not hour.open and hour.used <= since]:
            self._drop(each)

    def _drop(self, each: tuple[str, bytes]) -> None:
        self._total -= len(self._hours.pop(each).keys)
