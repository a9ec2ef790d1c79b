"""Remember which record was being transformed when a process died, so that it cannot kill every next one too."""

import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from lmstream.errors import ConfigError
from lmstream.model import Record, TopicPartition
from lmstream.storage import private

_SIZE: Final = mmap.PAGESIZE
_CLUSTER: Final = 8  # letters that tell clusters apart
_HEAD: Final = struct.Struct("<qqi8sH")
"""Offset + 1, or 0 for none; timestamp; partition; the cluster; bytes of the topic that follows."""
_OFFSET: Final = struct.Struct("<q")
_BATCH: Final = _SIZE // 2  # where the page holds the batch that is being opened, in the same form
_FETCHING: Final = _SIZE - 1  # the byte that says that a client fetches which opens batches itself
_FETCH: Final = "fetch cluster "  # in place of coordinates: deaths while such a client fetched
_BATCHES: Final = "batch "  # before the coordinates of a batch
_MOST: Final = 1_000  # coordinates remembered; one process adds one in its life
_DEATHS_BYTES: Final = 1024 * 1024  # more than _MOST coordinates take: topics have 249 characters at most
_OURS: Final = (".mark", "deaths", "deaths.new", "lock")  # how names of files end that we put there


class CrashJournal:
    """Deaths by coordinate, in a folder that outlives the process; several processes may share it.

    Each process has a page of a file mapped into its memory, under a lock that ends with it. Marking a record is a
    store into that page: no call into the kernel, and yet it is there after SIGKILL. Whoever starts next finds pages
    without a living owner, and counts a death where one holds coordinates. Power cuts are not covered: no sync is made.

    Coordinates are not unique: two clusters may have topics of one name, and a topic that was recreated has its offsets
    again. So a death is counted for a record of one cluster and one timestamp; of a file, for what stood there.
    """

    def __init__(self, folder: Path | str, cluster: str = "") -> None:
        """Open the folder, which is made when it is missing, and collect the dead.

        `cluster` tells the clusters apart whose records are transformed: any text that is the same at the next start.

        Raises ConfigError, also for a folder that is a link, or that another user owns or could write to: who plants
        files there could have records skipped. Needs Linux or macOS, as all of lmstream does.
        """
        self._topic = ""
        self._cluster = blake2b(cluster.encode(errors="surrogateescape"), digest_size=_CLUSTER // 2).hexdigest()
        try:
            self._at = private.folder(Path(folder), _OURS)
            with self._alone():
                self._deaths = self._read()
                if dead := [*self._collected()]:
                    for each in dead:
                        self._deaths[each] = self._deaths.pop(each, 0) + 1
                    self._save()
                self._name = f"{secrets.token_hex(8)}.mark"
                self._file = private.created(self._at, self._name)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                # Written, not only stretched: a page without a block on a full disk would kill us at the first store.
                os.write(self._file, bytes(_SIZE))
        except OSError as error:
            for name in ("_file", "_at"):
                with suppress(AttributeError, OSError):
                    os.close(getattr(self, name))
            raise ConfigError("config.invalid", f"run.state_dir {folder}: {error.strerror or error}") from error
        self._page = mmap.mmap(self._file, _SIZE)

    def deaths(self, record: Record, /) -> int:
        """How many processes died while they transformed this record."""
        return self._deaths.get(self._key(record), 0) if self._deaths else 0

    def enter(self, record: Record, /) -> None:
        """Mark the record that is being transformed from now on."""
        try:
            if record.topic != self._topic:
                name = record.topic.encode()[: _BATCH - _HEAD.size]
                _HEAD.pack_into(self._page, 0, 0, 0, 0, b"", len(name))
                self._page[_HEAD.size : _HEAD.size + len(name)] = name
                self._topic = record.topic
            size = len(self._topic.encode())
            stamp = record.timestamp if record.identity is None else record.identity.stamp
            _HEAD.pack_into(self._page, 0, record.offset + 1, stamp, record.partition, self._cluster.encode(), size)
        except (struct.error, UnicodeEncodeError):
            self.leave()  # coordinates that no Kafka has, from a file: such a record goes unmarked

    def leave(self) -> None:
        """It was transformed, or refused: either way it did no harm."""
        _OFFSET.pack_into(self._page, 0, 0)

    def opening(self, tp: TopicPartition, offset: int, timestamp: int, /) -> int:
        """Mark the batch at this offset, which is being opened from now on; answer how many processes died over it."""
        name = tp.topic.encode()[: _FETCHING - _BATCH - _HEAD.size]
        at = _BATCH + _HEAD.size
        self._page[at : at + len(name)] = name
        _HEAD.pack_into(self._page, _BATCH, offset + 1, timestamp, tp.partition, self._cluster.encode(), len(name))
        where = f"{tp.topic}/{tp.partition}/{offset}"
        return self._deaths.get(_BATCHES + _key(where, timestamp, self._cluster), 0) if self._deaths else 0

    def opened(self) -> None:
        """It was opened, or stays closed: either way it did no harm."""
        _OFFSET.pack_into(self._page, _BATCH, 0)

    @property
    def wary(self) -> bool:
        """Whether a process died while a client fetched that opens batches itself, wherever else it died."""
        return _FETCH + self._cluster in self._deaths

    def fetching(self) -> None:
        """Note that such a client fetches from now on, until this process ends."""
        _HEAD.pack_into(self._page, _BATCH, 0, 0, 0, self._cluster.encode(), 0)
        self._page[_FETCHING] = 1

    def well(self) -> None:
        """Forget that a process died so. Raises OSError."""
        with self._alone():
            self._deaths = self._read()
            self._deaths.pop(_FETCH + self._cluster, None)
            self._save()

    def forget(self, record: Record, /) -> None:
        """It is settled: delivered after all, or its stub is durable."""
        with self._alone():
            self._deaths = self._read()
            self._deaths.pop(self._key(record), None)
            self._save()

    def close(self) -> None:
        """End cleanly: leave no mark behind. Safe to call twice."""
        if not self._page.closed:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._at)
            self._page.close()
            os.close(self._file)
            os.close(self._at)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = private.opened(self._at, "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _collected(self) -> Iterator[str]:
        """What the dead were at, by their marks, which are removed; nothing where one died between two records."""
        for name in private.names(self._at):
            if not name.endswith(".mark"):
                continue
            try:
                mark = private.opened(self._at, name, os.O_RDONLY)
            except FileNotFoundError:
                continue  # its owner ended in this moment
            try:
                try:
                    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # its owner lives
                data = os.read(mark, _SIZE).ljust(_SIZE, b"\0")
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._at)
            finally:
                os.close(mark)
            yield from _marked(data)

    def _key(self, record: Record) -> str:
        return _key(record.coordinates, record.identified.stamp, self._cluster)

    def _read(self) -> dict[str, int]:
        try:
            file = private.opened(self._at, "deaths", os.O_RDONLY)
        except FileNotFoundError:
            return {}
        try:
            with os.fdopen(file, "rb") as deaths:
                return msgspec.json.decode(deaths.read(_DEATHS_BYTES), type=dict[str, int])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def _save(self) -> None:
        for coordinates in list(self._deaths)[:-_MOST]:
            del self._deaths[coordinates]
        with suppress(FileNotFoundError):
            os.unlink("deaths.new", dir_fd=self._at)  # a process was killed before the rename below
        with os.fdopen(private.created(self._at, "deaths.new"), "wb") as new:
            new.write(msgspec.json.encode(self._deaths))
        os.replace("deaths.new", "deaths", src_dir_fd=self._at, dst_dir_fd=self._at)


def _marked(page: bytes) -> Iterator[str]:
    """What a process was at that left this page."""
    for at, kind in ((0, ""), (_BATCH, _BATCHES)):
        after, timestamp, partition, cluster, length = _HEAD.unpack_from(page, at)
        topic = page[at + _HEAD.size : at + _HEAD.size + length].decode(errors="replace")
        name = cluster.decode(errors="replace")
        if after > 0:
            yield kind + _key(f"{topic}/{partition}/{after - 1}", timestamp, name)
    if page[_FETCHING]:
        yield _FETCH + name


def _key(coordinates: str, timestamp: int, cluster: str) -> str:
    return f"{coordinates} timestamp {timestamp} cluster {cluster}"
