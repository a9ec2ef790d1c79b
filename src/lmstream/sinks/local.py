"""Land rows in a local folder: the same partition paths as S3, one gzip NDJSON object a pack."""

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from lmstream.interfaces import Limits
from lmstream.model import NOT_TRIED, Failure, Kind, Pack
from lmstream.settings import MIB
from lmstream.storage import durable_files
from lmstream.storage.compression import gzip

LIMITS: Final = Limits(
    # No service sets these: they bound the memory of one object and of one call. 64 MiB of rows are about 5 MiB of
    # gzip; query engines like objects no smaller, and `rolling` closes them earlier by its own settings.
    pack_bytes=64 * MIB,
    pack_rows=1_000_000,
    request_packs=8,
    request_bytes=128 * MIB,
    uncut=True,
    by_path=True,
)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the local sink."""

    root: str
    """Landing folder; made when it is missing.
    Costs: nothing: rows that landed stay where they are."""
    level: Annotated[int, Meta(ge=0, le=9)] = 1
    """gzip level. Level 1 costs a third of the time of level 6 for objects about half as large again. With the extra
    [gzip], levels 1 and 2 are isal's: a sixth of that time once more.
    Unit: level.
    Costs: delay: smaller objects take more time.
    Limit: zlib's levels."""

    @property
    def folder(self) -> str:
        """The same as `root`."""
        return self.root


class Local:
    """Sink of one landing folder. A pack becomes `<root>/<path>part-<run>-<counter>.ndjson.gz`.

    Delivered means: the object is whole, under its name, and it and its folder are synced to the disk. Until then it
    has a hidden name, which readers of `**/*.gz` do not see, and neither does a crash leave more than that.
    """

    limits = LIMITS

    def __init__(self, settings: Settings, *, run: str = "") -> None:
        """`run` tells the objects of one process from those of another; made up when empty."""
        self._root = Path(settings.root)
        self._level = settings.level
        self._run = run or secrets.token_hex(6)
        self._counter = itertools.count()
        self._writes = durable_files.Writes[list[Failure | None]]()

    async def check(self) -> None:
        """Make the landing folder and write a file there, before a start. Raises ConfigError when that fails,
        SinkError `sink.full` for want of room."""
        await asyncio.to_thread(durable_files.check, self._root, str(self._root))

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """One object a pack, in a thread. A full or read-only disk is retryable, a planted link is fatal-config."""
        return await self._writes.run(self._write, packs)

    async def close(self) -> None:
        """Wait for objects that are being written."""
        await self._writes.close()

    def _write(self, packs: Sequence[Pack]) -> list[Failure | None]:
        verdicts: list[Failure | None] = [NOT_TRIED] * len(packs)
        for index, pack in enumerate(packs):
            verdicts[index] = self._one(pack)
        return verdicts

    def _one(self, pack: Pack) -> Failure | None:
        parts = durable_files.parts_of(pack.path)
        if parts is None:
            # Only a template can do that, and rows are not to blame for it.
            return Failure(Kind.FATAL_CONFIG, "sink.disk", f"not a path below the landing root: {pack.path!r}")
        data = gzip(pack.data, self._level)  # whole, in memory, before there is a file: a crash leaves no half member
        name = f"part-{self._run}-{next(self._counter):06d}.ndjson.gz"
        try:
            with durable_files.folder(self._root, parts) as at, durable_files.drafts(self._root) as drafts:
                durable_files.replace(at, name, data, drafts)
        except OSError as error:
            return durable_files.failure(error)
        return None


make = Local
