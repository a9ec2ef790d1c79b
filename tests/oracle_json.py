"""OTLP/JSON into the oracle's plain shapes, by json.loads and one small reader for each message."""

import base64
import binascii
import json
import re
import sys
from typing import Any

from oracle_shapes import HUGE, INT64, MAX_NESTING, Metric, Refused, Resource, Scope, Wrong

MAX_BRACKETS = 1000
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
WORDS = {"NaN": "nan", "nan": "nan", "Infinity": "inf", "inf": "inf", "-Infinity": "-inf", "-inf": "-inf"}
TEMPORALITIES = {
    "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
    "AGGREGATION_TEMPORALITY_DELTA": 1,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
}
KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def read(payload: bytes, *, exemplars: bool) -> list[Resource]:
    """The resources of a bundle; Refused when it is none. Without `exemplars` they are ignored, as unknown fields are."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("decode.utf8") from None
    if brackets(text) > MAX_BRACKETS:
        raise Refused("limits.depth")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 10 * MAX_BRACKETS)  # json.loads recurses once a bracket
    try:
        top = json.loads(
            text,
            parse_int=Number,
            parse_float=Number,
            parse_constant=no_constant,
            object_pairs_hook=dict if exemplars else without_exemplars,
        )
    except ValueError:
        raise Refused("decode.json") from None
    finally:
        sys.setrecursionlimit(limit)
    if not isinstance(top, dict) or (top and "resourceMetrics" not in top):
        raise Refused("decode.top_level")
    try:
        return [resource_metrics(r) for r in array(top.get("resourceMetrics"))]
    except Wrong:
        raise Refused("decode.type") from None


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def without_exemplars(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key != "exemplars"}


def brackets(text: str) -> int:
    """How deep brackets nest outside strings."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


# ------------------------------------------------------------------------ values of a kind; null is the default


