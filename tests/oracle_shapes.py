"""The plain shapes that the oracle reads both formats into, and how it says no."""

from dataclasses import dataclass, field
from typing import Any

INT64 = range(-(2**63), 2**63)
MAX_NESTING = 47
"""Containers inside containers in one attribute value."""
HUGE = object()
"""A number that no int64 or float64 holds."""

# An AnyValue is None, str, bool, int, float, bytes, a list of AnyValues or a dict from keys to AnyValues.
Attributes = dict[str, Any]


class Refused(Exception):  # noqa: N818 - a verdict, not an accident
    """The whole record is refused, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Wrong(Exception):  # noqa: N818 - a verdict, not an accident
    """A wrong type: of a point if it is inside one, else of the bundle."""


class NoRow(Exception):  # noqa: N818 - a verdict, not an accident
    """This data point makes no row."""

    def __init__(self, reason: str, *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.skipped = skipped


@dataclass
class Metric:
    name: str
    unit: str
    kind: str  # "" when the metric has no data
    temporality: int = 0
    monotonic: bool = False
    enum_name: bool = False
    points: list[dict[str, Any] | None] = field(default_factory=list)
    """Fields by their OTLP/JSON name; `values` holds asInt and asDouble as sent. None: a wrong type inside."""


@dataclass
class Scope:
    name: str
    version: str
    attributes: Attributes
    metrics: list[Metric]


@dataclass
class Resource:
    attributes: Attributes
    scopes: list[Scope]


@dataclass
class Found:
    """One data point where it was found."""

    ordinal: int
    resource: Resource
    scope: Scope
    metric: Metric
    point: dict[str, Any] | None


@dataclass
class Verdict:
    rows: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """Partition path of each row."""
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
