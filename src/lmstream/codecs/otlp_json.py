"""OTLP/JSON metrics bundles into columns.

What varies is decoded, what repeats is remembered: resources, scopes and point attributes stay raw bytes and are looked
up. Rules of the format: opentelemetry-proto docs/specification.md, "JSON Protobuf Encoding".
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, ValidationError

from lmstream.codecs import fragments, json_heads, json_names, json_unknown, plain_json, point_values
from lmstream.codecs.caching import CachingCodec
from lmstream.codecs.json_causes import cause
from lmstream.codecs.json_heads import Fault, clean, head_fault, metric_name, parted, temporality_number
from lmstream.codecs.json_parts import exemplars
from lmstream.codecs.json_points import Point, general_point
from lmstream.codecs.json_schema import Data, MetricMessage, NumberPoint, Request, ResourceMessage, ScopeMessage
from lmstream.codecs.json_values import UINT32, attributes, texts, within
from lmstream.errors import DecodeError
from lmstream.interfaces import TWO_VALUES, Bundle, LostPart, Metric, Place, Resource, Scope, Series, Shaper
from lmstream.settings import MIB, Settings

_HOLE: Final = NumberPoint(asInt=0)
"""Keeps the place of a point that is judged the general way."""
_EPOCH: Final = b'"key":"epoch","value":{"stringValue":"'
"""What stands before the digits of LMDP's epoch, in compact JSON; any other scope is read whole."""
_joined: Final = b"".join
"""Makes bytes of a Raw, in two thirds of the time that bytes() takes."""
_ENUM: Final = fragments.ENUM
_USUAL: Final = 2
"""Cumulative, the temporality of nearly all sums."""
_COUNT_FROM: Final = 1 * MIB
_BRACES_PER_POINT: Final = 32
_COMMAS_PER_POINT: Final = 64


