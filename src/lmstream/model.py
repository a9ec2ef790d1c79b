"""What travels through lmstream: records in, row events out, dead letters, verdicts and outcomes."""

import zlib
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

__all__ = [
    "CLOSED", "CLOSED_FOR", "DIMENSIONS", "KILLS", "NOT_TRIED", "UNREADABLE", "Buckets", "DeadLetter", "DimensionKind",
    "DimensionRow", "Exemplar", "Failure", "Identity", "Kind", "MetricType", "Pack", "Quantile", "Record", "RowEvent",
    "Status", "Temporality", "TopicPartition", "dimension_path",
]  # fmt: skip

CLOSED = "limits.batch"
"""Reason of a letter that holds a whole compressed batch of Kafka, never opened."""
UNREADABLE = "record.unreadable"
"""Reason of a letter that holds bytes of Kafka which no record can be taken out of: a batch, or one record of it."""
KILLS = "record.kills"
"""Reason of a letter without a value: processes died over it, time and again."""
CLOSED_FOR = (CLOSED, UNREADABLE, KILLS)
"""Reasons for which a source keeps a batch closed."""


class TopicPartition(NamedTuple):
    """One partition of one topic: offsets count inside it."""

    topic: str
    partition: int


class Identity(NamedTuple):
    """What names a record in its row ids. Each member has the range that the id's form gives it."""

    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    stamp: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    """Kafka's timestamp; of the content of a file, the first eight bytes of its blake2b, as a signed integer."""


class Position(NamedTuple):
    """Where a record lies for those who settle it and may have it read again."""

    tp: TopicPartition
    offset: int


class Record(Struct, frozen=True, kw_only=True):
    """What Kafka holds at (topic, partition, offset)."""

    topic: str
    partition: int
    offset: int
    timestamp: int = -1
    """Kafka's timestamp in milliseconds; -1 when unknown. Part of the row id, so that a topic that was
    deleted and made again, whose offsets restart, gives new ids."""
    value: bytes | None
    """The bundle; None is a tombstone, acknowledged and counted."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    """Keys that are no UTF-8 hold their other bytes as surrogates (PEP 383, `surrogateescape`)."""
    closed: str = ""
    """Why the source did not open it, in words: `value` is then not a bundle, but the batch of Kafka that ends here,
    or what else could not be read. Else empty."""
    closed_for: str = CLOSED
    """The reason of its letter, one of CLOSED_FOR. Of no meaning while `closed` is empty."""
    only: tuple[int, ...] | None = None
    """Ordinals of the data points that may become rows; None is all. Set when a dead letter is replayed."""
    below: tuple[str, ...] = ()
    """Paths, as `$.resourceMetrics[0].scopeMetrics`, of parts in which no points could be counted: a replay makes rows
    of what can be read below them now, beside those of `only`, and numbers them behind all others."""
    names: str = "otlp"
    """engine.field_names under which the points of `only` were counted: under another one they have other ordinals."""
    held: int = 0
    """Bytes of the value when `value` is its gzip, as a dead letter holds a large one; else 0."""
    rows: bool = False
    """`value` is not a bundle but rows that were made before, a line each, which go as they are. Only what an operator
    reads by hand may say so, never a message of a topic."""
    identity: Identity | None = None
    """What names it in row ids where its coordinates must not: a file's name says nothing of what it holds today."""
    position: Position | None = None
    """Where it lies, when that is not at its coordinates: a record of a file is settled by its number in the run."""
    claimed: Position | None = None
    """Of a letter that is replayed: the position of its record, by which the claim of a lake lists it."""

    @property
    def identified(self) -> Identity:
        """What names it in row ids: its own identity, else its coordinates and timestamp."""
        return self.identity or Identity(self.topic, self.partition, self.offset, self.timestamp)

    @property
    def tp(self) -> TopicPartition:
        """The partition in which it is settled: the one it came from, but for records with a position."""
        return TopicPartition(self.topic, self.partition) if self.position is None else self.position.tp

    @property
    def at(self) -> int:
        """Its offset in `tp`."""
        return self.offset if self.position is None else self.position.offset

    @property
    def listed_at(self) -> Position:
        """Where a claim lists the letter that is replayed as this record."""
        return self.claimed or Position(TopicPartition(self.topic, self.partition), self.offset)

    @property
    def size(self) -> int:
        """Bytes it holds in memory, as far as somebody else chose them: value, key and headers."""
        size = len(self.value or b"") + len(self.key or b"")
        return size + sum(len(name) + len(text or b"") for name, text in self.headers) if self.headers else size

    @property
    def coordinates(self) -> str:
        """`topic/partition/offset`, for messages."""
        return f"{self.topic}/{self.partition}/{self.offset}"


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


