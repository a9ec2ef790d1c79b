"""One data point to its row, or to the reason why it makes none: the oracle's rules in the order they are judged."""

import math
import re
import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from support.oracle_parts import (
    EARLIEST_MS,
    LATEST_MS,
    count,
    exemplars_of,
    kept,
    quantiles_of,
    start_of,
    without_last_bound,
)
from support.oracle_shapes import HUGE, INT64, Found, NoRow
from support.oracle_text import as_text, as_texts, metric_key, token

INT32 = range(-(2**31), 2**31)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEVICE_ID = ("hostId", "host.id", "service.instance.id", "hostName", "host.name", "service.name")
DEVICE_NAME = ("hostName", "host.name")
INSTANCE = ("dataSourceInstanceName", "wildValue")
TEMPORALITY = {1: "delta", 2: "cumulative"}


def row_of(record: Any, settings: Any, found: Found, noted: dict[str, int]) -> dict[str, Any]:
    """The row, with what was left out of it counted in `noted`; NoRow when there is none."""
    if found.fault:
        raise NoRow(found.fault)
    resource, scope, metric, point = found.resource, found.scope, found.metric, found.point.fields
    kind = found.point.kind
    if point is None:
        raise NoRow("point.type")
    if point["attributes"].limit:
        raise NoRow(point["attributes"].limit)
    if point["flags"] & 1:
        raise NoRow("flags.no_value", skipped=True)
    attributes = as_texts(point["attributes"])
    labelled(point.get("labels", []), attributes)
    ms = time_of(record, settings, point, scope, noted)
    values = NUMBER_FIELDS[kind](point, noted)
    org = org_of(record, settings, resource)

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
        "type": kind,
        "ts": (EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z",
        "tsUnixMs": ms,
        **values,
    }
    if kind in ("sum", "histogram", "exponentialHistogram"):
        row["temporality"] = TEMPORALITY.get(metric.temporality, "unspecified")
    if kind == "sum":
        row["monotonic"] = metric.monotonic
    optional = {
        "deviceName": first(resources, DEVICE_NAME),
        "instance": first(attributes, INSTANCE),
        "unit": metric.unit,
        "startTsUnixMs": start_of(point["startTimeUnixNano"], noted),
        "attributes": attributes,
        "resource": resources,
        "scope": scopes,
        "exemplars": exemplars_of(point.get("exemplars", []), noted),
    }
    return row | {k: v for k, v in optional.items() if v}


def labelled(labels: list[tuple[str, str]] | None, attributes: dict[str, str]) -> None:
    """Refuse a point whose labels of old say what its attributes do not."""
    if labels is None or any(attributes.get(key) != value for key, value in labels):
        raise NoRow("point.labels")


def bundle_id(record, settings) -> str:
    where = struct.pack(">iqq", record.partition, record.offset, record.timestamp)
    text = b"lmstream1\0" + settings.source_id.encode() + b"\0" + record.topic.encode() + b"\0" + where
    return blake2b(text, digest_size=16).hexdigest()


def time_of(record, settings, point, scope, noted) -> int:
    if point["timeUnixNano"] != 0:
        return in_range(ms_of(point["timeUnixNano"]))
    epoch = as_text(scope.attributes.values.get("epoch"))
    if re.fullmatch(r"-?[0-9]+", epoch) and epoch.strip("-0"):  # nought is no time, as in timeUnixNano
        return in_range(int(epoch) if len(epoch) < 100 else -1)
    if settings.time_fallback != "record" or record.timestamp <= 0:
        raise NoRow("time.missing")
    count(noted, "time.record")
    return in_range(record.timestamp)


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


def number_fields(point, _) -> dict[str, Any]:
    values = point["values"]
    if len(values) == 2:
        raise NoRow("value.two")
    if not values:
        raise NoRow("value.missing")
    value = values[0]
    if value is HUGE or (isinstance(value, int) and value not in INT64):
        raise NoRow("value.range")
    if not math.isfinite(value):
        raise NoRow("value.nan" if math.isnan(value) else "value.infinite", skipped=True)
    return {"value": value}


def optional_doubles(point, noted, *names) -> dict[str, Any]:
    doubles = {name: kept(point[name], noted) for name in names}
    return {name: value for name, value in doubles.items() if value is not None}


def histogram_fields(point, noted) -> dict[str, Any]:
    total = counter(point["count"])
    counts = [counter(n) for n in point["bucketCounts"]]
    bounds = [double(b) for b in point["explicitBounds"]]
    dropped = bool(bounds) and bounds[-1] == math.inf
    if dropped:
        fitting = without_last_bound(counts, bounds)
        if fitting is None:
            raise NoRow("point.shape")
        counts, bounds = fitting
        count(noted, "part.bound")
    if not all(map(math.isfinite, bounds)) or ((counts or bounds) and len(counts) != len(bounds) + 1):
        raise NoRow("point.shape")
    fields = {
        "count": total,
        **optional_doubles(point, noted, "sum", "min", "max"),
        "bucketCounts": [counter(n) for n in counts],
        "explicitBounds": bounds,
    }
    return {k: v for k, v in fields.items() if v != []}


def exponential_fields(point, noted) -> dict[str, Any]:
    threshold = 0.0 if point["zeroThreshold"] is None else point["zeroThreshold"]
    fields = {
        "count": counter(point["count"]),
        **optional_doubles(point, noted, "sum", "min", "max"),
        "scale": integer(point["scale"], INT32),
        "zeroCount": counter(point["zeroCount"]),
        **optional_doubles({"zeroThreshold": threshold}, noted, "zeroThreshold"),
    }
    for side in ("positive", "negative"):
        if point[side] is not None:
            offset, counts = point[side]
            fields[side] = {"offset": integer(offset, INT32), "bucketCounts": [counter(n) for n in counts]}
    return fields


def summary_fields(point, noted) -> dict[str, Any]:
    total = 0.0 if point["sum"] is None else point["sum"]
    fields = {"count": counter(point["count"]), **optional_doubles({"sum": total}, noted, "sum")}
    quantiles = quantiles_of(point["quantileValues"], noted)
    return fields | ({"quantiles": quantiles} if quantiles else {})


NUMBER_FIELDS = {
    "gauge": number_fields,
    "sum": number_fields,
    "histogram": histogram_fields,
    "exponentialHistogram": exponential_fields,
    "summary": summary_fields,
}


def org_of(record, settings, resource) -> str:
    texts = as_texts(resource.attributes)
    org = settings.org_by_topic.get(record.topic) or settings.org_id or first(texts, settings.org_attributes)
    if not org:
        raise NoRow("org.unresolved")
    return org


def first(texts: dict[str, str], names: Any) -> str:
    return next((texts[name] for name in names if texts.get(name)), "")
