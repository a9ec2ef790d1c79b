"""A sink that writes rows to a table in SQLite: put your own service in its place."""

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing

from msgspec import Struct

from lmstream.interfaces import Limits
from lmstream.model import Failure, Kind, Pack


SCHEMA = "CREATE TABLE IF NOT EXISTS rows (id TEXT PRIMARY KEY, row TEXT)"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in [sink] of lmstream.toml, beside `type`."""

    path: str
    """File of the database."""


class Sink:
    """One row of the table per row of lmstream."""

    # What one request takes: from your service's documentation. `uncut`: a thread cannot be cancelled, so a write has
    # no time limit; leave it out where a write awaits its service.
    limits = Limits(pack_bytes=1 << 20, pack_rows=1_000, request_packs=8, request_bytes=8 << 20, uncut=True)

    def __init__(self, settings: Settings) -> None:
        self._path = settings.path

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """A verdict for each pack, in order: None is delivered, and durable by then. Never retries; may raise."""
        return await asyncio.to_thread(self._insert, packs)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _insert(self, packs: Sequence[Pack]) -> list[Failure | None]:
        with closing(sqlite3.connect(self._path)) as db:
            db.execute(SCHEMA)
            return [self._verdict(db, pack) for pack in packs]

    def _verdict(self, db: sqlite3.Connection, pack: Pack) -> Failure | None:
        lines = pack.data.decode().split("\n")[:-1]
        try:
            with db:  # a transaction: all rows of a pack, or none
                # A row that is written again has the same id: it must not be counted twice.
                db.executemany(
                    "INSERT OR IGNORE INTO rows VALUES (?, ?)", [(json.loads(line)["rowId"], line) for line in lines]
                )
        except sqlite3.IntegrityError as error:  # these rows will never be taken: they are dead-lettered
            return Failure(Kind.PERMANENT, "refused", str(error))
        except sqlite3.OperationalError as error:  # locked, or the disk is full: they are retried
            return Failure(Kind.RETRYABLE, "unavailable", str(error))
        return None


make = Sink
