"""A seeded corpus of LogicMonitor-like bundles: the same bytes on every machine, as OTLP/JSON or as protobuf."""

import json
import random
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

from lmstream.model import Record

SEED = "lmstream"
TOPIC = "lm.metrics.otlp"
DEVICES = 200
DATASOURCES = 16  # 200 devices x 16 datasources send every minute: what a cache sees of a fleet
START_MS = 1_715_263_558_360
MINUTE_MS = 60_000
ODD_TEXT_EVERY = 5  # every fifth device has non-ASCII or escaped text
ONE_OFF_SHARE = 0.01  # of points: attributes that never come again, like those of a process; LMDP's name instances
SPREAD_DATASOURCE = 0  # where each instance has its own time; elsewhere points have the time of their scope, as LMDP's

Encoding = Literal["json", "proto"]


class Size(NamedTuple):
    """One size of bundle; ranges are inclusive."""

    bundles: int
    resources: int
    metrics: tuple[int, int]
    points: tuple[int, int]
    """Data points of each metric: the instances of the datasource."""


# Bundles are as many as give about 20,000 rows: 20 to 70 ms for the variants that matter, and 6 MB, past the L2 cache.
SIZES: dict[str, Size] = {
    "small": Size(bundles=1000, resources=1, metrics=(5, 7), points=(1, 5)),
    "medium": Size(bundles=100, resources=1, metrics=(12, 60), points=(1, 10)),
    "large": Size(bundles=10, resources=4, metrics=(50, 60), points=(8, 10)),
}

# Like LMDP, most values of a device are text, numbers included; a few come typed.
_ODD = (
    "Köln · Rack 4",
    'the "blue" room',
    "C:\\agents\\lm\tv2",
    "東京 データセンター",
    "naïve\nsecond line",
    "caf\u00e9 ☕ 🚀",
    "</a>&'\\u0041",
)
_NOUNS = (
    "Cpu",
    "Memory",
    "Disk",
    "Interface",
    "Queue",
    "Thread",
    "Heap",
    "Session",
    "Packet",
    "Cache",
    "Request",
    "Error",
)
_ASPECTS = ("Usage", "Count", "Rate", "Latency", "Peak")
_UNITS = ("%", "By", "1/s", "ms", "")


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


@cache
def _resource(device: int) -> dict[str, Any]:
    """12 or 13 attributes of one device."""
    rng = random.Random(f"{SEED}/device/{device}")
    odd = rng.choice(_ODD) if device % ODD_TEXT_EVERY == 0 else ""
    attributes = [
        _text("hostName", f"srv-{device:04}.dc{device % 3}.example.net"),
        _text("hostId", str(1_017_000 + device)),
        _text("system.displayname", odd or f"srv-{device:04}"),
        _text("system.ips", f"10.{device % 4}.{device}.{rng.randrange(1, 255)}"),
        _text("system.model", rng.choice(("PowerEdge R740", "ProLiant DL380", "UCS C220", "vSphere VM"))),
        _text("system.sysinfo", rng.choice(("Linux 6.1.0-18-amd64", "Windows Server 2022 Standard", "Linux 5.15"))),
        _text("location", odd or rng.choice(("eu-west/ams/row-7", "us-east/iad/row-2", "ap-south/bom/row-1"))),
        _text("environment", rng.choice(("production", "staging", "test"))),
        _text("team", rng.choice(("platform", "payments", "search", "storage"))),
        _text("snmp.version", "v3"),
        {"key": "cpu.count", "value": {"intValue": str(rng.choice((4, 8, 16, 64)))}},
        {"key": "monitored", "value": {"boolValue": True}},
    ]
    if device % 2:
        attributes.append({"key": "weight", "value": {"doubleValue": rng.randrange(1, 100) / 8}})
    return {"attributes": attributes}


def _point_attributes(datasource: int, metric: int, instance: int) -> list[dict[str, Any]]:
    """1 to 4 attributes, by datasource. In a quarter of the datasources they differ by metric too. In one minute of
    medium bundles about 90 % of the attribute lists repeat an earlier one.
    """
    name = f"instance-{instance}"
    return [
        _text("dataSourceInstanceName", f"SNMP_Datasource{datasource}-{name}"),
        _text("wildValue", name),
        _text("wildAlias", name),
        _text("datapointid", str(197_000 + 100 * datasource + metric)),
    ][: datasource % 4 + 1]