class DeadLetter(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was given up on, and why: one letter per bundle, the original bytes once. Written as one line of JSON, bytes
    as base64; the files source reads it back with the same coordinates, so that a replay gives the same row ids.
    """

    v: int = 1
    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    timestamp: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = -1
    value: bytes | None = None
    held: Annotated[int, Meta(ge=0)] = 0
    """Bytes of the record's value when `value` is the gzip of it, as for large ones; 0 when it is the value itself."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    header_keys: tuple[tuple[int, bytes], ...] = ()
    """(index in `headers`, bytes) of the keys that are no UTF-8: in `headers` they have U+FFFD for what is none."""
    reason: str = ""
    """A key of errors.REASONS: of the whole record, or of the first rejected point."""
    code: str = ""
    detail: str = ""
    points: Annotated[int, Meta(ge=0)] = 0
    """Data points that were counted in the record; 0 when it was refused as a whole before."""
    rejected: tuple[tuple[int, str], ...] = ()
    """(ordinal, reason) of the points that made no row; empty when the whole record was refused."""
    parts: tuple[tuple[str, str], ...] = ()
    """(path, reason) of parts of the bundle in which no points could be counted; beside `rejected`, not instead."""
    names: str = "otlp"
    """engine.field_names under which `rejected` was counted."""
    rows: bool = False
    """`value` is rows that were made before, a line each: see Record."""
    identity: Identity | None = None
    """What names the record in row ids, as [topic, partition, offset, stamp]; absent where its coordinates do, as in
    every letter of row contract 1.0."""
    position: Position | None = None
    """Where the record was settled, as [[lane, partition], number], when that was not at its coordinates: the claim of
    a lake lists it there."""
    sha256: str = ""
    version: str = ""
    """Version of lmstream that wrote the letter."""

    @property
    def identified(self) -> Identity:
        """What names the record in row ids: see Record."""
        return self.identity or Identity(self.topic, self.partition, self.offset, self.timestamp)

    @property
    def size(self) -> int:
        """Bytes of the record's value; 0 when the letter has none."""
        return self.held or len(self.value or b"")

    def beginning(self, most: int) -> bytes:
        """The first bytes of the record's value, at most so many; none of a gzip that is damaged."""
        if not self.held:
            return (self.value or b"")[:most]
        try:
            return zlib.decompressobj(wbits=31).decompress(self.value or b"", most)
        except zlib.error:
            return b""

    def record(self) -> Record:
        """The record to replay: same coordinates and bytes, and only what was refused of it."""
        odd = {at: key.decode(errors="surrogateescape") for at, key in self.header_keys}
        return Record(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            timestamp=self.timestamp,
            value=self.value,
            held=self.held,
            key=self.key,
            headers=tuple((odd.get(at, name), text) for at, (name, text) in enumerate(self.headers)),
            closed=self.detail if self.reason in CLOSED_FOR else "",
            closed_for=self.reason if self.reason in CLOSED_FOR else CLOSED,
            only=tuple(n for n, _ in self.rejected) if self.rejected or self.parts else None,
            below=tuple(path for path, _ in self.parts),
            names=self.names,
            rows=self.rows,
            identity=self.identity,
            claimed=self.position,
        )


class Kind(StrEnum):
    """What a failure means for who retries."""

    RETRYABLE = "retryable"
    """May succeed later: throttling, 5xx, timeouts, an unknown outcome."""
    PERMANENT = "permanent"
    """The same lines will always fail: dead-letter them."""
    FATAL_CONFIG = "fatal-config"
    """Nobody's lines can succeed until an operator acts: pause, alarm, never dead-letter healthy rows."""


class Failure(Struct, frozen=True):
    """Why a pack was not delivered."""

    kind: Kind
    code: str
    """The service's own error code, or lmstream's name for it in snake_case."""
    message: str = ""
    apart: bool = False
    """The request was refused as a whole for something in one of its packs: send them apart, and find which."""
    unsure: bool = False
    """The service's words do not say whether it refuses this pack or the whole request: the refusal is final only if
    another pack was taken since (see refusals.py). Sinks set it with PERMANENT."""


NOT_TRIED = Failure(Kind.RETRYABLE, "not_tried", "no request was made")
"""Where every verdict starts: stopping early repeats work and never loses it."""


class Pack(Struct, frozen=True, gc=False):
    """Lines that travel together: one Firehose record, or one object of an object sink."""

    data: bytes
    rows: int
    path: str = ""
    """Partition path below the landing root, with a closing slash; empty for sinks that partition themselves."""
    spans: tuple[tuple[int, int], ...] = ()
    """(running number of the record in its pipeline, rows of it in this pack): a verdict maps back to records. 0 rows:
    dimension rows that it needs."""


class Status(StrEnum):
    """What became of one record. Only the first three may be acknowledged."""

    DELIVERED = "delivered"
    DEAD_LETTERED = "dead-lettered"
    """All that could not be delivered is in a durable dead letter; the rest was delivered."""
    TOMBSTONE = "tombstone"
    PENDING = "pending"
    """Not everything is durable yet: must not be acknowledged."""
