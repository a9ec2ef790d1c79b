"""OTLP/JSON into the oracle's plain shapes, by json.loads and one small reader for each message."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from support import oracle_json_points as points
from support.oracle_json_values import Number, attributes, boolean, integer, obj, text
from support.oracle_names import REQUEST, canonical, search_json, unknown_keys
from support.oracle_shapes import HUGE, Attributes, Bundle, Metric, Point, Refused, Resource, Scope, Wrong

MAX_BRACKETS = 1000
TEMPORALITIES = {
    "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
    "AGGREGATION_TEMPORALITY_DELTA": 1,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
}
KINDS = {
    "gauge": pb.Gauge,
    "sum": pb.Sum,
    "histogram": pb.Histogram,
    "exponentialHistogram": pb.ExponentialHistogram,
    "summary": pb.Summary,
}
WITH_TEMPORALITY = ("sum", "histogram", "exponentialHistogram")


def read(payload: bytes, *, exemplars: bool, snake: bool) -> Bundle:
    """The bundle; Refused when it is none. Without `exemplars` they are ignored, as unknown fields are; with `snake`
    the names of the .proto files are read too."""
    top = loaded(payload)
    if isinstance(top, dict):
        top = deep(lambda: canonical(top, REQUEST, snake=snake))
    if not isinstance(top, dict) or (top and "resourceMetrics" not in top):
        raise Refused("decode.top_level")
    found = top.get("resourceMetrics")
    if found is not None and not isinstance(found, list):
        raise Refused("decode.type", ("$.resourceMetrics",))
    reader = Reader(exemplars=exemplars)
    reader.bundle.resources = [
        reader.resource_metrics(one, path) for one, path in reader.entries(found, "$.resourceMetrics")
    ]
    reader.bundle.unknown = list(search_json(top, REQUEST)) if not reader.anything else []
    return reader.bundle


def loaded(payload: bytes) -> Any:
    """What the text says, numbers as written."""
    try:
        written = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("decode.utf8") from None
    if brackets(written) > MAX_BRACKETS:
        raise Refused("limits.depth")
    try:
        said = deep(
            lambda: json.loads(
                written, parse_int=Number, parse_float=Number, parse_constant=no_constant, object_pairs_hook=in_order
            )
        )
    except ValueError:
        raise Refused("decode.json") from None
    if half_pair(written):
        raise Refused("decode.json")
    return said


def half_pair(written: str) -> bool:
    """Whether a string says half of a surrogate pair by an escape: no text in UTF-8 is that (RFC 8259, 8.2)."""
    escapes = re.sub(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..", "", re.sub(r"\\[^u]", " ", written))
    return re.search(r"\\u[dD][89a-fA-F]", escapes) is not None


def deep(call: Callable[[], Any]) -> Any:
    """The call's result, with room for recursion: json.loads recurses once a bracket."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 10 * MAX_BRACKETS)
    try:
        return call()
    finally:
        sys.setrecursionlimit(limit)


