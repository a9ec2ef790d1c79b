"""LMDP bundles made from a seed: the payload shape of LogicMonitor Data Publisher, and odd or poison ones on demand."""

import gzip
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

from lmstream.errors import ConfigError

START_MS: Final = 1_715_263_558_360
"""Event time of the first poll unless told otherwise: a fixed moment, so that a seed alone fixes every byte."""

# A datasource a line: name, collection method, then its metrics as name:kind:typical value. LMDP sends gauges and sums.
_DATASOURCES: Final = """
LogicMonitor_Collector_ThreadCPUUsage jmx CpuUsage:sum:42.5 ProcessorCount:gauge:8 ThreadCnt:gauge:12
SNMP_Network_Interfaces snmp InOctets:sum:9e8 OutOctets:sum:4e8 InErrors:sum:3 OperStatus:gauge:1 InUcastPkts:sum:7e6
WinCPU wmi CPUBusyPercent:gauge:37 ProcessorQueueLength:gauge:2 InterruptsPerSec:gauge:15250
Linux_SSH_Filesystems script Capacity:gauge:5e11 UsedPercent:gauge:61 InodesUsedPercent:gauge:8 Status:gauge:1
Ping ping Average:gauge:1.8 PingLossPercent:gauge:0 MaxRtt:gauge:4.2
Microsoft_SQLServer_Databases jdbc Transactions:sum:1e6 DataFileSize:gauge:8e10 ActiveConnections:gauge:48
Kubernetes_KSM_Pods script cpuUsageNanoCores:gauge:2e7 memoryWorkingSetBytes:gauge:2e8 RestartCount:sum:0
HTTP_Page webpage ResponseTime:gauge:182 StatusCode:gauge:200 SSLDaysLeft:gauge:61
"""


class _Datasource(NamedTuple):
    name: str
    method: str
    metrics: tuple[tuple[str, str, float], ...]


def _parse(line: str) -> _Datasource:
    name, method, *metrics = line.split()
    parts = (metric.split(":") for metric in metrics)
    return _Datasource(name, method, tuple((metric, kind, float(level)) for metric, kind, level in parts))


_CATALOGUE: Final = tuple(_parse(line) for line in _DATASOURCES.strip().splitlines())

HOSTILE_NAMES: Final = (
    "../../etc/passwd",
    "a/b\\c",
    "",
    "new\nline",
    "nul\x00byte",
    "=1+1",
    "\x1b[31mred",
    "emoji \U0001f600",
    '","orgId":"evil',
    "x" * 2048,
)
"""Metric names that must not leave the landing root, colour a terminal or add a field to a row."""

POISON: Final = ("truncated", "not_json", "utf8", "empty", "top_level", "utf16", "gzip", "deep")
"""Names of the values that are no bundle: each is a DecodeError for the whole record."""


class Bundle(NamedTuple):
    """One generated record value, and what must become of it."""

    payload: bytes
    points: int
    """Data points in it; 0 when it is poison."""
    absent: tuple[int, ...] = ()
    """Ordinals of the points that make no row, skipped or rejected, ascending."""
    rejected: tuple[int, ...] = ()
    """Those of `absent` that must be named in a dead letter."""
    poison: str = ""
    """One of POISON when the whole record must be dead-lettered; else empty."""

    @property
    def rows(self) -> int:
        """Rows it must become."""
        return self.points - len(self.absent)


