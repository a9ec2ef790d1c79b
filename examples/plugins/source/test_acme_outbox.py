"""The source keeps what sources promise; `pytest -q` says which promise it does not."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from lmstream.testing import SourceConformance

import acme_outbox


class TestSource(SourceConformance):
    finite = True  # it ends: nothing comes after the last record
    commits = True  # what is committed does not come again

    def make(self) -> acme_outbox.Source:
        return acme_outbox.make(acme_outbox.Settings(path=self.path))

    def put(self, values: Sequence[bytes]) -> None:
        """Put records where the source reads."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, bundle BLOB)")
            db.executemany("INSERT INTO outbox (bundle) VALUES (?)", [(value,) for value in values])

    @property
    def path(self) -> str:
        return str(self.folder / "outbox.db")
