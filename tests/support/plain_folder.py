"""A sink of somebody's own: a file for each pack below a folder, without claims. The name of this module is its type."""

import itertools
import secrets
from pathlib import Path

from msgspec import Struct

from lmstream.interfaces import Limits
from lmstream.model import Failure, Kind
from lmstream.storage import durable_files
from lmstream.storage.compression import gzip


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: str

    @property
    def folder(self):
        return self.root


class PlainFolder:
    limits = Limits(pack_bytes=1 << 26, pack_rows=1_000_000, request_packs=8, request_bytes=1 << 27, by_path=True)

    def __init__(self, settings):
        self._root, self._run, self._numbers = Path(settings.root), secrets.token_hex(6), itertools.count()

    async def write(self, packs, /):
        return [self._one(pack) for pack in packs]

    async def close(self):
        pass

    def _one(self, pack):
        name = f"part-{self._run}-{next(self._numbers):06d}.ndjson.gz"
        try:
            with durable_files.folder(self._root, durable_files.parts_of(pack.path)) as at:
                durable_files.replace(at, name, gzip(pack.data, 1), at)
        except OSError as error:
            return Failure(Kind.RETRYABLE, "folder", str(error))
        return None


make = PlainFolder
