"""A row that was read back, as the engine wrote it: its pieces, and its line."""

from typing import Final, NamedTuple

import msgspec

from lmstream.codecs import fragments
from lmstream.codecs.fragments import encode
from lmstream.engine.timestamps import NS_PER_MS, VALUE, time_piece
from lmstream.model import RowEvent

NUMBERS: Final = ("gauge", "sum")
"""Types of rows that have a value, and nothing else in its place but exemplars."""
_MEMBERS: Final = tuple(
    name
    for name in RowEvent.__struct_fields__
    if name in {"value", "count", "sum", "min", "max", "scale", "positive", "negative", "quantiles", "exemplars"}
    or name.startswith(("bucket", "explicit", "zero"))
)
"""What stands in place of a value, in the order of lines, which is that of RowEvent."""
_NAMES: Final = {field.name: field.encode_name for field in msgspec.structs.fields(RowEvent)}


class Pieces(NamedTuple):
    """As in a line, but for row id and times."""

    org: bytes
    resource: bytes
    scope: bytes
    metric: bytes
    body: bytes
    """`"value":…`, or the members that stand in its place."""
    tail: bytes


def org_piece(org: str, key: str) -> bytes:
    """How a line begins."""
    return b'{"orgId":%b,"orgKey":%b,' % (encode(org), encode(key))


def pieces_of(row: RowEvent) -> Pieces:
    """The pieces of a row."""
    temporality = fragments.TEMPORALITIES.index(row.temporality or "unspecified")
    return Pieces(
        org_piece(row.org_id, row.org_key),
        fragments.resource_piece(row.device_id, row.device_name, row.resource),
        fragments.scope_piece(row.datasource, row.scope),
        fragments.metric_piece(row.metric, row.metric_key, row.unit, row.type, temporality, row.monotonic is True),
        _body(row),
        fragments.tail_piece(row.instance, row.attributes),
    )


def line_of(row: RowEvent) -> bytes:
    """The line that the engine wrote of a row, byte for byte."""
    return line_from(row, pieces_of(row))


def line_from(row: RowEvent, pieces: Pieces) -> bytes:
    """The same of who has the row's pieces."""
    start = row.start_ts_unix_ms
    times = time_piece(row.ts_unix_ms * NS_PER_MS, None if start is None else start * NS_PER_MS)
    return b"".join(
        (
            pieces.org,
            pieces.resource,
            pieces.scope,
            b'"rowId":"%b",' % row.row_id.encode(),
            pieces.metric,
            times[:-VALUE],
            pieces.body,
            pieces.tail,
        )
    )


def _body(row: RowEvent) -> bytes:
    if row.type in NUMBERS and row.exemplars is None:  # nearly all rows, in a third of the time
        return b'"value":%b' % encode(row.value)
    found = {_NAMES[name]: value for name in _MEMBERS if (value := getattr(row, name)) is not None}
    return encode(found)[1:-1]
