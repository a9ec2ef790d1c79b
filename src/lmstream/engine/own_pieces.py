"""Pieces of somebody else's codec, shaped by rules: each once, as long as it is remembered."""

from msgspec import structs

from lmstream.codecs.fragments import Counted
from lmstream.engine.known import Known
from lmstream.interfaces import Bundle, Metric, Resource, Scope, Series, Shaper


class PiecesOfOwn:
    """Shapes what a codec made that knows nothing of rules."""

    def __init__(self, shaper: Shaper) -> None:
        self._shaper = shaper
        self._resources: Known[Resource] = Known()
        self._scopes: Known[Scope] = Known()
        self._metrics: Known[Metric] = Known()
        self._tails: Known[bytes] = Known()

    def shaped(self, bundle: Bundle) -> Bundle:
        """A bundle with its pieces shaped. Raises msgspec.MsgspecError for a piece that cannot be read."""
        series = [
            Series(self._resource(each.resource), self._scope(each.scope), each.start, each.stop)
            for each in bundle.series
        ]
        heads = [self._metric(each) for each in bundle.heads]
        metrics: list[bytes] = []
        if not bundle.texts:
            for head, stop in zip(heads, bundle.stops, strict=True):
                metrics += [head.piece] * (stop - len(metrics))
        tails = [self._tail(tail) for tail in bundle.tails] if self._shaper.points else bundle.tails
        return structs.replace(bundle, series=series, heads=heads, metrics=metrics, tails=tails)

    def _resource(self, made: Resource) -> Resource:
        if not made.piece:
            return made
        key = (made.piece, made.org, *made.noted.items())
        return self._resources.made(key, len(made.piece), lambda: self._shaper.resource(made))

    def _scope(self, made: Scope) -> Scope:
        if not made.piece:
            return made
        key = (made.piece, made.epoch, *made.noted.items())
        return self._scopes.made(key, len(made.piece), lambda: self._shaper.scope(made))

    def _metric(self, made: Metric) -> Metric:
        return self._metrics.made(made, len(made.piece), lambda: self._shaper.metric(made)) if made.piece else made

    def _tail(self, made: bytes) -> bytes:
        if not made:
            return made
        key = (made, made.empty) if isinstance(made, Counted) else made
        return self._tails.made(key, len(made), lambda: self._shaper.tail(made))
