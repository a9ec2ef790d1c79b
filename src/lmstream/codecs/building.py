"""Write a codec as a generator of points: this makes the columns, the pieces of rows and the places out of them.

It takes a few microseconds a point, several times what the codecs of OTLP take, which fill columns themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from lmstream.codecs import fragments, point_values
from lmstream.codecs.fragments import Heads, Plain
from lmstream.errors import DecodeError
from lmstream.interfaces import Bundle, Metric, Place, Resource, Scope, Series
from lmstream.settings import Settings

__all__ = ["Histogram", "Point", "PointCodec", "Summary"]

_NAME: Final = 256  # characters of a metric's name in a message


class Histogram(Struct, frozen=True, kw_only=True):
    """The value of a histogram with explicit bounds."""

    count: int
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    bucket_counts: Sequence[int] = ()
    """One more than bounds, or none at all."""
    explicit_bounds: Sequence[float] = ()


class Summary(Struct, frozen=True, kw_only=True):
    """The value of a summary."""

    count: int
    sum: float | None = None
    quantiles: Sequence[tuple[float, float]] = ()
    """(quantile, value)."""


class Point(Struct, frozen=True, kw_only=True):
    """One data point, or what is wrong with it: each has an ordinal, and with it a row id, in the order they come."""

    metric: str
    value: int | float | Histogram | Summary | None = None
    """A number becomes a gauge, or a sum with `kind`. NaN and infinite ones make no row and are counted, None is
    refused as `value.missing`."""
    time: int | None
    """Nanoseconds since 1970. None is refused as `time.missing`, unless a setting says otherwise: never put now()."""
    start: int | None = None
    """When a sum or histogram began, in the same unit."""
    kind: Literal["gauge", "sum"] = "gauge"
    """Of a number."""
    temporality: Literal["unspecified", "delta", "cumulative"] = "unspecified"
    """Of a sum or histogram."""
    monotonic: bool = False
    """Of a sum."""
    unit: str = ""
    resource: Mapping[str, Plain] = {}
    """What the device is, by OTLP's names (`host.name`, `service.instance.id`): deviceId and deviceName come of it."""
    scope: str = ""
    """The datasource."""
    scope_version: str = ""
    scope_attributes: Mapping[str, Plain] = {}
    attributes: Mapping[str, Plain] = {}
    refused: str = ""
    """A reason to make no row of it, as `acme.unit`: its place stays in the dead letter."""
    why: str = ""
    """What was seen, in words, when it is refused."""
    at: str = ""
    """Where it is in the payload, as `line 7`; for messages."""


class PointCodec(ABC):
    """A codec that yields points. A module with a subclass of the name `Codec` is a format: engine.format names it."""

    def __init__(self, settings: Settings) -> None:
        self.settings: Settings = settings
        self._heads = Heads(settings)
        self._resource = self._scope = self._tail = 0

    @abstractmethod
    def points(self, payload: bytes, /) -> Iterable[Point]:
        """The points of a payload, in order, the same for the same bytes. Raise DecodeError, with a reason of
        errors.REASONS or of your own (`acme.header`), when it cannot be read as a whole; yield a point with `refused`
        when one of them cannot."""

    @property
    def largest(self) -> int:
        """See interfaces.Codec."""
        return self._resource + self._scope + self._heads.largest + self._tail

    def clear(self) -> None:
        """See interfaces.Codec."""
        self._heads.clear()

    def places(self, payload: bytes, /) -> Iterator[Place]:
        """See interfaces.Codec."""
        for ordinal, point in enumerate(self.points(payload)):
            yield Place(point.at or f"point {ordinal:,}", point.metric[:_NAME], _Cause(point))

    def decode(self, payload: bytes, /) -> Bundle:
        """The points in columns. Raises DecodeError as `points` does, and `limits.points`, `limits.attributes`,
        `limits.depth`, `decode.utf8` for a text with surrogates."""
        columns = _Columns(self)
        most = self.settings.limits.points
        try:
            for ordinal, point in enumerate(self.points(payload)):
                if ordinal >= most:
                    raise DecodeError("limits.points", f"more than {most:,} data points")
                columns.add(point)
        except UnicodeEncodeError as error:
            raise DecodeError("decode.utf8", f"{error.object[error.start : error.end]!r} is not UTF-8") from error
        return columns.bundle()

    def resource(self, attributes: Mapping[str, Plain]) -> Resource:
        """What rows of a device begin with."""
        made, size = fragments.resource(_texts(attributes), self.settings)
        self._resource = max(self._resource, size)
        return made

    def scope(self, name: str, version: str, attributes: Mapping[str, Plain]) -> Scope:
        """What rows of a datasource have in common."""
        made, size = fragments.scope(name, version, _texts(attributes))
        self._scope = max(self._scope, size)
        return made

    def metric(self, name: str, unit: str, kind: str, temporality: str, *, monotonic: bool) -> Metric:
        """What rows of a metric have in common."""
        return self._heads[name, unit, kind, fragments.TEMPORALITIES.index(temporality), monotonic]

    def tail(self, attributes: Mapping[str, Plain]) -> bytes:
        """What closes a row."""
        piece, size = fragments.tail(_texts(attributes))
        self._tail = max(self._tail, size)
        return piece