def _resource_metrics(size: Size, device: int, datasource: int, minute: int) -> dict[str, Any]:
    """What one device sends for one datasource in one minute. Its shape is the same every minute, as in a fleet."""
    shape = random.Random(f"{SEED}/shape/{device}/{datasource}")
    values = random.Random(f"{SEED}/values/{device}/{datasource}/{minute}")
    epoch = START_MS + minute * MINUTE_MS + shape.randrange(MINUTE_MS)
    scope = {
        "name": f"SNMP_Datasource{datasource}",
        "attributes": [
            _text("collector", "snmp"),
            _text("epoch", str(epoch)),  # LMDP's own: it makes the scope new every minute
            _text("datasourceId", str(128_265_000 + datasource)),
        ],
    }
    metrics = []
    for number in range(shape.randint(*size.metrics)):
        integer, is_sum = shape.random() < 0.4, shape.random() < 0.4
        points = []
        for instance in range(shape.randint(*size.points)):
            attributes = _point_attributes(datasource, number, instance)
            if values.random() < ONE_OFF_SHARE:
                attributes[-1] = _text("session", f"{values.getrandbits(64):016x}")
            nanos = (epoch + (37 * instance if datasource == SPREAD_DATASOURCE else 0)) * 1_000_000
            value: dict[str, Any]
            if integer:
                value = {"asInt": str(values.randrange(10 ** values.randint(1, 12)))}
            else:
                value = {"asDouble": round(values.random() * 10 ** values.randint(0, 5), 3)}
            points.append(
                {"startTimeUnixNano": str(nanos - MINUTE_MS * 1_000_000), "timeUnixNano": str(nanos)}
                | value
                | {"attributes": attributes}
            )
        name = _NOUNS[number // len(_ASPECTS)] + _ASPECTS[number % len(_ASPECTS)]
        data: dict[str, Any] = {"dataPoints": points}
        if is_sum:
            data |= {"aggregationTemporality": 1 + number % 2, "isMonotonic": number % 3 != 0}
        metrics.append({"name": name, "unit": _UNITS[number % len(_UNITS)], "sum" if is_sum else "gauge": data})
        if not metrics[-1]["unit"]:
            del metrics[-1]["unit"]
    return {"resource": _resource(device), "scopeMetrics": [{"scope": scope, "metrics": metrics}]}


def documents(size: str, *, minute: int = 0, bundles: int | None = None) -> Iterator[dict[str, Any]]:
    """The bundles of one minute as plain OTLP/JSON objects. The same devices and datasources come every minute."""
    what = SIZES[size]
    count = what.bundles if bundles is None else bundles
    senders = random.Random(f"{SEED}/senders/{size}").sample(
        range(DEVICES * DATASOURCES), what.bundles * what.resources
    )
    for first in range(0, count * what.resources, what.resources):
        yield {
            "resourceMetrics": [
                _resource_metrics(what, *divmod(sender, DATASOURCES), minute)
                for sender in senders[first : first + what.resources]
            ]
        }


def rows_of(document: dict[str, Any]) -> int:
    """Data points in one bundle; every one of them makes a row."""
    return sum(
        len((metric.get("gauge") or metric["sum"])["dataPoints"])
        for resource in document["resourceMetrics"]
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
    )


def encode(document: dict[str, Any], encoding: Encoding, *, ascii_only: bool = False) -> bytes:
    """The bundle as compact OTLP/JSON (text escaped to ASCII when asked), or as protobuf of the same message."""
    if encoding == "json":
        return json.dumps(document, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    message: bytes = ParseDict(document, ExportMetricsServiceRequest()).SerializeToString()
    return message


class Corpus(NamedTuple):
    """Some bundles as Kafka would hand them out."""

    records: list[Record]
    rows: list[int]
    """Rows of each record."""


def corpus(size: str, encoding: Encoding = "json", *, minute: int = 0, bundles: int | None = None) -> Corpus:
    """The records of one minute: about 20,000 rows, or the first `bundles`. Every other bundle escapes its text."""
    records, rows = [], []
    for n, document in enumerate(documents(size, minute=minute, bundles=bundles)):
        rows.append(rows_of(document))
        records.append(
            Record(
                topic=TOPIC,
                partition=n % 3,
                offset=1_000_000 * minute + n,
                timestamp=START_MS + minute * MINUTE_MS + n,
                value=encode(document, encoding, ascii_only=n % 2 == 1),
            )
        )
    return Corpus(records, rows)
