"""A source that reads bundles from a table in SQLite: put your own queue in its place."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from msgspec import Struct

from lmstream.abilities import Traits
from lmstream.interfaces import Batch, Drain
from lmstream.model import Record, TopicPartition

TRAITS = Traits(finite=True)  # it ends; a source that waits for more leaves this out
PARTITION = TopicPartition("outbox", 0)
SELECT = "SELECT id, bundle FROM outbox WHERE id >= ? ORDER BY id LIMIT ?"
SOME = 100  # records of one poll, at most


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in [source] of lmstream.toml, beside `type`."""

    path: str
    """File of the database."""


class Source:
    """Rows of the table `outbox (id INTEGER PRIMARY KEY, bundle BLOB)`, which are deleted once they are committed."""

    def __init__(self, settings: Settings) -> None:
        self.on_revoke: Drain | None = None  # set by the runtime; only sources whose partitions move await it
        self._path = settings.path
        self._next = 0
        self._closed = False

    async def poll(self, room: int, /) -> Batch:
        """Records of about `room` bytes, in the order of their offsets, which never change for a record."""
        if room <= 0 or self._closed:  # the memory budget is used up: wait a little, return no records
            await asyncio.sleep(0.01)
            return Batch(())
        rows = await asyncio.to_thread(self._query, SELECT, self._next, SOME)
        records: list[Record] = []
        for offset, value in rows:
            if records and room < len(value):
                break
            room -= len(value)
            records.append(Record(topic=PARTITION.topic, partition=PARTITION.partition, offset=offset, value=value))
        if records:
            self._next = records[-1].offset + 1
        return Batch(records, end=not records)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Everything below is delivered or dead-lettered: the next reading begins there. It may raise."""
        if PARTITION in offsets:
            await asyncio.to_thread(self._query, "DELETE FROM outbox WHERE id < ?", offsets[PARTITION])

    async def close(self) -> None:
        """Commits nothing: what is in flight is read again."""
        self._closed = True

    def _query(self, statement: str, *values: int) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as db, db:
            return db.execute(statement, values).fetchall()


make = Source