@dataclass(kw_only=True)
class Generator:
    """LMDP bundles, the same for the same arguments: each is one poll of one datasource on some devices.

    A bundle has `resources_per_bundle` devices x `instances` scopes x the datasource's 3 to 6 metrics, one point each:
    with the defaults 24 to 48 points of about 450 bytes of JSON.
    """

    seed: int = 1
    """The same seed gives the same bundles, but for their time."""
    devices: int = 50
    """Devices that are polled."""
    datasources: int = 8
    """Datasources of each device; each poll of one is a bundle."""
    instances: int = 8
    """Instances of each datasource."""
    resources_per_bundle: int = 1
    """Devices in one bundle."""
    format: Literal["json", "protobuf"] = "json"
    """Encoding of the bundles."""
    compress: bool = False
    """Send bundles as gzip."""
    chaos: float = 0.0
    """Share of data points that are odd: NaN, no time, histograms, hostile names, bad values."""
    poison: float = 0.0
    """Share of records that are no bundles at all."""
    start_ms: int | None = START_MS
    """Time of the first poll, in Unix milliseconds; None: now."""
    interval_ms: int = 60_000
    """Milliseconds between two polls of one device."""

    def __post_init__(self) -> None:
        """Check the arguments; nothing is made before `bundles` is iterated."""
        for name in ("devices", "datasources", "instances", "resources_per_bundle", "interval_ms"):
            if getattr(self, name) < 1:
                what = f"generator: {name} is {getattr(self, name)}, expected 1 or more"
                raise ConfigError("config.invalid", what)
        for name in ("chaos", "poison"):
            if not 0 <= getattr(self, name) <= 1:
                what = f"generator: {name} is {getattr(self, name)}, expected a share from 0 to 1"
                raise ConfigError("config.invalid", what)
        if self.format not in {"json", "protobuf"}:
            raise ConfigError("config.invalid", f"generator: format is {self.format!r}, expected json or protobuf")

    def bundles(self) -> Iterator[Bundle]:
        """Bundles without end, from the first again at every call."""
        # Only random() is drawn from: its sequence is the one that Python promises to keep between versions.
        draw = random.Random(self.seed).random  # noqa: S311 - test data, no secret depends on it
        size, start = min(self.resources_per_bundle, self.devices), self.start_ms
        start = int(time.time() * 1000) if start is None else start
        groups = -(-self.devices // size)
        number = 0
        while True:
            poll, place = divmod(number, groups * self.datasources)
            group, datasource = divmod(place, self.datasources)
            first = group * size
            devices = range(first, min(first + size, self.devices))
            time_ms = start + poll * self.interval_ms + int(draw() * min(1000, self.interval_ms))
            yield self._bundle(draw, devices, datasource, time_ms)
            number += 1

    def _bundle(self, draw: Callable[[], float], devices: range, datasource: int, time_ms: int) -> Bundle:
        fates: list[int] = []
        source = _CATALOGUE[datasource % len(_CATALOGUE)]
        if datasource >= len(_CATALOGUE):
            source = source._replace(name=f"{source.name}_{datasource // len(_CATALOGUE) + 1}")
        message = {
            "resourceMetrics": [
                {
                    "resource": _resource(device),
                    "scopeMetrics": [
                        {
                            "scope": _scope(source, time_ms, (datasource, device, instance)),
                            "metrics": list(self._metrics(draw, source, time_ms, f"unit-{instance}", fates)),
                        }
                        for instance in range(self.instances)
                    ],
                }
                for device in devices
            ]
        }
        payload = _to_protobuf(message) if self.format == "protobuf" else msgspec.json.encode(message)
        if self.poison and draw() < self.poison:
            poison = POISON[int(draw() * len(POISON))]
            return Bundle(_poisoned(poison, payload), 0, poison=poison)
        if self.compress:
            payload = gzip.compress(payload, compresslevel=6, mtime=0)
        absent = tuple(n for n, fate in enumerate(fates) if fate != _ROW)
        return Bundle(payload, len(fates), absent, tuple(n for n in absent if fates[n] == _REJECTED))

    def _metrics(
        self, draw: Callable[[], float], source: _Datasource, time_ms: int, wild: str, fates: list[int]
    ) -> Iterator[dict[str, Any]]:
        """Metrics of one instance, a point each; what must become of each point is appended to `fates`."""
        for place, (name, kind, level) in enumerate(source.metrics):
            point = {
                "timeUnixNano": f"{time_ms}000000",
                "asDouble": round(level * (0.5 + draw()), 3),
                "attributes": _attributes(
                    dataSourceInstanceName=f"{source.name}-{wild}",
                    datapointid=str(197_600 + place),
                    wildValue=wild,
                    wildAlias=wild,
                ),
            }
            entry: dict[str, Any] = {"name": name, kind: {"dataPoints": [point]}}
            fate = _ROW
            if self.chaos and draw() < self.chaos:
                fate, make_odd = _ODD[int(draw() * (len(_ODD) - (self.format == "protobuf")))]
                make_odd(draw, entry, point)
            fates.append(fate)
            yield entry


def _attributes(**pairs: str) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in pairs.items()]


