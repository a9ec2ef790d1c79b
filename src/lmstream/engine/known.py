"""What became of pieces, remembered within a bound."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_BYTES: Final = 4 * 1024 * 1024
_ENTRY: Final = 512


class Known(dict[object, T], Generic[T]):
    """Each made once, as long as it is remembered. Full, it is emptied."""

    _used = 0

    def keep(self, key: object, size: int, made: T) -> T:
        """`size` is that of a piece in bytes, of which there are two: before and after."""
        self._used += 2 * size + _ENTRY
        if self._used > _BYTES:
            self.clear()
            self._used = 2 * size + _ENTRY
        self[key] = made
        return made

    def made(self, key: object, size: int, make: Callable[[], T]) -> T:
        """What is remembered, or else made."""
        found = self.get(key)
        return self.keep(key, size, make()) if found is None else found
