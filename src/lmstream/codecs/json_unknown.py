"""Members of an OTLP/JSON bundle that OTLP metrics do not know: looked for only where nothing was understood.

OTLP lets a receiver ignore them. To ignore is right, to acknowledge a record of which nothing was understood is not.
"""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs.fragments import KINDS
from lmstream.errors import DecodeError

NAMED: Final = 10
"""Unknown members that are named; more are only counted."""
_LOOKED: Final = 1 << 20
"""Bytes of an object whose unknown members are all named: each costs an object of its own. Of a larger one the first
is."""
MESSAGES_MAX: Final = 100_000
"""Messages of a bundle without points that are looked through; with more it is refused, for nobody could say what it
is."""
HOLLOW_MAX: Final = 20_000
"""Metrics of a bundle with points that are looked through for unknown members."""
NOTHING: Final = Raw(b"")
"""Default of raw members: msgspec refuses an optional Raw. Compare with `is`."""
_NULL: Final = b"null"
_ABSENT: Final = (b"", _NULL)

# Members by message, and the message they hold; a list of them in brackets. opentelemetry-proto 1.10, resource.proto,
# common.proto, metrics.proto, metrics_service.proto: a test holds this to its descriptors.
MESSAGES: Final[dict[str, dict[str, str]]] = {
    "Request": {"resourceMetrics": "[ResourceMetrics]"},
    "ResourceMetrics": {"resource": "Resource", "scopeMetrics": "[ScopeMetrics]", "schemaUrl": ""},
    "Resource": {"attributes": "[KeyValue]", "droppedAttributesCount": "", "entityRefs": ""},
    "ScopeMetrics": {"scope": "InstrumentationScope", "metrics": "[Metric]", "schemaUrl": ""},
    "InstrumentationScope": {"name": "", "version": "", "attributes": "[KeyValue]", "droppedAttributesCount": ""},
    "Metric": {
        "name": "",
        "description": "",
        "unit": "",
        "gauge": "Gauge",
        "sum": "Sum",
        "histogram": "Histogram",
        "exponentialHistogram": "ExponentialHistogram",
        "summary": "Summary",
        "metadata": "",
    },
    "Gauge": {"dataPoints": ""},
    "Sum": {"dataPoints": "", "aggregationTemporality": "", "isMonotonic": ""},
    "Histogram": {"dataPoints": "", "aggregationTemporality": ""},
    "ExponentialHistogram": {"dataPoints": "", "aggregationTemporality": ""},
    "Summary": {"dataPoints": ""},
    "KeyValue": {"key": "", "value": "AnyValue", "keyStrindex": ""},
    "AnyValue": {
        "stringValue": "",
        "boolValue": "",
        "intValue": "",
        "doubleValue": "",
        "arrayValue": "ArrayValue",
        "kvlistValue": "KeyValueList",
        "bytesValue": "",
        "stringValueStrindex": "",
    },
    "ArrayValue": {"values": "[AnyValue]"},
    "KeyValueList": {"values": "[KeyValue]"},
}
_POINT: Final = dict.fromkeys(("attributes", "startTimeUnixNano", "timeUnixNano", "flags"), "")
_DISTRIBUTION: Final = _POINT | dict.fromkeys(("count", "sum", "min", "max", "exemplars"), "")
MESSAGES.update(
    NumberDataPoint=_POINT | dict.fromkeys(("asDouble", "asInt", "exemplars"), ""),
    HistogramDataPoint=_DISTRIBUTION | dict.fromkeys(("bucketCounts", "explicitBounds"), ""),
    ExponentialHistogramDataPoint=_DISTRIBUTION
    | dict.fromkeys(("scale", "zeroCount", "positive", "negative", "zeroThreshold"), ""),
    SummaryDataPoint=_POINT | dict.fromkeys(("count", "sum", "quantileValues"), ""),
)


class _Message(NamedTuple):
    read: Any
    """Decodes known members as raw bytes."""
    known: Any
    """Refuses others: they are then named by a second look, which most messages never need."""
    below: dict[str, str]


def _message(name: str, members: dict[str, str]) -> _Message:
    fields = [(member, Raw, NOTHING) for member in members]
    read = msgspec.defstruct(name, fields, gc=False)
    known = msgspec.defstruct(name, fields, gc=False, forbid_unknown_fields=True)
    below = {member: message for member, message in members.items() if message}
    return _Message(msgspec.json.Decoder(read).decode, msgspec.json.Decoder(known).decode, below)


_MESSAGES: Final = {name: _message(name, members) for name, members in MESSAGES.items()}
READ: Final = {name: message.read for name, message in _MESSAGES.items()}
"""Decoders of messages, members unread."""
_decode_names: Final = msgspec.json.Decoder(dict[str, Raw]).decode
decode_list: Final = msgspec.json.Decoder(list[Raw] | None).decode
"""The items of an array, unread."""


def names(raw: bytes, message: str) -> list[str]:
    """Names of the members of one object that its message does not know, in the order sent."""
    try:
        _MESSAGES[message].known(raw)
    except ValidationError as error:
        if "unknown field" not in str(error):
            return []  # no object: named as a wrong type elsewhere
        if len(raw) > _LOOKED:
            return str(error).split("`")[1:2]
        return [name for name in _decode_names(raw) if name not in MESSAGES[message]]
    return []


