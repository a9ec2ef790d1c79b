"""Where rows landed: a folder, or a prefix of a bucket; verbs read the lines of either."""

import contextlib
import io
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

from lmstream import bounded
from lmstream.aws import credentials
from lmstream.aws.answers import body
from lmstream.aws.clock import CLOCK, is_clock
from lmstream.aws.threaded import client_of
from lmstream.errors import ConfigError, LmstreamError, SourceError
from lmstream.settings import MIB
from lmstream.storage.bucket import NO_LISTING, code_of, is_listing
from lmstream.storage.line_files import CLAIMS, landed_files, lines, lines_of

SCHEME: Final = "s3://"
_AHEAD: Final = 16  # small objects fetched at once: a request takes longer on its way than in the store
_PIECE: Final = 8 * MIB
"""Larger objects (Firehose buffers up to 128 MiB) are read piece by piece, when it is their turn: what is held at once
is _AHEAD pieces at most, however large the objects and however many there are."""
_DENIED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "403"})
_MISSING: Final = frozenset({"NoSuchBucket", "NoSuchKey", "PreconditionFailed", "404", "412"})
_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")  # RFC 9110 section 14.4


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """How to reach s3:// places."""

    endpoint_url: str | None = None
    """Another endpoint for s3:// places: a VPC endpoint, or any store that speaks S3."""
    region: str | None = None
    """AWS region of s3:// places."""


NO_S3: Final = S3Access()


class Asked:
    """Requests that were made to a place, by any thread. Of a folder they cost nothing and are counted all the same."""

    def __init__(self) -> None:
        self.lists = self.gets = self.bytes = 0
        self._lock = Lock()

    def add(self, *, lists: int = 0, gets: int = 0, read: int = 0) -> None:
        """Count LIST requests, GET and HEAD requests (they have one price), and bytes that were read."""
        with self._lock:
            self.lists += lists
            self.gets += gets
            self.bytes += read


