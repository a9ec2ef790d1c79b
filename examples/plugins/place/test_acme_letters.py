"""The place keeps what places of dead letters promise; `pytest -q` says which promise it does not."""

import sqlite3
from contextlib import closing

from lmstream.dead_letters import decode
from lmstream.model import DeadLetter
from lmstream.testing import PlaceConformance

import acme_letters


class TestPlace(PlaceConformance):
    def make(self) -> acme_letters.Place:
        (self.folder / "db").mkdir(exist_ok=True)
        return acme_letters.make(acme_letters.Settings(path=self.path))

    def letters(self) -> list[DeadLetter]:
        """What is in your store now, asked without the place."""
        with closing(sqlite3.connect(self.path)) as db:
            return [decode(letter) for (letter,) in db.execute("SELECT letter FROM letters")]

    def fail(self) -> None:
        """Let your store take nothing for a while."""
        (self.folder / "db").rename(self.folder / "away")

    def heal(self) -> None:
        if (self.folder / "away").exists():
            (self.folder / "away").rename(self.folder / "db")

    @property
    def path(self) -> str:
        return str(self.folder / "db" / "letters.db")
