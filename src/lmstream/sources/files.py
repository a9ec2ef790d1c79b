"""Read bundles from files, folders or standard input: JSON, JSON lines, protobuf, letters, also in gzip or zstd."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from msgspec import Struct, structs

from lmstream.abilities import Traits
from lmstream.dead_letters import firehose_failures, lambda_failures
from lmstream.dead_letters.form import decode_or_none
from lmstream.errors import ConfigError, SourceError
from lmstream.interfaces import Assign, Batch, Drain
from lmstream.model import Position, Record, TopicPartition
from lmstream.settings import KIB, Limits
from lmstream.settings import Settings as Engine
from lmstream.sources import _listing
from lmstream.sources._framing import Sniffing
from lmstream.sources._identities import Identities
from lmstream.sources._inflating import Inflating
from lmstream.sources._lanes import END, NOTHING, File, FileLane, hasher, lane_of
from lmstream.sources._listing import SUFFIXES, apart, left_out, listing, suffix
from lmstream.sources._opened import opened
from lmstream.sources._unfit import COORDINATES, says_nothing, unfit

STDIN: Final = _listing.STDIN
_POLL_RECORDS: Final = 5_000  # of tiny bundles: one poll must not become the whole run
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


TRAITS: Final = Traits(finite=True, commits=False, takes=("limits",), placed=True)


class Files:
    """Source of records in files.

    The offset is the ordinal of the bundle in its file. With a topic of the settings the partition is the place of the
    file in the listing; else the topic is the file's name and the partition 0. Row ids are made of the content: see
    Identities. A line that is a dead letter keeps its own coordinates, and its row ids; so do the records of a batch
    that an event source mapping gave up, as Lambda writes it into a bucket. A line of Firehose's error prefix gives its
    rows as they were made.

    For a lake (`on_assign`) the files are read in the order of their digests, and each record has a position: its
    number in that order. So whoever is given the same content again, under any names, continues where rows have landed.

    What is damaged inside a file (a truncated frame, a line past all bounds, broken gzip) becomes a record of the
    damaged bytes, which the engine dead-letters; the other files continue. Files that could not be read to their end
    are named in one SourceError after everything else was handed out.
    """

    def __init__(self, settings: Settings, *, limits: Limits | None = None, stdin: BinaryIO | None = None) -> None:
        """`limits` are those of the engine. `stdin` stands in for standard input."""
        self.on_revoke: Drain | None = None
        self.on_assign: Assign | None = None
        self.say: Callable[[str], None] | None = None
        self.committed: dict[TopicPartition, int] = {}
        """Next offsets as the run committed them. Files remember nothing: this is for reports and tests."""
        self.problems: list[str] = []
        """What was wrong with which file."""
        self._settings = settings
        self._identities: Identities | None = None
        self._lane: FileLane | None = None
        self._epoch = self._from = 0
        self._sought: int | None = None
        # A dead letter holds its value in base64, beside key and headers.
        bundle = (limits or Limits()).record_bytes
        self._bound = bundle * 3 // 2 + 64 * KIB
        self._stdin = stdin
        self._reading: Generator[Record | None, None, None] | None = None
        self._taking: asyncio.Future[tuple[list[Record], bool]] | None = None
        self._held: Record | None = None
        self._complained = False
        self._ended = self._closed = False

    async def poll(self, room: int, /) -> Batch:
        """Read the next records of at most about `room` bytes in a thread; at least one when there is any room."""
        if self._sought is not None:
            await self._again(self._sought)
        if room <= 0 or self._ended:
            await asyncio.sleep(0 if self._ended else 0.01)  # files are in no hurry: let what is in flight continue
            return Batch(records=(), end=self._ended)
        # A poll may be cancelled, a thread may not: what it took then is the answer to the next poll.
        if self._lane is None and self.on_assign is not None:
            await self._place(self.on_assign)
            return Batch(records=())
        self._taking = self._taking or asyncio.ensure_future(asyncio.to_thread(self._take, room))
        try:
            records, end = await asyncio.shield(self._taking)
        finally:
            if self._taking.done():
                self._taking = None
        if end and self.problems and not self._complained:
            if not records:
                self._complained = True
                raise SourceError("source.file", _listed(self.problems))
            end = False  # what is wrong is said once these are taken
        self._ended = end
        if self._lane is None:
            return Batch(records=records, end=end)
        tp = self._lane.tp
        return Batch(records, {tp: self._epoch}, end, {tp: END} if end and not self.problems else {})

    async def seek(self, places: Mapping[TopicPartition, int], /) -> None:
        """Read from there on, under a new epoch, from the next poll on. Raises SourceError for what is gone when it was
        read."""
        if self._lane is None or not self._lane.again:
            raise SourceError("source.file", "standard input cannot be read again")
        self._sought = places.get(self._lane.tp, self._sought)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Remember them in `committed`."""
        self.committed.update(offsets)

    async def close(self) -> None:
        """Wait for a read that is under way and close its file."""
        self._closed = True
        if self._taking is not None:
            await asyncio.wait({self._taking})
            self._taking = None
        if self._reading is not None:
            self._reading.close()
        self._ended = True

    async def _place(self, ask: Assign) -> None:
        """Ask the lake what of these files has landed."""
        lane = await asyncio.to_thread(lane_in, self._settings, lambda: self._closed)
        if not lane.again:
            self._tell(
                "standard input, and what else cannot be read twice, lands at least once: sent again, it lands again"
            )
        self._begin((await ask({lane.tp: NOTHING})).get(lane.tp, 0))
        self._lane = lane

    async def _again(self, offset: int) -> None:
        if self._taking is not None:
            await asyncio.wait({self._taking})
            self._taking = None
        if self._reading is not None:
            self._reading.close()
        self._reading = self._held = self._sought = None
        self.problems, self._complained = [], False
        self._epoch += 1
        self._begin(offset)

    def _begin(self, offset: int) -> None:
        self._from = offset
        self._ended = offset >= END
        if self._ended:
            self._tell("already landed: what these files hold. To land it again, name another folder")
        elif offset:
            self._tell(f"already landed: {offset:,} records of these files; the others follow")

    def _tell(self, what: str) -> None:
        if self.say is not None:
            self.say(what)

    def _take(self, room: int) -> tuple[list[Record], bool]:
        if self._reading is None:
            self._identities = Identities(self._settings.topic) if self._settings.identity == "content" else None
            self._reading = self._records() if self._lane is None else self._numbered(self._lane.tp)
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

    def _numbered(self, tp: TopicPartition) -> Generator[Record | None, None, None]:
        """Records from where the lake begins, each with its position."""
        number = 0
        for record in self._records():
            if record is None:
                yield None
                continue
            if number >= self._from:
                yield structs.replace(record, position=Position(tp, number))
            elif not number % _POLL_RECORDS:
                yield None
            number += 1

    def _records(self) -> Generator[Record | None, None, None]:
        for file in self._files():
            place, name, _ = file
            topic, partition = (self._settings.topic, place) if self._settings.topic else (_topic_of(name), 0)
            try:
                yield from self._of_file(topic, partition, file)
            except OSError as error:
                self.problems.append(f"{name}: {error.strerror or error}")

    def _files(self) -> Iterable[File]:
        if self._lane is not None:
            return self._lane.files
        which, of = self._settings.share
        listed = listing(self._settings.paths, self._settings.without)
        return [File(place, name) for place, name in enumerate(listed)][which::of]

    def _of_file(self, topic: str, partition: int, file: File) -> Iterator[Record | None]:
        name = file.name
        inflating, bound = Inflating(), max(self._bound, lambda_failures.LARGEST)
        cutter = Sniffing(SUFFIXES.get(suffix(name)), bound)
        offset = 0
        for value in self._values(file, inflating, cutter):
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

    def _values(self, file: File, inflating: Inflating, cutter: Sniffing) -> Iterator[bytes | None]:
        seen = hasher() if file.digest else None
        with opened(file.name, self._stdin) as chunks:
            for chunk in chunks:
                if chunk is None:
                    yield None
                    continue
                if seen is not None:
                    seen.update(chunk)
                for piece in inflating.feed(chunk):
                    yield from cutter.feed(piece)
                if inflating.damage:
                    break
            else:
                if seen is not None and seen.digest() != file.digest:
                    self.problems.append(f"{file.name}: it was changed while it was read")
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


def lane_in(settings: Settings, stopped: Callable[[], bool] = lambda: False) -> FileLane:
    """The lane of what these settings read. Raises SourceError."""
    salt, named = (settings.identity, settings.topic), settings.identity == "name"
    listed = listing(settings.paths, settings.without)
    return lane_of(listed, settings.share, salt, named=named, stopped=stopped)


def _complaints(document: lambda_failures.Document) -> Iterator[str]:
    if document.problem:
        yield document.problem
    if document.faulty:
        yield f"{len(document.faulty):,} entries that are no Kafka records: {document.faulty[0].detail:.200}"


def _listed(problems: list[str]) -> str:
    more = len(problems) - _PROBLEMS
    return "; ".join(problems[:_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


make = Files
