"""The catalogue of metrics: one table for every host, from what is counted to the names of Prometheus and CloudWatch.

The table is metrics.json, a line for each metric. /metrics, CloudWatch, /statusz and the last line of a run read it. So
a new counter is a field that is counted up (of `delivery.Counts`, as a rule) and a line there. Nothing below imports
this.

No label holds an organization, a device or a metric's name: what senders choose must not decide how many series there
are.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct, json, structs


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """One metric."""

    name: str
    """What Prometheus knows it by."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    emf: str = ""
    """Its name in CloudWatch; empty for what is not told there."""
    unit: Literal["Count", "Bytes", "Seconds"] = "Count"
    labels: tuple[str, ...] = ()
    served: bool = True
    """Whether the container host has it. The Lambda host has none of the gauges that it has."""
    host: Literal["run", "verify"] = "run"
    """Whose /metrics has it: that of a run, or that of `verify --watch`."""
    read: str = ""
    """The field that holds its value: of Counts, of a snapshot of the pipeline or the run, or of the source's health.
    With labels a mapping by label. Empty for what is more than a field."""
    status: str = ""
    """Its key among the counts of /statusz; empty when it is not there."""
    said: str = ""
    """Its words in the last line of a run; empty when it is not there."""


CATALOGUE: Final = json.decode(Path(__file__).with_name("metrics.json").read_bytes(), type=tuple[Metric, ...])
"""All metrics, in the order in which hosts list them."""

SERVED: Final = tuple(metric for metric in CATALOGUE if metric.served and metric.host == "run")
"""What /metrics of a run has."""
PROOF: Final = tuple(metric for metric in CATALOGUE if metric.host == "verify")
"""What /metrics of `verify --watch` has."""

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}


def values(*parts: Struct | None) -> Iterator[tuple[Metric, Any]]:
    """The metrics that are a field of one of these structs (the first that has it), each with its value: a number, or
    numbers by label."""
    fields: dict[str, Any] = {}
    for part in parts:
        if part is not None:
            fields = structs.asdict(part) | fields
    return ((metric, fields[metric.read]) for metric in CATALOGUE if metric.read in fields)


def total(value: float | Mapping[str, float]) -> float:
    """The value of all labels together."""
    return sum(value.values()) if isinstance(value, Mapping) else value
