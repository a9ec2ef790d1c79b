"""A place of dead letters in a table of SQLite: put your own store in its place."""

import asyncio
import hashlib
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing

from msgspec import Struct

from lmstream.dead_letters import encode
from lmstream.model import DeadLetter


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in [dead_letters] of lmstream.toml, beside `type`."""

    path: str
    """File of the database."""


class Place:
    """One row per letter. A letter is one line of JSON: `lmstream run --files` reads what was exported as lines."""

    largest: int = sys.maxsize  # bytes of the largest letter that your store takes

    def __init__(self, settings: Settings) -> None:
        self._path = settings.path

    async def check(self) -> None:
        """Raise before the start when nothing can be written."""
        await asyncio.to_thread(self._insert, [])

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when all are durable; raise otherwise: their records are committed after this."""
        await asyncio.to_thread(self._insert, letters)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _insert(self, letters: Sequence[DeadLetter]) -> None:
        lines = [encode(letter) for letter in letters]
        with closing(sqlite3.connect(self._path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS letters (id TEXT PRIMARY KEY, letter BLOB)")
            # The same letter again is the same row; another one of the same coordinates is another row.
            rows = [(hashlib.sha256(line).hexdigest(), line) for line in lines]
            db.executemany("INSERT OR IGNORE INTO letters VALUES (?, ?)", rows)


make = Place
