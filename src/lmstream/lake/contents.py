"""What lies in an object: its rows counted, named, put together and left out. For verbs that read objects again."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from lmstream.engine.row_digest import of_lines
from lmstream.lake.digests import Digest
from lmstream.model import DIMENSIONS


class Contents(Protocol):
    """Objects of one format. Raises ValueError for bytes that are no such object."""

    @property
    def empty(self) -> bytes:
        """An object without a row, which every reader of the format takes."""
        ...

    def count(self, data: bytes, /) -> tuple[int, Digest]:
        """How many rows an object has, and their digest."""
        ...

    def ids(self, data: bytes, /) -> set[str]:
        """Ids of its rows."""
        ...

    def merge(self, objects: Sequence[bytes], /) -> bytes:
        """One object with the rows of all of these, in their order; of dimension rows each once."""
        ...

    def of_dimensions(self, data: bytes, /) -> bool:
        """Whether an object has dimension rows: windows share them."""
        ...

    def without(self, data: bytes, ids: Collection[str], /) -> bytes:
        """The same object without the rows of these ids."""
        ...


class LineContents:
    """Contents of compressed lines."""

    def __init__(
        self,
        compress: Callable[[bytes], bytes],
        decompress: Callable[[bytes], bytes],
    ) -> None:
        """What `compress` makes may lie behind another one of its kind, and `decompress` reads all of them, or raises
        ValueError."""
        self._compress, self._decompress = compress, decompress

    @property
    def empty(self) -> bytes:
        return self._compress(b"")

    def count(self, data: bytes, /) -> tuple[int, Digest]:
        lines = self._decompress(data)
        try:
            return lines.count(b"\n"), of_lines(lines.splitlines(keepends=True))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"a line that is not a row: {error}") from error

    def ids(self, data: bytes, /) -> set[str]:
        return set(map(_id_of, self._decompress(data).splitlines()))

    def merge(self, objects: Sequence[bytes], /) -> bytes:
        if objects and self.of_dimensions(objects[0]):
            lines = (line for each in objects for line in self._decompress(each).splitlines(keepends=True))
            return self._compress(b"".join(dict.fromkeys(lines)))
        # Members of gzip and frames of zstd, one behind the other, are read as one: nothing is compressed again.
        return b"".join(objects)

    def of_dimensions(self, data: bytes, /) -> bool:
        first, _, _ = self._decompress(data).partition(b"\n")
        try:
            return bool(first) and _row.decode(first).metric_key == DIMENSIONS
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"a line that is not a row: {error}") from error

    def without(self, data: bytes, ids: Collection[str], /) -> bytes:
        lines = self._decompress(data).splitlines(keepends=True)
        return self._compress(b"".join(line for line in lines if _id_of(line) not in ids))


class _Row(Struct, rename="camel"):
    row_id: str
    metric_key: str = ""


_row = msgspec.json.Decoder(_Row)


def _id_of(line: bytes) -> str:
    try:
        return _row.decode(line).row_id
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a line that is not a row: {error}") from error
