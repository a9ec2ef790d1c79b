"""Dead letters as they are kept, to be read or removed: in a folder, in a bucket, or in a topic.

What an event source mapping gave up (lambda_failures.py) lies in a folder or bucket as well: a document of several
records, each of which is a letter here.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import msgspec
from cyclopts import Parameter
from msgspec import Struct

from lmstream import lambda_failures
from lmstream.cli import terminal
from lmstream.cli.flags import BrokerFlags, EngineFlags, given
from lmstream.cli.landed import landed_files, lines_of
from lmstream.errors import ConfigError, LmstreamError, SinkError, SourceError
from lmstream.model import DeadLetter
from lmstream.sinks._letters import decode

_AGO: Final = re.compile(r"^(\d+)([smhd])$")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"^(\d+)(?:-(\d+))?$")
_AHEAD: Final = 8  # objects fetched at a time
_FIRST: Final = 8  # lines that tell what a file is


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


class Store(Protocol):
    """A place of dead letters."""

    def read(self) -> AsyncGenerator[Found]:
        """Every letter; what is none is left out, and said."""
        ...

    async def remove(self, found: Found, /) -> None: ...

    async def close(self) -> None: ...


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which letters; all of the filters must fit, and any value of one that is repeated."""

    reason: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = ()
    """Reason of the letter, as in decode.json or 'decode.*'; may be repeated."""
    topic: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = ()
    """Topic the record came from; may be repeated."""
    partition: Annotated[tuple[int, ...], Parameter(consume_multiple=False)] = ()
    """Partition the record came from; may be repeated."""
    offset: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = ()
    """Offset of the record, or the first and last as in 100-200; may be repeated."""
    since: str | None = None
    """Records from this time on: 2024-05-09T14:00Z, or 2h for two hours ago (s, m, h, d). UTC without a zone."""
    until: str | None = None
    """Records before this time."""

    @property
    def given(self) -> bool:
        """Whether anything is filtered."""
        return self != Filters()

    def compiled(self) -> Callable[[Found], bool]:
        """Answer the filter. ConfigError for texts that are none."""
        spans = [_span(text) for text in self.offset]
        since, until = _moment("--since", self.since), _moment("--until", self.until)

        def fits(found: Found) -> bool:
            letter = found.letter
            return (
                (not self.reason or any(fnmatchcase(letter.reason, each) for each in self.reason))
                and (not self.topic or letter.topic in self.topic)
                and (not self.partition or letter.partition in self.partition)
                and (not spans or any(first <= letter.offset <= last for first, last in spans))
                and (since is None or found.time >= since)
                and (until is None or found.time < until)
            )

        return fits


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class S3Flags:
    """How to reach a bucket of letters."""

    s3_endpoint_url: str | None = None
    """Another endpoint for s3:// letters: a VPC endpoint, or any store that speaks S3."""
    s3_region: str | None = None
    """AWS region of s3:// letters."""


NO_FILTERS: Final = Filters()
NO_S3: Final = S3Flags()


def store_of(target: str | None, s3: S3Flags, broker: BrokerFlags, engine: EngineFlags) -> tuple[Store, dict[str, Any]]:
    """Open the place of letters that is named, or the configured one, and answer the settings that keep letters there.

    Nothing connects yet.
    """
    if target is None:
        part = engine.load().dead_letters
        if part is None or part.name not in {"letters", "letters_s3", "letters_kafka"}:
            raise ConfigError("config.invalid", "name the letters: a folder, s3://BUCKET/PREFIX or kafka://TOPIC")
        if part.name == "letters":
            return store_of(part.settings.root, s3, broker, engine)
        if part.name == "letters_s3":
            return _in_bucket(part.settings)
        own = part.settings
        named = {"bootstrap": own.bootstrap, **{k: getattr(own, k) for k in ("ca", "cert", "key", "key_password")}}
        overrides = {f"source.{k}": v for k, v in named.items() if v} if own.bootstrap else broker.overrides()
        if own.bootstrap:
            overrides["source.security"] = own.security
        return _in_topic(own.topic, overrides, engine), {}
    kind, slashes, where = target.partition("://")
    if slashes and kind == "s3":
        from lmstream.sinks.letters_s3 import Settings as S3Settings

        bucket, _, prefix = where.partition("/")
        options = given({"endpoint_url": s3.s3_endpoint_url, "region": s3.s3_region})
        return _in_bucket(S3Settings(bucket=bucket, prefix=prefix, **options))
    if slashes and kind == "kafka":
        return _in_topic(where, broker.overrides(), engine), {}
    if slashes:
        raise ConfigError("config.invalid", f"{target}: expected a folder, s3://BUCKET/PREFIX or kafka://TOPIC")
    if not Path(target).exists():
        raise SourceError("source.file", f"{target}: no such folder of dead letters")
    return _Folder(Path(target)), {"dead_letters.type": "letters", "dead_letters.root": target}


def _in_bucket(settings: Any) -> tuple[Store, dict[str, Any]]:
    kept = {f"dead_letters.{k}": v for k, v in msgspec.structs.asdict(settings).items()}
    return _Objects(settings), {"dead_letters.type": "letters_s3", **kept}