class _Cause:
    """Says why a point was refused."""

    def __init__(self, point: Point) -> None:
        self._point = point

    def __call__(self, _reason: str, /) -> str:
        return self._point.why


class _Columns:
    """The columns of one bundle, as they grow. What repeats from one point to the next is made once."""

    def __init__(self, codec: PointCodec) -> None:
        self._codec = codec
        self._last: Point | None = None
        self._series: list[Series] = []
        self._heads: list[Metric] = []
        self._stops: list[int] = []
        self._metrics: list[bytes] = []
        self._times: list[int | None] = []
        self._starts: list[int | None] = []
        self._values: list[int | float | None] = []
        self._tails: list[bytes] = []
        self._odd: dict[int, bytes | str] = {}
        self._left_out: dict[int, list[str]] = {}

    def add(self, point: Point) -> None:
        """The next point."""
        last, codec, at = self._last, self._codec, len(self._times)
        if last is None or _scope_of(last) != _scope_of(point):
            if self._series:
                self._series[-1].stop = at
            resource = codec.resource(point.resource)
            scope = codec.scope(point.scope, point.scope_version, point.scope_attributes)
            self._series.append(Series(resource, scope, at, at))
            last = None
        if last is None or _metric_of(last) != _metric_of(point):
            name, unit, kind, temporality, monotonic = _metric_of(point)
            self._heads.append(codec.metric(name, unit, kind, temporality, monotonic=monotonic))
            self._stops.append(at)
        self._stops[-1] = at + 1
        self._metrics.append(self._heads[-1].piece)
        self._times.append(point.time)
        self._starts.append(point.start)
        self._tails.append(codec.tail(point.attributes))
        self._values.append(self._value(point, at))
        self._last = point

    def bundle(self) -> Bundle:
        """What was added."""
        n = len(self._times)
        if self._series:
            self._series[-1].stop = n
        return Bundle(
            self._series,
            self._heads,
            self._stops,
            self._metrics,
            self._times,
            self._starts,
            self._values,
            self._tails,
            self._odd,
            {} if n else {"bundle.empty": 1},
            self._left_out,
        )

    def _value(self, point: Point, at: int) -> int | float | None:
        """What stands in the column of values; the rest goes into `odd`."""
        value = point.value
        if point.refused:
            self._odd[at] = point.refused
        elif isinstance(value, Histogram | Summary):
            left: list[str] = []
            self._odd[at] = _body(value, left)
            if left:
                self._left_out[at] = left
        elif isinstance(value, bool):
            self._odd[at] = "point.type"
        elif isinstance(value, int) and value not in point_values.INT64:
            self._odd[at] = "value.range"
        else:
            return value
        return 0


def _scope_of(point: Point) -> tuple[object, ...]:
    return point.resource, point.scope, point.scope_version, point.scope_attributes


def _metric_of(point: Point) -> tuple[str, str, str, str, bool]:
    if isinstance(point.value, Histogram):
        return point.metric, point.unit, "histogram", point.temporality, False
    if isinstance(point.value, Summary):
        return point.metric, point.unit, "summary", "unspecified", False
    return point.metric, point.unit, point.kind, point.temporality, point.monotonic


def _texts(attributes: Mapping[str, Plain]) -> dict[str, str]:
    fragments.bounded(attributes, "attributes")
    return {name: value if isinstance(value, str) else fragments.text(value) for name, value in attributes.items()}


def _body(value: Histogram | Summary, left: list[str]) -> bytes | str:
    """The members in place of `"value":…`, or a reason why there is no row."""
    total = point_values.part(value.sum, left)
    if isinstance(value, Summary):
        finite = [each for each in value.quantiles if all(not point_values.not_finite(number) for number in each)]
        left += ["part.nan"] * (len(value.quantiles) - len(finite))
        return point_values.summary(value.count, total, finite)
    least, most = point_values.part(value.min, left), point_values.part(value.max, left)
    return point_values.histogram(
        value.count, total, least, most, list(value.bucket_counts), list(value.explicit_bounds), (), left
    )
