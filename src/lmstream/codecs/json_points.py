"""OTLP/JSON data points the general way, one at a time: histograms, summaries, exemplars, and numbers of odd types."""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs import bodies
from lmstream.codecs.json_values import INT64, NOTHING, UINT32, UINT64, attributes, double, integer, within
from lmstream.codecs.pieces import bounded

Exemplars = Callable[[Raw], list[dict[str, Any]]]
Body = bytes | str

_HEX: Final = re.compile(r"[0-9a-fA-F]*")


class Point(NamedTuple):
    """What a point came to: see interfaces.Bundle."""

    time: int | None
    start: int | None
    attributes: Raw
    odd: Body


# Every number stays raw here and is read by json_values: what is refused can then be told from what does not fit.


class _Common(Struct, gc=False):
    attributes: Raw = NOTHING
    startTimeUnixNano: Raw = NOTHING  # noqa: N815 - the format's names
    timeUnixNano: Raw = NOTHING  # noqa: N815
    flags: Raw = NOTHING
    exemplars: Raw = NOTHING


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


class _Quantile(Struct, gc=False):
    quantile: Raw = NOTHING
    value: Raw = NOTHING


class _Summary(_Distribution, gc=False):
    quantileValues: list[_Quantile] | None = None  # noqa: N815


class _Exemplar(Struct, gc=False):
    filteredAttributes: Raw = NOTHING  # noqa: N815
    timeUnixNano: Raw = NOTHING  # noqa: N815
    asInt: Raw = NOTHING  # noqa: N815
    asDouble: Raw = NOTHING  # noqa: N815
    traceId: str | None = ""  # noqa: N815
    spanId: str | None = ""  # noqa: N815


_decode_exemplars: Final = msgspec.json.Decoder(list[_Exemplar] | None).decode


def exemplars(raw: Raw, noted: dict[str, int]) -> list[dict[str, Any]]:
    """A point's exemplars; those without a finite value are left out and counted. Raises ValidationError."""
    rows = []
    items = (_decode_exemplars(raw) or ()) if raw is not NOTHING else ()
    bounded(items, "exemplars")
    for item in items:
        whole, number = within(item.asInt, INT64), double(item.asDouble)
        if whole is not None and number is not None:
            raise ValidationError("Expected one value in an exemplar")
        row = bodies.exemplar(
            within(item.timeUnixNano, UINT64) or 0,
            number if whole is None else whole,
            _hex(item.traceId),
            _hex(item.spanId),
            attributes(bytes(item.filteredAttributes)),
        )
        if row is None:
            noted["exemplar.value"] = noted.get("exemplar.value", 0) + 1
        else:
            rows.append(row)
    return rows


def _hex(text: str | None) -> str:
    """OTLP/JSON writes ids as hex in either case, not as the base64 of the proto3 mapping."""
    if text and (len(text) % 2 or not _HEX.fullmatch(text)):
        raise ValidationError("Expected hex digits in an id")
    return (text or "").lower()


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


def _number(point: _Number, exemplars: Exemplars, faults: list[str]) -> Body:
    whole, number = integer(point.asInt), double(point.asDouble, faults)
    rows = exemplars(point.exemplars)
    if whole is not None and number is not None:
        faults.clear()
        return "value.two"
    value = number if whole is None else whole
    return "value.missing" if value is None else bodies.number(value, rows)


def _histogram(point: _Histogram, exemplars: Exemplars, faults: list[str]) -> Body:
    return bodies.histogram(
        integer(point.count) or 0,
        double(point.sum, faults),
        double(point.min, faults),
        double(point.max, faults),
        _whole(point.bucketCounts),
        _bounds(point.explicitBounds, faults),
        exemplars(point.exemplars),
    )


def _exponential(point: _Exponential, exemplars: Exemplars, faults: list[str]) -> Body:
    return bodies.exponential(
        integer(point.count) or 0,
        double(point.sum, faults),
        double(point.min, faults),
        double(point.max, faults),
        integer(point.scale) or 0,
        integer(point.zeroCount) or 0,
        _default(double(point.zeroThreshold, faults)),
        _side(point.positive),
        _side(point.negative),
        exemplars(point.exemplars),
    )


def _default(number: float | None) -> float:
    """Nought for what is absent; minus nought stays what it is."""
    return 0.0 if number is None else number


def _side(buckets: _Buckets | None) -> tuple[int, list[int]] | None:
    return (integer(buckets.offset) or 0, _whole(buckets.bucketCounts)) if buckets is not None else None


def _summary(point: _Summary, _: Exemplars, faults: list[str]) -> Body:
    pairs = [
        (_default(double(item.quantile, faults)), _default(double(item.value, faults)))
        for item in point.quantileValues or ()
    ]
    return bodies.summary(integer(point.count) or 0, _default(double(point.sum, faults)), pairs)


_KINDS: Final[dict[str, tuple[Callable[[Raw], Any], Callable[[Any, Exemplars, list[str]], Body]]]] = {
    kind: (msgspec.json.Decoder(struct).decode, body)
    for kind, struct, body in (
        ("gauge", _Number, _number),  # and sum: their points are the same
        ("histogram", _Histogram, _histogram),
        ("exponentialHistogram", _Exponential, _exponential),
        ("summary", _Summary, _summary),
    )
}


def general_point(kind: str, raw: Raw, exemplars: Exemplars) -> Point:
    """Judge one point of a kind; never raises for a bad one: `odd` is then point.type. Depth may raise DecodeError."""
    decode, body = _KINDS[kind]
    faults: list[str] = []
    try:
        point = decode(raw)
        time, start = integer(point.timeUnixNano), integer(point.startTimeUnixNano)
        odd = body(point, exemplars, faults)
        # A point without a recorded value is skipped whatever else it holds, as long as the types are right.
        if (within(point.flags, UINT32) or 0) & 1:
            odd = "flags.no_value"
        elif faults:
            odd = faults[0]
    except ValidationError:
        return Point(0, 0, NOTHING, "point.type")
    return Point(time, start, point.attributes, odd)
