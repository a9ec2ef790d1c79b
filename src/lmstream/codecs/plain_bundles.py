"""Plain bundles by the native part, which cuts them into columns and asks the caches of a codec.

Plain is what senders write: see native/src. All else, and all that is wrong, is left to the codec.
"""

from collections.abc import Callable
from typing import Any

from lmstream.codecs.fragments import Counted, PieceCache, count, count_empty, encode
from lmstream.errors import DecodeError
from lmstream.interfaces import Bundle, Metric, Resource, Series, Shaper, Sieve
from lmstream.settings import Settings


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
        self._head = head
        budget = settings.limits.cache_bytes // 16
        self._sieve: Sieve | None = None if shaper is None else shaper.sieve(head, budget // 2)
        self._asks = None if self._sieve is None else self._sieve.native
        self._untold = () if self._sieve is None else self._sieve.untold
        self._metrics = PieceCache[Metric](self._make_metric, budget if self._sieve is None else budget // 2)
        self._most = settings.limits.points
        self._asked = asked
        self._not_plain = (malformed, DecodeError)

    def read(self, payload: bytes, *, sift: bool = False) -> Bundle | None:
        """A bundle in columns; with `sift`, without what rules drop that ask for nothing else. None for one that is not
        plain. Raises RecursionError."""
        try:
            found = self._scan(
                payload,
                self._resources,
                self._scopes,
                self._metrics,
                self._tails,
                encode,
                self._most,
                self._asks if sift else None,
            )
        except self._not_plain:
            found = None  # whatever is wrong is found again, and told from its place
        if self._untold and self._sieve is not None:
            self._sieve.settle(sifted=found is not None and found[-1] is not None)
        if found is None:
            return None
        cut, numbers, heads, stops, times, starts, moments, texts, tails, sifted = found
        resources, scopes, metrics, points = numbers
        noted: dict[str, int] = {}
        count(self._asked, noted, resources, scopes, metrics, metrics, points)
        if Counted.seen:
            count_empty(noted, tails, {})
        start = 0
        series = []
        for resource, scope, stop in cut:
            series.append(Series(resource, scope, start, stop))
            start = stop
        return Bundle(series, heads, stops, [], times, starts, [], tails, {}, noted, {}, (), (), texts, moments, sifted)

    def clear(self) -> None:
        """Empty the caches."""
        self._metrics.empty()
        if self._sieve is not None:
            self._sieve.clear()

    def _make_metric(self, raw: bytes) -> tuple[Metric, int]:
        head = self._head(raw)
        return head, len(head.piece)
