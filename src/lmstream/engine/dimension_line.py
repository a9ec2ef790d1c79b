"""A dimension row of a record, as sinks want it: see engine.dimensions."""

from typing import NamedTuple

from lmstream.model import DimensionKind


class DimensionLine(NamedTuple):
    """A dimension row of one record, as sinks want it."""

    path: str
    """Partition path of the row, below the landing root."""
    kind: DimensionKind
    key: str
    line: bytes
    """With its newline; the same for the same key, organization and hour, whatever the record."""
