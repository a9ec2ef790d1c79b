"""Data points of OTLP/JSON into the oracle's plain shapes: what decides is read strictly, parts as they come."""

from typing import Any

from support.oracle_json_values import array, attributes, double, hexes, integer, obj, part, text
from support.oracle_shapes import HUGE, MAX_ITEMS, WRONG, Wrong


def read(kind: str, value: Any, *, exemplars: bool) -> dict[str, Any] | None:
    """Fields of a data point; None for a wrong type in what decides."""
    if not isinstance(value, dict):
        return None
    try:
        made = common(value) | KINDS[kind](value)
    except Wrong:
        return None
    if kind != "exponentialHistogram":
        made["labels"] = labels(value.get("labels"))
    if kind != "summary":
        made["exemplars"] = exemplar_list(value.get("exemplars")) if exemplars else []
    return made


def common(message: dict[str, Any]) -> dict[str, Any]:
    flags = integer(message.get("flags"))
    if flags is HUGE or not 0 <= flags < 2**32:
        raise Wrong
    return {
        "attributes": attributes(message.get("attributes")),
        "startTimeUnixNano": part(integer, message.get("startTimeUnixNano")),
        "timeUnixNano": integer(message.get("timeUnixNano")),
        "flags": flags,
    }


def labels(value: Any) -> list[tuple[str, str]] | None:
    """(key, value) of each; None when they cannot be read."""
    try:
        found = [obj(one) for one in array(value)]
        return [(text(one.get("key")), text(one.get("value"))) for one in found] if len(found) <= MAX_ITEMS else None
    except Wrong:
        return None


def number_point(message: dict[str, Any]) -> dict[str, Any]:
    readers = {"asInt": integer, "asDouble": double}
    return {"values": [read(message[name]) for name, read in readers.items() if message.get(name) is not None]}


def parts(message: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: part(double, message.get(name)) for name in names}


def histogram_point(message: dict[str, Any]) -> dict[str, Any]:
    return {
        **parts(message, "sum", "min", "max"),
        "count": integer(message.get("count")),
        "bucketCounts": [integer(n) for n in array(message.get("bucketCounts"))],
        "explicitBounds": [double(b) for b in array(message.get("explicitBounds"))],
    }


def exponential_point(message: dict[str, Any]) -> dict[str, Any]:
    return {
        **parts(message, "sum", "min", "max", "zeroThreshold"),
        "count": integer(message.get("count")),
        "scale": integer(message.get("scale")),
        "zeroCount": integer(message.get("zeroCount")),
        "positive": buckets(message.get("positive")),
        "negative": buckets(message.get("negative")),
    }


def buckets(value: Any) -> tuple[Any, list[Any]] | None:
    if value is None:
        return None
    side = obj(value)
    return integer(side.get("offset")), [integer(n) for n in array(side.get("bucketCounts"))]


def summary_point(message: dict[str, Any]) -> dict[str, Any]:
    return {
        **parts(message, "sum"),
        "count": integer(message.get("count")),
        "quantileValues": elements(message.get("quantileValues"), quantile),
    }


def elements(value: Any, read_one: Any) -> Any:
    """WRONG when it is no array; each element WRONG when it is no object."""
    if value is None:
        return []
    if not isinstance(value, list):
        return WRONG
    return [read_one(one) if isinstance(one, dict) else WRONG for one in value]


def quantile(message: dict[str, Any]) -> tuple[Any, Any]:
    return tuple(0.0 if n is None else n for n in parts(message, "quantile", "value").values())


def exemplar_list(value: Any) -> Any:
    return elements(value, exemplar)


def exemplar(message: dict[str, Any]) -> dict[str, Any]:
    readers = {"asInt": integer, "asDouble": double}
    sent = [part(read, message[name]) for name, read in readers.items() if message.get(name) is not None]
    return {
        "values": sent,
        "timeUnixNano": part(integer, message.get("timeUnixNano")),
        "traceId": part(hexes, message.get("traceId")),
        "spanId": part(hexes, message.get("spanId")),
        "attributes": part(attributes, message.get("filteredAttributes")),
    }


KINDS = {
    "gauge": number_point,
    "sum": number_point,
    "histogram": histogram_point,
    "exponentialHistogram": exponential_point,
    "summary": summary_point,
}
