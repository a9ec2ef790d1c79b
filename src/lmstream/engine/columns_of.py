"""From the pieces of one record's lines to its columns, and from the columns of a record to those of one path."""

from collections.abc import Iterable, Sequence
from itertools import chain, compress
from operator import itemgetter
from typing import Any, Final

import msgspec

from lmstream.engine.columns import Columns, Series, Value
from lmstream.engine.kept import ordinals as ordinals_of
from lmstream.engine.lines import Lines, Pieced, Ranges
from lmstream.engine.row_pieces import Pieces, pieces_of
from lmstream.engine.timestamps import NS_PER_MS, time_piece
from lmstream.interfaces import Bundle, Scope
from lmstream.model import RowEvent

_ROW: Final = msgspec.json.Decoder(RowEvent)
_numbers: Final = msgspec.json.Decoder(list[Value]).decode


def columns_of(
    lines: Lines,
    bundle: Bundle,
    faults: dict[int, str],
    row_id: bytes,
    orgs: list[bytes],
    numbered: Sequence[int],
) -> Columns:
    """All rows of a record. `numbered` is empty when ordinals count all points in order; as bytes, they are packed."""
    prefix = row_id.decode()
    values: list[Value] = bundle.values if isinstance(bundle.values, list) else list(bundle.values)
    if bundle.texts:
        values = _numbers(b"[%b]" % bundle.texts)
        if isinstance(numbered, bytes) and numbered and bundle.sifted is None:
            values = [values[ordinal] for ordinal in ordinals_of(numbered)]
    if faults:
        kept = [at not in faults for at in range(len(values))]
        counts = [sum(kept[each.start : each.stop]) for each in bundle.series]
        values = list(compress(values, kept))
    else:
        counts = [each.stop - each.start for each in bundle.series]
    ordinals: Sequence[int] = range(len(values))
    if isinstance(numbered, bytes) and numbered:
        ordinals = ordinals_of(numbered)
    elif faults or numbered:
        ordinals = [int(piece[:-2]) for piece in lines.column(1)]
    series = [
        Series(prefix, org, each.resource.piece, each.scope, rows)
        for each, org, rows in zip(bundle.series, orgs, counts, strict=True)
        if rows
    ]
    odd: dict[int, bytes] = {}
    if bundle.odd:
        bodies = lines.column(4)
        alive = range(len(values)) if not faults else compress(range(len(bundle.values)), kept)
        odd = {at: bodies[at] for at, ordinal in enumerate(alive) if ordinal in bundle.odd}
        values = [None if at in odd else value for at, value in enumerate(values)]
    pieces = lines if isinstance(lines, Pieced) else lines.pieced()
    return Columns("", series, ordinals, pieces.column(2), pieces.column(3), values, pieces.column(5), odd, lines)


def columns_again(lines: Lines) -> Columns:
    """Rows that were made before, each from its line."""
    rows = map(_ROW.decode, lines.column(0))
    return columns_of_rows([(row, pieces_of(row)) for row in rows], lines)


def columns_of_rows(rows: Iterable[tuple[RowEvent, Pieces]], lines: Lines) -> Columns:
    """Rows that are known one by one. `lines` has them in the same order."""
    series, ordinals, metrics, times, values, tails = [], [], [], [], [], []
    odd: dict[int, bytes] = {}
    for at, (row, made) in enumerate(rows):
        bundle, _, ordinal = row.row_id.partition(":")
        series.append(Series(bundle, made.org, made.resource, Scope(made.scope, "", {}), 1))
        ordinals.append(int(ordinal))
        metrics.append(made.metric)
        start = row.start_ts_unix_ms
        times.append(time_piece(row.ts_unix_ms * NS_PER_MS, None if start is None else start * NS_PER_MS))
        if made.body.startswith(b'"value":') and row.exemplars is None:
            values.append(row.value)
        else:
            values.append(None)
            odd[at] = made.body
        tails.append(made.tail)
    return Columns("", series, ordinals, metrics, times, values, tails, odd, lines)


def selected(whole: Columns, path: str, ranges: Ranges) -> Columns:
    """The rows in these ranges, which are in order."""
    rows = list(chain.from_iterable(range(*each) for each in ranges)) if len(ranges) > 1 else range(*ranges[0])
    series = []
    each = iter(whole.series)
    one, stop, taken = next(each), 0, 0
    stop = one.rows
    for first, end in ranges:
        start = first
        while start < end:
            if start >= stop:
                if taken:
                    series.append(one if taken == one.rows else Series(*one[:4], taken))
                one, taken = next(each), 0
                stop += one.rows
                continue
            upto = min(stop, end)
            taken += upto - start
            start = upto
    series.append(one if taken == one.rows else Series(*one[:4], taken))
    if len(rows) == 1:
        at = rows[0]

        def take(column: Any) -> Any:
            return [column[at]]
    elif len(ranges) == 1:
        only = slice(*ranges[0])

        def take(column: Any) -> Any:
            return column[only]
    else:
        get = itemgetter(*rows)

        def take(column: Any) -> Any:
            return list(get(column))

    return Columns(
        path,
        series,
        take(whole.ordinals),
        take(whole.metrics),
        take(whole.times),
        take(whole.values),
        take(whole.tails),
        {new: whole.odd[old] for new, old in enumerate(rows) if old in whole.odd} if whole.odd else {},
        whole._lines,  # noqa: SLF001 - of the same class
        ranges,
    )
