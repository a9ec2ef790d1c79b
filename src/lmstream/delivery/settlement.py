"""What becomes of a record once its verdicts are in: acknowledged as delivered, or dead-lettered first."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from lmstream.delivery.active_partitions import ActivePartitions
from lmstream.delivery.circuit_breaker import CircuitBreakers
from lmstream.delivery.counts import one_more
from lmstream.delivery.dead_letter import cause
from lmstream.delivery.dead_letter_writer import DeadLetterQueues
from lmstream.delivery.in_flight import InFlight, InFlightRecord
from lmstream.engine import FanOut
from lmstream.engine.dimension_line import DimensionLine
from lmstream.errors import coded
from lmstream.interfaces import Clock, PoisonGuard
from lmstream.model import Failure, Kind, Pack, Status

log: Final = logging.getLogger("lmstream.delivery.settlement")


class Settlement:
    """The one way out: whatever is acknowledged, is acknowledged in `settle`."""

    def __init__(
        self,
        flight: InFlight,
        letters: DeadLetterQueues,
        breakers: CircuitBreakers,
        active: ActivePartitions,
        *,
        guard: PoisonGuard | None,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called whenever a record was settled."""
        self.letters: DeadLetterQueues = letters
        self.breakers: CircuitBreakers = breakers
        self._flight, self._active = flight, active
        self._guard, self._clock, self._changed = guard, clock, changed
        self.keyed: Callable[[Sequence[DimensionLine]], object] = _nobody
        """Told of dimension rows that were accepted."""
        letters.durable = self._dead_lettered

    def transformed(self, each: InFlightRecord, out: FanOut, size: int) -> bool:
        """Take note of what a record became; whether there are rows of it (`size` bytes of lines) to be delivered.
        Without any it is settled, or gets its dead letter."""
        self._flight.encoded(each, out, size)
        if out.rows:
            self.breakers.decoding.saw(refused=False)
        elif out.rejected or out.parts:
            self.refuse(each)
        else:
            # Tombstones, empty bundles, points without a recorded value: no verdict on the engine in either direction.
            # As refusals they would stop a healthy service; as acceptances they would hide that all else is refused.
            self._complete(each)
        return out.rows > 0

    def refused(self, each: InFlightRecord) -> None:
        """Nothing could be made of a record, for the reason in `why`: it gets its dead letter."""
        self._flight.refused(each)
        self.refuse(each)

    def judged(self, pack: Pack, failure: Failure | None) -> None:
        """Take the last word on a pack: delivered, refused permanently, or left pending near its deadline."""
        flight = self._flight
        if failure is not None and failure.kind is not Kind.PERMANENT:
            flight.records[pack.spans[0][0]].submission.gave_up(failure)
            return
        for number, rows in pack.spans:
            each = flight.records[number]
            each.remaining -= rows
            if failure is None:
                flight.counts.accepted += rows
            else:
                each.refused += rows
                each.why = each.why or ("sink.permanent", f"{failure.code}: {failure.message}")
            if not rows:
                self._keys_judged(each, failure)
            if not each.remaining and not each.keys_open:
                self._complete(each)

    def _keys_judged(self, each: InFlightRecord, failure: Failure | None) -> None:
        """Take the last word on a chunk of dimension rows. They are known once all of the record's are accepted: which
        of them a chunk had is not asked."""
        each.keys_open -= 1
        if failure is not None:
            each.keys = ()
        elif not each.keys_open:
            self.keyed(each.keys)

    def give_back(self, each: InFlightRecord) -> None:
        """Forget a record that is left pending: its source redelivers it."""
        self._active.settled(each.hours, self._clock)
        self._flight.give_back(each)

    def _complete(self, each: InFlightRecord) -> None:
        """Every row has a final verdict; one letter holds whatever went wrong with the record."""
        if each.why is not None or each.rejected or each.parts:
            self.dead_letter(each)
        else:
            self.settle(each, Status.DELIVERED if each.record.value is not None else Status.TOMBSTONE)
        if each.lines:
            refused = each.why is not None  # rows, or the dimension rows that they need
            why = f"{each.record.coordinates}: {': '.join(cause(each))}" if refused else ""
            self.breakers.accepting.saw(refused=refused, why=why)

    def refuse(self, each: InFlightRecord) -> None:
        """No row could be made of a record."""
        self.dead_letter(each)
        self.made_no_row(each)

    def made_no_row(self, each: InFlightRecord) -> None:
        """Tell the breaker of a refused record, whose letter is being written: that of the last one before it trips is
        written too."""
        reason, detail = cause(each)
        self.breakers.decoding.saw(refused=True, why=f"{each.record.coordinates}: {reason}: {detail}")

    def dead_letter(self, each: InFlightRecord) -> None:
        """Have the letter of a record written; `letters.durable` is told when that is done."""
        # What made the breaker trip gets its letters, what comes after that none. Without them only a slow topic would
        # leave something to read: in a quick one the breaker trips before the first letter is on its way.
        if self.breakers.tripped is None:
            self.letters.add(each)

    def _dead_lettered(self, each: InFlightRecord) -> None:
        self.settle(each, Status.DEAD_LETTERED)

    def settle(self, each: InFlightRecord, status: Status) -> None:
        """Everything of a record is durable."""
        counts = self._flight.counts
        if status is Status.DEAD_LETTERED:
            counts.dead_letters += 1
            counts.rows_dead += each.refused
            if each.why or each.rejected or each.parts:
                one_more(each.submission.letters, cause(each)[0])
        elif status is Status.TOMBSTONE:
            counts.tombstones += 1
        else:
            counts.delivered += 1
        self._flight.drop(each)
        if each.hours:
            self._active.settled(each.hours, self._clock)
        if self._guard is not None and self._guard.deaths(each.record):
            self._forget_deaths(self._guard, each)
        self._changed()
        each.settled(status)

    def _forget_deaths(self, guard: PoisonGuard, each: InFlightRecord) -> None:
        """A record did no harm after all, or its stub is durable."""
        try:
            guard.forget(each.record)
        except OSError as error:
            # A full disk or too few descriptors: the record is settled all the same, and its deaths were for nothing.
            log.warning(
                "%s is settled, but the crash journal cannot be written: %s",
                each.record.coordinates,
                error,
                extra=coded("sink.disk"),
            )


def _nobody(_: Sequence[DimensionLine]) -> None:
    """Nobody asks for dimension rows."""
