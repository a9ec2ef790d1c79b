"""Plain bundles by the native part, which cuts them into columns and asks the caches of a codec.

Plain is what senders write: see native/src. All else, and all that is wrong, is left to the codec.
"""

from collections.abc import Callable
from typing import Any, Final

from lmstream.codecs.fragments import Counted, PieceCache, count, count_empty, encode
from lmstream.errors import DecodeError
from lmstream.interfaces import Bundle, Metric, Resource, Series, Shaper, Sieve, Sifted
from lmstream.settings import Settings

_NOTHING_DROPPED: Final[Sifted] = (0, [], [])


class PlainBundles:
    """Reads plain bundles with the caches of one codec."""

    def __init__(
        self,
        scan: Callable[..., Any],
        settings: Settings,
        caches: tuple[PieceCache[Resource], tuple[Any, ...], PieceCache[Any]],
        head: Callable[[bytes], Metric],
        malformed: type[Exception],
        asked: list[int],
        shaper: Shaper | None,
    ) -> None:
        """`scan` is the native function; `caches` those of resources, scopes (`Scopes.parts`) and attributes of points;
        `head` makes the head of a metric from its bytes without points. What the codec reads another way raises
        `malformed` or DecodeError; `asked` is what `fragments.count` counts in; `shaper` is as of the codec."""
        self._scan = scan
        self._resources, self._scopes, self._tails = caches
        self._head, self._shaper = head, shaper
        budget = settings.limits.cache_bytes // 16
        self._metrics = PieceCache[Metric](self._make_metric, budget if shaper is None else budget // 2)
        self._sieved = PieceCache[Metric](self._make_sieved, budget // 2)
        self._most = settings.limits.points
        self._asked = asked
        self._not_plain = (malformed, DecodeError)

    def read(self, payload: bytes, sieve: Sieve | None = None) -> Bundle | None:
        """A bundle in columns, without the metrics that the sieve drops; None for one that is not plain. Raises
        RecursionError."""
        try:
            found = self._scan(
                payload,
                self._resources,
                self._scopes,
                self._metrics,
                self._sieved,
                self._tails,
                encode,
                self._most,
                sieve,
            )
        except self._not_plain:
            return None  # whatever is wrong is found again, and told from its place
        if found is None:
            return None
        cut, resources, heads, stops, times, starts, moments, texts, tails, sifted = found
        noted: dict[str, int] = {}
        if sifted:
            scopes, metrics, sifted = sifted
            count(self._asked, noted, resources, scopes, metrics, metrics, sifted[0])
        else:
            count(self._asked, noted, resources, len(cut), len(heads), len(heads), len(tails))
        if Counted.seen:
            count_empty(noted, tails, {})
        start = 0
        series = []
        for resource, scope, stop in cut:
            series.append(Series(resource, scope, start, stop))
            start = stop
        made = Bundle(series, heads, stops, [], times, starts, [], tails, {}, noted, texts=texts, moments=moments)
        if sifted is not None:
            made.sifted = sifted or _NOTHING_DROPPED
        return made

    def clear(self) -> None:
        """Empty the caches."""
        self._metrics.empty()
        self._sieved.empty()

    def _make_metric(self, raw: bytes) -> tuple[Metric, int]:
        head = self._head(raw)
        return head, len(head.piece)

    def _make_sieved(self, raw: bytes) -> tuple[Metric, int]:
        head = self._head(raw)
        if self._shaper is not None:
            head = self._shaper.sieved(head)
        return head, len(head.piece)
