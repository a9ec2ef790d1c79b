"""Keep dead letters in a local folder: one JSON file a letter, at a place that only its coordinates decide."""

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from lmstream import bounded
from lmstream.abilities import Traits
from lmstream.bounded import BoundError
from lmstream.dead_letters.form import encode, folder_of, name_of, other_name_of, same
from lmstream.errors import SinkError
from lmstream.model import DeadLetter
from lmstream.storage import durable_files

_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the dead-letter folder."""

    root: str
    """Folder of the letters; made when it is missing. It holds original bytes, so what is made there is for this user
    alone (folders 0700, letters 0600). One that is there already keeps its mode: keep it as private as the topic.
    Costs: nothing: letters in the former folder stay there."""

    @property
    def folder(self) -> str:
        """The same."""
        return self.root


class Letters:
    """Dead-letter sink of one folder: `<root>/<topic>/<partition>/<offset>.json`, each file one DeadLetter.

    The same record gives the same name, so that a letter written again replaces itself. Another record at the same
    coordinates (a topic recreated, other input files) is never replaced: it gets its own name beside the first.
    The `files` source reads the folder back with the letters' own coordinates.
    """

    largest: int = sys.maxsize
    """Bytes of the largest letter it takes: whatever the disk holds."""

    def __init__(self, settings: Settings) -> None:
        self._root = Path(settings.root)
        self._writes = durable_files.Writes[None]()

    async def check(self) -> None:
        """Make the folder and write a file there, before a start. Raises ConfigError when that fails,
        SinkError `sink.full` for want of room."""
        await asyncio.to_thread(durable_files.check, self._root, f"dead letters in {self._root}", private=True)

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when every letter is on the disk. Raises SinkError `sink.disk` otherwise."""
        await self._writes.run(self._write, letters)

    async def close(self) -> None:
        """Wait for letters that are being written."""
        await self._writes.close()

    def _write(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            parts = folder_of(letter)
            try:
                with (
                    durable_files.folder(self._root, parts, private=True) as at,
                    durable_files.drafts(self._root, private=True) as drafts,
                ):
                    durable_files.replace(at, self._name(at, letter), encode(letter), drafts, private=True)
            except OSError as error:
                place = "/".join((str(self._root), *parts, name_of(letter)))
                code = errno.errorcode.get(error.errno or 0, "EIO")
                raise SinkError("sink.disk", f"dead letter {place}: {code} {error.strerror or error}") from error

    def _name(self, at: int, letter: DeadLetter) -> str:
        name = name_of(letter)
        try:
            with os.fdopen(os.open(name, _READ, dir_fd=at), "rb") as file:
                there = bounded.read(file, bounded.LETTER_LINE, name)
        except FileNotFoundError:
            return name
        except BoundError:
            return other_name_of(letter)  # what lies there is somebody else's
        return name if same(there, letter) else other_name_of(letter)


def _store(settings: Settings, say: Callable[[str], None]) -> Any:
    from lmstream.dead_letters.store import FolderStore  # noqa: PLC0415 - for who reads letters, not for who writes them

    return FolderStore(Path(settings.root), say)


TRAITS: Final = Traits(store=_store)
make = Letters
