"""Remember which record was being transformed when a process died, so that it cannot kill every next one too."""

import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lmstream.errors import ConfigError
from lmstream.model import Record

_SIZE: Final = mmap.PAGESIZE
_HEAD: Final = struct.Struct("<qiH")  # offset + 1, or 0 for none; partition; bytes of the topic that follows
_OFFSET: Final = struct.Struct("<q")
_MOST: Final = 1_000  # coordinates remembered; one process adds one in its life


class Crashes:
    """Deaths by coordinate, in a folder that outlives the process; several processes may share it.

    Each process has a page of a file mapped into its memory, under a lock that ends with it. Marking a record is a
    store into that page: no call into the kernel, and yet it is there after SIGKILL. Whoever starts next finds pages
    without a living owner, and counts a death where one holds coordinates. Power cuts are not covered: no sync is made.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open the folder, which is made when it is missing, and collect the dead. Raises ConfigError."""
        self._folder = Path(folder)
        self._topic = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._deaths = self._read()
                if dead := [coordinates for coordinates in self._collected() if coordinates]:
                    for each in dead:
                        self._deaths[each] = self._deaths.pop(each, 0) + 1
                    self._save()
                self._path = self._folder / f"{secrets.token_hex(8)}.mark"
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                # Written, not only stretched: a page without a block on a full disk would kill us at the first store.
                os.write(self._file, bytes(_SIZE))
        except OSError as error:
            raise ConfigError("config.invalid", f"run.state_dir {folder}: {error.strerror or error}") from error
        self._page = mmap.mmap(self._file, _SIZE)

    def deaths(self, record: Record, /) -> int:
        """How many processes died while they transformed this record."""
        return self._deaths.get(record.coordinates, 0) if self._deaths else 0

    def enter(self, record: Record, /) -> None:
        """Mark the record that is being transformed from now on."""
        try:
            if record.topic != self._topic:
                name = record.topic.encode()[: _SIZE - _HEAD.size]
                _HEAD.pack_into(self._page, 0, 0, 0, len(name))
                self._page[_HEAD.size : _HEAD.size + len(name)] = name
                self._topic = record.topic
            _HEAD.pack_into(self._page, 0, record.offset + 1, record.partition, len(self._topic.encode()))
        except (struct.error, UnicodeEncodeError):
            self.leave()  # coordinates that no Kafka has, from a file: such a record goes unmarked

    def leave(self) -> None:
        """It was transformed, or refused: either way it did no harm."""
        _OFFSET.pack_into(self._page, 0, 0)

    def forget(self, record: Record, /) -> None:
        """It is settled: delivered after all, or its stub is durable."""
        with self._alone():
            self._deaths = self._read()
            self._deaths.pop(record.coordinates, None)
            self._save()

    def close(self) -> None:
        """End cleanly: leave no mark behind. Safe to call twice."""
        if not self._page.closed:
            self._path.unlink(missing_ok=True)
            self._page.close()
            os.close(self._file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _collected(self) -> Iterator[str]:
        """Coordinates in the marks of the dead, which are removed; empty where one died between two records."""
        for path in sorted(self._folder.glob("*.mark")):
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # its owner lives
                data = file.read(_SIZE).ljust(_HEAD.size, b"\0")
                path.unlink()
            after, partition, length = _HEAD.unpack_from(data)
            topic = data[_HEAD.size : _HEAD.size + length].decode(errors="replace")
            yield f"{topic}/{partition}/{after - 1}" if after > 0 else ""

    def _read(self) -> dict[str, int]:
        try:
            return msgspec.json.decode((self._folder / "deaths").read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def _save(self) -> None:
        for coordinates in list(self._deaths)[:-_MOST]:
            del self._deaths[coordinates]
        new = self._folder / "deaths.new"
        new.write_bytes(msgspec.json.encode(self._deaths))
        new.replace(self._folder / "deaths")