def in_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in the order in which its members were said for the last time."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        made.pop(key, None)
        made[key] = value
    return made


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def brackets(written: str) -> int:
    """How deep brackets nest outside strings."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', written, re.DOTALL):
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


class Reader:
    """Reads the messages above the data points: bad heads spare their siblings, lost parts are named."""

    def __init__(self, *, exemplars: bool) -> None:
        self.bundle = Bundle()
        self.exemplars = exemplars
        self.counted = 0

    @property
    def anything(self) -> bool:
        """Whether there is a data point, or something wrong."""
        return bool(self.counted or self.bundle.faults)

    def entries(self, value: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
        """Objects of an array, with their paths, one by one so that faults are met in the order of a walk; the rest is
        lost."""
        if value is not None and not isinstance(value, list):
            self.bundle.lose(path)
            return
        for n, one in enumerate(value or []):
            if isinstance(one, dict):
                yield one, f"{path}[{n}]"
            else:
                self.bundle.lose(f"{path}[{n}]")

    def hollow(self, message: dict[str, Any], descriptor: Any, path: str) -> None:
        """Note what is not known in a part that gave no point."""
        self.bundle.hollow += [f"{path}.{key}" for key in unknown_keys(message, descriptor)]

    def head(self, path: str, read_head: Callable[[], Attributes | None]) -> str:
        """What is wrong with a head: a wrong type before a limit."""
        try:
            read = read_head()
        except Wrong:
            return self.bundle.bad(path, "decode.type")
        return self.bundle.bad(path, read.limit if read else "")

    def resource_metrics(self, message: dict[str, Any], path: str) -> Resource:
        made = Resource()

        def read_head() -> Attributes:
            made.attributes = attributes(obj(message.get("resource")).get("attributes"))
            return made.attributes

        made.fault = self.head(f"{path}.resource", read_head)
        found = message.get("scopeMetrics")
        if found in (None, []):
            self.hollow(message, pb.ResourceMetrics.DESCRIPTOR, path)
        made.scopes = [self.scope_metrics(one, where) for one, where in self.entries(found, f"{path}.scopeMetrics")]
        return made

    def scope_metrics(self, message: dict[str, Any], path: str) -> Scope:
        made = Scope()

        def read_head() -> Attributes:
            scope = obj(message.get("scope"))
            made.name, made.version = text(scope.get("name")), text(scope.get("version"))
            made.attributes = attributes(scope.get("attributes"))
            return made.attributes

        made.fault = self.head(f"{path}.scope", read_head)
        found = message.get("metrics")
        if found in (None, []):
            self.hollow(message, pb.ScopeMetrics.DESCRIPTOR, path)
        made.metrics = [self.metric(one, where) for one, where in self.entries(found, f"{path}.metrics")]
        return made

    def metric(self, message: dict[str, Any], path: str) -> Metric:
        made = Metric()
        kinds = {kind: message[kind] for kind in KINDS if message.get(kind) is not None}

        def read_head() -> None:
            made.name, made.unit = text(message.get("name")), text(message.get("unit"))
            if len(kinds) > 1:
                raise Wrong
            for kind, data in kinds.items():
                if kind in WITH_TEMPORALITY and isinstance(data, dict):
                    made.temporality, made.enum = temporality(data.get("aggregationTemporality"))
                if kind == "sum" and isinstance(data, dict):
                    made.monotonic = boolean(data.get("isMonotonic"))

        made.fault = self.head(path, read_head)
        for kind, data in kinds.items():
            inside = self.data_points(data, f"{path}.{kind}")
            made.lost |= inside is None
            made.points += [
                Point(f"{path}.{kind}.dataPoints[{n}]", kind, points.read(kind, one, exemplars=self.exemplars))
                for n, one in enumerate(inside or [])
            ]
        self.counted += len(made.points)
        if not made.points and not made.lost:
            self.hollow(message, pb.Metric.DESCRIPTOR, path)
            for kind, data in kinds.items():
                self.hollow(data, KINDS[kind].DESCRIPTOR, f"{path}.{kind}")
        return made

    def data_points(self, data: Any, path: str) -> list[Any] | None:
        """The data points of a data object; None when they are lost."""
        if not isinstance(data, dict):
            return self.bundle.lose(path)
        inside = data.get("dataPoints")
        if inside is not None and not isinstance(inside, list):
            return self.bundle.lose(f"{path}.dataPoints")
        return inside or []


def temporality(value: Any) -> tuple[int, str]:
    """(number, what is noted of it)."""
    if isinstance(value, str) and not isinstance(value, Number):
        if value not in TEMPORALITIES:
            raise Wrong
        return TEMPORALITIES[value], "enum.name"
    said = integer(value)
    if said is HUGE:
        raise Wrong
    return said, "" if said in (0, 1, 2) else "enum.unknown"
