"""Read dead letters back, one by one, from a folder, a bucket or a topic; and remove them.

What an event source mapping gave up (lambda_failures.py) lies in a folder or bucket as well: a document of several
records, each of which is a letter here. So do lines of Firehose's error prefix (firehose_failures.py).
"""

import asyncio
import io
import logging
import re
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from lmstream.bounded import LETTER_LINE, BoundError
from lmstream.dead_letters import firehose_failures, lambda_failures
from lmstream.dead_letters.form import decode_or_none
from lmstream.dead_letters.letters_s3 import Settings as BucketSettings
from lmstream.dead_letters.letters_s3 import reason_of
from lmstream.errors import ConfigError, LmstreamError, SinkError, SourceError
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.model import DeadLetter, Identity
from lmstream.storage.bucket import Bucket
from lmstream.storage.line_files import GZIP, landed_files, lines, lines_of

log: Final = logging.getLogger("lmstream.dead_letters")
_AHEAD: Final = 8  # objects fetched at a time
_FIRST: Final = 8  # lines that tell what a file is
_ERRORS: Final = re.compile(r"(?:^|/)(?:errors|[^/]*-failed|activePartition[^/]*)/")
"""A folder of an error prefix: ours, or one that Firehose names after the type of the error. Other objects in gzip are
rows that landed, which nobody should have to pay for."""


class Found(Struct, frozen=True):
    """One letter, and where it was."""

    letter: DeadLetter
    place: str
    """Path, key, or partition and offset in the topic of letters."""
    kept: float
    """When it was written, in unix seconds, as its place says."""
    alone: bool = True
    """Whether nothing else is at that place: only then it can be removed."""
    of: int = 1
    """Letters of the document it is from, which is removed only as a whole."""

    @property
    def time(self) -> datetime:
        """The record's own time where it is known, else when the letter was written."""
        known = self.letter.timestamp / 1000 if self.letter.timestamp >= 0 else self.kept
        try:
            return datetime.fromtimestamp(known, UTC)
        except (OverflowError, ValueError, OSError):  # a time that nobody lives in
            return datetime.fromtimestamp(self.kept, UTC)


Say = Callable[[str], None]
"""Gets what is left out, one line each. Names in it are anybody's: what shows it escapes them."""


class DeadLetterStore(Protocol):
    """A place of dead letters that can be read."""

    def read(self) -> AsyncGenerator[Found]:
        """Every letter; what is none is left out, and said."""
        ...

    async def remove(self, found: Found, /) -> None: ...

    async def close(self) -> None: ...


@asynccontextmanager
async def reading(
    store: DeadLetterStore, fits: Callable[[Found], bool] = lambda _: True
) -> AsyncIterator[AsyncIterator[Found]]:
    """The letters of a place that fit; the place is closed at the end."""
    try:
        async with aclosing(store.read()) as found:
            yield (each async for each in found if fits(each))
    finally:
        await store.close()


class FolderStore:
    """Letters in a folder, or in one file."""

    def __init__(self, root: Path, say: Say = log.warning) -> None:
        self._root, self._say = root, say

    async def read(self) -> AsyncGenerator[Found]:
        for path in [self._root] if self._root.is_file() else landed_files(self._root):
            try:
                kept = path.stat().st_mtime
                for number, (line, alone) in enumerate(_lines(lines_of(path, LETTER_LINE))):
                    letters = _decoded(line, str(path), self._say, number)
                    for letter in letters:
                        yield Found(letter, str(path), kept, alone, len(letters))
            except FileNotFoundError:  # removed in between
                continue
            except BoundError as e:  # whoever put it there must not keep the others from being seen
                self._say(f"{e.detail}: not a dead letter, skipped")

    async def remove(self, found: Found, /) -> None:
        try:
            await asyncio.to_thread(Path(found.place).unlink, missing_ok=True)
        except OSError as e:
            raise SinkError("sink.disk", f"{found.place}: {e.strerror or e}") from e

    async def close(self) -> None:
        """Nothing is held open."""


