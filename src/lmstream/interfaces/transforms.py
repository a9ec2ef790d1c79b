"""What somebody else's code may do with rows, after the codec and the rules."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from lmstream.model import RowEvent

MAY_CHANGE: Final = ("deviceName", "instance", "unit", "value", "attributes", "resource", "scope", "exemplars")
"""Fields of a row that a transform may change. A value stays a number where there is one, and the others may be left
out. All else is what names and places a row, or hangs together: ids, organization, device, datasource, metric, type,
times, and the numbers of histograms and summaries."""


class Transform(Protocol):
    """Other rows of the rows of one record. Pure: the same rows give the same rows, whatever came before, in every
    process; no I/O, no clock, no order of sets."""

    def apply(self, rows: Sequence[RowEvent], /) -> Iterable[RowEvent]:
        """The rows that stay, as they are or changed, in any order; rows left out do not land, and are counted.

        `rows` are all that the record gives, in document order. They are frozen: `msgspec.structs.replace` makes a
        changed one; their maps are each row's own, and may be changed in place. Raise DecodeError to have the record
        dead-lettered, and nothing else.
        """
        ...
