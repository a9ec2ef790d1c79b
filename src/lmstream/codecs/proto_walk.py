"""A slow walk through an OTLP/protobuf bundle: fields that OTLP metrics do not know, where points are, what is wrong.

Looked for only where nothing was understood, and for messages. Paths are those of OTLP/JSON.
"""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, Final

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from lmstream.codecs import proto_points
from lmstream.codecs.json_unknown import HOLLOW_MAX, MESSAGES_MAX, NAMED
from lmstream.codecs.proto_schema import POINTS
from lmstream.errors import DecodeError

_KINDS: Final = {"exponential_histogram": "exponentialHistogram"}


def names(message: Any, path: str) -> list[str]:
    """Unknown fields of one message: of numbers that it has not, or of wire types that its fields have not."""
    fields: Any = UnknownFieldSet(message)
    numbers = dict.fromkeys(field.field_number for field in fields)
    return [f"{path}.field {number}" for number in numbers]


def anywhere(payload: bytes) -> list[str]:
    """Path of the first unknown fields of a whole bundle, for one that gave no points. Raises protobuf's DecodeError
    for bytes that it refuses."""
    whole = metrics_service_pb2.ExportMetricsServiceRequest.FromString(payload)
    return list(islice(_below(whole, "$", count()), NAMED))


def _below(message: Any, path: str, looked: Iterator[int]) -> Iterator[str]:
    if next(looked) > MESSAGES_MAX:
        raise DecodeError("decode.not_understood", f"more than {MESSAGES_MAX:,} messages without a data point")
    yield from names(message, path)
    for field, value in message.ListFields():
        if field.message_type is None or field.name in ("metadata", "entity_refs"):
            continue
        here = f"{path}.{field.json_name}"
        # A singular message has no len(); what is repeated has.
        if hasattr(value, "__len__"):
            for at, item in enumerate(value):
                yield from _below(item, f"{here}[{at}]", looked)
        else:
            yield from _below(value, here, looked)


def hollow(request: Any) -> list[str]:
    """Path of the unknown fields of those parts of a bundle that gave no point: metrics, and scopes and resources
    without any."""
    return list(_hollow(request))


def _hollow(request: Any) -> Iterator[str]:
    for i, resource_metrics in enumerate(request.resource_metrics[:HOLLOW_MAX]):
        path = f"$.resourceMetrics[{i}]"
        if not resource_metrics.scope_metrics:
            yield from names(resource_metrics, path)
        for j, scope_metrics in enumerate(resource_metrics.scope_metrics):
            if not scope_metrics.metrics:
                yield from names(scope_metrics, f"{path}.scopeMetrics[{j}]")
    for path, metric, _ in islice(metrics(request), HOLLOW_MAX):
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind) if kind else None
        if data is None or not data.data_points:
            yield from names(metric, path)
            if data is not None:
                yield from names(data, f"{path}.{_KINDS.get(kind, kind)}")


def metrics(request: Any) -> Iterator[tuple[str, Any, tuple[bytes, bytes]]]:
    """(path, metric, bytes of its resource and scope) of each metric."""
    for i, resource_metrics in enumerate(request.resource_metrics):
        resource = b"".join(resource_metrics.resource)
        for j, scope_metrics in enumerate(resource_metrics.scope_metrics):
            scope = b"".join(scope_metrics.scope)
            for k, metric in enumerate(scope_metrics.metrics):
                yield f"$.resourceMetrics[{i}].scopeMetrics[{j}].metrics[{k}]", metric, (resource, scope)


def cause(kind: str, raw: bytes, reason: str) -> str:
    """What is wrong with a point of a kind; nothing when the reason says it all."""
    tell = _TELL.get(reason)
    return tell(POINTS[kind].FromString(raw)) if tell is not None else ""


def _limits(message: Any) -> str:
    try:
        proto_points.attributes(message.attributes)
    except DecodeError as error:
        return f"attributes: {error.detail}"
    return ""


def _labels(message: Any) -> str:
    texts = proto_points.attributes(message.attributes)
    return f"labels: {proto_points.labels_lacking(message.labels, texts)}"


def _shape(message: Any) -> str:
    bounds = list(message.explicit_bounds)
    last = f", the last {bounds[-1]}" if bounds else ""
    return f"{len(message.bucket_counts):,} bucketCounts and {len(bounds):,} explicitBounds{last}"


def _out_of_range(message: Any) -> str:
    """Numbers that int64 does not hold: of counts, which may go up to 2^64 in OTLP."""
    counts = [(name, getattr(message, name)) for name in ("count", "zero_count") if hasattr(message, name)]
    for side in ("", "positive", "negative"):
        holder = getattr(message, side, None) if side else message
        counts += [(f"{side} bucket_counts".strip(), n) for n in getattr(holder, "bucket_counts", ())]
    return "; ".join(f"{name} {n}" for name, n in counts if n >= 2**63) or "a sum of the last two bucket_counts"


def _others(message: Any) -> str:
    """Fields that OTLP does not know: often those of another format."""
    found = names(message, "")[:NAMED]
    return f", but {', '.join(name[1:] for name in found)}" if found else ""


def _bad_time(message: Any) -> str:
    if message.time_unix_nano:
        return f"timeUnixNano is {message.time_unix_nano}, in nanoseconds"
    return "no timeUnixNano; the scope's epoch, or the record's time, is outside"


_TELL: Final[dict[str, Callable[[Any], str]]] = {
    "limits.attributes": _limits,
    "limits.depth": _limits,
    "point.labels": _labels,
    "point.shape": _shape,
    "value.range": _out_of_range,
    "time.missing": lambda message: f"no timeUnixNano{_others(message)}",
    "time.range": _bad_time,
    "value.missing": lambda message: f"no asInt and no asDouble{_others(message)}",
}
