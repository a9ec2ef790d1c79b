"""The seams of lmstream: protocols of one to four methods. A module that has them is a codec, a source or a sink."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from msgspec import Struct, field

from lmstream.model import DeadLetter, Failure, Pack, Record, TopicPartition

__all__ = [
    "PARTS", "TWO_VALUES", "Assign", "Assigned", "Batch", "Bundle", "Clock", "Codec", "DeadLetterSink", "Drain",
    "Limits", "Load", "LostPart", "Metric", "ObjectStore", "Place", "PoisonGuard", "ReplacingStore", "Resource",
    "Scope", "Series", "Sink", "Sleep", "Source", "Standing", "StoreError", "Tagged",
]  # fmt: skip

Sleep = Callable[[float], Awaitable[None]]
"""Wait for some seconds; hosts pass asyncio.sleep, tests a virtual clock."""
Clock = Callable[[], float]
"""Monotonic seconds."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a sink takes: constants of its service, kept in the sink's file beside their source."""

    pack_bytes: int
    pack_rows: int
    request_packs: int
    request_bytes: int
    """Bytes of one request, counted as the service counts them: see `overhead` and `base64`."""
    base64: bool = False
    """Whether the service counts packs in base64."""
    uncut: bool = False
    """Whether a request continues after its caller gave up, as one does that writes in a thread: it is then waited for
    without a time limit, because a second one beside it would write the same lines again."""
    partitions: bool = False
    """Whether the service partitions rows itself, and takes only so many partitions at a time (DeliveryPolicy)."""
    by_path: bool = False
    """Whether packs are objects, one partition path each: lines are then gathered across batches by `rolling`."""


class Sink(Protocol):
    """Where packs go."""

    @property
    def limits(self) -> Limits:
        """What one request takes."""
        ...

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Make one request; answer for each pack, in order. None is delivered (durable). Never retries, never sleeps.

        May raise anything: the caller then takes every pack as retryable with an unknown outcome.
        """
        ...

    async def close(self) -> None: ...


class DeadLetterSink(Protocol):
    """Where dead letters go."""

    @property
    def largest(self) -> int:
        """Bytes of the largest letter it takes, as one line of JSON. Hosts refuse one too small for their limits."""
        ...

    async def check(self) -> None:
        """See, before a start, whether letters can be written; raises when not. May lower `largest`."""
        ...

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when all are durable; raise otherwise. Writing the same letter again must be harmless."""
        ...

    async def close(self) -> None: ...


class PoisonGuard(Protocol):
    """Remembers beyond the life of a process which record was being transformed when it died."""

    def deaths(self, record: Record, /) -> int:
        """How many processes died while they transformed this record."""
        ...

    def enter(self, record: Record, /) -> None:
        """Mark the record that is being transformed from now on; called for each record, so it must cost nothing."""
        ...

    def leave(self) -> None: ...

    def forget(self, record: Record, /) -> None:
        """Called when a record with deaths is settled. May raise OSError."""
        ...

    def close(self) -> None: ...


class Batch(Struct, frozen=True):
    """The records of one poll, in offset order per partition."""

    records: Sequence[Record]
    epochs: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Assignment epoch of each partition in the batch: acknowledgements of an older epoch are dropped."""
    end: bool = False
    """The source is finished: nothing follows."""
    passed: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Next offset to read of partitions in which offsets without a record follow what was handed out: markers of
    transactions, aborted records, what compaction removed. Each has its epoch in `epochs`."""
    cramped: bool = False
    """A batch waits in the source for bytes in flight to be settled: what is gathered should go now, not when it is
    old enough."""


class Load(NamedTuple):
    """What is in memory of records that were read."""

    held: int
    """Bytes in flight: payloads, lines, bodies of requests."""
    budget: int
    """Bytes that may be."""


Drain = Callable[[Iterable[TopicPartition]], Awaitable[None]]


class Assigned(NamedTuple):
    """Where a partition stands that the group has just given us."""

    next: int
    """Offset to read first: the group's commit, or by the source's settings where it has none."""
    committed: bool
    """Whether that is the group's commit."""
    begin: int
    """The first offset that the partition holds, or will hold."""
    end: int
    """The offset behind its last."""
    topics: Mapping[str, int] = MappingProxyType({})
    """How many partitions each topic has that the group reads; empty when that is not known."""
    same: bool = False
    """Whether it never holds other records than before: it is named after them."""


