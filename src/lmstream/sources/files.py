"""Read bundles from files, folders or standard input: JSON, JSON lines, protobuf, letters, also in gzip or zstd."""

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from msgspec import Struct

from lmstream.abilities import Traits
from lmstream.dead_letters import firehose_failures, lambda_failures
from lmstream.dead_letters.form import decode_or_none
from lmstream.errors import ConfigError, SourceError
from lmstream.interfaces import Batch, Drain
from lmstream.model import Record, TopicPartition
from lmstream.settings import KIB, Limits
from lmstream.settings import Settings as Engine
from lmstream.sources import _listing
from lmstream.sources._framing import Sniffing
from lmstream.sources._identities import Identities
from lmstream.sources._inflating import Inflating
from lmstream.sources._listing import SUFFIXES, apart, left_out, listing, suffix
from lmstream.sources._unfit import COORDINATES, says_nothing, unfit

STDIN: Final = _listing.STDIN
_CHUNK: Final = 256 * KIB
_POLL_RECORDS: Final = 5_000  # of tiny bundles: one poll must not become the whole run
_WAIT: Final = 0.2  # seconds one poll waits for standard input, so that a run can be stopped
_PROBLEMS: Final = 5  # damaged files named in one message


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the files source."""

    paths: tuple[str, ...]
    """Files, folders (read recursively, sorted) and `-` for standard input. A file that is named is read whatever it is
    called; of a folder those that end in .json, .jsonl, .ndjson, .pb or .binpb, also with .gz or .zst, and no hidden
    ones. What Lambda writes of failed batches, and Firehose below an error prefix, is known by what it holds, for its
    name says nothing.
    Costs: duplicates: there are no commits, so what is named again is read again, with the same row ids."""
    topic: str = ""
    """Topic of records that do not bring their own: in messages and for engine.org_by_topic, where it is each file's
    own name as it was given, unless set; and in row ids, where it is `files`, unless set.
    Costs: rows: all row ids."""
    identity: Literal["content", "name"] = "content"
    """What row ids are made of. `content`: of what a record holds, so that other content under the same name never
    has the same ids, and the same content under another name has. `name`: of the file's name, or its place in the
    listing when `topic` is set, as in row contract 1.0: for a folder whose rows landed under such ids.
    Costs: rows: all row ids."""
    without: tuple[str, ...] = ()
    """Folders below those of `paths` that are not read. A run adds its own: the folders of its rows, its dead letters
    and its memory of deaths. A folder that is named in `paths` itself is read.
    Costs: loss: what lies there is not read."""
    share: tuple[int, int] = (0, 1)
    """(which, of how many): of n processes over the same paths, this one reads every n-th file, and counts copies of
    one content for itself. `--workers` sets it.
    Costs: loss, duplicates: shares that do not fit together leave files out, or read them twice."""

    def __post_init__(self) -> None:
        which, of = self.share
        if not 0 <= which < of:
            raise ValueError(f"share: expected (which, of how many), saw ({which}, {of})")

    def shares(self, count: int, /) -> list[dict[str, Any]]:
        """A share of the files for each worker. They are listed here, once: workers that listed for themselves could
        number a file that arrives meanwhile differently, and give two files the same row ids. Raises ConfigError."""
        if STDIN in self.paths:
            raise ConfigError("config.invalid", "run.workers: standard input is read by one process")
        listed = tuple(listing(self.paths, self.without))
        return [{"paths": listed, "share": (number, count)} for number in range(count)]

    def mistakes(self, engine: Engine, /) -> list[str]:
        """The paths that hold nothing which a run reads, each with the reason."""
        found = []
        for name in self.paths:
            try:
                files = [] if name == STDIN else listing([name], self.without)
                found.append(unfit(name, files, lambda file: SUFFIXES.get(suffix(file)), engine))
            except SourceError as e:
                found.append(e.detail)
        return [each for each in found if each]

    def remark(self) -> str:
        """What is skipped in folders, so that nobody takes a part for the whole."""
        passed = left_out(self.paths, self.without)
        said = [f"{passed}; a file that is named itself is read whatever its name"] if passed else []
        if own := apart(self.paths, self.without):
            said.append(f"not read: {', '.join(own)} (source.without, or where this run puts rows and dead letters)")
        return "; ".join(said)


TRAITS: Final = Traits(finite=True, commits=False, takes=("limits",))


class Files:
    """Source of records in files.

    The offset is the ordinal of the bundle in its file. With a topic of the settings the partition is the place of the
    file in the listing; else the topic is the file's name and the partition 0. Row ids are made of the content: see
    Identities. A line that is a dead letter keeps its own coordinates, and its row ids; so do the records of a batch
    that an event source mapping gave up, as Lambda writes it into a bucket. A line of Firehose's error prefix gives its
    rows as they were made.

    What is damaged inside a file (a truncated frame, a line past all bounds, broken gzip) becomes a record of the
    damaged bytes, which the engine dead-letters; the other files continue. Files that could not be read to their end
    are named in one SourceError after everything else was handed out.
    """

    def __init__(self, settings: Settings, *, limits: Limits | None = None, stdin: BinaryIO | None = None) -> None:
        """`limits` are those of the engine. `stdin` stands in for standard input."""
        self.on_revoke: Drain | None = None
        self.committed: dict[TopicPartition, int] = {}
        """Next offsets as the run committed them. Files remember nothing: this is for reports and tests."""
        self.problems: list[str] = []
        """What was wrong with which file."""
        self._settings = settings
        self._identities = Identities(settings.topic) if settings.identity == "content" else None
        # A dead letter holds its value in base64, beside key and headers.
        bundle = (limits or Limits()).record_bytes
        self._bound = bundle * 3 // 2 + 64 * KIB
        self._stdin = stdin
        self._reading: Generator[Record | None, None, None] | None = None
        self._taking: asyncio.Future[tuple[list[Record], bool]] | None = None
        self._held: Record | None = None
        self._complained = False
        self._ended = False

    async def poll(self, room: int, /) -> Batch:
        """Read the next records of at most about `room` bytes in a thread; at least one when there is any room."""
        if room <= 0 or self._ended:
            await asyncio.sleep(0 if self._ended else 0.01)  # files are in no hurry: let what is in flight continue
            return Batch(records=(), end=self._ended)
        # A poll may be cancelled, a thread may not: what it took then is the answer to the next poll.
        self._taking = self._taking or asyncio.ensure_future(asyncio.to_thread(self._take, room))
        try:
            records, end = await asyncio.shield(self._taking)
        finally:
            if self._taking.done():
                self._taking = None
        if end and self.problems and not self._complained:
            if records:
                return Batch(records=records)
            self._complained = True
            raise SourceError("source.file", _listed(self.problems))
        self._ended = end
        return Batch(records=records, end=end)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Remember them in `committed`."""
        self.committed.update(offsets)

    async def close(self) -> None:
        """Wait for a read that is under way and close its file."""
        if self._taking is not None:
            await asyncio.wait({self._taking})
            self._taking = None
        if self._reading is not None:
            self._reading.close()
        self._ended = True

    def _take(self, room: int) -> tuple[list[Record], bool]:
        if self._reading is None:
            self._reading = self._records(listing(self._settings.paths, self._settings.without))
        taken: list[Record] = []
        size = 0
        while len(taken) < _POLL_RECORDS:
            try:
                record = self._held or next(self._reading)
            except StopIteration:
                return taken, True
            self._held = None
            if record is None:  # standard input has nothing yet
                break
            size += len(record.value or b"")
            if taken and size > room:
                self._held = record
                break
            taken.append(record)
        return taken, False

    def _records(self, listed: list[str]) -> Generator[Record | None, None, None]:
        which, of = self._settings.share
        for place, name in islice(enumerate(listed), which, None, of):
            topic, partition = (self._settings.topic, place) if self._settings.topic else (_topic_of(name), 0)
            try:
                yield from self._of_file(topic, partition, name)
            except OSError as error:
                self.problems.append(f"{name}: {error.strerror or error}")

    def _of_file(self, topic: str, partition: int, name: str) -> Iterator[Record | None]:
        inflating, bound = Inflating(), max(self._bound, lambda_failures.LARGEST)
        cutter = Sniffing(SUFFIXES.get(suffix(name)), bound)
        offset = 0
        for value in self._values(name, inflating, cutter):
            if value is None:
                yield None
                continue
            if returned := firehose_failures.read(value):
                yield returned.record(topic, partition, offset)
            elif document := lambda_failures.read(value):
                yield from document.records
                self.problems += [f"{name}: {what}" for what in _complaints(document)]
            else:
                yield self._record(topic, partition, offset, value[: self._bound])
            offset += 1
        self.problems += [f"{name}: {what}" for what in (inflating.damage, cutter.damage) if what]

    def _values(self, name: str, inflating: Inflating, cutter: Sniffing) -> Iterator[bytes | None]:
        with _opened(name, self._stdin) as chunks:
            for chunk in chunks:
                if chunk is None:
                    yield None
                    continue
                for piece in inflating.feed(chunk):
                    yield from cutter.feed(piece)
                if inflating.damage:
                    break
        for piece in inflating.finish():
            yield from cutter.feed(piece)
        yield from cutter.finish()

    def _record(self, topic: str, partition: int, offset: int, value: bytes) -> Record:
        if value[:1] == b"{" and all(key in value for key in COORDINATES):
            letter = decode_or_none(value)
            # Else a bundle after all, or a damaged letter: the engine judges it.
            if letter is not None and not says_nothing(letter, value):
                return letter.record()
        identity = self._identities.of(value) if self._identities is not None else None
        return Record(topic=topic, partition=partition, offset=offset, value=value, identity=identity)


