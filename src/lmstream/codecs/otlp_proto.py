"""OTLP/protobuf metrics bundles into columns, through a lazy schema: see proto_schema.

upb parses far quicker than Python reads its fields, so number points are not read as messages at all: their fixed-width
head is cut with struct, and the bytes of the attributes behind it are looked up.
"""

from collections.abc import Callable
from itertools import chain
from operator import itemgetter
from struct import iter_unpack
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError as ProtobufError

from lmstream.codecs import pieces, proto_bounds, proto_points
from lmstream.codecs.proto_schema import NumberPoint, Request, ResourceMessage, ScopeMessage
from lmstream.codecs.scopes import Scopes
from lmstream.errors import DecodeError
from lmstream.interfaces import Bundle, Metric, Resource, Scope, Series
from lmstream.settings import Settings

_DOUBLE, _INT = b"\x21", b"\x31"
"""Tags of NumberDataPoint's as_double and as_int."""


class _Layout(NamedTuple):
    """How the usual serializers, which write fields by number, begin a number point: tags and fixed-width fields."""

    head: Callable[[bytes], bytes]
    """Cuts it off a point: in three quarters of the time of a comprehension, which would make a slice for each."""
    tail: Callable[[bytes], bytes]
    """What it leaves."""
    size: int
    fields: str
    integer: str
    tags: tuple[tuple[int, bytes], ...]
    """(place, tag) of the times; the value's is the ninth byte from the end."""


def _layout(size: int, fields: str, integer: str, *tags: tuple[int, bytes]) -> _Layout:
    return _Layout(itemgetter(slice(size)), itemgetter(slice(size, None)), size, fields, integer, tags)


_LAYOUTS: Final = {
    b"\x11": _layout(27, "<xQxQxd", "<19xq", (0, b"\x11"), (9, b"\x19")),
    b"\x19": _layout(18, "<xQxd", "<10xq", (0, b"\x19")),  # no start time, as gauges have none
}
_EPOCH: Final = b"\n\x05epoch\x12\x0f\n\r"
"""Key and value of the attribute: field 1, five bytes; field 2, fifteen bytes: a text of thirteen."""
_KINDS: Final = {kind: kind for kind in pieces.KINDS} | {"exponential_histogram": "exponentialHistogram"}


class _Columns(NamedTuple):
    times: list[int]
    starts: list[int]
    values: list[int | float]
    tails: list[bytes | None]


