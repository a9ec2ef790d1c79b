"""What one would write without lmstream: the same rows from plain libraries.

Each takes a record and answers its lines, rows equal field by field to the engine's on this corpus (verified before
every run). They know gauge and sum only and check nothing the engine checks: that is to their advantage.
"""

import json
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from lmstream.model import Record

ORG = "acme"
_TEMPORALITY = ("unspecified", "delta", "cumulative")
_DEVICE_ID = ("hostId", "host.id", "service.instance.id", "hostName", "host.name", "service.name")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}").fullmatch

Row = dict[str, Any]


def _bundle_id(record: Record) -> str:
    where = struct.pack(">iqq", record.partition, record.offset, record.timestamp)
    return blake2b(b"lmstream1\0\0" + record.topic.encode() + b"\0" + where, digest_size=16).hexdigest()


@lru_cache(maxsize=10_000)
def _token(text: str) -> str:
    if not _SAFE(text):
        raise NotImplementedError(f"every name of the corpus is path-safe, this one is not: {text!r}")
    return text


class _Clock(dict[int | str, tuple[str, int]]):
    """Nanoseconds, as sent, to (RFC 3339, milliseconds): each formatted once per bundle."""

    def __missing__(self, nanos: int | str) -> tuple[str, int]:
        ms = int(nanos) // 1_000_000
        second = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        found = self[nanos] = (f"{second}.{ms % 1000:03}Z", ms)
        return found


