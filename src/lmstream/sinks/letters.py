"""Keep dead letters in a local folder: one JSON file a letter, at a place that only its coordinates decide."""

import asyncio
import errno
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.errors import ConfigError, SinkError
from lmstream.model import DeadLetter
from lmstream.partitioning import token
from lmstream.sinks import _files

_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the dead-letter folder."""

    root: str
    """Folder of the letters; made when it is missing. It holds original bytes: keep it as private as the topic."""


class Letters:
    """Dead-letter sink of one folder: `<root>/<topic>/<partition>/<offset>.json`, each file one DeadLetter.

    The same record gives the same name, so that a letter written again replaces itself. Another record at the same
    coordinates (a topic made anew, other input files) is never replaced: it gets its own name beside the first.
    The `files` source reads the folder back with the letters' own coordinates.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = Path(settings.root)
        self._encoder = msgspec.json.Encoder(order="deterministic")
        self._decoder = msgspec.json.Decoder(DeadLetter)
        self._writing: set[asyncio.Task[None]] = set()

    async def check(self) -> None:
        """Make the folder and write a file there, before a start. Raises ConfigError when that fails."""
        await asyncio.to_thread(self._check)

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when every letter is on the disk. Raises SinkError `sink.disk` otherwise."""
        task = asyncio.create_task(asyncio.to_thread(self._write, letters))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for letters that are being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    def _write(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            try:
                with _files.folder(self._root, (token(letter.topic), str(int(letter.partition)))) as at:
                    _files.replace(at, self._name(at, letter), self._encoder.encode(letter) + b"\n")
            except OSError as error:
                place = f"{self._root}/{token(letter.topic)}/{letter.partition}/{letter.offset}.json"
                code = errno.errorcode.get(error.errno or 0, "EIO")
                raise SinkError("sink.disk", f"dead letter {place}: {code} {error.strerror or error}") from error

    def _name(self, at: int, letter: DeadLetter) -> str:
        name = f"{int(letter.offset)}.json"
        try:
            with os.fdopen(os.open(name, _READ, dir_fd=at), "rb") as file:
                there = self._decoder.decode(file.read())
        except FileNotFoundError:
            return name
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # not a letter of ours: leave it alone
        else:
            if (there.value, there.timestamp) == (letter.value, letter.timestamp):
                return name
        digest = blake2b(b"%d\0%b" % (letter.timestamp, letter.value or b""), digest_size=8).hexdigest()
        return f"{int(letter.offset)}-{digest}.json"

    def _check(self) -> None:
        try:
            with _files.folder(self._root, ()) as at:
                _files.try_out(at)
        except OSError as error:
            raise ConfigError("sink.disk", f"dead letters in {self._root}: {error.strerror or error}") from error


make = Letters
