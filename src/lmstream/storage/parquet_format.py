"""Parquet as a format of a lake: columns of a path gathered in pools, a file of them in the end."""

from typing import Final

from lmstream.delivery.transform import Cut
from lmstream.engine.columns import Columns, Pools
from lmstream.storage.parquet import write

_ROW: Final = 64
"""Bytes that a row takes in pools, about: seven numbers in arrays, and its value."""
_PIECE: Final = 160
"""Bytes that a distinct piece takes beside its text: an entry of a table, and the text's own head."""


class ParquetFormat:
    """A lake.formats.Format."""

    columns: bool = True
    slow: bool = True

    def __init__(self, extension: str) -> None:
        """The library is asked for when the first object is made: see parquet_schema.pyarrow."""
        self.extension: str = extension

    def gather(self) -> "_Pooled":
        """Begin an object."""
        return _Pooled()


class _Pooled:
    def __init__(self) -> None:
        self.rows = self.lines = self.held = 0
        self._pools = Pools()
        self._known = 0

    def add(self, cut: Cut, columns: Columns | None, /) -> None:
        assert columns is not None  # noqa: S101 - for the type checker: the format asks for them
        pools = self._pools
        pools.add(columns)
        self.rows += columns.rows
        self.lines += len(cut[1])
        self.held += _ROW * columns.rows
        known = len(pools.resources) + len(pools.scopes) + len(pools.tails) + len(pools.metrics) + len(pools.times)
        if known > self._known:
            # New pieces: their texts are in this record's lines, so that these are more than enough.
            self.held += min(len(cut[1]), (known - self._known) * 400) + _PIECE * (known - self._known)
            self._known = known

    def squeeze(self) -> None:
        """Pools are as small as they get."""

    def finish(self) -> bytes:
        return write(self._pools)