class Codec(CachingCodec[bytes]):
    """Decoder of OTLP/JSON."""

    def __init__(self, settings: Settings, shaper: Shaper | None = None) -> None:
        makers = self._make_resource, self._make_scope, self._make_tail
        write = "tail", fragments.TAIL
        super().__init__(settings, *makers, write, _EPOCH, "scan", plain_json.head, msgspec.DecodeError, shaper)
        self._decode = msgspec.json.Decoder(Request[NumberPoint], strict=False).decode
        self._decode_number = msgspec.json.Decoder(NumberPoint, strict=False).decode
        self._decode_resource = msgspec.json.Decoder(ResourceMessage | None, strict=False).decode
        self._decode_scope = msgspec.json.Decoder(ScopeMessage | None, strict=False).decode
        self._any_names = settings.field_names == "any"

    def decode(self, payload: bytes, /, *, sift: bool = False) -> Bundle:
        """A bundle in columns; with `sift`, of a plain one, without what rules drop that ask for nothing else.

        Raises DecodeError: decode.json, decode.utf8, decode.top_level, decode.type, decode.not_understood,
        limits.points, limits.attributes, limits.depth; RecursionError for nesting past this stack.
        """
        plain = None if self._any_names else self._plain
        if plain is not None and (bundle := plain.read(payload, sift=sift)) is not None:
            return bundle
        self._look_over(payload)
        if self._any_names:
            payload = json_names.as_otlp(payload)
            if self._plain is not None and (bundle := self._plain.read(payload, sift=sift)) is not None:
                return bundle
        try:
            try:
                return self._bundle(self._decode(payload), payload)
            except ValidationError:
                pass  # some type is wrong
            except DecodeError as error:
                if error.reason not in fragments.HEADS:
                    raise
            return self._spared(payload)
        except ValidationError as error:
            raise DecodeError("decode.type" if "$" in str(error) else "decode.top_level", str(error)) from error
        except msgspec.DecodeError as error:
            raise DecodeError("decode.json", str(error)) from error

    def _look_over(self, payload: bytes) -> None:
        """Raise DecodeError for bytes that are no text, or too many values."""
        if not payload.isascii():
            # msgspec checks only the strings it builds, but a line must be UTF-8, and so must what we ignore.
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                raise DecodeError("decode.utf8", f"invalid UTF-8 at byte {error.start:,}") from error
        points_max = self._settings.limits.points
        if len(payload) > _COUNT_FROM and (
            payload.count(b"{") > _BRACES_PER_POINT * points_max or payload.count(b",") > _COMMAS_PER_POINT * points_max
        ):
            # Before decoding: millions of empty objects or numbers in a few megabytes would take gigabytes.
            raise DecodeError("limits.points", f"values enough for more than {points_max:,} data points")

    def places(self, payload: bytes, /) -> Iterator[Place]:
        """See interfaces.Codec."""
        if self._any_names:
            payload = json_names.as_otlp(payload)
        for found in json_heads.judged(payload, self._resource_fault, self._scope_fault):
            if isinstance(found, LostPart):
                continue
            entry, fault, *_ = found
            name = metric_name(entry.metric)
            for kind, _, raws in entry.kinds:
                for at, raw in enumerate(raws):
                    path = f"{entry.path}.{kind}.dataPoints[{at}]"
                    yield Place(path, name, partial(_cause, fault, kind, raw))

    def _spared(self, payload: bytes) -> Bundle:
        """A bundle with a wrong type somewhere: what is sound of it. Raises DecodeError when that is no point."""
        cleaned = clean(payload, self._resource_fault, self._scope_fault)
        if cleaned.first is not None and not cleaned.points:
            raise DecodeError(cleaned.first.reason, cleaned.first.detail)
        bundle = self._bundle(cleaned.request, payload, general=True)
        for at, fault in cleaned.faults.items():
            bundle.odd[at] = fault.reason
            bundle.left_out.pop(at, None)
        bundle.series = [part for series in bundle.series for part in parted(series, cleaned.faults)]
        bundle.lost = tuple(cleaned.lost)
        return bundle

    def _resource_fault(self, path: str, raw: Raw) -> Fault | None:
        return head_fault(path, raw, self._resources.__getitem__, self._decode_resource)

    def _scope_fault(self, path: str, raw: Raw) -> Fault | None:
        return head_fault(path, raw, self._scopes.find, self._decode_scope)

    def _bundle(  # noqa: C901, PLR0912, PLR0915 - in one: calls per metric would cost a tenth of all, one for columns 1 %
        self, request: Request[Any], payload: bytes, *, general: bool = False
    ) -> Bundle:
        """Walk down to the data points and lay them out in columns. With `general`, points are raw and judged one by
        one."""
        if request.resourceMetrics is UNSET and (keys := list(msgspec.json.decode(payload, type=dict[str, Raw]))):
            raise DecodeError("decode.top_level", f"no resourceMetrics, but {', '.join(map(repr, keys[:5]))[:200]}")
        series: list[Series] = []
        heads: list[Metric] = []
        stops: list[int] = []
        metrics: list[bytes] = []
        points: list[NumberPoint] = []
        judged: dict[int, Point] = {}
        noted: dict[str, int] = {}
        left_out: dict[int, list[str]] = {}
        known = self._heads
        stop = sent = 0
        hollow = False
        for resource_metrics in request.resourceMetrics or ():
            resource = self._resources[_joined((resource_metrics.resource,))]
            scopes = resource_metrics.scopeMetrics
            if not scopes:
                hollow = True
                continue
            for scope_metrics in scopes:
                scope = self._scopes.find(_joined((scope_metrics.scope,)))
                start = stop
                found_metrics = scope_metrics.metrics or ()
                sent += len(found_metrics)
                for metric in found_metrics:
                    total = metric.sum
                    if metric.histogram is metric.exponentialHistogram is metric.summary and (
                        total is None or metric.gauge is None
                    ):
                        if total is not None:
                            temporality, monotonic = total.aggregationTemporality, total.isMonotonic
                            if temporality != _USUAL and temporality not in _ENUM:
                                temporality = temporality_number(temporality, noted)
                            if type(monotonic) is not bool:
                                monotonic = _boolean(monotonic)
                            found = total.dataPoints
                            head = known[metric.name, metric.unit, "sum", temporality, monotonic]
                        elif metric.gauge is not None:
                            found = metric.gauge.dataPoints
                            head = known[metric.name, metric.unit, "gauge", 0, False]
                        else:
                            continue
                        if not found:
                            continue
                        if general:
                            for raw in found:
                                self._judge("gauge", raw, points, judged)
                        else:
                            points += found
                        size = len(found)
                    else:
                        head = self._histograms(metric, points, judged, noted)
                        size = len(points) - stop
                        if not size:
                            continue
                    metrics += [head.piece] * size
                    stop += size
                    stops.append(stop)
                    heads.append(head)
                if stop > start:
                    series.append(Series(resource, scope, start, stop))
                else:
                    hollow = True
        if stop > self._settings.limits.points:
            raise DecodeError("limits.points", f"{stop:,} data points")
        resources = len(request.resourceMetrics or ())
        unknown: tuple[str, ...] = ()
        if fragments.count(self._asked, noted, resources, len(series), sent, len(heads), stop) or hollow:
            unknown = json_unknown.of(payload, stop, noted)

        # Columns of all points. Comprehensions over the whole bundle: one list each instead of one per metric.
        times: list[int | None] = [point.timeUnixNano for point in points]
        starts: list[int | None] = [point.startTimeUnixNano for point in points]
        # The same nothing stands for both where they are absent: one comparison a point.
        raws = [point.attributes for point in points if point.flags is point.exemplars]
        closer = len(raws) < len(points)
        if closer:
            raws = [point.attributes for point in points]
        values: list[int | float | None] = [
            point.asInt if point.asDouble is None else point.asDouble if point.asInt is None else TWO_VALUES
            for point in points
        ]
        odd: dict[int, bytes | str] = {}
        for at, (time, began, raw, body, left) in judged.items():
            times[at], starts[at], raws[at], odd[at] = time, began, raw, body
            if left:
                left_out[at] = left
        try:
            tails = list(map(self._tails.__getitem__, map(_joined, zip(raws))))
        except (ValidationError, DecodeError):
            tails = [self._tail(at, raw, odd) for at, raw in enumerate(raws)]
        if closer:
            self._look_closer(points, values, odd, left_out)
        if fragments.Counted.seen:
            fragments.count_empty(noted, tails, odd)
        return Bundle(series, heads, stops, metrics, times, starts, values, tails, odd, noted, left_out, (), unknown)

    def _histograms(
        self,
        metric: MetricMessage[Any],
        points: list[NumberPoint],
        odd: dict[int, Point],
        noted: dict[str, int],
    ) -> Metric:
        """Add the points of a metric that is no gauge and no sum. They leave holes and are judged the general way."""
        kind, *more = [kind for kind in fragments.KINDS if getattr(metric, kind) is not None]
        if more:
            raise ValidationError("Expected one kind of metric")
        data: Data[Any] = getattr(metric, kind)
        for raw in data.dataPoints or ():
            self._judge(kind, raw, points, odd)
        temporality = 0 if kind == "summary" else temporality_number(data.aggregationTemporality, noted)
        return self._heads[metric.name, metric.unit, kind, temporality, False]

    def _judge(self, kind: str, raw: Raw, points: list[NumberPoint], odd: dict[int, Point]) -> None:
        if kind == "gauge":
            try:
                points.append(self._decode_number(raw))
            except ValidationError:
                pass  # judged below, to tell a wrong type from a number that does not fit
            else:
                return
        odd[len(points)] = general_point(kind, raw, self._exemplars)
        points.append(_HOLE)

    def _tail(self, at: int, raw: Raw, odd: dict[int, bytes | str]) -> bytes:
        try:
            return self._tails[bytes(raw)]
        except ValidationError:
            odd[at] = "point.type"
        except DecodeError as error:
            if odd.get(at) != "point.type":
                odd[at] = error.reason
        return b""

    def _look_closer(
        self,
        points: list[NumberPoint],
        values: list[int | float | None],
        odd: dict[int, bytes | str],
        left_out: dict[int, list[str]],
    ) -> None:
        """Points with exemplars or flags, among those that were not judged the general way."""
        for at, point in enumerate(points):
            if odd.get(at) == "point.type" or point is _HOLE:
                continue
            try:
                flags = within(point.flags, UINT32) or 0
            except ValidationError:
                odd[at] = "point.type"
                continue
            if odd.get(at) in fragments.HEADS:
                continue
            if flags & 1:
                odd[at] = "flags.no_value"
                continue
            left: list[str] = []
            rows = self._exemplars(point.exemplars, left)
            if left:
                left_out[at] = left
            value = values[at]
            if rows and value is not None and value is not TWO_VALUES:
                odd[at] = point_values.number(value, rows)

    def _exemplars(self, raw: Raw, left: list[str]) -> list[dict[str, Any]]:
        return exemplars(raw, left) if self._settings.exemplars else []

    def _make_resource(self, raw: bytes) -> tuple[Resource, int]:
        try:
            found = (self._decode_resource(raw) if raw else None) or ResourceMessage()
            return fragments.resource(attributes(bytes(found.attributes)), self._settings)
        except ValidationError as error:
            raise DecodeError("decode.type", f"in a resource: {error}") from error

    def _make_scope(self, raw: bytes) -> tuple[Scope, int]:
        try:
            found = (self._decode_scope(raw) if raw else None) or ScopeMessage()
            return fragments.scope(found.name or "", found.version or "", texts(bytes(found.attributes)))
        except ValidationError as error:
            raise DecodeError("decode.type", f"in a scope: {error}") from error

    def _make_tail(self, raw: bytes) -> tuple[bytes, int]:
        if self._write_tail is not None and (piece := self._write_tail(raw, *self._of_tail)) is not None:
            return piece, len(piece)
        return fragments.tail(texts(raw))


def _cause(fault: Fault | None, kind: str, raw: Raw, reason: str) -> str:
    return fault.detail if fault is not None else cause(kind, raw, reason)


def _boolean(value: object) -> bool:
    """An explicit null stands for the default."""
    if value is None:
        return False
    raise ValidationError("Expected `bool`")
