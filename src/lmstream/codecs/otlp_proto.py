"""OTLP/protobuf metrics bundles into columns, through a lazy schema: see proto_schema.

upb parses far quicker than Python reads its fields, so number points are not read as messages at all: their fixed-width
head is cut with struct, and the bytes of the attributes behind it are looked up.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter
from struct import iter_unpack
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError as ProtobufError

from lmstream.codecs import fragments, json_unknown, plain_proto, proto_limits, proto_points, proto_walk
from lmstream.codecs.caching import CachingCodec
from lmstream.codecs.proto_schema import NumberPoint, Request, ResourceMessage, ScopeMessage
from lmstream.errors import DecodeError
from lmstream.interfaces import Bundle, Metric, Place, Resource, Scope, Series, Shaper
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
_OF_RESOURCE, _OF_POINT = 0x0A, 0x3A
"""Tags of attributes."""
_ENUM: Final = fragments.ENUM
_KINDS: Final = {kind: kind for kind in fragments.KINDS} | {"exponential_histogram": "exponentialHistogram"}


class _Columns(NamedTuple):
    times: list[int]
    starts: list[int]
    values: list[int | float]
    tails: list[bytes | None]


class Codec(CachingCodec[bytes | None]):
    """Decoder of OTLP/protobuf."""

    def __init__(self, settings: Settings, shaper: Shaper | None = None) -> None:
        makers = self._make_resource, _make_scope, self._make_tail
        write = "tail_proto", (*fragments.TAIL, _OF_POINT)
        super().__init__(settings, *makers, write, _EPOCH, "scan_proto", plain_proto.head, ProtobufError, shaper)

    def decode(self, payload: bytes, /, *, sift: bool = False) -> Bundle:
        """A bundle in columns; with `sift`, of a plain one, without what rules drop that ask for nothing else.

        Raises DecodeError: decode.protobuf, decode.utf8, decode.top_level, decode.not_understood, limits.points,
        limits.size, limits.attributes, limits.depth.
        """
        if self._plain is not None and (bundle := self._plain.read(payload, sift=sift)) is not None:
            return bundle
        if len(payload) > proto_limits.WALK_FROM:
            proto_limits.check(payload, self._settings.limits)
        try:
            request = Request.FromString(payload)
            if payload and not request.resource_metrics:
                raise DecodeError("decode.top_level", "protobuf without resource_metrics")
            return self._bundle(request, payload)
        except ProtobufError as error:
            raise DecodeError("decode.utf8" if "UTF-8" in str(error) else "decode.protobuf", str(error)) from error

    def places(self, payload: bytes, /) -> Iterator[Place]:
        """See interfaces.Codec."""
        for path, metric, heads in proto_walk.metrics(Request.FromString(payload)):
            kind = metric.WhichOneof("data")
            fault = self._head_fault(path, *heads)
            for at, raw in enumerate(getattr(metric, kind).data_points if kind else ()):
                where = f"{path}.{_KINDS[kind]}.dataPoints[{at}]"
                yield Place(where, f"metric {metric.name!r:.100}", partial(_cause, fault, kind, raw))

    def _head_fault(self, path: str, resource: bytes, scope: bytes) -> str:
        """What is wrong with the resource or scope of the metric at a path, if anything is."""
        above = path.rpartition(".metrics[")[0]
        try:
            what = f"{above.rpartition('.scopeMetrics[')[0]}.resource"
            self._resources[resource]
            what = f"{above}.scope"
            self._scopes.find(scope)
        except DecodeError as error:
            return f"{what}: {error.detail}"
        return ""

    def _bundle(self, request: Any, payload: bytes) -> Bundle:  # noqa: C901, PLR0912, PLR0915 - in one: calls for each cost 2 %
        series: list[Series] = []
        heads: list[Metric] = []
        stops: list[int] = []
        metrics: list[bytes] = []
        points: list[bytes] = []
        general: list[tuple[int, int, str]] = []  # (start, stop, kind) of points that are no numbers
        bad: list[tuple[int, int, DecodeError]] = []  # (start, stop, why) of points under a head that is refused
        first: DecodeError | None = None
        noted: dict[str, int] = {}
        stop = sent = 0
        hollow = False
        for resource_metrics in request.resource_metrics:
            above: DecodeError | None = None
            try:
                resource = self._resources[_joined(resource_metrics.resource)]
            except DecodeError as error:
                resource, above = fragments.NO_RESOURCE, error
            scopes = resource_metrics.scope_metrics
            for scope_metrics in scopes:
                wrong = above
                try:
                    scope = self._scopes.find(_joined(scope_metrics.scope))
                except DecodeError as error:
                    scope, wrong = fragments.NO_SCOPE, above or error
                notes = noted if wrong is None else {}
                start = stop
                found_metrics = scope_metrics.metrics
                sent += len(found_metrics)
                for metric in found_metrics:
                    kind = metric.WhichOneof("data")
                    if kind is None:
                        continue
                    data = getattr(metric, kind)
                    head = self._head(metric, kind, data, notes)
                    found = data.data_points[:]  # a slice comes as a list, in two thirds of the time of an iteration
                    if not found:
                        continue
                    size = len(found)
                    points += found
                    metrics += [head.piece] * size
                    if kind not in ("gauge", "sum"):
                        general.append((stop, stop + size, kind))
                    stop += size
                    stops.append(stop)
                    heads.append(head)
                if wrong is not None:
                    first = first or wrong
                    bad.append((start, stop, wrong))
                    series.append(Series(fragments.NO_RESOURCE, fragments.NO_SCOPE, start, stop))
                elif stop > start:
                    series.append(Series(resource, scope, start, stop))
                if stop == start:
                    hollow = True
            first = first or above
            hollow |= not scopes
        if stop > self._settings.limits.points:
            raise DecodeError("limits.points", f"{stop:,} data points")
        if first is not None and not stop:
            raise first
        resources = len(request.resource_metrics)
        unknown: tuple[str, ...] = ()
        if fragments.count(self._asked, noted, resources, len(series), sent, len(heads), stop) or hollow:
            unknown = _unknown(request, payload, stop, noted)
        bundle = Bundle(series, heads, stops, metrics, [], [], [], [], {}, noted, {}, (), unknown)
        self._fill(bundle, points, general)
        for start, stop, why in bad:
            for at in range(start, stop):
                bundle.odd[at] = why.reason
                bundle.left_out.pop(at, None)
        if fragments.Counted.seen:
            fragments.count_empty(noted, bundle.tails, bundle.odd)
        return bundle

    def _head(self, metric: Any, kind: str, data: Any, noted: dict[str, int]) -> Metric:
        if kind == "gauge":
            return self._heads[metric.name, metric.unit, kind, 0, False]
        temporality = data.aggregation_temporality if kind != "summary" else 0
        if temporality not in _ENUM:
            noted["enum.unknown"] = noted.get("enum.unknown", 0) + 1
        return self._heads[metric.name, metric.unit, _KINDS[kind], temporality, kind == "sum" and data.is_monotonic]

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
            times[at], starts[at], tails[at] = self._judge(bundle, at, kind, points[at])
        bundle.times, bundle.starts, bundle.values, bundle.tails = times, starts, values, tails

    def _judge(self, bundle: Bundle, at: int, kind: str, encoded: bytes) -> tuple[int, int, bytes]:
        """(time, start, tail) of one point the general way; what is odd about it goes into the bundle."""
        found = proto_points.point(kind, encoded, exemplars=self._settings.exemplars)
        bundle.odd[at] = found.odd
        try:
            texts = proto_points.attributes(found.attributes)
        except DecodeError as error:
            bundle.odd[at] = error.reason
            return 0, 0, b""
        if found.left:
            bundle.left_out[at] = found.left
        if found.labels and found.odd != "flags.no_value" and proto_points.labels_lacking(found.labels, texts):
            bundle.odd[at] = "point.labels"
        tail, size = fragments.tail(texts)
        if self._shaper is not None:
            tail = self._shaper.tail(tail)
        self._tails.largest = max(self._tails.largest, size)
        return found.time, found.start, tail

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
        try:
            tails = list(map(self._tails.__getitem__, map(tail, points)))
        except DecodeError:
            return None  # too much or too deep in one of them: each by itself
        return _Columns(times, starts[0] if starts else [0] * n, values, tails)

    def _make_resource(self, raw: bytes) -> tuple[Resource, int]:
        found = proto_points.text_attributes(raw, _OF_RESOURCE)
        if found is None:
            found = proto_points.attributes(ResourceMessage.FromString(raw).attributes)
        return fragments.resource(found, self._settings)

    def _make_tail(self, raw: bytes) -> tuple[bytes | None, int]:
        """The attributes behind a number point's head; None when there is more than attributes. Written again they
        must be as long: a field that repeats the head's, even as zero, would be dropped or counted."""
        if self._write_tail is not None:
            piece = self._write_tail(raw, *self._of_tail)
            if piece is not None:
                return piece, len(piece)
        found = proto_points.text_attributes(raw, _OF_POINT)
        if found is None:
            point = NumberPoint.FromString(raw)
            if any(field.name != "attributes" for field, _ in point.ListFields()) or point.ByteSize() != len(raw):
                return None, 0
            found = proto_points.attributes(point.attributes)
        return fragments.tail(found)


def _make_scope(raw: bytes) -> tuple[Scope, int]:
    scope = ScopeMessage.FromString(raw)
    return fragments.scope(scope.name, scope.version, proto_points.attributes(scope.attributes))


def _unknown(request: Any, payload: bytes, points: int, noted: dict[str, int]) -> tuple[str, ...]:
    """The first fields that OTLP metrics do not know, of what gave no point. Raises DecodeError decode.not_understood
    when that is the whole bundle."""
    if not points:
        if found := proto_walk.anywhere(payload):
            raise DecodeError("decode.not_understood", f"no data point, but {', '.join(found)}")
        return ()
    found = proto_walk.hollow(request)
    if found:
        noted["member.unknown"] = len(found)
    return tuple(found[: json_unknown.NAMED])


def _cause(fault: str, kind: str, raw: bytes, reason: str) -> str:
    return fault or proto_walk.cause(kind, raw, reason)


def _joined(encoded: Any) -> bytes:
    """A singular message's bytes; joining is merging."""
    return encoded[0] if len(encoded) == 1 else b"".join(encoded)
