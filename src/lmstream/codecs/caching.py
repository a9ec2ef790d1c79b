"""What the codecs of OTLP remember between bundles: pieces of rows, by the bytes that they were made of."""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from lmstream.codecs.fragments import Heads, PieceCache
from lmstream.codecs.plain_bundles import PlainBundles
from lmstream.codecs.scope_cache import Scopes, ShapedScopes
from lmstream.interfaces import Metric, Resource, Scope, Shaper
from lmstream.native import native
from lmstream.settings import Settings

T = TypeVar("T", bound=bytes | None)
"""A piece of attributes; with None, those that need a closer look."""


class CachingCodec(Generic[T]):
    """The caches of one codec. Safe to share between threads; quickest in one."""

    def __init__(
        self,
        settings: Settings,
        resource: Callable[[bytes], tuple[Resource, int]],
        scope: Callable[[bytes], tuple[Scope, int]],
        tail: Callable[[bytes], tuple[T, int]],
        write: tuple[str, tuple[Any, ...]],
        mark: bytes,
        scan: str,
        head: Callable[[Heads, bytes], Metric],
        malformed: type[Exception],
        shaper: Shaper | None = None,
    ) -> None:
        """Pieces follow the settings; half of limits.cache_bytes is for this codec. `resource`, `scope` and `tail` (of
        a point's attributes) make a piece of bytes, and answer its size too; `write` names the native function that
        makes such a tail, and says what it is called with; `mark` is as of Scopes; `scan` names the native function for
        bundles, for which the next two are as of PlainBundles; `shaper` has what the engine's rules make of each."""
        self._settings = settings
        self._shaper = shaper
        self._write_tail, self._of_tail = native(write[0]), write[1]
        budget = settings.limits.cache_bytes // 8
        of_scopes = Scopes
        if shaper is not None:
            of_scopes = ShapedScopes
            resource, scope = _resource(resource, shaper), _scope(scope, shaper)
            tail = _tail(tail, shaper, self._write_tail, self._of_tail) if shaper.points else tail
        self._resources, self._tails = PieceCache(resource, budget), PieceCache(tail, 2 * budget)
        self._scopes = of_scopes(scope, mark, budget // 2)
        self._heads = Heads(settings, None if shaper is None else shaper.metric)
        self._asked = [0, 0, 0, 0]
        cut = native(scan)
        self._plain: PlainBundles | None = None
        """Of the native part, where that is installed."""
        if cut is not None:
            caches, make = (self._resources, self._scopes.parts, self._tails), partial(head, self._heads)
            self._plain = PlainBundles(cut, settings, caches, make, malformed, self._asked, shaper)

    @property
    def largest(self) -> int:
        """See interfaces.Codec."""
        return self._resources.largest + self._scopes.largest + self._heads.largest + self._tails.largest

    def caches(self) -> dict[str, tuple[int, int, int]]:
        """(bytes in use, pieces ever made, pieces asked for) by what is kept; asked for by what made rows alone."""
        names = ("resource", "scope", "metric", "attributes")
        states = (self._resources.state, self._scopes.state, self._heads.state, self._tails.state)
        return {name: (*state, asked) for name, state, asked in zip(names, states, self._asked, strict=True)}

    def clear(self) -> None:
        """Empty the caches."""
        self._resources.empty()
        self._scopes.empty()
        self._tails.empty()
        self._heads.clear()
        if self._plain is not None:
            self._plain.clear()


def _resource(make: Callable[[bytes], tuple[Resource, int]], shaper: Shaper) -> Callable[[bytes], tuple[Resource, int]]:
    def made(raw: bytes) -> tuple[Resource, int]:
        shaped = shaper.resource(make(raw)[0])
        return shaped, len(shaped.piece) + len(shaped.sent)

    return made


def _scope(make: Callable[[bytes], tuple[Scope, int]], shaper: Shaper) -> Callable[[bytes], tuple[Scope, int]]:
    def made(raw: bytes) -> tuple[Scope, int]:
        shaped = shaper.scope(make(raw)[0])
        return shaped, len(shaped.piece) + len(shaped.sent)

    return made


def _tail(
    make: Callable[[bytes], tuple[T, int]], shaper: Shaper, write: Callable[..., Any] | None, parts: tuple[Any, ...]
) -> Callable[[bytes], tuple[T, int]]:
    shape = shaper.written_tail

    def made(raw: bytes) -> tuple[T, int]:
        # Most that come once are made so: code that runs seldom is in no cache of the processor, and the less of it.
        if write is not None and (watched := shaper.watched) is not None:
            written = write(raw, *parts, watched)
            if written is not None:
                return written, len(written)
        found = make(raw)
        piece, size = found
        if piece is None:
            return found
        shaped: Any = shape(piece)
        if shaped is piece:
            return found
        return shaped, 2 * max(size, len(shaped))  # what was sent may be kept beside it

    return made