Assign = Callable[[Mapping[TopicPartition, Assigned]], Awaitable[Mapping[TopicPartition, int]]]
"""Told of partitions that were assigned; answers where to begin in those that are to begin elsewhere than at `next`."""


class Standing(NamedTuple):
    """Where the group stands in one partition."""

    next: int | None
    """Offset of the oldest record that is not committed; None while it is unknown."""
    end: int | None
    """Offset that the next record of the partition will have; None before the first answer."""


class Source(Protocol):
    """Where records come from. What one may be able to do besides is in the protocols of lmstream.abilities."""

    on_revoke: Drain | None
    """Set by the runtime; awaited before partitions are revoked, so that what is in flight can be settled."""

    async def poll(self, room: int, /) -> Batch:
        """Wait a little for records of at most about `room` bytes. With `room` 0 or less: no records, but stay in the
        group."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Make these the next offsets to read. Raises when it cannot; nothing is lost by that."""
        ...

    async def close(self) -> None: ...


class StoreError(Exception):
    """An object store did not do what it was asked, or did not say so: nothing is known of the outcome."""

    def __init__(self, failure: Failure) -> None:
        """`failure` is retryable or fatal-config, never permanent: another object of these rows fares no better."""
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class ObjectStore(Protocol):
    """Objects that are made once, whole, and never changed: what a lake consists of. Never retries, never sleeps."""

    name: str
    """For messages: `s3://BUCKET/PREFIX`, or a folder."""

    async def create(self, key: str, data: bytes, meta: Mapping[str, str], /) -> bool:
        """Make an object, durably; False when there is one of that name already, be it by a lost answer our own.
        Two who make the same at once: one is told True. Raises StoreError."""
        ...

    async def get(self, key: str, most: int, /) -> bytes | None:
        """The object; None when there is none. Raises StoreError, BoundError when it has more than `most` bytes."""
        ...

    async def stat(self, key: str, /) -> Mapping[str, str] | None:
        """What `create` was given beside the object, {} where the store keeps no such thing; None when there is no such
        object. Raises StoreError."""
        ...

    async def names(self, prefix: str, most: int, /) -> Sequence[str]:
        """The first keys that begin with this, in the order of their bytes; strongly consistent. Raises StoreError."""
        ...

    async def folders(self, prefix: str, most: int, /) -> Sequence[str]:
        """What keys below `prefix`, which ends with a slash, have up to the next slash: the first of them, without
        either, each once, in order; strongly consistent. Raises StoreError."""
        ...

    async def close(self) -> None: ...


class Tagged(NamedTuple):
    """One version of an object."""

    tag: str
    """What tells it from the others: S3's ETag."""
    meta: Mapping[str, str]
    """As of `stat`."""


class ReplacingStore(ObjectStore, Protocol):
    """An ObjectStore for compaction, which alone puts something else under a name. A sink has no use for it."""

    async def tagged(self, key: str, /) -> Tagged | None:
        """The version that is there; None when there is no such object. Raises StoreError."""
        ...

    async def replace(self, key: str, data: bytes, meta: Mapping[str, str], tag: str, /) -> bool:
        """Put this in the place of the version with that tag; False when another one is there, be it by a lost answer
        our own, or none. Raises StoreError."""
        ...


# --- what codecs yield -------------------------------------------------------------------------------------------


class Resource(Struct, frozen=True):
    """One resource as the row wants it."""

    piece: bytes
    """`"deviceId":…,"deviceName":…,"resource":{…},`."""
    org: str
    """Organization by `Settings.org_attributes`; empty when none is set."""
    noted: dict[str, int]
    """What each of its points notes: device.unknown, attribute.empty. Nearly always empty."""


class Scope(Struct, frozen=True, gc=False):
    """One instrumentation scope as the row wants it."""

    piece: bytes
    """`"datasource":…,"scope":{…},`."""
    epoch: str | bytes
    """Scope attribute epoch, decimal digits of ms, for points without a time of their own; empty when there is none."""
    noted: dict[str, int]
    """What each of its points notes: datasource.unknown, attribute.empty."""
    frame: bytes = b""
    """The piece with zeros for the 13 digits of its epoch, when the codec knows it: the same for every poll."""


