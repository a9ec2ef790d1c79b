"""Which dimension rows this process has seen accepted: only these need not travel with the rows that need them."""

from collections.abc import Iterable
from typing import Final

from lmstream.engine.dimension_line import DimensionLine
from lmstream.interfaces import Limits

KNOWN_BYTES: Final = 16 * 1024 * 1024
"""What is remembered takes at most about so much: the keys of 130,000 devices, scopes and instances."""
_KEY: Final = 120  # bytes of a key and its place in a set
_PATH: Final = 512  # of a path and its set


class KnownDimensions:
    """Keys by path, so by organization and hour. When there is no more room the path that was not asked for the longest
    is forgotten, but never the one that is asked for: keys recur with each poll, and a set that forgot the oldest of
    them would know none when it comes."""

    def __init__(self, most: int = KNOWN_BYTES) -> None:
        self._room = most
        self._paths: dict[str, set[str]] = {}

    def unknown(self, needed: Iterable[DimensionLine]) -> list[DimensionLine]:
        """Those that were not accepted yet, as far as is known: they have to travel once more."""
        found = []
        for each in needed:
            keys = self._paths.get(each.path)
            if keys is None or each.key not in keys:
                found.append(each)
        return found

    def accepted(self, lines: Iterable[DimensionLine]) -> None:
        """Remember what is durable, as far as there is room."""
        for each in lines:
            keys = self._paths.pop(each.path, None)
            if keys is None:
                keys = set()
                self._room -= _PATH
            self._paths[each.path] = keys  # the newest now
            if each.key in keys:
                continue
            while self._room < _KEY and len(self._paths) > 1:
                self._room += _PATH + _KEY * len(self._paths.pop(next(iter(self._paths))))
            if self._room >= _KEY:
                keys.add(each.key)
                self._room -= _KEY


def chunks(lines: Iterable[DimensionLine], limits: Limits) -> list[bytes]:
    """Lines as they travel, each within the bounds of one pack."""
    found: list[bytes] = []
    some: list[bytes] = []
    size = 0
    for each in lines:
        if some and (size + len(each.line) > limits.pack_bytes or len(some) == limits.pack_rows):
            found.append(b"".join(some))
            some, size = [], 0
        some.append(each.line)
        size += len(each.line)
    return [*found, b"".join(some)] if some else found
