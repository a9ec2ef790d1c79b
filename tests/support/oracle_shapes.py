"""The plain shapes that the oracle reads both formats into, and how it says no."""

from dataclasses import dataclass, field
from typing import Any

INT64 = range(-(2**63), 2**63)
MAX_NESTING = 47
"""Containers inside containers in one attribute value."""
MAX_ITEMS = 1024
"""Attributes of one list, items of one value, exemplars or labels of one point."""
HUGE = object()
"""A number that no int64 or float64 holds."""
WRONG = object()
"""A part of a wrong type: it is left out. What may not be left out raises Wrong instead."""

# An AnyValue is None, str, bool, int, float, bytes, a list of AnyValues or a dict from keys to AnyValues.


@dataclass
class Attributes:
    values: dict[str, Any] = field(default_factory=dict)
    empty: int = 0
    """Values, at any depth, that hold nothing but members that OTLP does not know."""
    limit: str = ""
    """The limit that they exceed, if any: then `values` are not complete."""


class Refused(Exception):  # noqa: N818 - a verdict, not an accident
    """The whole record is refused, for this reason."""

    def __init__(self, reason: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.names = names
        """Where: paths of unknown members, or of the first fault."""


class Wrong(Exception):  # noqa: N818 - a verdict, not an accident
    """A wrong type: of a point if it is inside one, else of a head or of a part."""


class NoRow(Exception):  # noqa: N818 - a verdict, not an accident
    """This data point makes no row."""

    def __init__(self, reason: str, *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.skipped = skipped


@dataclass
class Metric:
    name: str = ""
    unit: str = ""
    temporality: int = 0
    monotonic: bool = False
    enum: str = ""
    """What is noted of its temporality: enum.name, enum.unknown or nothing."""
    fault: str = ""
    """What is wrong with its head: reason of all of its points."""
    lost: bool = False
    """Something under it has points that cannot be counted."""
    points: list["Point"] = field(default_factory=list)


@dataclass
class Point:
    path: str
    kind: str
    fields: dict[str, Any] | None
    """By their OTLP/JSON name; `values` holds asInt and asDouble as sent. None: a wrong type in what decides, or a bad
    head above."""


@dataclass
class Scope:
    name: str = ""
    version: str = ""
    attributes: Attributes = field(default_factory=Attributes)
    fault: str = ""
    metrics: list[Metric] = field(default_factory=list)


@dataclass
class Resource:
    attributes: Attributes = field(default_factory=Attributes)
    fault: str = ""
    scopes: list[Scope] = field(default_factory=list)


@dataclass
class Bundle:
    resources: list[Resource] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of bad heads and lost parts, in the order of a walk."""
    lost: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of parts in which points cannot be counted."""
    hollow: list[str] = field(default_factory=list)
    """Paths of unknown members of parts that gave no point."""
    unknown: list[str] = field(default_factory=list)
    """Paths of unknown members anywhere; looked for only when there is neither point nor fault."""

    def bad(self, path: str, reason: str) -> str:
        """Note a bad head, and give its reason."""
        if reason:
            self.faults.append((path, reason))
        return reason

    def lose(self, path: str) -> None:
        """Note a part in which points cannot be counted."""
        self.faults.append((path, "decode.type"))
        self.lost.append((path, "decode.type"))

    @property
    def metrics(self) -> list[tuple[Resource, Scope, Metric]]:
        return [(r, s, m) for r in self.resources for s in r.scopes for m in s.metrics]


@dataclass
class Found:
    """One data point where it was found."""

    ordinal: int
    resource: Resource
    scope: Scope
    metric: Metric
    point: Point

    @property
    def fault(self) -> str:
        """What is wrong above it: the first from outside in."""
        return self.resource.fault or self.scope.fault or self.metric.fault


@dataclass
class Verdict:
    rows: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """Partition path of each row."""
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
    parts: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of parts in which points could not be counted."""
    unknown: list[str] = field(default_factory=list)
    """Paths of the first ten unknown members of parts that gave no point."""
    points: int = 0
    """Data points that were counted."""