def _in_topic(topic: str, overrides: dict[str, Any], engine: EngineFlags) -> Store:
    from lmstream.cli.kafka import settings_of

    return _Topic(settings_of(engine.load({"source.type": "kafka", "source.topics": (topic,), **overrides})))


@asynccontextmanager
async def reading(store: Store) -> AsyncIterator[AsyncGenerator[Found]]:
    """The letters of a place, which is closed at the end."""
    try:
        async with aclosing(store.read()) as found:
            yield found
    finally:
        await store.close()


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    async def read(self) -> AsyncGenerator[Found]:
        for path in [self._root] if self._root.is_file() else landed_files(self._root):
            lines = list(lines_of(path))
            try:
                kept = path.stat().st_mtime
            except FileNotFoundError:  # removed in between
                continue
            if len(lines) > 1 and lambda_failures.begins(b"\n".join(lines[:_FIRST])):
                whole = b"\n".join(lines)  # a document may be written over several lines
                lines = lines if lambda_failures.read(whole) is None else [whole]
            for line in lines:
                letters = _decoded(line, str(path))
                for letter in letters:
                    yield Found(letter, str(path), kept, len(lines) == 1, len(letters))

    async def remove(self, found: Found, /) -> None:
        try:
            await asyncio.to_thread(Path(found.place).unlink, missing_ok=True)
        except OSError as e:
            raise SinkError("sink.disk", f"{found.place}: {e.strerror or e}") from e

    async def close(self) -> None:
        """Nothing is held open."""


class _Objects:
    def __init__(self, settings: Any) -> None:
        from lmstream.sinks.letters_s3 import Bucket

        self._bucket = Bucket(settings)
        self._settings = settings

    async def read(self) -> AsyncGenerator[Found]:
        waiting: deque[tuple[str, float, asyncio.Task[bytes | None]]] = deque()
        try:
            async for key, kept in self._keys():
                waiting.append((key, kept, asyncio.create_task(self._bucket.get(key))))
                if len(waiting) == _AHEAD:
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
        data = await task
        letters = _decoded(data, self._bucket.place(key)) if data else []  # none: removed in between, or not for us
        return [Found(letter, key, kept, of=len(letters)) for letter in letters]

    async def _keys(self) -> AsyncIterator[tuple[str, float]]:
        client = await self._bucket.client()
        below = self._settings.key("")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=below)
        async for page in pages:
            for each in page.get("Contents", ()):
                if self._may_hold(each["Key"], each["Size"]):
                    yield each["Key"], each["LastModified"].timestamp()

    def _may_hold(self, key: str, size: int) -> bool:
        """Letters end in .json; Lambda's documents in nothing that tells, below aws/lambda as for other sources."""
        name = key.rpartition("/")[2]
        if name.endswith(".json"):
            return True
        if not size or name.startswith((".", "_")) or name.endswith(".gz"):
            return False
        if size > lambda_failures.LARGEST:
            terminal.say(f"{terminal.clean(self._bucket.place(key))}: {size:,} bytes are no dead letter, left out")
            return False
        return True

    async def remove(self, found: Found, /) -> None:
        try:
            client = await self._bucket.client()
            await client.delete_object(Bucket=self._settings.bucket, Key=found.place)
        except LmstreamError:
            raise
        except Exception as e:
            raise self._error(e) from e

    def _error(self, e: Exception) -> SinkError:
        return SinkError("dead_letters.unavailable", f"{self._bucket.place(self._settings.key(''))}: {e}")

    async def close(self) -> None:
        await self._bucket.close()


class _Topic:
    def __init__(self, settings: Any) -> None:
        self._settings = settings

    async def read(self) -> AsyncGenerator[Found]:
        from lmstream.cli.kafka import Span, read_topic

        seen: set[tuple[str, int, int, int, str]] = set()
        async for record in read_topic(self._settings, Span({}, {})):
            for letter in _decoded(record.value or b"", record.coordinates):
                same = (letter.topic, letter.partition, letter.offset, letter.timestamp, letter.sha256)
                if same not in seen:  # a letter that was written again is one more record
                    seen.add(same)
                    yield Found(letter, record.coordinates, record.timestamp / 1000, alone=False)

    async def remove(self, found: Found, /) -> None:
        raise ConfigError(
            "config.invalid", f"{found.place}: a topic forgets by its retention, letter by letter it cannot"
        )

    async def close(self) -> None:
        """Nothing is held open."""


def _decoded(line: bytes, place: str) -> list[DeadLetter]:
    """The letter of a line, or those of a document; what is neither is said."""
    try:
        return [decode(line)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = lambda_failures.read(line)
    problem = "no dead letter, left out" if document is None else document.problem
    if problem:
        terminal.say(f"{terminal.clean(place)}: {terminal.clean(problem)}")
    return document.letters if document is not None else []


def _span(text: str) -> tuple[int, int]:
    found = _SPAN.match(text)
    if not found:
        raise ConfigError("config.invalid", f"--offset {text}: expected OFFSET or FIRST-LAST, as in 100-200")
    return int(found[1]), int(found[2] or found[1])


def _moment(flag: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    if ago := _AGO.match(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ConfigError(
            "config.invalid", f"{flag} {text}: expected 2024-05-09T14:00Z, or 2h for two hours ago"
        ) from e
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
