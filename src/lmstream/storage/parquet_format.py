"""Parquet as a format of a lake: columns of a path gathered in pools, a file of them in the end."""

from lmstream.delivery.transform import Cut
from lmstream.engine.columns import Columns, Pools
from lmstream.storage.parquet import write


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

    def add(self, cut: Cut, columns: Columns | None, /) -> int:
        assert columns is not None  # noqa: S101 - for the type checker: the format asks for them
        self._pools.add(columns)
        self.rows += columns.rows
        self.lines += len(cut[1])
        before, self.held = self.held, self._pools.held
        return self.held - before

    def append(self, other: "_Pooled", /) -> None:
        self._pools.append(other.pools)
        self.rows += other.rows
        self.lines += other.lines
        self.held = self._pools.held

    @property
    def pools(self) -> Pools:
        """What is gathered."""
        return self._pools

    def squeeze(self) -> None:
        """Pools are as small as they get."""

    def finish(self) -> bytes:
        return write(self._pools)
