"""What one record becomes in its window: rows, a dead letter, or nothing."""

from collections.abc import Iterable

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.outlet import Parts
from lmstream.delivery.transform import Cut
from lmstream.engine import FanOut
from lmstream.errors import SinkError
from lmstream.lake.again import left_over
from lmstream.lake.claims import Buried, Claim, Claims, Mark, mark
from lmstream.lake.lane import Lane
from lmstream.lake.lanes import Lanes
from lmstream.lake.layout import Layout
from lmstream.lake.objects import other_code
from lmstream.lake.window import Window
from lmstream.model import Position, Record, Status


class Making:
    """Makes the rows of records by the layout of their windows, and has letters written before the claims that name
    them."""

    def __init__(self, parts: Parts, claims: Claims, layout: Layout, lanes: Lanes) -> None:
        self._parts, self._claims, self._layout, self._lanes = parts, claims, layout, lanes

    def add(self, lane: Lane, window: Window, each: InFlightRecord) -> None:
        """Put into a window of a lane what a record becomes. Raises SinkError `lake.code` when that is something else
        than what the claim of the window says."""
        parts, counts = self._parts, self._parts.flight.counts
        partition, offset = each.tp.partition, each.offset
        listed = window.buried.get((partition, offset))
        if listed is not None and listed.ordinals is None and not listed.parts:
            counts.unjudged -= 1
            each.why = (listed.reason, "")
            parts.flight.refused(each)
            window.keep(each, Status.DEAD_LETTERED)
            self._lighten(each)
            return
        layout = self._layout.hash if window.claim is None else window.claim.layout
        made = self._lanes.transforms[layout].make(each)
        counts.unjudged -= 1
        if made is None:
            assert each.why is not None  # noqa: S101 - for the type checker
            if window.claim is not None:
                raise self._other(window.claim, f"{each.record.coordinates} is refused now: {each.why[0]}")
            parts.flight.refused(each)
            window.keep(each, Status.DEAD_LETTERED)
            self._bury(lane, window, each, Buried(partition=partition, offset=offset, reason=each.why[0]))
            parts.settlement.made_no_row(each)
            return
        out, cuts = made
        parts.flight.encoded(each, out, 0)
        if out.rows:
            parts.settlement.breakers.decoding.saw(refused=False)
        self._add(window, each, out, cuts)
        if (letter := left_over(Position(each.tp, offset), out)) is not None:
            window.keep(each, Status.DEAD_LETTERED)
            if window.claim is None:
                self._bury(lane, window, each, letter)
                if not out.rows:
                    parts.settlement.made_no_row(each)
                return
            if listed is None or (listed.ordinals, listed.parts) != (letter.ordinals, letter.parts):
                raise self._other(window.claim, f"other points of {each.record.coordinates} are refused now")
        else:
            if listed is not None and window.claim is not None:
                raise self._other(window.claim, f"{each.record.coordinates} has a dead letter, and becomes rows now")
            window.keep(each, Status.TOMBSTONE if each.record.value is None else Status.DELIVERED)
        self._lighten(each)

    def lettered(self, each: InFlightRecord) -> None:
        """The letter of a record is durable."""
        lane = self._lanes.get(each.tp)
        if lane is None or (window := lane.writing.pop(each.number, None)) is None:
            return  # given back meanwhile
        window.unwritten -= 1
        self._lighten(each)
        lane.awake.set()

    @staticmethod
    def compare(lane: Lane, record: Record, known: Mark) -> None:
        """See that the log holds what it held when its rows landed. Raises SinkError."""
        del lane.marks[record.tp.partition]
        if record.at == known.offset and mark(record) != known:
            raise SinkError(
                "lake.incarnation", f"{record.coordinates} is another record than the one whose rows landed"
            )

    def _other(self, claim: Claim, why: str) -> SinkError:
        return other_code(claim, self._claims.known[claim.layout], why)

    def _add(self, window: Window, each: InFlightRecord, out: FanOut, cuts: Iterable[Cut]) -> None:
        before = window.held
        window.add(each, out, cuts)
        self._parts.budget.hold(window.held - before)

    def _bury(self, lane: Lane, window: Window, each: InFlightRecord, letter: Buried) -> None:
        """Have a letter written before the claim that names it."""
        window.letters.append(letter)
        window.unwritten += 1
        lane.writing[each.number] = window
        self._parts.settlement.dead_letter(each)

    def _lighten(self, each: InFlightRecord) -> None:
        """Hold nothing of a record but its place: its rows and its letter are held elsewhere."""
        record = each.record
        self._parts.budget.release(each.payload)
        each.payload = 0
        each.record = Record(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            value=None,
            identity=record.identity,
            position=record.position,
        )
