"""Plain OTLP/JSON bundles by the native part, which cuts them into columns and asks the codec's caches.

Plain is what senders write: see native/src/json.rs. All else, and all that is wrong, is left to the codec.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import ValidationError

from lmstream.codecs.fragments import ENUM, Counted, Heads, PieceCache, count, count_empty, encode
from lmstream.codecs.json_schema import MetricMessage, NumberPoint
from lmstream.errors import DecodeError
from lmstream.interfaces import Bundle, Metric, Resource, Scope, Series
from lmstream.settings import Settings

_decode_metric: Final = msgspec.json.Decoder(MetricMessage[NumberPoint], strict=False).decode


class PlainBundles:
    """Reads plain bundles with the caches of one codec."""

    def __init__(
        self,
        scan: Callable[..., Any],
        settings: Settings,
        resources: PieceCache[Resource],
        scope: Callable[[bytes], Scope],
        heads: Heads,
        tails: PieceCache[bytes],
        asked: list[int],
    ) -> None:
        """`scan` is the native function, `asked` what `fragments.count` counts in."""
        self._scan = scan
        self._resources, self._scope, self._heads, self._tails = resources, scope, heads, tails
        self._metrics = PieceCache[Metric](self._make_metric, settings.limits.cache_bytes // 16)
        self._most = settings.limits.points
        self._asked = asked

    def read(self, payload: bytes) -> Bundle | None:
        """A bundle in columns; None for one that is not plain. Raises RecursionError."""
        try:
            found = self._scan(payload, self._resources, self._scope, self._metrics, self._tails, encode, self._most)
        except (msgspec.DecodeError, DecodeError):
            return None  # whatever is wrong is found again, and told from its place
        if found is None:
            return None
        cut, resources, heads, stops, times, starts, texts, tails = found
        noted: dict[str, int] = {}
        count(self._asked, noted, resources, len(cut), len(heads), len(heads), len(tails))
        if Counted.seen:
            count_empty(noted, tails, {})
        start = 0
        series = []
        for resource, scope, stop in cut:
            series.append(Series(resource, scope, start, stop))
            start = stop
        return Bundle(series, heads, stops, [], times, starts, [], tails, {}, noted, texts=texts)

    def clear(self) -> None:
        """Empty the cache."""
        self._metrics.empty()

    def _make_metric(self, raw: bytes) -> tuple[Metric, int]:
        """The head of a metric, from its bytes without points. Raises for what the codec reads another way."""
        metric = _decode_metric(raw)
        total = metric.sum
        if (metric.gauge is None) is (total is None) or not (
            metric.histogram is metric.exponentialHistogram is metric.summary
        ):
            raise ValidationError("Expected a gauge or a sum")
        if total is None:
            head = self._heads[metric.name, metric.unit, "gauge", 0, False]
            return head, len(head.piece)
        temporality, monotonic = total.aggregationTemporality, total.isMonotonic
        if type(temporality) is not int or temporality not in ENUM or type(monotonic) is not bool:
            raise ValidationError("Expected a number and a boolean")
        head = self._heads[metric.name, metric.unit, "sum", temporality, monotonic]
        return head, len(head.piece)
