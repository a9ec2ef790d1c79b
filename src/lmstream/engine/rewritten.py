"""What a record became when somebody else's transform made other rows of its rows: see fan_out."""

from collections.abc import Sequence

from lmstream.engine.columns import Columns
from lmstream.engine.columns_of import columns_of_rows
from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.fan_out import FanOut, Spread
from lmstream.engine.lines import Pieced
from lmstream.engine.output import Output
from lmstream.engine.row_pieces import Pieces
from lmstream.model import RowEvent


class Rewritten(Output, kw_only=True, eq=False, gc=False):
    """A FanOut of rows that are as large or as few as somebody else wants, in the paths that they had before."""

    _before: FanOut
    """The same record without the transform."""
    _events: Sequence[tuple[RowEvent, Pieces]]
    """Each row, in the order of ordinals."""
    _needed: list[DimensionLine]

    @property
    def left_out(self) -> dict[int, list[str]]:
        return self._before.left_out

    @property
    def hour(self) -> tuple[str, bytes] | None:
        return self._before.hour

    @property
    def dimensions(self) -> list[DimensionLine]:
        return self._needed

    def _spread(self) -> list[Spread]:
        return self._before.spread()

    def _columns(self) -> Columns:
        assert isinstance(self._lines, Pieced)  # noqa: S101 - for the type checker: it was made so
        return columns_of_rows(self._events, self._lines)
