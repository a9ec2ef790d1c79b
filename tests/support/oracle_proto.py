"""OTLP/protobuf into the oracle's plain shapes, by google.protobuf and the published messages."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from support.oracle_names import search_proto, unknown_numbers
from support.oracle_shapes import (
    MAX_ITEMS,
    MAX_NESTING,
    Attributes,
    Bundle,
    Metric,
    Point,
    Refused,
    Resource,
    Scope,
)

KINDS = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponential_histogram": "exponentialHistogram",
    "summary": "summary",
}
LABELS = 1
"""Field number of labels in the points of OTLP 0.7 to 0.11: StringKeyValue messages."""
LENGTH_DELIMITED = 2
SAFE_DEEP_BYTES = 64 * 1024
"""google.protobuf takes 100 levels. 47 nested maps are 141; its limit can be lifted, and is for payloads too small to
exhaust the C stack."""


def read(payload: bytes, *, exemplars: bool) -> Bundle:
    """The bundle; Refused when it is none. Without `exemplars` they are ignored, once parsed."""
    data = parse(payload)
    if payload and not data.resource_metrics:
        raise Refused("decode.top_level")
    bundle = Bundle()
    bundle.resources = [
        resource_metrics(bundle, r, f"$.resourceMetrics[{n}]", exemplars=exemplars)
        for n, r in enumerate(data.resource_metrics)
    ]
    if not bundle.faults and not any(m.points for _, _, m in bundle.metrics):
        bundle.unknown = list(search_proto(data))
    return bundle


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


# ------------------------------------------------------------------------ attributes


def attributes(found: Any) -> Attributes:
    made = Attributes()
    made.values = pairs(found, made, 0)
    return made


def items(found: Any, made: Attributes) -> Any:
    if len(found) > MAX_ITEMS:
        made.limit = made.limit or "limits.attributes"
    return found


def pairs(found: Any, made: Attributes, nesting: int) -> dict[str, Any]:
    values = {}
    for pair in items(found, made):
        if not pair.HasField("value") and len(UnknownFieldSet(pair)):
            made.empty += 1
        values[pair.key] = any_value(pair.value, made, nesting)
    return values


def any_value(value: Any, made: Attributes, nesting: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None and len(UnknownFieldSet(value)):
        made.empty += 1
    if kind in (None, "string_value_strindex"):
        return None
    inner = getattr(value, kind)
    if kind not in ("array_value", "kvlist_value"):
        return inner
    if nesting == MAX_NESTING:
        made.limit = made.limit or "limits.depth"
        return None
    if kind == "array_value":
        return [any_value(v, made, nesting + 1) for v in items(inner.values, made)]
    return pairs(inner.values, made, nesting + 1)


# ------------------------------------------------------------------------ messages


def resource_metrics(bundle: Bundle, message: Any, path: str, *, exemplars: bool) -> Resource:
    made = Resource(attributes(message.resource.attributes))
    made.fault = bundle.bad(f"{path}.resource", made.attributes.limit)
    if not message.scope_metrics:
        bundle.hollow += [f"{path}.{name}" for name in unknown_numbers(message)]
    for n, scope in enumerate(message.scope_metrics):
        made.scopes.append(scope_metrics(bundle, scope, f"{path}.scopeMetrics[{n}]", exemplars=exemplars))
    return made


def scope_metrics(bundle: Bundle, message: Any, path: str, *, exemplars: bool) -> Scope:
    made = Scope(message.scope.name, message.scope.version, attributes(message.scope.attributes))
    made.fault = bundle.bad(f"{path}.scope", made.attributes.limit)
    if not message.metrics:
        bundle.hollow += [f"{path}.{name}" for name in unknown_numbers(message)]
    for n, one in enumerate(message.metrics):
        made.metrics.append(metric(bundle, one, f"{path}.metrics[{n}]", exemplars=exemplars))
    return made


def metric(bundle: Bundle, message: Any, path: str, *, exemplars: bool) -> Metric:
    made = Metric(name=message.name, unit=message.unit)
    kind = message.WhichOneof("data")
    data = None if kind is None else getattr(message, kind)
    if kind:
        made.temporality = getattr(data, "aggregation_temporality", 0)
        made.enum = "" if made.temporality in (0, 1, 2) else "enum.unknown"
        made.monotonic = getattr(data, "is_monotonic", False)
        made.points = [
            Point(f"{path}.{KINDS[kind]}.dataPoints[{n}]", KINDS[kind], point(kind, one, exemplars=exemplars))
            for n, one in enumerate(data.data_points)
        ]
    if not made.points:
        bundle.hollow += [f"{path}.{name}" for name in unknown_numbers(message)]
        bundle.hollow += [f"{path}.{KINDS[kind]}.{name}" for name in unknown_numbers(data)] if kind else []
    return made


# ------------------------------------------------------------------------ data points


def optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def values(message: Any) -> list[Any]:
    return [getattr(message, name) for name in ("as_int", "as_double") if message.HasField(name)]


def point(kind: str, p: Any, *, exemplars: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "attributes": attributes(p.attributes),
        "startTimeUnixNano": p.start_time_unix_nano,
        "timeUnixNano": p.time_unix_nano,
        "flags": p.flags,
    }
    if kind != "exponential_histogram":
        made["labels"] = labels(p)
    if kind == "summary":
        quantiles = [(q.quantile, q.value) for q in p.quantile_values]
        return made | {"count": p.count, "sum": p.sum, "quantileValues": quantiles}
    made["exemplars"] = [exemplar(e) for e in p.exemplars] if exemplars else []
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
        "values": values(message),
        "traceId": message.trace_id,
        "spanId": message.span_id,
        "attributes": attributes(message.filtered_attributes),
    }


def labels(p: Any) -> list[tuple[str, str]] | None:
    """(key, value) of each label of old; None when they cannot be read."""
    found = [
        unknown.data
        for unknown in UnknownFieldSet(p)
        if (unknown.field_number, unknown.wire_type) == (LABELS, LENGTH_DELIMITED)
    ]
    try:
        read = [StringKeyValue.FromString(data) for data in found]
    except DecodeError:
        return None
    return [(one.key, one.value) for one in read] if len(read) <= MAX_ITEMS else None


def string_key_value() -> Any:
    """The message of opentelemetry-proto v0.7.0, common/v1: both fields are strings."""
    file = descriptor_pb2.FileDescriptorProto(name="old.proto", package="old", syntax="proto3")
    message = file.message_type.add(name="StringKeyValue")
    for number, name in ((1, "key"), (2, "value")):
        kind = descriptor_pb2.FieldDescriptorProto
        message.field.add(name=name, number=number, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("old.StringKeyValue"))


StringKeyValue = string_key_value()
