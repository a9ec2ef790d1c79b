"""OTLP/protobuf data points the general way, one at a time, and attribute values level by level."""

from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.unknown_fields import UnknownFieldSet

from lmstream.codecs import point_values
from lmstream.codecs.fragments import MAX_ITEMS, MAX_NESTING, PartlyRead, Plain, bounded, text, too_deep
from lmstream.codecs.proto_schema import POINTS, AnyValueMessage, KeyValueMessage
from lmstream.errors import DecodeError

_SHORT: Final = 8
"""Bytes of the shortest KeyValue: tags and lengths of itself, key, value and text."""


def attributes(items: Any) -> dict[str, str]:
    """Repeated KeyValue as text. Of keys that come twice the last value wins, at the first one's place. Raises
    DecodeError for too many and for values nested too deep."""
    bounded(items, "attributes")
    empty = [0]
    found = {item.key: text(_value(item, 0, empty)) for item in items}
    if empty[0]:
        found = PartlyRead(found)
        found.empty = empty[0]
    return found


def text_attributes(raw: bytes, tag: int) -> dict[str, str] | None:
    """The attributes in `raw` when it holds nothing but repeated KeyValue under this tag, each a key and a text of less
    than 128 bytes in the usual order; None when a parser must look. A third of the parser's time, whose fields Python
    reads one by one."""
    found = {}
    at, end = 0, len(raw)
    if end > _SHORT * MAX_ITEMS:
        return None  # more of them than there may be, perhaps: the parser counts
    try:
        while at < end:
            key = at + 4
            value = key + raw[at + 3]  # tag 2, length, tag 1, length of the text
            stop = at + 2 + raw[at + 1]
            if (
                raw[at] != tag
                or raw[at + 2] != 0x0A  # noqa: PLR2004 - tag of KeyValue.key
                or raw[value] != 0x12  # noqa: PLR2004 - tag of KeyValue.value
                or raw[value + 2] != 0x0A  # noqa: PLR2004 - tag of AnyValue.string_value
                or raw[value + 1] != raw[value + 3] + 2
                or value + 4 + raw[value + 3] != stop
                or stop > end
                or max(raw[at + 1], raw[value + 1]) >= 0x80  # noqa: PLR2004 - a length in more than one byte
            ):
                return None
            found[raw[key:value].decode()] = raw[value + 4 : stop].decode()
            at = stop
    except (IndexError, UnicodeDecodeError):
        return None
    return found


def _value(item: Any, level: int, empty: list[int]) -> Plain:
    """The value of a KeyValue; one without a value and with unknown fields counts as not understood."""
    if not item.value:
        empty[0] += len(UnknownFieldSet(item)) > 0
        return None
    return _plain(item.value, level, empty)


def _plain(encoded: Any, level: int, empty: list[int]) -> Plain:
    """An AnyValue from the bytes of its field, joined when it came more than once."""
    if level > MAX_NESTING:
        raise too_deep()
    value = AnyValueMessage.FromString(encoded[0] if len(encoded) == 1 else b"".join(encoded))
    kind = value.WhichOneof("value")
    if kind == "array_value":
        bounded(value.array_value.values, "items of one array")
        return [_plain((item,), level + 1, empty) for item in value.array_value.values]
    if kind == "kvlist_value":
        bounded(value.kvlist_value.values, "items of one map")
        return {item.key: _value(item, level + 1, empty) for item in value.kvlist_value.values}
    if kind in (None, "string_value_strindex"):  # an index into a table that only profiles have: the empty value
        empty[0] += kind is None and len(UnknownFieldSet(value)) > 0
        return None
    plain: Plain = getattr(value, kind)
    return plain


class Point(NamedTuple):
    """What a point came to: see interfaces.Bundle."""

    time: int
    start: int
    attributes: Any
    """Repeated KeyValue."""
    labels: Any
    """Repeated bytes: what older senders wrote instead."""
    odd: bytes | str
    left: list[str]
    """Reasons of parts that are not in the row."""


