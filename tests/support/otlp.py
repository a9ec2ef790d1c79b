"""Bundles in OTLP/JSON, as small as a test needs them."""

from typing import Any


def bundle(*metrics: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    """One resource and one scope with these metrics."""
    entry: dict[str, Any] = {"scopeMetrics": [{"metrics": list(metrics)}]}
    return {"resourceMetrics": [entry | ({} if resource is None else {"resource": resource})]}


def metric(*points: dict[str, Any], kind: str = "gauge", name: str = "cpu") -> dict[str, Any]:
    """One metric with these data points."""
    return {"name": name, kind: {"dataPoints": list(points)}}
