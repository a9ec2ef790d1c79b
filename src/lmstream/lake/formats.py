"""What the rows of one path become while they are gathered, and the object in the end."""

from collections.abc import Callable
from typing import Final, Protocol

from lmstream.delivery.transform import Cut

CHUNK: Final = 64 * 1024
"""Bytes of lines that are compressed together: a compressor for each open path would take more memory than the rows.
Members of gzip and frames of zstd, one behind the other, are read as one."""
SMALLEST: Final = 4 * 1024
"""Bytes of lines that are compressed by themselves when memory is short: fewer would hardly become fewer."""


class Gather(Protocol):
    """Rows of one object, in the order of records."""

    rows: int
    lines: int
    """Bytes of its rows as lines."""
    held: int
    """Bytes it takes in memory."""

    def add(self, cut: Cut, /) -> None:
        """Take the rows of one record."""
        ...

    def squeeze(self) -> None:
        """Take less memory, if that can be had."""
        ...

    def finish(self) -> bytes:
        """The object. Nothing is added afterwards."""
        ...


class Format(Protocol):
    """How rows lie in objects."""

    extension: str
    """Of the objects' names."""
    content_type: str

    def gather(self) -> Gather: ...


class Lines:
    """A Format of compressed lines."""

    def __init__(self, extension: str, content_type: str, compress: Callable[[bytes], bytes]) -> None:
        """`compress` makes what may lie behind another one of its kind."""
        self.extension: str = extension
        self.content_type: str = content_type
        self._compress = compress

    def gather(self) -> Gather:
        """Begin an object."""
        return _Lines(self._compress)


class _Lines:
    def __init__(self, compress: Callable[[bytes], bytes]) -> None:
        self.rows = self.lines = self.held = 0
        self._compress = compress
        self._done: list[bytes] = []
        self._open: list[bytes] = []
        self._size = 0  # of what is open

    def add(self, cut: Cut, /) -> None:
        _, data, rows = cut
        self.rows += rows
        self.lines += len(data)
        self.held += len(data)
        self._open.append(data)
        self._size += len(data)
        if self._size >= CHUNK:
            self._close()

    def squeeze(self) -> None:
        if self._size >= SMALLEST:
            self._close()

    def finish(self) -> bytes:
        if self._open:
            self._close()
        return b"".join(self._done)

    def _close(self) -> None:
        made = self._compress(self._open[0] if len(self._open) == 1 else b"".join(self._open))
        self.held += len(made) - self._size
        self._done.append(made)
        self._open, self._size = [], 0
