"""OTLP/protobuf data points the general way, one at a time, and attribute values level by level."""

from typing import Any

from lmstream.codecs import bodies
from lmstream.codecs.pieces import MAX_NESTING, Plain, bounded, text, too_deep
from lmstream.codecs.proto_schema import POINTS, AnyValueMessage


def attributes(items: Any) -> dict[str, str]:
    """Repeated KeyValue as text. Of keys that come twice the last value wins, at the first one's place."""
    bounded(items, "attributes")
    return {item.key: text(_plain(item.value, 0)) for item in items}


def text_attributes(raw: bytes, at: int, tag: bytes) -> dict[str, str] | None:
    """The attributes in raw[at:] when it holds nothing but repeated KeyValue under this tag, each a key and a text of
    less than 128 bytes in the usual order; None when a parser must look. A third of the parser's time, whose fields
    Python reads one by one."""
    found = {}
    end = len(raw)
    try:
        while at < end:
            key = at + 4
            value = key + raw[at + 3]  # tag 2, length, tag 1, length of the text
            stop = at + 2 + raw[at + 1]
            if (
                raw[at : at + 1] != tag
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


def _plain(encoded: Any, level: int) -> Plain:
    """An AnyValue from the bytes of its field, joined when it came more than once."""
    if level > MAX_NESTING:
        raise too_deep()
    value = AnyValueMessage.FromString(encoded[0] if len(encoded) == 1 else b"".join(encoded))
    kind = value.WhichOneof("value")
    if kind == "array_value":
        bounded(value.array_value.values, "items of one array")
        return [_plain((item,), level + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        bounded(value.kvlist_value.values, "items of one map")
        return {item.key: _plain(item.value, level + 1) for item in value.kvlist_value.values}
    if kind in (None, "string_value_strindex"):  # an index into a table that only profiles have: the empty value
        return None
    plain: Plain = getattr(value, kind)
    return plain


def point(kind: str, encoded: bytes, noted: dict[str, int], *, exemplars: bool) -> tuple[int, int, Any, bytes | str]:
    """Judge one point of a kind: (time, start, repeated KeyValue, odd), see interfaces.Bundle."""
    message = POINTS[kind].FromString(encoded)
    rows = [] if kind == "summary" else _exemplars(message, noted if exemplars else {})
    if not exemplars:
        rows = []  # read all the same: what is left out must be sound too
    odd: bytes | str
    if kind in ("gauge", "sum"):
        which = message.WhichOneof("value")
        odd = bodies.number(getattr(message, which), rows) if which else "value.missing"
    elif kind == "histogram":
        odd = bodies.histogram(
            message.count,
            *_spread(message),
            list(message.bucket_counts),
            list(message.explicit_bounds),
            rows,
        )
    elif kind == "exponential_histogram":
        odd = bodies.exponential(
            message.count,
            *_spread(message),
            message.scale,
            message.zero_count,
            message.zero_threshold,
            _side(message, "positive"),
            _side(message, "negative"),
            rows,
        )
    else:
        pairs = [(item.quantile, item.value) for item in message.quantile_values]
        odd = bodies.summary(message.count, message.sum, pairs)
    if message.flags & 1:
        odd = "flags.no_value"
    return message.time_unix_nano, message.start_time_unix_nano, message.attributes, odd


def _spread(message: Any) -> tuple[float | None, float | None, float | None]:
    total, least, most = (getattr(message, name) if message.HasField(name) else None for name in ("sum", "min", "max"))
    return total, least, most


def _side(message: Any, name: str) -> tuple[int, list[int]] | None:
    if not message.HasField(name):
        return None
    buckets = getattr(message, name)
    return buckets.offset, list(buckets.bucket_counts)


def _exemplars(message: Any, noted: dict[str, int]) -> list[dict[str, Any]]:
    rows = []
    bounded(message.exemplars, "exemplars")
    for item in message.exemplars:
        which = item.WhichOneof("value")
        row = bodies.exemplar(
            item.time_unix_nano,
            getattr(item, which) if which else None,
            item.trace_id.hex(),
            item.span_id.hex(),
            attributes(item.filtered_attributes),
        )
        if row is None:
            noted["exemplar.value"] = noted.get("exemplar.value", 0) + 1
        else:
            rows.append(row)
    return rows