def obj(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Wrong
    return value


def array(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or None in value:
        raise Wrong
    return value


def points_of(value: Any) -> list[Any]:
    """Data points: one that is null is a wrong type of its own."""
    if value is not None and not isinstance(value, list):
        raise Wrong
    return value or []


def text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Number):
        raise Wrong
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise Refused("decode.json") from None
    return value


def boolean(value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Wrong
    return value


def number(value: Any) -> str:
    """The digits of a number, or of a string that holds one."""
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise Wrong
    return str(value)


def integer(value: Any) -> Any:
    """An int of any size, or HUGE."""
    if value is None:
        return 0
    digits = number(value)
    if re.fullmatch(r"-?[0-9]+", digits):
        return int(digits) if len(digits) < 1000 else HUGE
    as_float = float(digits)
    if as_float in (float("inf"), float("-inf")):
        return HUGE
    if not as_float.is_integer():
        raise Wrong
    return int(as_float)


def double(value: Any) -> Any:
    """A float, NaN and the infinities only where they are named; or HUGE."""
    if value is None:
        return 0.0
    if isinstance(value, str) and not isinstance(value, Number) and value in WORDS:
        return float(WORDS[value])
    as_float = float(number(value))
    return HUGE if as_float in (float("inf"), float("-inf")) else as_float


def optional_double(value: Any) -> Any:
    return None if value is None else double(value)


def small(value: Any) -> Any:
    """What must fit, because no rule of its own says what happens when it does not."""
    if value is HUGE or (isinstance(value, int) and value not in INT64):
        raise Wrong
    return value


def hexes(value: Any) -> bytes:
    if not re.fullmatch(r"([0-9A-Fa-f]{2})*", text(value)):
        raise Wrong
    return bytes.fromhex(text(value))


def base64s(value: Any) -> bytes:
    digits = text(value)
    if not re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", digits):
        raise Wrong
    bare = digits.rstrip("=").replace("-", "+").replace("_", "/")
    if digits.endswith("=") and len(digits) % 4:
        raise Wrong
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        raise Wrong from None


def any_value(value: Any, nesting: int = 0) -> Any:
    sent = {k: v for k, v in obj(value).items() if k in READERS and v is not None}
    if len(sent) > 1:
        raise Wrong
    for kind, inner in sent.items():
        return READERS[kind](inner, nesting + 1)
    return None


def list_value(value: Any, nesting: int) -> list[Any]:
    if nesting > MAX_NESTING:
        raise Refused("limits.depth")
    return [any_value(v, nesting) for v in array(obj(value).get("values"))]


def map_value(value: Any, nesting: int) -> dict[str, Any]:
    if nesting > MAX_NESTING:
        raise Refused("limits.depth")
    return attributes(obj(value).get("values"), nesting)


READERS = {
    "stringValue": lambda v, _: text(v),
    "boolValue": lambda v, _: boolean(v),
    "intValue": lambda v, _: small(integer(v)),
    "doubleValue": lambda v, _: small(double(v)),
    "bytesValue": lambda v, _: base64s(v),
    "arrayValue": list_value,
    "kvlistValue": map_value,
}


def attributes(value: Any, nesting: int = 0) -> dict[str, Any]:
    pairs = [obj(pair) for pair in array(value)]
    return {text(pair.get("key")): any_value(pair.get("value"), nesting) for pair in pairs}


# ------------------------------------------------------------------------ messages


def resource_metrics(value: Any) -> Resource:
    message = obj(value)
    return Resource(
        attributes=attributes(obj(message.get("resource")).get("attributes")),
        scopes=[scope_metrics(s) for s in array(message.get("scopeMetrics"))],
    )


def scope_metrics(value: Any) -> Scope:
    message = obj(value)
    scope = obj(message.get("scope"))
    return Scope(
        name=text(scope.get("name")),
        version=text(scope.get("version")),
        attributes=attributes(scope.get("attributes")),
        metrics=[metric(m) for m in array(message.get("metrics"))],
    )


def metric(value: Any) -> Metric:
    message = obj(value)
    made = Metric(name=text(message.get("name")), unit=text(message.get("unit")), kind="")
    kinds = [k for k in KINDS if message.get(k) is not None]
    if len(kinds) > 1:
        raise Wrong
    for kind in kinds:
        made.kind = kind
        data = obj(message[kind])
        if kind in ("sum", "histogram", "exponentialHistogram"):
            made.temporality, made.enum_name = temporality(data.get("aggregationTemporality"))
        if kind == "sum":
            made.monotonic = boolean(data.get("isMonotonic"))
        made.points = [point(kind, p) for p in points_of(data.get("dataPoints"))]
    return made


def temporality(value: Any) -> tuple[int, bool]:
    """(number, whether it was sent by name)."""
    if isinstance(value, str) and not isinstance(value, Number):
        if value not in TEMPORALITIES:
            raise Wrong
        return TEMPORALITIES[value], True
    return small(integer(value)), False


def point(kind: str, value: Any) -> dict[str, Any] | None:
    try:
        return None if value is None else POINTS[kind](obj(value))
    except Wrong:
        return None


def common(message: dict[str, Any]) -> dict[str, Any]:
    flags = integer(message.get("flags"))
    if flags is HUGE or not 0 <= flags < 2**32:
        raise Wrong
    return {
        "attributes": attributes(message.get("attributes")),
        "startTimeUnixNano": integer(message.get("startTimeUnixNano")),
        "timeUnixNano": integer(message.get("timeUnixNano")),
        "flags": flags,
    }


def number_point(message: dict[str, Any]) -> dict[str, Any]:
    return common(message) | {"values": values(message), "exemplars": exemplars(message)}


def values(message: dict[str, Any]) -> list[Any]:
    readers = {"asInt": integer, "asDouble": double}
    return [read(message[name]) for name, read in readers.items() if message.get(name) is not None]


def optional_doubles(message: dict[str, Any]) -> dict[str, Any]:
    return {name: optional_double(message.get(name)) for name in ("sum", "min", "max")}


def histogram_point(message: dict[str, Any]) -> dict[str, Any]:
    return {
        **common(message),
        **optional_doubles(message),
        "count": integer(message.get("count")),
        "bucketCounts": [integer(n) for n in array(message.get("bucketCounts"))],
        "explicitBounds": [double(b) for b in array(message.get("explicitBounds"))],
        "exemplars": exemplars(message),
    }


def exponential_point(message: dict[str, Any]) -> dict[str, Any]:
    return {
        **common(message),
        **optional_doubles(message),
        "count": integer(message.get("count")),
        "scale": integer(message.get("scale")),
        "zeroCount": integer(message.get("zeroCount")),
        "zeroThreshold": double(message.get("zeroThreshold")),
        "positive": buckets(message.get("positive")),
        "negative": buckets(message.get("negative")),
        "exemplars": exemplars(message),
    }


def buckets(value: Any) -> tuple[Any, list[Any]] | None:
    if value is None:
        return None
    side = obj(value)
    return integer(side.get("offset")), [integer(n) for n in array(side.get("bucketCounts"))]


def summary_point(message: dict[str, Any]) -> dict[str, Any]:
    quantiles = [obj(q) for q in array(message.get("quantileValues"))]
    return {
        **common(message),
        "count": integer(message.get("count")),
        "sum": double(message.get("sum")),
        "quantileValues": [(double(q.get("quantile")), double(q.get("value"))) for q in quantiles],
    }


def exemplars(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [exemplar(obj(e)) for e in array(message.get("exemplars"))]


def exemplar(message: dict[str, Any]) -> dict[str, Any]:
    sent = [small(v) for v in values(message)]
    time = integer(message.get("timeUnixNano"))
    if len(sent) > 1 or time is HUGE or not 0 <= time < 2**64:
        raise Wrong
    return {
        "timeUnixNano": time,
        "value": sent[0] if sent else None,
        "traceId": hexes(message.get("traceId")),
        "spanId": hexes(message.get("spanId")),
        "attributes": attributes(message.get("filteredAttributes")),
    }


POINTS = {
    "gauge": number_point,
    "sum": number_point,
    "histogram": histogram_point,
    "exponentialHistogram": exponential_point,
    "summary": summary_point,
}
