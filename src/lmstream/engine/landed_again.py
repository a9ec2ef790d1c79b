"""Rows and dimension rows that were made before and did not land: judged by the row contract, and sent as they are."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from lmstream.engine.fan_out import FanOut
from lmstream.engine.lines import PIECES, Pieced
from lmstream.engine.output import Output
from lmstream.engine.timestamps import HOUR, NS_PER_MS, time_piece
from lmstream.errors import DecodeError
from lmstream.model import DimensionRow, RowEvent

_ROW: Final = msgspec.json.Decoder(RowEvent)
_DIMENSION: Final = msgspec.json.Decoder(DimensionRow)
_REST: Final = [b""] * (PIECES - 1)


def rows_again(value: bytes, path_of: Callable[[str, str, bytes], str], most: int) -> FanOut:
    """The rows in these lines, byte for byte.

    Raises DecodeError for a line that is not a row, or over `most` bytes: otherwise, whoever can write into the error
    prefix could put anything into the table."""
    pieces: list[bytes] = []
    paths: list[tuple[str, int]] = []
    for number, line in enumerate(filter(None, map(bytes.strip, value.split(b"\n"))), 1):
        where = f"line {number:,}"
        if len(line) >= most:
            raise DecodeError("limits.size", f"{where} has {len(line):,} bytes, over the {most:,} of a row")
        try:
            row = _decoded(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError("record.no_row", f"{where} is not a row: {error}") from None
        piece = time_piece(row.ts_unix_ms * NS_PER_MS, 0)
        if not piece.startswith(b'"ts":"%b"' % row.ts.encode()):
            raise DecodeError("record.no_row", f"{where} is not a row: ts {row.ts} is not tsUnixMs {row.ts_unix_ms}")
        pieces += [line + b"\n", *_REST]
        paths.append((path_of(row.org_key, row.metric_key, piece[HOUR]), number))
    if not paths:
        raise DecodeError("record.no_row", "no line at all")
    return Output(len(paths), {}, Pieced(pieces), _given, (paths,), len(paths))


def _decoded(line: bytes) -> RowEvent | DimensionRow:
    """The row, or the dimension row. Raises as its decoder does."""
    try:
        return _ROW.decode(line)
    except msgspec.ValidationError:
        if b'"metricKey":"_dimensions"' not in line:
            raise
        return _DIMENSION.decode(line)


def _given(paths: list[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    return paths