class Place(Protocol):
    """Objects with lines in them."""

    name: str

    def exists(self) -> bool: ...

    def below(self, name: str) -> "Place": ...

    def objects(
        self, without: Sequence["Place"] = (), most: int = bounded.ROW_LINE, seen: Collection[str] = ()
    ) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Name and lines of each object, hidden ones, those of `without` and those whose names are `seen` left out.
        Raises SourceError; BoundError for a line of more than `most` bytes."""
        ...


class Folder:
    """A folder, or one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name: str = str(path)

    def exists(self) -> bool:
        return self.path.is_dir()

    def below(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def objects(
        self, without: Sequence[Place] = (), most: int = bounded.ROW_LINE, seen: Collection[str] = ()
    ) -> Iterator[tuple[str, Iterator[bytes]]]:
        skip = [each.path for each in without if isinstance(each, Folder)]
        for path in landed_files(self.path, without=skip):
            if str(path) not in seen:
                yield str(path), lines_of(path, most)


class Prefix:
    """A prefix of a bucket. Small objects are fetched some ahead, and nothing is written to disk."""

    def __init__(self, bucket: str, prefix: str, access: S3Access, client: Any = None) -> None:
        self.bucket = bucket
        self.prefix: str = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.name: str = f"{SCHEME}{bucket}/{self.prefix}"
        self.asked = Asked()
        self._access = access
        self._made = client

    @property
    def _client(self) -> Any:
        if self._made is None:
            access = self._access
            # Throttling (503 SlowDown) is retried ten times, up to 20 s apart.
            config = {"max_pool_connections": 2 * _AHEAD, "retries": {"mode": "standard", "max_attempts": 10}}
            with self._explained():
                self._made = client_of("s3", access.region, access.endpoint_url, **config)
        return self._made

    def exists(self) -> bool:
        """Whether the bucket can be listed; a prefix without objects is an empty place. Raises SourceError."""
        next(self._listed(()), None)
        return True

    def below(self, name: str) -> "Prefix":
        return Prefix(self.bucket, f"{self.prefix}{name}", self._access, self._client)

    def at(self, prefix: str) -> "Prefix":
        """Another prefix of the same bucket."""
        return Prefix(self.bucket, prefix, self._access, self._client)

    def keys(self, without: Sequence[Place] = ()) -> Iterator[str]:
        """Keys in the order of the store."""
        return (key for key, _ in self._listed(without))

    def _listed(self, without: Sequence[Place]) -> Iterator[tuple[str, int]]:
        """Keys and sizes, a page of a thousand at a time."""
        apart = [each.prefix for each in without if isinstance(each, Prefix) and each.bucket == self.bucket]
        skip = (f"{self.prefix}{CLAIMS}/", *apart)
        for page in self.pages():
            for each in page:
                key: str = each["Key"]
                name = key.rsplit("/", 1)[-1]
                if name and not name.startswith((".", "_")) and not key.startswith(skip):
                    yield key, each["Size"]

    def pages(self, below: str = "") -> Iterator[Sequence[Mapping[str, Any]]]:
        """What lies below, a page of a thousand at a time, each object as S3 tells it. Raises SourceError."""
        client = self._client
        with self._explained():
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.prefix}{below}")
            for page in pages:
                if not is_listing(page):
                    raise SourceError("place.unreachable", f"{self.name}: {NO_LISTING}")
                self.asked.add(lists=1)
                yield page.get("Contents", ())

    def objects(
        self, without: Sequence[Place] = (), most: int = bounded.ROW_LINE, seen: Collection[str] = ()
    ) -> Iterator[tuple[str, Iterator[bytes]]]:
        ahead: deque[tuple[str, Future[bytes] | None]] = deque()
        pool = ThreadPoolExecutor(_AHEAD, "s3")
        try:
            for key, size in self._listed(without):
                if f"{SCHEME}{self.bucket}/{key}" in seen:
                    continue
                ahead.append((key, pool.submit(self.read, key) if size <= _PIECE else None))
                if len(ahead) >= _AHEAD:
                    yield self._lines(*ahead.popleft(), most)
            while ahead:
                yield self._lines(*ahead.popleft(), most)
        finally:
            pool.shutdown(cancel_futures=True)

    def read(self, key: str) -> bytes:
        """The bytes of a small object, as they lie there. Raises SourceError, BoundError for one that is not."""
        with self._explained(key):
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            return body(answer, _PIECE, f"{SCHEME}{self.bucket}/{key}")

    def opened(self, key: str) -> io.BufferedReader:
        """An object of any size, held piece by piece. Raises SourceError and BoundError, also while it is read."""
        return io.BufferedReader(_Pieces(self, key), _PIECE)

    def piece(self, key: str, start: int, etag: str) -> tuple[bytes, int, str]:
        """Bytes from `start` on, the size of the object and its ETag; with an ETag, of that version alone."""
        from botocore.exceptions import ClientError

        only = {"IfMatch": etag} if etag else {}
        with self._explained(key):
            try:
                answer = self._client.get_object(
                    Bucket=self.bucket, Key=key, Range=f"bytes={start}-{start + _PIECE - 1}", **only
                )
            except ClientError as e:
                if e.response["Error"]["Code"] not in ("InvalidRange", "416"):
                    raise
                return b"", start, etag  # of an empty object there is no range
            place = f"{SCHEME}{self.bucket}/{key}"
            told = _RANGE.fullmatch(str(answer.get("ContentRange", "")))
            if told is None or int(told[1]) != start or not answer.get("ETag"):
                raise SourceError(
                    "place.unreachable", f"{place}: asked for a part, the store answers as if for the whole"
                )
            data, size = body(answer, _PIECE, place), int(told[2])
            self.asked.add(gets=1, read=len(data))
            if not data and start < size:
                raise SourceError("place.unreachable", f"{place}: nothing came of {size - start:,} bytes that are left")
            return data, size, str(answer["ETag"])

    def meta(self, key: str) -> dict[str, str]:
        """What was kept beside an object. Raises SourceError."""
        with self._explained(key):
            self.asked.add(gets=1)
            return dict(self._client.head_object(Bucket=self.bucket, Key=key).get("Metadata") or {})

    def _lines(self, key: str, data: "Future[bytes] | None", most: int) -> tuple[str, Iterator[bytes]]:
        name = f"{SCHEME}{self.bucket}/{key}"
        return name, lines(
            self.opened(key) if data is None else io.BufferedReader(io.BytesIO(data.result())), most, name
        )

    @contextlib.contextmanager
    def _explained(self, key: str = "") -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except LmstreamError:
            raise
        # Beside its own errors the SDK raises what it trips over in an answer that is not S3's.
        except (BotoCoreError, ClientError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as e:
            raise SourceError(_reason(e), f"{SCHEME}{self.bucket}/{key or self.prefix}: {e}") from e


class _Pieces(io.RawIOBase):
    """An object as a file, a request for each piece: one that fails is made again, not the whole object."""

    def __init__(self, prefix: Prefix, key: str) -> None:
        self._prefix, self._key = prefix, key
        self._at, self._size, self._etag = 0, -1, ""
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest and self._at != self._size:
            data, self._size, self._etag = self._prefix.piece(self._key, self._at, self._etag)
            self._rest = memoryview(data)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._at += count
        return count


def _reason(error: Exception) -> str:
    """Who must act, by the code of the service or the exception's classes."""
    code = code_of(error)
    names = {code, *(cls.__name__ for cls in type(error).__mro__)}
    if is_clock(code, str(error)):
        return CLOCK
    for reason, known in (
        (credentials.REASON, credentials.UNUSABLE),
        ("place.denied", _DENIED),
        ("place.missing", _MISSING),
    ):
        if names & known:
            return reason
    return "place.unreachable"


def place(text: Path | str, access: S3Access = NO_S3) -> Place:
    """A folder, or s3://BUCKET/PREFIX. Raises ConfigError."""
    # A path of s3://a/b has lost one of its slashes.
    name = str(text)
    if name.startswith("s3:/"):
        bucket, _, prefix = name.removeprefix("s3:").lstrip("/").partition("/")
        if not bucket:
            raise ConfigError("config.invalid", f"{name}: expected s3://BUCKET/PREFIX")
        return Prefix(bucket, prefix, access)
    return Folder(Path(name))
