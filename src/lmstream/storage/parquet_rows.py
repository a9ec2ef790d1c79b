"""Rows read back from Parquet: as row events, and as the lines that the engine wrote."""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import msgspec

from lmstream.engine.row_pieces import line_of
from lmstream.errors import SourceError
from lmstream.model import Buckets, Exemplar, Quantile, RowEvent
from lmstream.spec import INTEGER
from lmstream.storage.parquet_schema import pyarrow

_BATCH: Final = 4096  # rows that are held at once
_CAMEL: Final = {
    name.lower(): name for of in (RowEvent, Buckets, Quantile, Exemplar) for name in of.__struct_encode_fields__
}


def lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Each row as the line that the engine wrote, newline included. Raises SourceError for a file that is damaged, or
    whose rows are not lmstream's."""
    return map(line_of, events(file, name))


def events(file: BinaryIO, name: str) -> Iterator[RowEvent]:
    """The rows of a file. `name` is for messages. Raises SourceError."""
    pa = pyarrow()
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(file).iter_batches(_BATCH):
            for row in batch.to_pylist():
                yield msgspec.convert(_named(row), RowEvent)
    except (pa.ArrowException, msgspec.ValidationError, OSError, ValueError, TypeError) as error:
        raise SourceError("source.file", f"{name}: {error}") from error


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """A row or a struct in it, as JSON has it."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or name == INTEGER:
            continue
        if name == "value" and (integer := row.get(INTEGER)) is not None:
            found[name] = integer
        elif name in ("attributes", "resource", "scope"):
            found[name] = dict(value)
        elif isinstance(value, dict):
            found[_CAMEL[name]] = _named(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found[_CAMEL[name]] = [_named(item) for item in value]
        else:
            found[_CAMEL.get(name, name)] = value
    return found
