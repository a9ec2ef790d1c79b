"""The sink keeps what sinks promise; `pytest -q` says which promise it does not."""

import sqlite3
from collections.abc import Collection
from contextlib import closing

from lmstream.testing import SinkConformance

import acme_table


class TestSink(SinkConformance):
    once = True  # rows that are written twice land once

    def make(self) -> acme_table.Sink:
        (self.folder / "db").mkdir(exist_ok=True)
        return acme_table.make(acme_table.Settings(path=self.path))

    def landed(self) -> list[bytes]:
        """What is in your service now, asked without the sink."""
        with closing(sqlite3.connect(self.path)) as db:
            db.execute(acme_table.SCHEMA)
            return [row.encode() for (row,) in db.execute("SELECT row FROM rows")]

    def refuse(self, row_ids: Collection[str]) -> None:
        """Let your service refuse these rows."""
        names = ", ".join(f"'{name}'" for name in row_ids)
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(acme_table.SCHEMA)
            no = "BEGIN SELECT RAISE(ABORT, 'no'); END"
            db.execute(f"CREATE TRIGGER no BEFORE INSERT ON rows WHEN NEW.id IN ({names}) {no}")

    def fail(self) -> None:
        """Let your service take nothing for a while."""
        (self.folder / "db").rename(self.folder / "away")

    def heal(self) -> None:
        (self.folder / "away").rename(self.folder / "db")

    @property
    def path(self) -> str:
        return str(self.folder / "db" / "rows.db")
