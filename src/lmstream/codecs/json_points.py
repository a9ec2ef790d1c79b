"""OTLP/JSON data points the general way, one at a time: histograms, summaries, exemplars, and numbers of odd types."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs import point_values
from lmstream.codecs.fragments import MAX_ITEMS
from lmstream.codecs.json_parts import default, part, quantiles, whole
from lmstream.codecs.json_unknown import NOTHING
from lmstream.codecs.json_values import UINT32, double, integer, texts, within
from lmstream.errors import DecodeError

Exemplars = Callable[[Raw, list[str]], list[dict[str, Any]]]
"""Reads exemplars; the reasons of parts that are left out go into the list."""
Body = bytes | str


class Point(NamedTuple):
    """What a point came to: see interfaces.Bundle."""

    time: int | None
    start: int | None
    attributes: Raw
    odd: Body
    left: list[str]
    """Reasons of parts that are not in the row."""


_REFUSED: Final = Point(0, 0, NOTHING, "point.type", [])

# Every number stays raw here and is read by json_values: what is refused can then be told from what does not fit. So
# does every part that a row may go without.


class _Common(Struct, gc=False):
    attributes: Raw = NOTHING
    startTimeUnixNano: Raw = NOTHING  # noqa: N815 - the format's names
    timeUnixNano: Raw = NOTHING  # noqa: N815
    flags: Raw = NOTHING
    exemplars: Raw = NOTHING
    labels: Raw = NOTHING


class _Number(_Common, gc=False):
    asInt: Raw = NOTHING  # noqa: N815
    asDouble: Raw = NOTHING  # noqa: N815


class _Distribution(_Common, gc=False):
    count: Raw = NOTHING
    sum: Raw = NOTHING
    min: Raw = NOTHING
    max: Raw = NOTHING


class _Histogram(_Distribution, gc=False):
    bucketCounts: list[Raw] | None = None  # noqa: N815
    explicitBounds: list[Raw] | None = None  # noqa: N815


class _Buckets(Struct, gc=False):
    offset: Raw = NOTHING
    bucketCounts: list[Raw] | None = None  # noqa: N815


class _Exponential(_Distribution, gc=False):
    scale: Raw = NOTHING
    zeroCount: Raw = NOTHING  # noqa: N815
    zeroThreshold: Raw = NOTHING  # noqa: N815
    positive: _Buckets | None = None
    negative: _Buckets | None = None


class _Summary(_Distribution, gc=False):
    quantileValues: Raw = NOTHING  # noqa: N815


def _whole(raws: list[Raw] | None) -> list[int]:
    """Integers of a repeated field, where null has no place."""
    found = [integer(raw) for raw in raws or ()]
    if None in found:
        raise ValidationError("Expected `int`, got `null`")
    return [number or 0 for number in found]


def _bounds(raws: list[Raw] | None, faults: list[str]) -> list[float]:
    """Doubles of a repeated field, where null has no place."""
    found = []
    for raw in raws or ():
        bound = double(raw, faults)
        if bound is None:
            raise ValidationError("Expected `float`, got `null`")
        found.append(bound)
    return found


def _number(point: _Number, exemplars: Exemplars, left: list[str]) -> Body:
    faults: list[str] = []
    integral, number = integer(point.asInt), double(point.asDouble, faults)
    if integral is not None and number is not None:
        return "value.two"
    if faults:
        return faults[0]
    value = number if integral is None else integral
    return "value.missing" if value is None else point_values.number(value, exemplars(point.exemplars, left))


def _spread(point: _Distribution, left: list[str]) -> tuple[float | None, float | None, float | None]:
    return part(point.sum, left), part(point.min, left), part(point.max, left)


def _histogram(point: _Histogram, exemplars: Exemplars, left: list[str]) -> Body:
    count, counts = integer(point.count) or 0, _whole(point.bucketCounts)
    faults: list[str] = []
    bounds = _bounds(point.explicitBounds, faults)
    if faults:
        return faults[0]
    return point_values.histogram(count, *_spread(point, left), counts, bounds, exemplars(point.exemplars, left), left)


def _exponential(point: _Exponential, exemplars: Exemplars, left: list[str]) -> Body:
    return point_values.exponential(
        integer(point.count) or 0,
        *_spread(point, left),
        integer(point.scale) or 0,
        integer(point.zeroCount) or 0,
        default(point.zeroThreshold, left),
        _side(point.positive),
        _side(point.negative),
        exemplars(point.exemplars, left),
    )


def _side(buckets: _Buckets | None) -> tuple[int, list[int]] | None:
    return (integer(buckets.offset) or 0, _whole(buckets.bucketCounts)) if buckets is not None else None


def _summary(point: _Summary, _: Exemplars, left: list[str]) -> Body:
    count = integer(point.count) or 0
    return point_values.summary(count, default(point.sum, left), quantiles(point.quantileValues, left))


_KINDS: Final[dict[str, tuple[Callable[[Raw], Any], Callable[[Any, Exemplars, list[str]], Body]]]] = {
    kind: (msgspec.json.Decoder(struct).decode, body)
    for kind, struct, body in (
        ("gauge", _Number, _number),  # and sum: their points are the same
        ("histogram", _Histogram, _histogram),
        ("exponentialHistogram", _Exponential, _exponential),
        ("summary", _Summary, _summary),
    )
}


MESSAGES: Final = {kind: decode for kind, (decode, _) in _KINDS.items()}
"""By kind, what reads the members of a point."""


def general_point(kind: str, raw: Raw, exemplars: Exemplars) -> Point:
    """Judge one point of a kind; never raises for a bad one: `odd` is then point.type."""
    decode, body = _KINDS[kind]
    left: list[str] = []
    try:
        point = decode(raw)
        time, flags = integer(point.timeUnixNano), within(point.flags, UINT32) or 0
        odd = body(point, exemplars, left)
        # In exponential histograms the field of labels is the attributes: it is a name like any other there.
        if flags & 1:
            odd = "flags.no_value"
        elif point.labels is not NOTHING and kind != "exponentialHistogram" and _lacks(point):
            odd = "point.labels"
    except ValidationError:
        return _REFUSED
    return Point(time, whole(point.startTimeUnixNano, left), point.attributes, odd, left)


def _lacks(point: _Common) -> bool:
    try:
        found = texts(bytes(point.attributes))
    except DecodeError:
        return False  # too much or too deep, which comes first: the codec finds it again
    return bool(labels_lacking(point.labels, found))


class _Label(Struct, gc=False):
    key: str | None = ""
    value: str | None = ""


_decode_labels: Final = msgspec.json.Decoder(list[_Label] | None).decode


def labels_lacking(labels: Raw, found: dict[str, str]) -> str:
    """The first label of a point that its attributes lack, in words; nothing when they hold all. OTLP 0.7 to 0.11 had
    labels where attributes are today (opentelemetry-proto v0.11.0, metrics.proto, StringKeyValue)."""
    try:
        items = _decode_labels(labels) or ()
    except ValidationError as error:
        return str(error)
    if len(items) > MAX_ITEMS:
        return f"{len(items):,} labels"
    for item in items:
        if found.get(item.key or "") != (item.value or ""):
            return f"{item.key or ''!r:.100} = {item.value or ''!r:.100}"
    return ""
