"""Records whose rows are made and wait for room among the stream's partitions: the oldest hour goes first."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from lmstream.delivery.active_partitions import ActivePartitions
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.transform import Cut
from lmstream.engine import FanOut
from lmstream.engine.fan_out import Spread
from lmstream.model import TopicPartition


class _Waits(NamedTuple):
    hour: bytes
    each: InFlightRecord
    cuts: list[Cut]
    spread: Sequence[Spread]


class Waiting:
    """Decides which records wait. When the oldest hour has waited as long as a buffer interval, newer ones wait too,
    also those that have their partitions: only what is idle makes room."""

    def __init__(self, active: ActivePartitions, seconds: float) -> None:
        self.active: ActivePartitions = active
        self._seconds = seconds
        self._waits: list[_Waits] = []
        self._since = 0.0  # when the oldest hour began to wait
        self.partitions: Counter[TopicPartition] = Counter()
        """Of Kafka, whose records wait: nothing more of them need be read."""

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._waits)

    @property
    def oldest(self) -> str:
        """The oldest hour that waits, as yyyy-MM-ddTHH; empty when none does."""
        return self._waits[0].hour.decode(errors="replace") if self._waits else ""

    def holds(self, each: InFlightRecord, cuts: list[Cut], out: FanOut, now: float) -> bool:
        """Whether a record has to wait, which is then kept here. One with a deadline cannot."""
        if not self._waits and (one := out.hour) is not None and (passed := self.active.passed(one)) is not None:
            each.hours = passed
            return False
        spread = out.spread()
        hour = min((hour for _, hour, _ in spread), default=b"")
        must = each.submission.deadline is not None
        if not must and self._is_overtaken(hour, now):
            pass
        elif (hours := self.active.admit(spread, now, must=must)) is not None:
            each.hours = hours
            return False
        self._since = now if not self._waits or hour < self._waits[0].hour else self._since
        self._waits.append(_Waits(hour, each, cuts, spread))
        if len(self._waits) > 1 and hour < self._waits[-2].hour:
            self._waits.sort(key=_by_hour)
        self.partitions[each.tp] += 1
        return True

    def due(self, now: float) -> Iterator[tuple[InFlightRecord, list[Cut]]]:
        """Take out the records for which there is room now."""
        while self._waits and (hours := self.active.admit(self._waits[0].spread, now)) is not None:
            taken = self._waits.pop(0)
            taken.each.hours = hours
            if not self._waits or self._waits[0].hour != taken.hour:
                self._since = now
            self._left(taken.each)
            yield taken.each, taken.cuts

    def remove(self, partitions: Container[TopicPartition] | None = None) -> list[InFlightRecord]:
        """Take out what waits of these partitions of Kafka, or all of it."""
        out = [waits.each for waits in self._waits if partitions is None or waits.each.tp in partitions]
        self._waits = [w for w in self._waits if partitions is not None and w.each.tp not in partitions]
        for each in out:
            self._left(each)
        return out

    def _is_overtaken(self, hour: bytes, now: float) -> bool:
        return bool(self._waits) and hour > self._waits[0].hour and now - self._since >= self._seconds

    def _left(self, each: InFlightRecord) -> None:
        self.partitions[each.tp] -= 1
        if not self.partitions[each.tp]:
            del self.partitions[each.tp]


def _by_hour(waits: _Waits) -> bytes:
    return waits.hour