def point(kind: str, encoded: bytes, *, exemplars: bool) -> Point:
    """Judge one point of a kind."""
    message = POINTS[kind].FromString(encoded)
    left: list[str] = []
    rows = [] if kind == "summary" else _exemplars(message, left if exemplars else [])
    rows = rows if exemplars else []  # read all the same: bad bytes refuse the record
    odd: bytes | str
    if kind in ("gauge", "sum"):
        which = message.WhichOneof("value")
        odd = point_values.number(getattr(message, which), rows) if which else "value.missing"
    elif kind == "histogram":
        odd = point_values.histogram(
            message.count,
            *_spread(message, left),
            list(message.bucket_counts),
            list(message.explicit_bounds),
            rows,
            left,
        )
    elif kind == "exponential_histogram":
        odd = point_values.exponential(
            message.count,
            *_spread(message, left),
            message.scale,
            message.zero_count,
            point_values.part(message.zero_threshold, left),
            _side(message, "positive"),
            _side(message, "negative"),
            rows,
        )
    else:
        odd = point_values.summary(message.count, point_values.part(message.sum, left), _quantiles(message, left))
    if message.flags & 1:
        odd = "flags.no_value"
    labels = () if kind == "exponential_histogram" else message.labels
    return Point(message.time_unix_nano, message.start_time_unix_nano, message.attributes, labels, odd, left)


def _spread(message: Any, left: list[str]) -> tuple[float | None, float | None, float | None]:
    total, least, most = (
        point_values.part(getattr(message, name), left) if message.HasField(name) else None
        for name in ("sum", "min", "max")
    )
    return total, least, most


def _side(message: Any, name: str) -> tuple[int, list[int]] | None:
    if not message.HasField(name):
        return None
    buckets = getattr(message, name)
    return buckets.offset, list(buckets.bucket_counts)


def _quantiles(message: Any, left: list[str]) -> list[tuple[float, float]]:
    found = []
    for item in message.quantile_values:
        why: list[str] = []
        quantile, value = point_values.part(item.quantile, why), point_values.part(item.value, why)
        if quantile is None or value is None:
            left.append(point_values.of_pair(why))
        else:
            found.append((quantile, value))
    return found


def _exemplars(message: Any, left: list[str]) -> list[dict[str, Any]]:
    """A point's exemplars; what of them cannot be understood is left out, by reasons."""
    if len(message.exemplars) > MAX_ITEMS:
        left.append("part.limit")
        return []
    rows = (_exemplar(item, left) for item in message.exemplars)
    return [row for row in rows if row is not None]


def _exemplar(item: Any, left: list[str]) -> dict[str, Any] | None:
    which = item.WhichOneof("value")
    why: list[str] = []
    value = point_values.part(getattr(item, which), why) if which else None
    try:
        found = attributes(item.filtered_attributes)  # read in any case: bad bytes refuse the record
    except DecodeError:
        found = {}
        if value is not None:
            left.append("part.limit")
    if value is None:
        left += why or ["part.missing"]
        return None
    if isinstance(found, PartlyRead):
        left += ["attribute.empty"] * found.empty
    return point_values.exemplar(item.time_unix_nano, value, item.trace_id.hex(), item.span_id.hex(), found)


def labels_lacking(labels: Any, found: dict[str, str]) -> str:
    """The first label of a point that its attributes lack, in words; nothing when they hold all. As in OTLP/JSON."""
    if len(labels) > MAX_ITEMS:
        return f"{len(labels):,} labels"
    for encoded in labels:
        try:
            key, value = _label(encoded)
        except (ProtobufError, UnicodeDecodeError):
            return "labels that cannot be read"
        if found.get(key) != value:
            return f"{key!r:.100} = {value!r:.100}"
    return ""


def _label(encoded: bytes) -> tuple[str, str]:
    """StringKeyValue: key and value are fields 1 and 2, as those of KeyValue, whose value is bytes here."""
    message = KeyValueMessage.FromString(encoded)
    return message.key, message.value[-1].decode() if message.value else ""