class Metric(Struct, frozen=True):
    """Name, unit and kind of one metric as the row wants them."""

    piece: bytes
    """`"metric":…,"metricKey":…,"unit":…,"type":…,"temporality":…,"monotonic":…,`."""
    key: str
    """Path-safe token."""


class Series(Struct, gc=False):
    """The points of one resource and scope: columns[start:stop] of its bundle."""

    resource: Resource
    scope: Scope
    start: int
    stop: int


TWO_VALUES: Final = float("nan")
"""In a column of values, by identity: the point has asInt and asDouble."""


PARTS: Final = 1_000
"""Parts of one bundle that a letter names; with more the record is refused whole."""


class LostPart(NamedTuple):
    """A part of a bundle in which no points could be counted, so that it has no ordinals."""

    path: str
    """As `$.resourceMetrics[0].scopeMetrics[1].metrics[2].gauge.dataPoints`."""
    reason: str
    """A key of errors.REASONS."""
    detail: str
    """What was seen there, in words, the path included."""


class Place(NamedTuple):
    """Where a data point is."""

    path: str
    """As `$.resourceMetrics[0].scopeMetrics[1].metrics[2].gauge.dataPoints[7]`."""
    metric: str
    """The metric's name, cut."""
    cause: Callable[[str], str]
    """Says what of the point is behind a reason (a key of errors.REASONS), or nothing."""


class Bundle(Struct, gc=False):
    """One decoded bundle in columns. Every data point has its place, so that its index is its ordinal.

    Columns for a whole bundle, not objects per metric: a metric has few points, and making objects for each costs more
    than filling columns. Each is a list or a tuple. `noted` and `left_out` are the engine's to add to: new ones for
    each bundle. lmstream.codecs.building fills columns for codecs that have no need to be the quickest.
    """

    series: Sequence[Series]
    heads: Sequence[Metric]
    """The metrics that have points, in document order."""
    stops: Sequence[int]
    """For each of them, the ordinal behind its last point."""
    metrics: Sequence[bytes]
    """The metric's piece."""
    times: Sequence[int | None]
    """timeUnixNano; 0 or None when absent."""
    starts: Sequence[int | None]
    """startTimeUnixNano; 0 or None when absent."""
    values: Sequence[int | float | None]
    """asInt within int64, or asDouble, which may be NaN or infinite; None when a point has neither, TWO_VALUES when it
    has both. 0 for odd points."""
    tails: Sequence[bytes]
    """`,"instance":…,"attributes":{…}}` and a newline: what closes the line."""
    odd: dict[int, bytes | str] = {}
    """By ordinal, points that are more or less than a number: the encoded members that stand in place of
    `"value":…`, or the reason (a key of errors.REASONS) why there is no row."""
    noted: dict[str, int] = {}
    """Tolerated oddities, counted."""
    left_out: dict[int, list[str]] = {}
    """By ordinal, why parts of the point are not in its row (`part.nan`); counted if it makes a row."""
    lost: tuple[LostPart, ...] = ()
    """Parts in which no points could be counted."""
    unknown: tuple[str, ...] = ()
    """Path of the first ten fields that OTLP metrics do not define, of parts that gave no point."""
    texts: bytes = b""
    """The values as JSON with commas between, from the native part: then nothing is odd, and `metrics` and `values` are
    empty."""


class Codec(Protocol):
    """One format of bundles. Pure; owns its bounded caches from raw bytes to encoded pieces."""

    @property
    def largest(self) -> int:
        """Upper bound, in bytes, of resource, scope, metric and tail pieces of one row together, as seen so far."""
        ...

    def decode(self, payload: bytes, /) -> Bundle:
        """Raise DecodeError for bad bytes, RecursionError for bytes too deep for this stack, nothing else."""
        ...

    def places(self, payload: bytes, /) -> Iterable[Place]:
        """Where each data point of a bundle that can be decoded is, in the order of ordinals. For messages: slow."""
        ...

    def clear(self) -> None:
        """Empty the caches."""
        ...
