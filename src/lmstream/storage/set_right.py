"""An object with wrong lines is written again without them; as it was it stays beside, under a name readers skip."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, Protocol

from lmstream import bounded
from lmstream.errors import SinkError, SourceError
from lmstream.interfaces import Tagged
from lmstream.settings import MIB
from lmstream.storage import durable_files
from lmstream.storage.compression import compressor
from lmstream.storage.line_files import form_in, lines

MOST: Final = 512 * MIB
"""Bytes of an object that is written again: it is held as a whole."""
_INFLATED: Final = 2048 * MIB
PREFIX: Final = "_damaged-"
"""How the names of objects begin that were set aside: DuckDB's views, Athena and verify skip an underscore."""
Keep = Callable[[bytes], bool]


class Right(NamedTuple):
    """What was done with an object."""

    aside: str
    """Where it lies now as it was."""
    left: int
    """Lines of it that are still in their place."""
    taken: int
    """Lines that are not."""


class Objects(Protocol):
    """What is asked of a bucket: as of interfaces.ReplacingStore, each repeated until it is answered."""

    async def get(self, key: str, most: int) -> bytes | None: ...

    async def tagged(self, key: str) -> Tagged | None: ...

    async def create(self, key: str, data: bytes, meta: Mapping[str, str]) -> bool: ...

    async def replace(self, key: str, data: bytes, meta: Mapping[str, str], tag: str) -> bool: ...


def aside(key: str, data: bytes) -> str:
    """The name under which these bytes of an object are kept: the same bytes have one name."""
    path = PurePosixPath(key)
    return str(path.with_name(f"{PREFIX}{blake2b(data, digest_size=4).hexdigest()}-{path.name}"))


def in_folder(path: Path, keep: Keep) -> Right:
    """Write a file again without the lines that are not to be kept. Raises SourceError and SinkError."""
    try:
        with path.open("rb") as file:
            data = bounded.read(file, MOST, str(path), seconds=None)
        right, fewer, taken = _without(data, str(path), keep)
        there = path.with_name(Path(aside(path.name, data)).name)
        with durable_files.folder(path.parent, ()) as at:
            durable_files.replace(at, there.name, data, at)
            durable_files.replace(at, path.name, fewer, at)
    except OSError as error:
        raise SinkError("sink.disk", f"{path}: {error.strerror or error}") from error
    return Right(str(there), right, taken)


async def in_bucket(objects: Objects, key: str, keep: Keep) -> Right:
    """The same of an object. Raises SourceError, and SinkError when another version is there meanwhile."""
    version, data = await objects.tagged(key), await objects.get(key, MOST)
    if version is None or data is None:
        raise SourceError("place.missing", f"{key}: it was removed while it was judged")
    right, fewer, taken = _without(data, key, keep)
    there = aside(key, data)
    await objects.create(there, data, version.meta)  # False: the same bytes lie there already
    if not await objects.replace(key, fewer, version.meta, version.tag):
        raise SinkError("lake.object", f"{key}: it was written by somebody else meanwhile", "verify again")
    return Right(there, right, taken)


async def replaced(objects: Objects, key: str, data: bytes, meta: Mapping[str, str]) -> bool:
    """Put other bytes in the place of an object; False when they are there already. Raises as `in_bucket`."""
    version, before = await objects.tagged(key), await objects.get(key, MOST)
    if version is None or before is None:
        raise SourceError("place.missing", f"{key}: it was removed while it was judged")
    if before == data and version.meta == meta:
        return False
    await objects.create(aside(key, before), before, version.meta)
    if not await objects.replace(key, data, meta, version.tag):
        raise SinkError("lake.object", f"{key}: it was written by somebody else meanwhile", "verify again")
    return True


def _without(data: bytes, name: str, keep: Keep) -> tuple[int, bytes, int]:
    """How many lines are kept, the object of them, in the form of the other, and how many are not."""
    form = form_in(data)
    if form == "parquet":
        fix = "move it away, then repair again: its rows are then lost, and are sent again"
        raise SourceError("source.file", f"{name}: single rows cannot be taken out of Parquet: {fix}")
    kept: list[bytes] = []
    size = taken = 0
    try:
        for line in lines(BufferedReader(BytesIO(data)), bounded.ROW_LINE, name):
            if not keep(line):
                taken += 1
                continue
            kept.append(line)
            size += len(line)
            if size > _INFLATED:
                raise bounded.BoundError(name, f"more than {_INFLATED:,} bytes of lines")
    except SourceError:
        pass  # what comes behind the damage cannot be read by anybody
    whole = b"".join(line + b"\n" for line in kept)
    return len(kept), whole if form == "plain" else compressor(form)(whole), taken