def of(payload: bytes, points: int, noted: dict[str, int]) -> tuple[str, ...]:
    """The first fields that OTLP metrics do not define, of what gave no point. Raises DecodeError decode.not_understood
    when that is the whole bundle."""
    if not points:
        if found := list(islice(_below(payload, "Request", "$", count()), NAMED)):
            raise DecodeError("decode.not_understood", f"no data point, but {', '.join(found)}")
        return ()
    found = []
    for name in _hollow(payload):
        noted["member.unknown"] = noted.get("member.unknown", 0) + 1
        if len(found) < NAMED:
            found.append(name)
    return tuple(found)


def _below(raw: bytes, message: str, path: str, looked: Iterator[int]) -> Iterator[str]:
    if next(looked) > MESSAGES_MAX:
        raise DecodeError("decode.not_understood", f"more than {MESSAGES_MAX:,} messages without a data point")
    for name in names(raw, message):
        yield f"{path}.{name:.100}"
    try:
        found = READ[message](raw)
    except ValidationError:
        return  # no object: named as a wrong type elsewhere
    for member, inner in _MESSAGES[message].below.items():
        held = bytes(getattr(found, member))
        if held in _ABSENT:
            continue
        if inner.startswith("["):
            for at, item in enumerate(_items(held)):
                yield from _below(item, inner[1:-1], f"{path}.{member}[{at}]", looked)
        else:
            yield from _below(held, inner, f"{path}.{member}", looked)


def _hollow(payload: bytes) -> Iterator[str]:
    """Path of the unknown members of those parts of a bundle that gave no point: metrics, and scopes and resources
    without any."""
    looked = 0
    for path, raw, empty in _entries(payload, "Request", "resourceMetrics", "scopeMetrics", "$"):
        if empty:
            yield from _named(raw, "ResourceMetrics", path)
        for below, scope, bare in _entries(raw, "ResourceMetrics", "scopeMetrics", "metrics", path):
            if bare:
                yield from _named(scope, "ScopeMetrics", below)
            for where, metric, _ in _entries(scope, "ScopeMetrics", "metrics", "", below):
                looked += 1
                if looked > HOLLOW_MAX:
                    return
                yield from _hollow_metric(metric, where)
        looked += 1
        if looked > HOLLOW_MAX:
            return


def _hollow_metric(metric: bytes, path: str) -> Iterator[str]:
    found = _read(metric, "Metric")
    data = [(kind, bytes(getattr(found, kind))) for kind in KINDS] if found is not None else []
    data = [(kind, raw) for kind, raw in data if raw not in _ABSENT]
    if found is not None and all(_empty(raw, title(kind), "dataPoints") for kind, raw in data):
        yield from _named(metric, "Metric", path)
        for kind, raw in data:
            yield from _named(raw, title(kind), f"{path}.{kind}")


def title(kind: str) -> str:
    """The message that holds the data of a kind of metric."""
    return kind[:1].upper() + kind[1:]


def _empty(raw: bytes, message: str, member: str) -> bool:
    """Whether an array is not there or holds nothing. What is no array is not empty: it is named as a wrong type."""
    found = _read(raw, message)
    held = bytes(getattr(found, member)) if found is not None else b"?"
    return held in _ABSENT or (held.startswith(b"[") and not held[1:-1].strip())


def _named(raw: bytes, message: str, path: str) -> Iterator[str]:
    return (f"{path}.{name:.100}" for name in names(raw, message))


def _entries(raw: bytes, message: str, member: str, inner: str, path: str) -> Iterator[tuple[str, bytes, bool]]:
    """(path, raw, whether its array `inner` is empty) of each item of an array."""
    found = _read(raw, message)
    of = MESSAGES[message][member][1:-1]
    for at, item in enumerate(_items(bytes(getattr(found, member))) if found is not None else []):
        yield f"{path}.{member}[{at}]", item, bool(inner) and _empty(item, of, inner)


def _read(raw: bytes, message: str) -> Any:
    try:
        return READ[message](raw)
    except ValidationError:
        return None


def _items(raw: bytes) -> list[bytes]:
    try:
        return list(map(bytes, (decode_list(raw) if raw else None) or ()))
    except ValidationError:
        return []


# Attribute values


class _Values(Struct, gc=False):
    values: list[Raw] | None = None


_decode_values: Final = msgspec.json.Decoder(_Values).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Raw] | None).decode
_decode_pairs: Final = msgspec.json.Decoder(list[dict[str, Raw]]).decode


def not_understood(raw: bytes) -> int:
    """How many of these attribute values, at any depth, hold members and none that is known. `raw` is a JSON array that
    was read as attributes."""
    if len(raw) > _LOOKED:
        return 1
    return sum(map(_unread_pair, _decode_pairs(raw)))


def _unread_pair(pair: dict[str, Raw]) -> int:
    value = pair.get("value", NOTHING)
    if bytes(value) in _ABSENT:
        return int(not MESSAGES["KeyValue"].keys() >= pair.keys())
    return _unread_value(value)


def _unread_value(raw: Raw) -> int:
    value = _decode_object(raw) or {}
    known = {name for name in MESSAGES["AnyValue"] if bytes(value.get(name, NOTHING)) not in _ABSENT}
    if "arrayValue" in known:
        return sum(map(_unread_value, _decode_values(value["arrayValue"]).values or ()))
    if "kvlistValue" in known:
        return sum(
            _unread_pair(_decode_object(pair) or {}) for pair in _decode_values(value["kvlistValue"]).values or ()
        )
    return int(not known and not MESSAGES["AnyValue"].keys() >= value.keys())
