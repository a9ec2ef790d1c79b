"""What the rows of one path become while they are gathered, and the object in the end."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self

from lmstream.delivery.transform import Cut
from lmstream.engine import FanOut
from lmstream.engine.columns import Columns

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

    def add(self, cut: Cut, columns: Columns | None, /) -> int:
        """Take the rows of one record, with their columns where the format wants any; answers by how many bytes `held`
        grew, below zero where they were compressed."""
        ...

    def squeeze(self) -> None:
        """Take less memory, if that can be had."""
        ...

    def append(self, other: Self, /) -> None:
        """Take the rows of another one of its format behind its own; that one is not used any more."""
        ...

    def finish(self) -> bytes:
        """The object. Nothing is added afterwards."""
        ...


class Format(Protocol):
    """How rows lie in objects."""

    extension: str
    """Of the objects' names."""
    columns: bool
    """Whether it wants the columns of rows, beside their lines."""
    slow: bool
    """Whether making an object takes so long that it belongs into a thread."""

    def gather(self) -> Gather: ...


def wanted(form: Format, out: FanOut) -> Mapping[str, Columns]:
    """By path, the columns of a record's rows, as far as the format wants them."""
    return {each.path: each for each in out.columns()} if form.columns else {}


class Lines:
    """A Format of compressed lines."""

    columns: bool = False
    slow: bool = False

    def __init__(self, extension: str, compress: Callable[[bytes], bytes]) -> None:
        """`compress` makes what may lie behind another one of its kind."""
        self.extension: str = extension
        self._compress = compress

    def gather(self) -> Gather:
        """Begin an object."""
        return _Lines(self._compress)


class _Lines:
    __slots__ = ("_compress", "_done", "_open", "_size", "held", "lines", "rows")

    def __init__(self, compress: Callable[[bytes], bytes]) -> None:
        self.rows = self.lines = self.held = 0
        self._compress = compress
        self._done: list[bytes] = []
        self._open: list[bytes] = []
        self._size = 0  # of what is open

    def add(self, cut: Cut, columns: Columns | None, /) -> int:  # noqa: ARG002 - as of the protocol
        _, data, rows = cut
        size, before = len(data), self.held
        self.rows += rows
        self.lines += size
        self.held = before + size
        self._open.append(data)
        self._size += size
        if self._size >= CHUNK:
            self._close()
        return self.held - before

    def squeeze(self) -> None:
        if self._size >= SMALLEST:
            self._close()

    def append(self, other: "_Lines", /) -> None:
        self.rows += other.rows
        self.lines += other.lines
        self.held += other.held
        done, left = other.taken
        if done and self._open:
            self._close()
        self._done += done
        self._open += left
        self._size += sum(map(len, left))
        if self._size >= CHUNK:
            self._close()

    @property
    def taken(self) -> tuple[list[bytes], list[bytes]]:
        """What is compressed, and the lines behind it that are not."""
        return self._done, self._open

    def finish(self) -> bytes:
        if self._open:
            self._close()
        return b"".join(self._done)

    def _close(self) -> None:
        made = self._compress(self._open[0] if len(self._open) == 1 else b"".join(self._open))
        self.held += len(made) - self._size
        self._done.append(made)
        self._open, self._size = [], 0
