"""Rows that are known one by one get keys in the place of what they repeat: see engine.dimensions."""

from collections.abc import Sequence

from lmstream.engine.dimensions import Dimensions, Keys
from lmstream.engine.row_pieces import Pieces
from lmstream.engine.timestamps import NS_PER_MS, time_piece
from lmstream.interfaces import Bundle, Resource, Scope, Series
from lmstream.model import RowEvent


def keyed(
    dimensions: Dimensions, rows: Sequence[tuple[RowEvent, Pieces]]
) -> tuple[list[Pieces], Keys, list[bytes]]:  # fmt: skip
    """(the pieces of each row, the keys in them, a piece of time for each)."""
    series = [
        Series(Resource(of.resource, "", {}), Scope(of.scope, "", {}), at, at + 1) for at, (_, of) in enumerate(rows)
    ]
    times = [time_piece(row.ts_unix_ms * NS_PER_MS, 0) for row, _ in rows]
    bundle = Bundle(series, (), (), (), (), (), (), [of.tail for _, of in rows])
    keys = dimensions.keys(bundle, [of.org for _, of in rows], [row.org_key for row, _ in rows], times)
    pieces = [
        of._replace(resource=run.resource, scope=run.scope, tail=tail)
        for (_, of), run, tail in zip(rows, keys.runs, keys.tails, strict=True)
    ]
    return pieces, keys, times
