"""OTLP/protobuf into the oracle's plain shapes, by google.protobuf and the published messages."""

from typing import Any

from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from oracle_shapes import MAX_NESTING, Metric, Refused, Resource, Scope

KINDS = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponential_histogram": "exponentialHistogram",
    "summary": "summary",
}
SAFE_DEEP_BYTES = 64 * 1024
"""google.protobuf takes 100 levels. 47 nested maps are 141; its limit can be lifted, and is for payloads too small to
exhaust the C stack."""


def read(payload: bytes, *, exemplars: bool) -> list[Resource]:
    """The resources of a bundle; Refused when it is none. Without `exemplars` they are ignored, once parsed."""
    data = parse(payload)
    if payload and not data.resource_metrics:
        raise Refused("decode.top_level")
    if not exemplars:
        drop_exemplars(data)
    return [
        Resource(
            attributes=attributes(r.resource.attributes),
            scopes=[
                Scope(s.scope.name, s.scope.version, attributes(s.scope.attributes), [metric(m) for m in s.metrics])
                for s in r.scope_metrics
            ],
        )
        for r in data.resource_metrics
    ]


def drop_exemplars(data: Any) -> None:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for message in scope.metrics:
                kind = message.WhichOneof("data")
                if kind not in (None, "summary"):
                    for one in getattr(message, kind).data_points:
                        one.ClearField("exemplars")


def parse(payload: bytes) -> Any:
    try:
        return MetricsData.FromString(payload)
    except DecodeError as e:
        problem = str(e)
    if "UTF-8" in problem:
        raise Refused("decode.utf8")
    if "MaxDepth" not in problem:
        raise Refused("decode.protobuf")
    if len(payload) > SAFE_DEEP_BYTES:
        raise Refused("limits.depth")
    assert api_implementation.Type() == "upb"
    from google._upb import _message

    _message.SetAllowOversizeProtos(True)  # noqa: FBT003 - google's own signature
    try:
        return MetricsData.FromString(payload)
    except DecodeError as e:
        raise Refused("decode.utf8" if "UTF-8" in str(e) else "decode.protobuf") from None
    finally:
        _message.SetAllowOversizeProtos(False)  # noqa: FBT003 - google's own signature


def any_value(value: Any, nesting: int = 0) -> Any:
    kind = value.WhichOneof("value")
    if kind in (None, "string_value_strindex"):
        return None
    inner = getattr(value, kind)
    if kind not in ("array_value", "kvlist_value"):
        return inner
    if nesting == MAX_NESTING:
        raise Refused("limits.depth")
    if kind == "array_value":
        return [any_value(v, nesting + 1) for v in inner.values]
    return attributes(inner.values, nesting + 1)


def attributes(pairs: Any, nesting: int = 0) -> dict[str, Any]:
    return {pair.key: any_value(pair.value, nesting) for pair in pairs}


def metric(message: Any) -> Metric:
    made = Metric(name=message.name, unit=message.unit, kind="")
    kind = message.WhichOneof("data")
    if kind is None:
        return made
    data = getattr(message, kind)
    made.kind = KINDS[kind]
    made.temporality = getattr(data, "aggregation_temporality", 0)
    made.monotonic = getattr(data, "is_monotonic", False)
    made.points = [point(kind, p) for p in data.data_points]
    return made


def optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def values(message: Any) -> list[Any]:
    return [getattr(message, name) for name in ("as_int", "as_double") if message.HasField(name)]


def point(kind: str, p: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "attributes": attributes(p.attributes),
        "startTimeUnixNano": p.start_time_unix_nano,
        "timeUnixNano": p.time_unix_nano,
        "flags": p.flags,
    }
    if kind == "summary":
        quantiles = [(q.quantile, q.value) for q in p.quantile_values]
        return made | {"count": p.count, "sum": p.sum, "quantileValues": quantiles}
    made["exemplars"] = [exemplar(e) for e in p.exemplars]
    if kind in ("gauge", "sum"):
        return made | {"values": values(p)}
    made |= {name: optional(p, name) for name in ("sum", "min", "max")} | {"count": p.count}
    if kind == "histogram":
        return made | {"bucketCounts": list(p.bucket_counts), "explicitBounds": list(p.explicit_bounds)}
    return made | {
        "scale": p.scale,
        "zeroCount": p.zero_count,
        "zeroThreshold": p.zero_threshold,
        "positive": (p.positive.offset, list(p.positive.bucket_counts)) if p.HasField("positive") else None,
        "negative": (p.negative.offset, list(p.negative.bucket_counts)) if p.HasField("negative") else None,
    }


def exemplar(message: Any) -> dict[str, Any]:
    return {
        "timeUnixNano": message.time_unix_nano,
        "value": next(iter(values(message)), None),
        "traceId": message.trace_id,
        "spanId": message.span_id,
        "attributes": attributes(message.filtered_attributes),
    }
