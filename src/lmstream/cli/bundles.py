"""Bundles for people: the OTLP message as plain dicts, as a table of metrics, or as a tree."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from lmstream.cli import terminal
from lmstream.cli.tables import Column, table
from lmstream.codecs.inflating import COMPRESSED, inflate
from lmstream.errors import ConfigError
from lmstream.settings import Limits

KINDS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_OF_METRICS: Final = (
    Column("device", 3, "id"),
    Column("datasource", 6),
    Column("instance", 4),
    Column("metric", 1, "id"),
    Column("kind", 7, "whole"),
    Column("unit", 8),
    Column("points", 5, "count"),
    Column("values", 2),
)
_SHOWN: Final = 3  # values of a metric in a table line


def message_of(payload: bytes, limits: Limits) -> dict[str, Any]:
    """Answer the message in a payload that the engine has taken: JSON or protobuf, plain or in gzip or zstd."""
    if payload.startswith(COMPRESSED):
        payload = inflate(payload, limits)
    if payload.lstrip()[:1] == b"{":
        message: dict[str, Any] = json.loads(payload, parse_int=_whole)
        return message
    try:
        from google.protobuf.json_format import MessageToDict
        from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
    except ImportError as e:
        raise ConfigError.missing("a bundle in protobuf", "proto") from e
    message = MessageToDict(MetricsData.FromString(payload), use_integers_for_enums=True)
    _hex_ids(message)
    return message


def _whole(digits: str) -> int | str:
    """An integer, or its digits when there are more of them than Python takes."""
    try:
        return int(digits)
    except ValueError:
        return digits


def _hex_ids(node: Any) -> None:
    """OTLP/JSON writes trace and span ids in hex; the protobuf library writes all bytes in base64."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"traceId", "spanId"} and isinstance(value, str):
                node[key] = base64.b64decode(value).hex()
            else:
                _hex_ids(value)
    elif isinstance(node, list):
        for value in node:
            _hex_ids(value)


def metrics_of(message: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]]:
    """Every (resource, scope, metric, kind) of a message, in document order; what has a wrong type is left out."""
    for resource in _objects(message, "resourceMetrics"):
        for scope in _objects(resource, "scopeMetrics"):
            for metric in _objects(scope, "metrics"):
                yield _object(resource, "resource"), _object(scope, "scope"), metric, _kind(metric)


def show_table(message: dict[str, Any], limit: int, *, wide: bool = False) -> None:
    """Print a line a metric."""
    lines: list[tuple[object, ...]] = []
    more = 0
    for resource, scope, metric, kind in metrics_of(message):
        if len(lines) == limit:
            more += 1
            continue
        points = _objects(_object(metric, kind), "dataPoints")
        named = _attributes(resource)
        device = next((named[k] for k in ("hostName", "host.name", "hostId", "service.name") if k in named), "")
        instance = _attributes(points[0]).get("wildValue", "") if points else ""
        values = ", ".join(_value(point) for point in points[:_SHOWN]) + (", …" if len(points) > _SHOWN else "")
        lines.append(
            (device, scope.get("name"), instance, metric.get("name"), kind, metric.get("unit"), len(points), values)
        )
    table(_OF_METRICS, lines, wide=wide)
    if more:
        terminal.say(f"and {more:,} more metrics; --limit shows more")


def show_tree(message: dict[str, Any], limit: int) -> None:
    """Print resources, scopes, metrics and points as a tree."""
    from rich.text import Text
    from rich.tree import Tree

    def text(*parts: str) -> Text:
        return Text(" ".join(terminal.cell(part) for part in parts if part))

    root = Tree(text("bundle"))
    left = limit
    for resource in _objects(message, "resourceMetrics"):
        branch = root.add(text("resource", _brief(_object(resource, "resource"))))
        for scope in _objects(resource, "scopeMetrics"):
            about = _object(scope, "scope")
            below = branch.add(text("scope", str(about.get("name", "")), _brief(about)))
            for metric in _objects(scope, "metrics"):
                left -= 1
                if left < 0:
                    continue
                kind = _kind(metric)
                leaf = below.add(text("metric", str(metric.get("name", "")), kind, str(metric.get("unit") or "")))
                for point in _objects(_object(metric, kind), "dataPoints"):
                    leaf.add(text(_value(point), f"at {_member(point, 'timeUnixNano', '-')}", _brief(point)))
    terminal.draw(root)
    if left < 0:
        terminal.say(f"and {-left:,} more metrics; --limit shows more")


_STEP: Final = re.compile(r"\.(\w+)(?:\[(\d+)\])?")


def show_branch(message: dict[str, Any], path: str) -> None:
    """Print the branch of a tree that ends at one point, marked, and how much lies beside it. `path` is as of a
    `interfaces.Place`."""
    from rich.text import Text
    from rich.tree import Tree

    def text(*parts: str) -> Text:
        return Text(" ".join(terminal.cell(part) for part in parts if part))

    steps = {name: int(number or 0) for name, number in _STEP.findall(path)}
    resources = _listed(message, "resourceMetrics")
    resource, beside = _taken(resources, steps.get("resourceMetrics", 0))
    root = Tree(text("bundle"))
    branch = root.add(text("resource", _brief(_object(resource, "resource")), beside))
    scope, beside = _taken(_listed(resource, "scopeMetrics"), steps.get("scopeMetrics", 0))
    about = _object(scope, "scope")
    branch = branch.add(text("scope", str(about.get("name", "")), _brief(about), beside))
    metric, beside = _taken(_listed(scope, "metrics"), steps.get("metrics", 0))
    kind = _kind(metric)
    branch = branch.add(text("metric", str(metric.get("name", "")), kind, str(metric.get("unit") or ""), beside))
    point, beside = _taken(_listed(_object(metric, kind), "dataPoints"), steps.get("dataPoints", 0))
    shown = text("=>", _value(point), f"at {_member(point, 'timeUnixNano', '-')}", _brief(point), beside)
    shown.stylize("bold")
    branch.add(shown)
    terminal.draw(root)


def _listed(holder: dict[str, Any], name: str) -> list[Any]:
    found = _member(holder, name)
    return found if isinstance(found, list) else []


def _taken(things: list[Any], number: int) -> tuple[dict[str, Any], str]:
    """One of these, and how many there are beside it."""
    found = things[number] if number < len(things) and isinstance(things[number], dict) else {}
    return found, f"({number + 1:,} of {len(things):,})" if len(things) > 1 else ""


def _kind(metric: dict[str, Any]) -> str:
    return next((kind for kind in KINDS if _member(metric, kind) is not None), "")


def _member(holder: dict[str, Any], name: str, otherwise: Any = None) -> Any:
    """A member by its name in OTLP/JSON, or by that in the proto files, which engine.field_names = "any" reads too."""
    snake = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    return holder.get(name, holder.get(snake, otherwise))


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    found = _member(holder, name)
    return found if isinstance(found, dict) else {}


def _objects(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = _member(holder, name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _attributes(holder: dict[str, Any]) -> dict[str, str]:
    return {str(pair.get("key")): _any(pair.get("value")) for pair in _objects(holder, "attributes")}


def _any(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        (inner,) = value.values()
        return inner if isinstance(inner, str) else json.dumps(inner)
    return json.dumps(value)


def _brief(holder: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in _attributes(holder).items())


def _value(point: dict[str, Any]) -> str:
    for key in ("asDouble", "asInt"):
        if (found := _member(point, key)) is not None:
            return str(found)
    if "count" in point:
        return f"count={point['count']} sum={point.get('sum', '-')}"
    return "-"