def _resource(device: int) -> dict[str, Any]:
    return {
        "attributes": _attributes(
            hostName=f"host-{device:05d}.example.net",
            hostId=str(1_017_594 + device),
            site=("ams1", "fra2", "sea3", "syd4")[device % 4],
            environment=("production", "staging")[device % 2],
        )
    }


def _scope(source: _Datasource, time_ms: int, ids: tuple[int, int, int]) -> dict[str, Any]:
    datasource, device, instance = ids
    return {
        "name": source.name,
        "attributes": _attributes(
            collector=source.method,
            epoch=str(time_ms),
            datasourceId=str(128_265_135 + datasource),
            datasourceInstanceId=str(367_542_931 + (datasource * 100_000 + device) * 1_000 + instance),
        ),
    }


_Odd = Callable[[Callable[[], float], dict[str, Any], dict[str, Any]], None]
_ROW, _SKIPPED, _REJECTED = range(3)


def _integer(_draw: Callable[[], float], _entry: dict[str, Any], point: dict[str, Any]) -> None:
    point["asInt"] = str(int(point.pop("asDouble")))


def _histogram(_: Callable[[], float], entry: dict[str, Any], point: dict[str, Any]) -> None:
    del point["asDouble"]
    point |= {"count": "6", "sum": 21.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [1.0, 5.0]}
    entry.pop("gauge", None), entry.pop("sum", None)
    entry["histogram"] = {"dataPoints": [point], "aggregationTemporality": 2}


# What becomes of an odd point, and how it is made odd. The last cannot be said in protobuf.
_ODD: Final[tuple[tuple[int, _Odd], ...]] = (
    (_SKIPPED, lambda _draw, _entry, point: point.update(asDouble="NaN")),
    (_SKIPPED, lambda _draw, _entry, point: point.update(asDouble="-Infinity")),
    (_SKIPPED, lambda _draw, _entry, point: point.update(flags=1)),
    (_REJECTED, lambda _draw, _entry, point: point.pop("asDouble")),
    (_REJECTED, lambda _draw, _entry, point: point.update(timeUnixNano="1000000000000")),
    (_ROW, lambda _draw, _entry, point: point.pop("timeUnixNano")),  # the scope's epoch stands in
    (_ROW, _integer),
    (_ROW, _histogram),
    (_ROW, lambda draw, entry, _point: entry.update(name=HOSTILE_NAMES[int(draw() * len(HOSTILE_NAMES))])),
    (_REJECTED, lambda _draw, _entry, point: point.update(asInt="1")),
)


def _poisoned(kind: str, payload: bytes) -> bytes:
    made: dict[str, Callable[[], bytes]] = {
        "truncated": lambda: payload[:-9],  # half might end between two resources, which protobuf would take
        "not_json": lambda: b"this is no bundle",
        "utf8": lambda: payload.replace(b"hostName", b"host\xff\xffme", 1),
        "empty": lambda: b"",
        "top_level": lambda: b'["resourceMetrics"]',
        "utf16": lambda: '{"resourceMetrics":[]}'.encode("utf-16"),
        "gzip": lambda: gzip.compress(payload, compresslevel=1, mtime=0)[:-20],
        "deep": lambda: b'{"resourceMetrics":' + b"[" * 2000 + b"]" * 2000 + b"}",
    }
    return made[kind]()


_FROM_TEXT: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("timeUnixNano", "asInt", "count"), int),
    "asDouble": float,
    "bucketCounts": lambda texts: list(map(int, texts)),
}
"""Members that OTLP/JSON writes as text, and what they are."""


def _to_protobuf(message: dict[str, Any]) -> bytes:
    """Encode the same message with the reference library, whose constructors take dicts. Its json_format would take
    this message as it is, and eight times as long."""
    try:
        from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
    except ImportError as e:
        raise ConfigError.missing("a bundle in protobuf", "proto") from e
    encoded: bytes = MetricsData(**_in_protobuf(message)).SerializeToString(deterministic=True)
    return encoded


def _in_protobuf(value: Any) -> Any:
    """A part of a message with protobuf's names and numbers."""
    if isinstance(value, dict):
        return {_snake_case(name): _FROM_TEXT.get(name, _in_protobuf)(inner) for name, inner in value.items()}
    return [_in_protobuf(item) for item in value] if isinstance(value, list) else value


@cache
def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
