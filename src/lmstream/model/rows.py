"""The row contract: one data point as one flat row, and the dimension rows that hold what rows would repeat."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

MetricType = Literal["gauge", "sum", "histogram", "exponentialHistogram", "summary"]
Temporality = Literal["unspecified", "delta", "cumulative"]


class Buckets(Struct, frozen=True, kw_only=True, rename="camel"):
    """One side of an exponential histogram."""

    offset: int
    bucket_counts: list[int]


class Quantile(Struct, frozen=True, kw_only=True, rename="camel"):
    """One quantile of a summary."""

    quantile: float
    value: float


class Exemplar(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One sampled measurement behind a data point."""

    ts_unix_ms: int | None = None
    value: int | float
    trace_id: str = ""
    span_id: str = ""
    attributes: dict[str, str] = {}


class RowEvent(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """One data point as one flat row: the row contract. This struct is the source; the spec page, JSON Schema, Glue
    columns and DDL are generated from it.
    """

    row_id: Annotated[
        str,
        Meta(description="`<bundleId>:<n>`; the same in every host, run and version", pattern=r"^[0-9a-f]{32}:[0-9]+$"),
    ]
    org_id: Annotated[
        str,
        Meta(
            description="first of: a rule, topic map, static setting, resource attributes named in the settings",
            min_length=1,
        ),
    ]
    org_key: Annotated[
        str, Meta(description="orgId as a path-safe token", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
    ]
    device_id: Annotated[
        str,
        Meta(
            description="first of hostId, host.id, service.instance.id, hostName, host.name, service.name; or `unknown`"
        ),
    ] = ""
    device_name: Annotated[str | None, Meta(description="hostName, host.name")] = None
    datasource: Annotated[str, Meta(description="scope.name; else `unknown`")] = ""
    instance: Annotated[str | None, Meta(description="point attribute dataSourceInstanceName, else wildValue")] = None
    metric: Annotated[str, Meta(description="metrics[].name, as sent")]
    metric_key: Annotated[
        str,
        Meta(
            description="metric as a path-safe token, its group by the metric_key setting, or by a rule",
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$",
        ),
    ]
    unit: Annotated[str | None, Meta(description="metrics[].unit, when not empty")] = None
    type: Annotated[MetricType, Meta(description="kind of the metric")]
    ts: Annotated[
        str,
        Meta(
            description="event time, RFC 3339, three decimals, Z; equals tsUnixMs",
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        ),
    ]
    ts_unix_ms: Annotated[
        int,
        Meta(
            description="timeUnixNano // 10^6, else the scope attribute epoch (ms), else by a setting Kafka's time",
            ge=0,
        ),
    ]
    start_ts_unix_ms: Annotated[int | None, Meta(description="startTimeUnixNano // 10^6, when sent and in range")] = (
        None
    )
    value: Annotated[int | float | None, Meta(description="gauge and sum: asInt exactly, or asDouble")] = None
    temporality: Annotated[Temporality | None, Meta(description="sum and histograms: aggregationTemporality")] = None
    monotonic: Annotated[bool | None, Meta(description="sum: isMonotonic")] = None
    count: Annotated[int | None, Meta(description="histograms and summary")] = None
    sum: Annotated[float | None, Meta(description="histograms, when sent; summary; when finite")] = None
    min: Annotated[float | None, Meta(description="histograms, when sent and finite")] = None
    max: Annotated[float | None, Meta(description="histograms, when sent and finite")] = None
    bucket_counts: Annotated[list[int] | None, Meta(description="histogram")] = None
    explicit_bounds: Annotated[list[float] | None, Meta(description="histogram")] = None
    scale: Annotated[int | None, Meta(description="exponentialHistogram")] = None
    zero_count: Annotated[int | None, Meta(description="exponentialHistogram")] = None
    zero_threshold: Annotated[float | None, Meta(description="exponentialHistogram, when finite")] = None
    positive: Annotated[Buckets | None, Meta(description="exponentialHistogram")] = None
    negative: Annotated[Buckets | None, Meta(description="exponentialHistogram")] = None
    quantiles: Annotated[list[Quantile] | None, Meta(description="summary; those that are finite")] = None
    attributes: Annotated[dict[str, str], Meta(description="point attributes as text; absent when empty")] = {}
    resource: Annotated[dict[str, str], Meta(description="resource attributes as text; absent when empty")] = {}
    scope: Annotated[
        dict[str, str], Meta(description="scope name and version, and scope attributes, as text; absent when empty")
    ] = {}
    exemplars: Annotated[list[Exemplar] | None, Meta(description="when present and enabled")] = None
    resource_key: Annotated[
        str | None,
        Meta(description="with engine.dimensions: key of the dimension row of deviceId, deviceName and resource"),
    ] = None
    scope_key: Annotated[
        str | None, Meta(description="the same for datasource and scope, of which attributes that vary stay in the row")
    ] = None
    attributes_key: Annotated[str | None, Meta(description="the same for instance and attributes")] = None

    def __post_init__(self) -> None:
        """Raises ValueError for a row that says neither of its device, or of its datasource, nor has the key."""
        for field, said, key in (
            ("deviceId", self.device_id, self.resource_key),
            ("datasource", self.datasource, self.scope_key),
        ):
            if not said and not key:
                raise ValueError(f"Object missing required field `{field}`")


DIMENSIONS = "_dimensions"
"""metricKey of dimension rows. No metric has it: the token of a name that begins so ends in a hash."""
DimensionKind = Literal["resource", "scope", "attributes"]


def dimension_path(template: str) -> str:
    """The path template of dimension rows: `_dimensions` is their metricKey, or, where paths name no metric, a folder
    behind what all paths begin with, so that whatever holds for that prefix holds for them."""
    if "{metricKey}" in template:
        return template.replace("{metricKey}", DIMENSIONS)
    start = template.partition("{")[0].rpartition("/")
    prefix = start[0] + start[1]
    return f"{prefix}{DIMENSIONS}/{template.removeprefix(prefix)}"


class DimensionRow(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What a key of rows stands for, in one hour of one organization: what their lines would repeat. Only with
    `engine.dimensions`. Its members have the names, and the meaning, that they have in a RowEvent without keys.
    """

    row_id: Annotated[
        str,
        Meta(description="of organization, hour and key: the same in every copy", pattern=r"^[0-9a-f]{32}:0$"),
    ]
    org_id: Annotated[str, Meta(description="as in the rows", min_length=1)]
    org_key: Annotated[str, Meta(description="as in the rows", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
    metric_key: Annotated[Literal["_dimensions"], Meta(description="`_dimensions`")]
    ts: Annotated[
        str,
        Meta(description="the rows' hour, as a time", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00:00\.000Z$"),
    ]
    ts_unix_ms: Annotated[int, Meta(description="the same in ms")]
    dimension: Annotated[DimensionKind, Meta(description="which part of a row it is")]
    key: Annotated[
        str, Meta(description="resourceKey, scopeKey or attributesKey of the rows", pattern=r"^[A-Za-z0-9_-]{16}$")
    ]
    device_id: Annotated[str | None, Meta(description="of a resource")] = None
    device_name: Annotated[str | None, Meta(description="of a resource")] = None
    resource: Annotated[dict[str, str], Meta(description="of a resource, sorted by name")] = {}
    datasource: Annotated[str | None, Meta(description="of a scope")] = None
    scope: Annotated[
        dict[str, str],
        Meta(description="of a scope, sorted by name; epoch is `{tsUnixMs}` where the rows' time says it"),
    ] = {}
    instance: Annotated[str | None, Meta(description="of attributes")] = None
    attributes: Annotated[dict[str, str], Meta(description="of attributes, sorted by name")] = {}
