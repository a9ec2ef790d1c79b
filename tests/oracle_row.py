"""One data point to its row, or to the reason why it makes none: the oracle's rules in the order they are judged."""

import math
import re
import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from oracle_shapes import HUGE, INT64, Found, NoRow
from oracle_text import as_text, as_texts, metric_key, token

INT32 = range(-(2**31), 2**31)
EARLIEST_MS = 946_684_800_000  # 2000-01-01T00:00:00Z
LATEST_MS = 4_133_980_800_000  # 2101-01-01T00:00:00Z, itself too late
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEVICE_ID = ("hostId", "host.id", "service.instance.id", "hostName", "host.name", "service.name")
DEVICE_NAME = ("hostName", "host.name")
INSTANCE = ("dataSourceInstanceName", "wildValue")
TEMPORALITY = {1: "delta", 2: "cumulative"}


def row_of(record: Any, settings: Any, found: Found) -> dict[str, Any]:
    """The row; NoRow when there is none."""
    resource, scope, metric, point = found.resource, found.scope, found.metric, found.point
    if point is None:
        raise NoRow("point.type")
    if point["flags"] & 1:
        raise NoRow("flags.no_value", skipped=True)
    ms = time_of(point, scope)
    start = start_of(point)
    values = NUMBER_FIELDS[metric.kind](point)
    org = org_of(record, settings, resource)

    attributes = as_texts(point["attributes"])
    resources = as_texts(resource.attributes)
    scopes = as_texts(scope.attributes)
    scopes |= {k: v for k, v in (("name", scope.name), ("version", scope.version)) if v}
    device = first(resources, DEVICE_ID)
    row: dict[str, Any] = {
        "rowId": f"{bundle_id(record, settings)}:{found.ordinal}",
        "orgId": org,
        "orgKey": token(org),
        "deviceId": device or "unknown",
        "datasource": scope.name or "unknown",
        "metric": metric.name,
        "metricKey": metric_key(metric.name, settings),
        "type": metric.kind,
        "ts": (EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z",
        "tsUnixMs": ms,
        **values,
    }
    if metric.kind in ("sum", "histogram", "exponentialHistogram"):
        row["temporality"] = TEMPORALITY.get(metric.temporality, "unspecified")
    if metric.kind == "sum":
        row["monotonic"] = metric.monotonic
    optional = {
        "deviceName": first(resources, DEVICE_NAME),
        "instance": first(attributes, INSTANCE),
        "unit": metric.unit,
        "startTsUnixMs": start,
        "attributes": attributes,
        "resource": resources,
        "scope": scopes,
    }
    if settings.exemplars:
        optional["exemplars"] = exemplars_of(point)
    return row | {k: v for k, v in optional.items() if v}


def bundle_id(record, settings) -> str:
    where = struct.pack(">iqq", record.partition, record.offset, record.timestamp)
    text = b"lmstream1\0" + settings.source_id.encode() + b"\0" + record.topic.encode() + b"\0" + where
    return blake2b(text, digest_size=16).hexdigest()


def time_of(point, scope) -> int:
    if point["timeUnixNano"] == 0:
        epoch = as_text(scope.attributes.get("epoch"))
        if not re.fullmatch(r"-?[0-9]+", epoch) or not epoch.strip("-0"):  # nought is no time, as in timeUnixNano
            raise NoRow("time.missing", skipped=True)
        return in_range(int(epoch) if len(epoch) < 100 else -1)
    return in_range(ms_of(point["timeUnixNano"]))


def start_of(point) -> int:
    """Milliseconds, 0 when not sent."""
    return point["startTimeUnixNano"] and in_range(ms_of(point["startTimeUnixNano"]))


def ms_of(nanoseconds: Any) -> int:
    return -1 if nanoseconds is HUGE else nanoseconds // 10**6


def in_range(ms: int) -> int:
    if not EARLIEST_MS <= ms < LATEST_MS:
        raise NoRow("time.range")
    return ms


def integer(value: Any, allowed: range = INT64) -> int:
    if value is HUGE or value not in allowed:
        raise NoRow("value.range")
    return value


def counter(value: Any) -> int:
    return integer(value, range(2**63))


def double(value: Any) -> float:
    if value is HUGE:
        raise NoRow("value.range")
    return value


def finite(*values: float | None) -> None:
    """Judge doubles in the order of their fields: the first that is not finite says why."""
    for value in values:
        if value is not None and not math.isfinite(value):
            raise NoRow("value.nan" if math.isnan(value) else "value.infinite", skipped=True)


def number_fields(point) -> dict[str, Any]:
    values = point["values"]
    if len(values) == 2:
        raise NoRow("value.two")
    if not values:
        raise NoRow("value.missing")
    value = values[0]
    if value is HUGE or (isinstance(value, int) and value not in INT64):
        raise NoRow("value.range")
    finite(float(value))
    return {"value": value}


def optional_doubles(point) -> dict[str, Any]:
    return {name: double(point[name]) for name in ("sum", "min", "max") if point[name] is not None}


def histogram_fields(point) -> dict[str, Any]:
    fields = {
        "count": counter(point["count"]),
        **optional_doubles(point),
        "bucketCounts": [counter(n) for n in point["bucketCounts"]],
        "explicitBounds": [double(b) for b in point["explicitBounds"]],
    }
    counts, bounds = fields["bucketCounts"], fields["explicitBounds"]
    if (counts or bounds) and len(counts) != len(bounds) + 1:
        raise NoRow("point.shape")
    finite(point["sum"], point["min"], point["max"], *bounds)
    return {k: v for k, v in fields.items() if v != []}


def exponential_fields(point) -> dict[str, Any]:
    fields = {
        "count": counter(point["count"]),
        **optional_doubles(point),
        "scale": integer(point["scale"], INT32),
        "zeroCount": counter(point["zeroCount"]),
        "zeroThreshold": double(point["zeroThreshold"]),
    }
    for side in ("positive", "negative"):
        if point[side] is not None:
            offset, counts = point[side]
            fields[side] = {"offset": integer(offset, INT32), "bucketCounts": [counter(n) for n in counts]}
    finite(point["sum"], point["min"], point["max"], point["zeroThreshold"])
    return fields


def summary_fields(point) -> dict[str, Any]:
    fields: dict[str, Any] = {"count": counter(point["count"]), "sum": double(point["sum"])}
    quantiles = [{"quantile": double(q), "value": double(v)} for q, v in point["quantileValues"]]
    finite(point["sum"], *(n for q in quantiles for n in q.values()))
    return fields | ({"quantiles": quantiles} if quantiles else {})


NUMBER_FIELDS = {
    "gauge": number_fields,
    "sum": number_fields,
    "histogram": histogram_fields,
    "exponentialHistogram": exponential_fields,
    "summary": summary_fields,
}


def valued(exemplar) -> bool:
    return exemplar["value"] is not None and math.isfinite(exemplar["value"])


def exemplars_of(point) -> list[dict[str, Any]]:
    made = []
    for exemplar in filter(valued, point.get("exemplars", [])):
        one = {"tsUnixMs": exemplar["timeUnixNano"] // 10**6, "value": exemplar["value"]}
        optional = {
            "traceId": exemplar["traceId"].hex(),
            "spanId": exemplar["spanId"].hex(),
            "attributes": as_texts(exemplar["attributes"]),
        }
        made.append(one | {k: v for k, v in optional.items() if v})
    return made


def org_of(record, settings, resource) -> str:
    texts = as_texts(resource.attributes)
    org = settings.org_by_topic.get(record.topic) or settings.org_id or first(texts, settings.org_attributes)
    if not org:
        raise NoRow("org.unresolved")
    return org


def first(texts: dict[str, str], names: Any) -> str:
    return next((texts[name] for name in names if texts.get(name)), "")