def _first(texts: dict[str, str], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in texts:
            return texts[name]
    return None


def _other_text(value: dict[str, Any]) -> str:
    if "intValue" in value:
        return str(value["intValue"])
    if "boolValue" in value:
        return "true" if value["boolValue"] else "false"
    return repr(value["doubleValue"])


def _texts(attributes: list[dict[str, Any]]) -> dict[str, str]:
    texts = {}
    for attribute in attributes:
        value = attribute["value"]
        texts[attribute["key"]] = value["stringValue"] if "stringValue" in value else _other_text(value)
    return texts


def _scope_texts(scope: dict[str, Any]) -> dict[str, str]:
    texts = _texts(scope.get("attributes", ()))
    for name in ("name", "version"):
        if scope.get(name):
            texts[name] = scope[name]
    return texts


def _shared(resource: dict[str, str], scope: dict[str, str]) -> Row:
    """The fields that all rows of one scope have in common."""
    shared = {
        "orgId": ORG,
        "orgKey": _token(ORG),
        "deviceId": _first(resource, _DEVICE_ID) or "unknown",
        "datasource": scope.get("name") or "unknown",
    }
    name = _first(resource, ("hostName", "host.name"))
    if name is not None:
        shared["deviceName"] = name
    if resource:
        shared["resource"] = resource
    if scope:
        shared["scope"] = scope
    return shared


def _head(shared: Row, metric: dict[str, Any]) -> Row:
    """The fields that all rows of one metric have in common."""
    name = metric["name"]
    head = {**shared, "metric": name, "metricKey": _token(name)}
    if metric.get("unit"):
        head["unit"] = metric["unit"]
    if "sum" in metric:
        data = metric["sum"]
        head["type"] = "sum"
        head["temporality"] = _TEMPORALITY[data.get("aggregationTemporality", 0)]
        head["monotonic"] = data.get("isMonotonic", False)
    else:
        head["type"] = "gauge"
    return head


def _add_point(row: Row, point: dict[str, Any], clock: _Clock) -> None:
    """Add the fields of one data point to a row that has those of its metric."""
    row["ts"], row["tsUnixMs"] = clock[point["timeUnixNano"]]
    if "startTimeUnixNano" in point:
        row["startTsUnixMs"] = clock[point["startTimeUnixNano"]][1]
    row["value"] = int(point["asInt"]) if "asInt" in point else point["asDouble"]
    if "attributes" in point:
        attributes = row["attributes"] = _texts(point["attributes"])
        if "dataSourceInstanceName" in attributes:
            row["instance"] = attributes["dataSourceInstanceName"]
        elif "wildValue" in attributes:
            row["instance"] = attributes["wildValue"]


def orjson_lines(record: Record) -> bytes:
    """The baseline: orjson.loads, dicts shared per resource, scope and metric, orjson.dumps per row."""
    bundle = _bundle_id(record)
    clock = _Clock()
    lines: list[bytes] = []
    for of_resource in orjson.loads(record.value)["resourceMetrics"]:
        resource = _texts(of_resource["resource"]["attributes"])
        for of_scope in of_resource["scopeMetrics"]:
            shared = _shared(resource, _scope_texts(of_scope["scope"]))
            for metric in of_scope["metrics"]:
                head = _head(shared, metric)
                for point in metric["sum" if "sum" in metric else "gauge"]["dataPoints"]:
                    row = head.copy()
                    row["rowId"] = f"{bundle}:{len(lines)}"
                    _add_point(row, point, clock)
                    lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


def json_lines(record: Record) -> bytes:
    """The toy: json.loads, every dict made anew for every row, json.dumps per row."""
    bundle = _bundle_id(record)
    clock = _Clock()
    lines: list[str] = []
    for of_resource in json.loads(record.value)["resourceMetrics"]:
        for of_scope in of_resource["scopeMetrics"]:
            for metric in of_scope["metrics"]:
                for point in metric["sum" if "sum" in metric else "gauge"]["dataPoints"]:
                    resource = _texts(of_resource["resource"]["attributes"])
                    row = _head(_shared(resource, _scope_texts(of_scope["scope"])), metric)
                    row["rowId"] = f"{bundle}:{len(lines)}"
                    _add_point(row, point, clock)
                    # Default arguments: others build a new encoder for every call.
                    lines.append(json.dumps(row) + "\n")
    return "".join(lines).encode()


def _proto_texts(attributes: Any) -> dict[str, str]:
    texts = {}
    for attribute in attributes:
        value = attribute.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            texts[attribute.key] = value.string_value
        elif kind == "bool_value":
            texts[attribute.key] = "true" if value.bool_value else "false"
        elif kind == "int_value":
            texts[attribute.key] = str(value.int_value)
        else:
            texts[attribute.key] = repr(value.double_value)
    return texts


def _proto_head(shared: Row, metric: Any, kind: str) -> Row:
    head = {**shared, "metric": metric.name, "metricKey": _token(metric.name), "type": kind}
    if metric.unit:
        head["unit"] = metric.unit
    if kind == "sum":
        head["temporality"] = _TEMPORALITY[metric.sum.aggregation_temporality]
        head["monotonic"] = metric.sum.is_monotonic
    return head


def _add_proto_point(row: Row, point: Any, clock: _Clock) -> None:
    row["ts"], row["tsUnixMs"] = clock[point.time_unix_nano]
    if point.start_time_unix_nano:
        row["startTsUnixMs"] = clock[point.start_time_unix_nano][1]
    row["value"] = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
    if point.attributes:
        attributes = row["attributes"] = _proto_texts(point.attributes)
        if "dataSourceInstanceName" in attributes:
            row["instance"] = attributes["dataSourceInstanceName"]
        elif "wildValue" in attributes:
            row["instance"] = attributes["wildValue"]


def upb_lines(record: Record) -> bytes:
    """The protobuf baseline: opentelemetry-proto, attribute access, shared dicts, orjson.dumps per row."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    bundle = _bundle_id(record)
    clock = _Clock()
    lines: list[bytes] = []
    for of_resource in ExportMetricsServiceRequest.FromString(record.value).resource_metrics:
        resource = _proto_texts(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            scope = _proto_texts(of_scope.scope.attributes)
            for name, value in (("name", of_scope.scope.name), ("version", of_scope.scope.version)):
                if value:
                    scope[name] = value
            shared = _shared(resource, scope)
            for metric in of_scope.metrics:
                kind = metric.WhichOneof("data")
                head = _proto_head(shared, metric, kind)
                for point in getattr(metric, kind).data_points:
                    row = head.copy()
                    row["rowId"] = f"{bundle}:{len(lines)}"
                    _add_proto_point(row, point, clock)
                    lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


JSON_BASELINES: dict[str, Callable[[Record], bytes]] = {"orjson": orjson_lines, "json toy": json_lines}
PROTO_BASELINES: dict[str, Callable[[Record], bytes]] = {"upb": upb_lines}
