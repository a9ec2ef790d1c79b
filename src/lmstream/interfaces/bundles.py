"""What codecs are, and what they yield: one decoded bundle in columns."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct


class Resource(Struct, frozen=True):
    """One resource as the row wants it."""

    piece: bytes
    """`"deviceId":…,"deviceName":…,"resource":{…},`."""
    org: str
    """Organization by `Settings.org_attributes`; empty when none is set."""
    noted: dict[str, int]
    """What each of its points notes: device.unknown, attribute.empty. Nearly always empty."""
    rules: int = -1
    """What the engine's rules say of it, and what was sent, where they need that: lmstream.engine.shaping."""
    sent: bytes = b""


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
    rules: int = -1
    """As of a Resource."""
    sent: bytes = b""


class Metric(Struct, frozen=True, cache_hash=True):
    """Name, unit and kind of one metric as the row wants them."""

    piece: bytes
    """`"metric":…,"metricKey":…,"unit":…,"type":…,"temporality":…,"monotonic":…,`."""
    key: str
    """Path-safe token."""
    rules: int = -1
    """As of a Resource."""
    sent: bytes = b""


class Shaper(Protocol):
    """What the rules of an engine make of pieces, once each is made."""

    @property
    def points(self) -> bool:
        """Whether any rule is about attributes of points: else they stay as they are made."""
        ...

    @property
    def watched(self) -> tuple[bytes, ...] | None:
        """Texts without any of which a piece of attributes stays as it is; None where that is not known."""
        ...

    def resource(self, made: Resource, /) -> Resource: ...

    def scope(self, made: Scope, /) -> Scope: ...

    def metric(self, made: Metric, /) -> Metric: ...

    def sieve(self, head: Callable[[bytes], Metric], budget: int, /) -> "Sieve | None":
        """What the native part asks while it reads bundles of one codec; None where rules do nothing then. `head` makes
        a metric of its bytes without points; `budget` in bytes is for what is remembered."""
        ...

    def tail(self, made: bytes, /) -> bytes: ...

    def written_tail(self, made: bytes, /) -> bytes:
        """The same of a piece that a codec of lmstream wrote, so that what is in it can be seen in its bytes."""
        ...


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


class Sieve(Protocol):
    """What rules do to metrics and points of plain bundles of one codec, while the native part reads them."""

    @property
    def native(self) -> Any:
        """The object of the native part that asks."""
        ...

    @property
    def untold(self) -> list[Any]:
        """Not empty where a bundle has to be settled."""
        ...

    def settle(self, *, sifted: bool) -> None:
        """A bundle was read, and went through the sieve or did not."""
        ...

    def clear(self) -> None:
        """Forget what was remembered."""
        ...


Sifted = tuple[()] | tuple[int, bytes, dict[str, int]]
"""What went through a sieve: nothing where it lost no points; else points that were sent, ordinals of those that are
left (as `kept.packed` has them), and points that rules drop, by their names. No class: one is made of each bundle."""


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
    moments: Sequence[tuple[int, int, int]] = ()
    """Beside texts, where times differ: (time, start, ordinal behind the last) of points that follow one another and
    share them."""
    sifted: Sifted | None = None
    """Beside texts, of a bundle that went through a sieve: the columns are of what is left, and so are all numbers of
    points."""


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
