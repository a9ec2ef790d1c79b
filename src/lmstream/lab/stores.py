"""Where the lab's Firehose puts its objects: a folder, or a bucket at any S3 endpoint."""

import asyncio
import contextlib
import hashlib
import itertools
import os
from pathlib import Path
from typing import Protocol

from lmstream.storage.bucket import Access, Bucket

_SEGMENT_BYTES = 240
"""Longest name of a file or folder that is kept as it is; file systems take 255."""


class ObjectStore(Protocol):
    """The two verbs an object store needs here."""

    async def put(self, key: str, body: bytes, *, gzip: bool) -> None:
        """Write an object, whole or not at all; `gzip` says what the body is. Raises when it cannot."""
        ...

    async def close(self) -> None: ...


class FolderStore:
    """Objects as files under `root`. Each appears by a rename, complete; nothing is ever written outside the root."""

    def __init__(self, root: Path | str) -> None:
        self.root: Path = Path(root)
        self._numbers = itertools.count()

    async def put(self, key: str, body: bytes, *, gzip: bool) -> None:  # noqa: ARG002 - the name's ending says it here
        await asyncio.to_thread(self.write, key, body)

    def path(self, key: str) -> Path:
        """Where the object of a key lies."""
        return self.root.joinpath(*(_segment(s) for s in key.split("/")))

    def write(self, key: str, body: bytes) -> None:
        """Write an object, whole or not at all. Raises OSError."""
        path = self.path(key)
        # Hidden until it is whole: readers glob by extension. No fsync: a stand-in need not survive a power cut.
        waiting = path.parent / f".{os.getpid()}-{next(self._numbers)}.part"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting.write_bytes(body)
            waiting.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                waiting.unlink()
            raise

    async def close(self) -> None:
        """Nothing is held open."""


def _segment(text: str) -> str:
    """One part of a key as a file name. Buckets take `..`, empty parts and 1,000 bytes without a slash."""
    if text in {"", ".", ".."}:
        return "%2E" * len(text) or "%"
    name = text.replace("\0", "%00")
    if len(name.encode()) > _SEGMENT_BYTES:
        name = f"{name.encode()[:200].decode(errors='ignore')}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return name


class S3Store:
    """Objects in a bucket, which must exist. Without an endpoint: AWS itself, with the environment's credentials."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        credentials: tuple[str, str] | None = None,
    ) -> None:
        """`credentials` are access key id and secret; None: those of the environment."""
        self._bucket = Bucket(
            Access(bucket=bucket, endpoint_url=endpoint_url or "", region=region), credentials=credentials
        )

    async def put(self, key: str, body: bytes, *, gzip: bool) -> None:
        # Labelled as the service does.
        encoding = {"ContentEncoding": "gzip"} if gzip else {}
        await self._bucket.put(key, body, "application/octet-stream", **encoding)

    async def close(self) -> None:
        """Close the client."""
        self._bucket.close()
