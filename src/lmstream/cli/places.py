"""Where rows landed: a folder, or a prefix of a bucket; verbs read the lines of either."""

import contextlib
import io
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from gzip import GzipFile
from pathlib import Path
from typing import Any, Final, Protocol

from cyclopts import Parameter

from lmstream.cli.landed import landed_files, lines_of
from lmstream.errors import ConfigError, SourceError

SCHEME: Final = "s3://"
_AHEAD: Final = 8  # objects fetched at once; each may hold a buffer of Firehose, 128 MiB before gzip
_GZIP: Final = b"\x1f\x8b"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class S3Access:
    """How to reach s3:// places."""

    endpoint_url: str | None = None
    """Another endpoint for s3:// places: a VPC endpoint, or any store that speaks S3."""
    region: str | None = None
    """AWS region of s3:// places."""


NO_S3: Final = S3Access()


class Place(Protocol):
    """Objects with lines in them."""

    name: str

    def exists(self) -> bool: ...

    def below(self, name: str) -> "Place": ...

    def objects(self, without: Sequence["Place"] = ()) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Name and lines of each object, hidden ones and those of `without` left out. Raises SourceError."""
        ...


class Folder:
    """A folder, or one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def exists(self) -> bool:
        return self.path.is_dir()

    def below(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def objects(self, without: Sequence[Place] = ()) -> Iterator[tuple[str, Iterator[bytes]]]:
        skip = [each.path for each in without if isinstance(each, Folder)]
        for path in landed_files(self.path, without=skip):
            yield str(path), lines_of(path)


class Prefix:
    """A prefix of a bucket. Objects are fetched a few ahead, and nothing is written to disk."""

    def __init__(self, bucket: str, prefix: str, access: S3Access, client: Any = None) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.name = f"{SCHEME}{bucket}/{self.prefix}"
        self._access = access
        self._made = client

    @property
    def _client(self) -> Any:
        if self._made is None:
            try:
                import boto3
                from botocore.config import Config
            except ImportError as e:
                raise ConfigError("config.extra", "s3:// places need the extra [consumer]") from e
            config = Config(max_pool_connections=2 * _AHEAD, retries={"mode": "standard", "max_attempts": 5})
            self._made = boto3.client(
                "s3", endpoint_url=self._access.endpoint_url, region_name=self._access.region, config=config
            )
        return self._made

    def exists(self) -> bool:
        """Whether the bucket can be listed; a prefix without objects is an empty place. Raises SourceError."""
        next(self.keys(), None)
        return True

    def below(self, name: str) -> "Prefix":
        return Prefix(self.bucket, f"{self.prefix}{name}", self._access, self._client)

    def keys(self, without: Sequence[Place] = ()) -> Iterator[str]:
        """Keys in the order of the store."""
        skip = tuple(each.prefix for each in without if isinstance(each, Prefix) and each.bucket == self.bucket)
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
            for page in pages:
                for each in page.get("Contents", ()):
                    key: str = each["Key"]
                    name = key.rsplit("/", 1)[-1]
                    if name and not name.startswith((".", "_")) and not (skip and key.startswith(skip)):
                        yield key

    def objects(self, without: Sequence[Place] = ()) -> Iterator[tuple[str, Iterator[bytes]]]:
        ahead: deque[tuple[str, Future[bytes]]] = deque()
        with ThreadPoolExecutor(_AHEAD, "s3") as pool:
            for key in self.keys(without):
                ahead.append((key, pool.submit(self.read, key)))
                if len(ahead) >= _AHEAD:
                    yield self._lines(*ahead.popleft())
            while ahead:
                yield self._lines(*ahead.popleft())

    def read(self, key: str) -> bytes:
        """The bytes of an object, as they lie there. Raises SourceError."""
        with self._explained(key):
            data: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            return data

    def _lines(self, key: str, body: "Future[bytes]") -> tuple[str, Iterator[bytes]]:
        name = f"{SCHEME}{self.bucket}/{key}"
        return name, _split(name, body.result())

    @contextlib.contextmanager
    def _explained(self, key: str = "") -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as e:
            raise SourceError("source.file", f"{SCHEME}{self.bucket}/{key or self.prefix}: {e}") from e


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


def _split(name: str, data: bytes) -> Iterator[bytes]:
    opened: Iterable[bytes] = GzipFile(fileobj=io.BytesIO(data)) if data.startswith(_GZIP) else io.BytesIO(data)
    try:
        for line in opened:
            if line := line.strip():
                yield line
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError("source.file", f"{name}: {e}") from e
