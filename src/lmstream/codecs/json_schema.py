"""What msgspec decodes of an OTLP/JSON bundle: what varies is typed, what repeats stays raw bytes."""

from typing import Annotated, Any, Generic, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lmstream.codecs.json_unknown import NOTHING

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
P = TypeVar("P")
"""NumberPoint, or Raw where each point is to be judged by itself."""

# Decoding is lax: it reads the 64-bit integers that OTLP/JSON writes as text at the speed of numbers. Lax decoding
# would also take "null" for null and "true" for true, so the members of points are not optional, and isMonotonic is
# checked by hand. A point with an explicit null, which stands for the default, is judged the general way.
_ABSENT: Any = None


class NumberPoint(Struct, gc=False):
    """A point of a gauge or sum."""

    # In the order senders write them, by field number, because msgspec looks for the next member first; rare ones last.
    startTimeUnixNano: int = 0  # noqa: N815 - the format's names
    timeUnixNano: int = 0  # noqa: N815
    asDouble: float = _ABSENT  # noqa: N815
    asInt: Int64 = _ABSENT  # noqa: N815
    attributes: Raw = NOTHING
    exemplars: Raw = NOTHING
    flags: Raw = NOTHING
    labels: tuple[()] = ()
    """Of OTLP 0.7 to 0.11: a point that has some is of a wrong type here, and judged the general way."""


class Data(Struct, Generic[P], gc=False):
    """A metric's points; the rest is a sum's or a histogram's."""

    dataPoints: list[P] | None = None  # noqa: N815
    aggregationTemporality: int | str | None = 0  # noqa: N815
    isMonotonic: Any = False  # noqa: N815


class MetricMessage(Struct, Generic[P], gc=False):
    """One metric: points of gauges and sums are typed, those of the other kinds are judged one by one."""

    name: str | None = ""
    unit: str | None = ""
    gauge: Data[P] | None = None
    sum: Data[P] | None = None
    histogram: Data[Raw] | None = None
    exponentialHistogram: Data[Raw] | None = None  # noqa: N815
    summary: Data[Raw] | None = None


class ScopeMetrics(Struct, Generic[P], gc=False):
    """The metrics of one scope."""

    scope: Raw = NOTHING
    metrics: list[MetricMessage[P]] | None = None


class ResourceMetrics(Struct, Generic[P], gc=False):
    """The scopes of one resource."""

    resource: Raw = NOTHING
    scopeMetrics: list[ScopeMetrics[P]] | None = None  # noqa: N815


class Request(Struct, Generic[P], gc=False):
    """A bundle. Without resourceMetrics it is none."""

    resourceMetrics: list[ResourceMetrics[P]] | UnsetType | None = UNSET  # noqa: N815


class ResourceMessage(Struct, gc=False):
    """A resource, decoded on a cache miss."""

    attributes: Raw = NOTHING


class ScopeMessage(Struct, gc=False):
    """A scope, decoded on a cache miss."""

    name: str | None = ""
    version: str | None = ""
    attributes: Raw = NOTHING
