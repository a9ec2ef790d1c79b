"""What lies in an object of Parquet: its rows counted, named, put together and left out. A lake.contents.Contents."""

import io
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from lmstream.engine.row_digest import of_lines
from lmstream.errors import SourceError
from lmstream.storage.parquet import encoded
from lmstream.storage.parquet_rows import lines
from lmstream.storage.parquet_schema import pyarrow, schema

_SORTED = ("metric", "deviceid", "tsunixms")
"""As in the objects of windows."""


class ParquetContents:
    """Raises ValueError for bytes that are not Parquet, or not of lmstream."""

    @cached_property
    def empty(self) -> bytes:
        """A file without a row."""
        return encoded(schema().empty_table())

    def count(self, data: bytes, /) -> tuple[int, int]:
        """How many rows it has, and their digest."""
        rows = self._lines(data)
        return len(rows), of_lines(rows)

    def ids(self, data: bytes, /) -> set[str]:
        """Ids of its rows."""
        return set(_read(data, ["rowid"]).column("rowid").to_pylist())

    def merge(self, objects: Sequence[bytes], /) -> bytes:
        """One file with the rows of all of these, sorted as each of them is."""
        pa = pyarrow()
        import pyarrow.compute as pc

        rows = pa.concat_tables([_read(each) for each in objects])
        keys = rows.select(_SORTED)
        order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in _SORTED])
        return encoded(rows.take(order))

    def of_dimensions(self, _data: bytes, /) -> bool:
        """Parquet has none: a file has each distinct map once as it is."""
        return False

    def without(self, data: bytes, ids: Collection[str], /) -> bytes:
        """The same file without the rows of these ids."""
        pa = pyarrow()
        import pyarrow.compute as pc

        rows = _read(data)
        return encoded(
            rows.filter(pc.invert(pc.is_in(rows.column("rowid"), value_set=pa.array(sorted(ids), pa.string()))))
        )

    @staticmethod
    def _lines(data: bytes) -> list[bytes]:
        try:
            return list(lines(io.BytesIO(data), "an object"))
        except SourceError as error:
            raise ValueError(str(error)) from error


def _read(data: bytes, columns: list[str] | None = None) -> Any:
    pa = pyarrow()
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(data), columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"not Parquet: {error}") from error