class Codec:
    """Decoder of OTLP/protobuf. Safe to share between threads; quickest in one."""

    def __init__(self, settings: Settings) -> None:
        """Pieces follow the settings; half of limits.cache_bytes is for this codec."""
        self._settings = settings
        budget = settings.limits.cache_bytes // 8
        self._resources = pieces.PieceCache[Resource](self._make_resource, budget)
        self._scopes = Scopes(_make_scope, _EPOCH, budget // 2)
        self._tails = pieces.PieceCache["bytes | None"](self._make_tail, 2 * budget)
        self._heads = pieces.Heads(settings)
        self._asked = [0, 0, 0, 0]
        self._largest_tail = 0

    @property
    def largest(self) -> int:
        """See interfaces.Codec."""
        tail = max(self._tails.largest, self._largest_tail)
        return self._resources.largest + self._scopes.largest + self._heads.largest + tail

    def caches(self) -> dict[str, tuple[int, int, int]]:
        """(bytes in use, pieces ever made, pieces asked for) by what is kept; asked for by what made rows alone."""
        resources, scopes, heads, tails = self._asked
        return {
            "resource": (*self._resources.state, resources),
            "scope": (*self._scopes.state, scopes),
            "attributes": (*self._tails.state, tails),
            "metric": (*self._heads.state, heads),
        }

    def clear(self) -> None:
        """Empty the caches."""
        self._resources.empty()
        self._scopes.empty()
        self._tails.empty()
        self._heads.clear()

    def decode(self, payload: bytes, /) -> Bundle:
        """A bundle in columns. Raises DecodeError: decode.protobuf, decode.utf8, decode.top_level, limits.points,
        limits.size, limits.attributes, limits.depth."""
        if len(payload) > proto_bounds.WALK_FROM:
            proto_bounds.check(payload, self._settings.limits)
        try:
            request = Request.FromString(payload)
            if payload and not request.resource_metrics:
                raise DecodeError("decode.top_level", "protobuf without resource_metrics")
            return self._bundle(request)
        except ProtobufError as error:
            raise DecodeError("decode.utf8" if "UTF-8" in str(error) else "decode.protobuf", str(error)) from error

    def _bundle(self, request: Any) -> Bundle:
        series: list[Series] = []
        heads: list[Metric] = []
        stops: list[int] = []
        metrics: list[bytes] = []
        points: list[bytes] = []
        general: list[tuple[int, int, str]] = []  # (start, stop, kind) of points that are no numbers
        stop = sent = 0
        for resource_metrics in request.resource_metrics:
            resource = self._resources[_joined(resource_metrics.resource)]
            for scope_metrics in resource_metrics.scope_metrics:
                scope = self._scopes.find(_joined(scope_metrics.scope))
                start = stop
                sent += len(scope_metrics.metrics)
                for metric in scope_metrics.metrics:
                    kind = metric.WhichOneof("data")
                    if kind is None:
                        continue
                    data = getattr(metric, kind)
                    found = data.data_points[:]  # a slice comes as a list, in two thirds of the time of an iteration
                    if not found:
                        continue
                    head = self._head(metric, kind, data)
                    points += found
                    metrics += [head.piece] * len(found)
                    if kind not in ("gauge", "sum"):
                        general.append((stop, stop + len(found), kind))
                    stop += len(found)
                    stops.append(stop)
                    heads.append(head)
                if stop > start:
                    series.append(Series(resource, scope, start, stop))
        if stop > self._settings.limits.points:
            raise DecodeError("limits.points", f"{stop:,} data points")
        bundle = Bundle(series, heads, stops, metrics, [], [], [], [])
        resources = len(request.resource_metrics)
        pieces.count(self._asked, bundle.noted, resources, len(series), sent, len(heads), stop)
        self._fill(bundle, points, general)
        return bundle

    def _head(self, metric: Any, kind: str, data: Any) -> Metric:
        if kind == "sum":
            return self._heads[metric.name, metric.unit, kind, data.aggregation_temporality, data.is_monotonic]
        if kind in ("gauge", "summary"):
            return self._heads[metric.name, metric.unit, kind, 0, False]
        return self._heads[metric.name, metric.unit, _KINDS[kind], data.aggregation_temporality, False]

    def _fill(self, bundle: Bundle, points: list[bytes], general: list[tuple[int, int, str]]) -> None:
        """Columns of all points: at once when all have one layout, else each layout's points and then the rest."""
        n = len(points)
        if not general and points:
            cut = self._cut(points, _LAYOUTS.get(points[0][:1]))
            if cut is not None and None not in cut.tails:
                bundle.times, bundle.starts, bundle.values, bundle.tails = cut  # type: ignore[assignment]  # no None is left
                return
        kinds = dict.fromkeys(range(n), "gauge")
        for start, stop, kind in general:
            kinds.update(dict.fromkeys(range(start, stop), kind))
        times: list[int | None] = [0] * n
        starts: list[int | None] = [0] * n
        values: list[int | float | None] = [0] * n
        tails = [b""] * n
        for tag, layout in _LAYOUTS.items():
            places = [at for at, kind in kinds.items() if kind == "gauge" and points[at][:1] == tag]
            cut = self._cut([points[at] for at in places], layout)
            if cut is not None:
                for at, time, start, value, tail in zip(places, *cut, strict=True):
                    if tail is not None:
                        times[at], starts[at], values[at], tails[at] = time, start, value, tail
                        del kinds[at]
        for at, kind in kinds.items():
            times[at], starts[at], items, bundle.odd[at] = proto_points.point(
                kind, points[at], bundle.noted, exemplars=self._settings.exemplars
            )
            tails[at], size = pieces.tail(proto_points.attributes(items))
            self._largest_tail = max(self._largest_tail, size)
        bundle.times, bundle.starts, bundle.values, bundle.tails = times, starts, values, tails

    def _cut(self, points: list[bytes], layout: _Layout | None) -> _Columns | None:
        """Number points of one layout, or None when they do not have it. A tail of None asks for a closer look."""
        if not layout or not points:
            return None
        head, tail, size, fields, integer, tags = layout
        n = len(points)
        heads = b"".join(map(head, points))
        if len(heads) != size * n or any(heads[at::size] != tag * n for at, tag in tags):
            return None
        *starts, times, values = map(list, zip(*iter_unpack(fields, heads), strict=True))
        kinds = heads[size - 9 :: size]
        if kinds != _DOUBLE * n:
            if kinds.translate(None, _DOUBLE + _INT):
                return None
            integers = chain.from_iterable(iter_unpack(integer, heads))
            values = [d if kind == 0x21 else i for kind, d, i in zip(kinds, values, integers, strict=True)]  # noqa: PLR2004 - _DOUBLE
        tails = list(map(self._tails.__getitem__, map(tail, points)))
        return _Columns(times, starts[0] if starts else [0] * n, values, tails)

    def _make_resource(self, raw: bytes) -> tuple[Resource, int]:
        found = proto_points.text_attributes(raw, 0, b"\x0a")
        if found is None:
            found = proto_points.attributes(ResourceMessage.FromString(raw).attributes)
        return pieces.resource(found, self._settings)

    def _make_tail(self, raw: bytes) -> tuple[bytes | None, int]:
        """The attributes behind a number point's head; None when there is more than attributes. Written again they
        must be as long: a field that repeats the head's, even as zero, would be dropped or counted."""
        found = proto_points.text_attributes(raw, 0, b"\x3a")
        if found is None:
            point = NumberPoint.FromString(raw)
            if any(field.name != "attributes" for field, _ in point.ListFields()) or point.ByteSize() != len(raw):
                return None, 0
            found = proto_points.attributes(point.attributes)
        return pieces.tail(found)


def _make_scope(raw: bytes) -> tuple[Scope, int]:
    scope = ScopeMessage.FromString(raw)
    return pieces.scope(scope.name, scope.version, proto_points.attributes(scope.attributes))


def _joined(encoded: Any) -> bytes:
    """A singular message's bytes; joining is merging."""
    return encoded[0] if len(encoded) == 1 else b"".join(encoded)