def _lines(lines: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """(line, whether it is the only one); a document of Lambda, which may be written over several lines, as one."""
    first = list(islice(lines, _FIRST))
    if len(first) > 1 and lambda_failures.begins(b"\n".join(first)):
        size = sum(map(len, first))
        for line in lines:
            first.append(line)
            size += len(line)
            if size > lambda_failures.LARGEST:
                break
        else:
            whole = b"\n".join(first)
            if lambda_failures.read(whole) is not None:
                yield whole, True
                return
    alone = len(first) == 1
    yield from ((line, alone) for line in chain(first, lines))


class ObjectStore:
    """Letters in a bucket."""

    def __init__(self, settings: BucketSettings, say: Say = log.warning) -> None:
        self._bucket = Bucket(settings)
        self._settings, self._say = settings, say

    async def read(self) -> AsyncGenerator[Found]:
        waiting: deque[tuple[str, float, asyncio.Task[bytes | None]]] = deque()
        sizes: deque[int] = deque()
        try:
            async for key, kept, size in self._keys():
                # No more than was listed: an answer without end must not be held.
                waiting.append((key, kept, asyncio.create_task(self._bucket.get(key, size))))
                sizes.append(size)
                while len(waiting) == _AHEAD or (waiting and sum(sizes) > LETTER_LINE):
                    sizes.popleft()
                    for found in await self._next(waiting):
                        yield found
            while waiting:
                for found in await self._next(waiting):
                    yield found
        except LmstreamError:
            raise
        except Exception as e:
            raise self._error(e) from e
        finally:
            for _, _, task in waiting:
                task.cancel()

    async def _next(self, waiting: deque[tuple[str, float, asyncio.Task[bytes | None]]]) -> list[Found]:
        key, kept, task = waiting.popleft()
        try:
            data = await task
            letters = (
                _all_of(data, self._bucket.place(key), self._say) if data else []
            )  # none: removed in between, or not for us
        except BoundError as e:
            self._say(f"{e.detail}: not a dead letter, skipped")
            return []
        return [Found(letter, key, kept, of=len(letters)) for letter in letters]

    async def _keys(self) -> AsyncIterator[tuple[str, float, int]]:
        """Key, unix time and size of what may be letters."""
        async for page in self._bucket.pages(self._settings.key("")):
            for each in page:
                if self._may_hold(each["Key"], each["Size"]):
                    yield each["Key"], each["LastModified"].timestamp(), each["Size"]

    def _may_hold(self, key: str, size: int) -> bool:
        """Letters end in .json; Lambda's documents in nothing that tells, below aws/lambda as for other sources, and
        Firehose's of an error prefix in whatever its stream says."""
        name = key.rpartition("/")[2]
        if not size or name.startswith((".", "_")) or (name.endswith(".gz") and not _ERRORS.search(key)):
            return False
        letter = name.endswith(".json") or _ERRORS.search(key)
        if size > (LETTER_LINE if letter else lambda_failures.LARGEST):
            self._say(f"{self._bucket.place(key)}: {size:,} bytes are not a dead letter, skipped")
            return False
        return True

    async def remove(self, found: Found, /) -> None:
        try:
            await self._bucket.delete(found.place)
        except LmstreamError:
            raise
        except Exception as e:
            raise self._error(e) from e

    def _error(self, e: Exception) -> SinkError:
        return SinkError(reason_of(e), f"{self._bucket.place(self._settings.key(''))}: {e}")

    async def close(self) -> None:
        self._bucket.close()


class TopicStore:
    """Letters in a Kafka topic."""

    def __init__(self, settings: KafkaSettings, say: Say = log.warning) -> None:
        """`settings` are those of a client of the one topic."""
        self._settings, self._say = settings, say

    async def read(self) -> AsyncGenerator[Found]:
        from lmstream.kafka.range_reader import Span, read_topic  # noqa: PLC0415 - an extra, needed for topics only

        seen: set[tuple[Identity, str, str]] = set()
        async for record in read_topic(self._settings, Span({}, {})):
            for letter in _decoded(record.value or b"", record.coordinates, self._say):
                same = (letter.identified, letter.topic, letter.sha256)
                if same not in seen:  # a letter that was written again is one more record
                    seen.add(same)
                    yield Found(letter, record.coordinates, record.timestamp / 1000, alone=False)

    async def remove(self, found: Found, /) -> None:
        raise ConfigError(
            "config.invalid",
            f"{found.place}: letters in a topic cannot be deleted one by one; its retention deletes them",
        )

    async def close(self) -> None:
        """Nothing is held open."""


def _all_of(data: bytes, place: str, say: Say) -> list[DeadLetter]:
    """The letters of an object: one, those of a document, or a line each of an error prefix. Raises BoundError."""
    zipped = data.startswith(GZIP)
    head = zlib.decompressobj(31).decompress(data, lambda_failures.HEAD) if zipped else data[: lambda_failures.HEAD]
    if not firehose_failures.begins(head):
        return [] if zipped else _decoded(data, place, say)
    try:
        found = list(enumerate(lines(io.BufferedReader(io.BytesIO(data)), LETTER_LINE, place)))
    except SourceError as e:
        say(f"{e.detail}: left out")
        return []
    return [letter for number, line in found for letter in _decoded(line, place, say, number)]


def _decoded(line: bytes, place: str, say: Say, number: int = 0) -> list[DeadLetter]:
    """The letter of a line, or those of a document; what is neither is said. `number` is the line's in its place."""
    if returned := firehose_failures.read(line):
        return [returned.letter(place, number)]
    if (letter := decode_or_none(line)) is not None:
        return [letter]
    document = lambda_failures.read(line)
    problem = "not a dead letter, skipped" if document is None else document.problem
    if problem:
        say(f"{place}: {problem}")
    return document.letters if document is not None else []