def _topic_of(name: str) -> str:
    return "stdin" if name == STDIN else Path(name).as_posix()


def _complaints(document: lambda_failures.Document) -> Iterator[str]:
    if document.problem:
        yield document.problem
    if document.faulty:
        yield f"{len(document.faulty):,} entries that are no Kafka records: {document.faulty[0].detail:.200}"


def _listed(problems: list[str]) -> str:
    more = len(problems) - _PROBLEMS
    return "; ".join(problems[:_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


@contextlib.contextmanager
def _opened(name: str, stdin: BinaryIO | None) -> Iterator[Iterator[bytes | None]]:
    """Open the file of that name, to be had in bounded reads. Standard input stays open."""
    if name == STDIN:
        yield _waiting(stdin or sys.stdin.buffer)
        return
    with Path(name).open("rb", buffering=0) as file:
        yield iter(lambda: file.read(_CHUNK), b"")


def _waiting(file: BinaryIO) -> Iterator[bytes | None]:
    """Read standard input; None when nothing came for a while, so that no thread hangs in a read for ever."""
    try:
        number = file.fileno()
    except (OSError, ValueError):  # no real file
        yield from iter(lambda: file.read(_CHUNK), b"")
        return
    while True:
        ready, _, _ = select.select([number], [], [], _WAIT)
        if not ready:
            yield None
            continue
        chunk = os.read(number, _CHUNK)
        if not chunk:
            return
        yield chunk


make = Files
