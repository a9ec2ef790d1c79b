"""A window is made again from its records, outside of any run: as its claim says, and nothing is judged anew."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from lmstream.delivery.in_flight import InFlightRecord, Submission
from lmstream.delivery.transform import Cut, Transform
from lmstream.engine import Engine, FanOut
from lmstream.errors import SinkError
from lmstream.lake.claims import Buried, Claim, Span, mark
from lmstream.lake.formats import Format
from lmstream.lake.lanes import LIMITS, MakeEngine
from lmstream.lake.layout import Layout
from lmstream.lake.objects import needs_code, other_code
from lmstream.lake.window import Window
from lmstream.model import Position, Record

Read = Callable[[str, Mapping[int, tuple[int, int]]], AsyncIterator[Record]]
"""Read the records of a topic by partition, from an offset to before another, in the order of offsets; those that are
gone are left out."""
_QUIET: Final = Submission(lambda *_: None)


class Maker:
    """Makes rows by layouts. Engines are kept: each takes caches of its own."""

    def __init__(
        self, formats: Mapping[str, Format], engine: MakeEngine = lambda layout: Engine(layout.settings)
    ) -> None:
        self._formats, self._engine = formats, engine
        self._transforms: dict[str, Transform] = {}

    def form(self, layout: Layout) -> Format:
        """How objects of a layout are written."""
        return self._formats[layout.format]

    def rows(self, record: Record, layout: Layout, what: str) -> tuple[InFlightRecord, tuple[FanOut, list[Cut]] | None]:
        """What a record becomes; with None, `why` says why nothing. Raises SinkError `lake.code` when the layout of
        `what` is one of other code."""
        name = layout.hash
        if name not in self._transforms:
            if not layout.is_made_here:
                raise needs_code(what, layout, "its rows are made by other code")
            self._transforms[name] = Transform(self._engine(layout), LIMITS, None)
        each = InFlightRecord(0, _QUIET, record, record.tp, 0)
        return each, self._transforms[name].make(each)

    async def window(self, claim: Claim, layout: Layout, read: Read) -> Window:
        """The window of a claim, as far as its records are still in the topic. Raises SinkError: `lake.code` when they
        become something else now, `lake.incarnation` when they are others."""
        position = {partition: span.start for partition, span in claim.spans.items()}
        window = Window(self.form(layout), 0.0, position, 1, claim)
        ranges = {partition: (span.start, span.end) for partition, span in claim.spans.items() if span.records}
        if not ranges:
            return window
        async for record in read(claim.topic, ranges):
            _refuse_other(record, claim.spans[record.tp.partition])
            window.saw(record)
            self._gather(window, claim, layout, record)
        return window

    def _gather(self, window: Window, claim: Claim, layout: Layout, record: Record) -> None:
        listed = window.buried.get((record.tp.partition, record.at))
        if listed is not None and listed.ordinals is None and not listed.parts:
            return
        each, made = self.rows(record, layout, f"{claim.topic}/{claim.lane}: claim {claim.sequence}")
        if made is None:
            why = "" if each.why is None else each.why[0]
            raise other_code(claim, layout, f"{record.coordinates} is refused now: {why}")
        out, cuts = made
        now = left_over(Position(record.tp, record.at), out)
        if (now and (now.ordinals, now.parts)) != (listed and (listed.ordinals, listed.parts)):
            raise other_code(claim, layout, f"other points of {record.coordinates} are refused now")
        window.add(each, out, cuts)


def left_over(at: Position, out: FanOut) -> Buried | None:
    """What of the record there has to be in a dead letter; None when nothing has."""
    if not out.rejected and not out.parts:
        return None
    return Buried(
        partition=at.tp.partition,
        offset=at.offset,
        reason=out.rejected[0][1] if out.rejected else out.parts[0].reason,
        ordinals=tuple(ordinal for ordinal, _ in out.rejected),
        parts=tuple(part.path for part in out.parts),
    )


def _refuse_other(record: Record, span: Span) -> None:
    """See that the topic holds what it held when the claim was made."""
    for known in (span.first, span.last):
        if known is not None and record.at == known.offset and mark(record) != known:
            raise SinkError(
                "lake.incarnation", f"{record.coordinates} is another record than the one whose rows landed"
            )
