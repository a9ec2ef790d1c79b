"""Where the lab's Firehose puts its objects: a folder, or a bucket at any S3 endpoint."""

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
from pathlib import Path
from typing import Any, Protocol

from lmstream.errors import ConfigError

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
        self.root = Path(root)
        self._numbers = itertools.count()

    async def put(self, key: str, body: bytes, *, gzip: bool) -> None:  # noqa: ARG002 - the name's ending says it here
        await asyncio.to_thread(self._put, key, body)

    def _put(self, key: str, body: bytes) -> None:
        path = self.root.joinpath(*(_segment(s) for s in key.split("/")))
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
        self._bucket = bucket
        self._options: dict[str, Any] = {"endpoint_url": endpoint_url, "region_name": region}
        if credentials is not None:
            self._options |= {"aws_access_key_id": credentials[0], "aws_secret_access_key": credentials[1]}
        self._stack = contextlib.AsyncExitStack()
        self._lock = asyncio.Lock()
        self._client: Any = None

    async def put(self, key: str, body: bytes, *, gzip: bool) -> None:
        client = self._client or await self._connect()
        # Labelled as the service does. A stream, because aiohttp warns of bytes over 1 MiB.
        encoding = {"ContentEncoding": "gzip"} if gzip else {}
        await client.put_object(
            Bucket=self._bucket, Key=key, Body=io.BytesIO(body), ContentType="application/octet-stream", **encoding
        )

    async def _connect(self) -> Any:
        try:
            import aioboto3
            from botocore.config import Config
        except ModuleNotFoundError as e:
            raise ConfigError("config.extra", "S3Store needs aioboto3: pip install 'lmstream[consumer]'") from e
        async with self._lock:  # the first puts come side by side; one client serves them all
            if self._client is None:
                config = Config(s3={"addressing_style": "path"}, max_pool_connections=16)
                client = aioboto3.Session().client("s3", config=config, **self._options)
                self._client = await self._stack.enter_async_context(client)
        return self._client

    async def close(self) -> None:
        """Close the client."""
        self._client = None
        await self._stack.aclose()
