"""Read and write the objects of one bucket, at any S3 endpoint; every answer is bounded, and none is taken on trust."""

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import md5
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from lmstream.aws.answers import bound_async
from lmstream.bounded import LETTER_LINE, read_async
from lmstream.errors import ConfigError

NO_KEY: Final = frozenset({"NoSuchKey", "404"})
NO_LISTING: Final = "the answer to a listing is not S3's (it does not say whether it is complete)"


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bucket is reached. Credentials come from the usual AWS chain; encryption is the bucket's default."""

    bucket: str
    """Bucket; it must exist. Letters hold original bytes: keep theirs as private as the topic."""
    region: str = ""
    """AWS region; empty takes that of the environment."""
    endpoint_url: str = ""
    """Another endpoint: a VPC endpoint, or any store that speaks S3."""
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 8
    """Calls at a time: size of the connection pool."""
    connect_timeout: Annotated[float, Meta(gt=0)] = 3.0
    """Seconds to connect."""
    read_timeout: Annotated[float, Meta(gt=0)] = 15.0
    """Seconds without a byte of the answer."""


class Bucket:
    """A client of one bucket, made when it is first needed."""

    def __init__(self, settings: Access, *, client: Any = None, credentials: tuple[str, str] | None = None) -> None:
        """`client` is used as it is and stays the caller's to close; without one, aioboto3's is made when needed.
        `credentials` are access key id and secret; None: those of the usual chain."""
        self.settings = settings
        self._credentials = dict(zip(("aws_access_key_id", "aws_secret_access_key"), credentials or (), strict=False))
        self._stack = contextlib.AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._client = client

    async def client(self) -> Any:
        """The client. Its own retries are off: they would hide from the caller how the store is."""
        async with self._connecting:
            if self._client is None:
                self._client = bound_async(await self._stack.enter_async_context(self._open()))
            return self._client

    def _open(self) -> Any:
        try:
            import aioboto3
            from aiobotocore.config import AioConfig
        except ImportError as error:
            raise ConfigError("config.extra", "objects in S3 need the extra [consumer]") from error
        settings = self.settings
        config = AioConfig(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            max_pool_connections=settings.concurrency + 2,
            retries={"total_max_attempts": 1},
            tcp_keepalive=True,
            # Not every store knows the checksums that AWS prefers; Content-MD5 is known to all.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if settings.endpoint_url else None,
        )
        where = {"region_name": settings.region or None, "endpoint_url": settings.endpoint_url or None}
        return aioboto3.Session().client("s3", config=config, **where, **self._credentials)

    async def get(self, key: str, most: int = LETTER_LINE) -> bytes | None:
        """The object; None when there is none, or when we may not see whether there is. BoundError when it has more
        than `most` bytes, or comes too slowly."""
        client = await self.client()
        try:
            answer = await client.get_object(Bucket=self.settings.bucket, Key=key)
            body = answer["Body"]
            if isinstance(body, bytes):  # a client in threads has read it already
                return body
            async with body:
                data = await read_async(body, most, self.place(key))
        except Exception as error:
            if code_of(error) in NO_KEY | {"AccessDenied", "403"}:
                return None
            raise
        return data

    async def put(self, key: str, data: bytes, content_type: str = "application/json", **more: str) -> None:
        """Make one PutObject, and return only when its answer is the service's own: ValueError for one without an ETag,
        such as a proxy's page."""
        client = await self.client()
        answer = await client.put_object(
            Bucket=self.settings.bucket,
            Key=key,
            Body=io.BytesIO(data),  # aiohttp warns of bytes over a MiB
            ContentLength=len(data),
            ContentMD5=base64.b64encode(md5(data, usedforsecurity=False).digest()).decode(),
            ContentType=content_type,
            **more,
        )
        if not isinstance(answer, Mapping) or not isinstance(answer.get("ETag"), str) or not answer["ETag"].strip('"'):
            raise ValueError("a response to PutObject without an ETag")

    async def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        await (await self.client()).delete_object(Bucket=self.settings.bucket, Key=key)

    async def pages(self, prefix: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """What is below a prefix, a page of a thousand at a time, each object with Key, Size and LastModified. Raises
        ValueError for an answer that is not S3's."""
        paginator = (await self.client()).get_paginator("list_objects_v2")
        async for page in paginator.paginate(Bucket=self.settings.bucket, Prefix=prefix):
            if not is_listing(page):
                raise ValueError(NO_LISTING)
            yield page.get("Contents", ())

    def place(self, key: str) -> str:
        """The key as people write it."""
        return f"s3://{self.settings.bucket}/{key}"

    async def close(self) -> None:
        """Close the client. Safe to call twice."""
        async with self._connecting:
            await self._stack.aclose()
            self._client = None


def is_listing(page: object) -> bool:
    """Whether an answer to ListObjectsV2 is S3's: a proxy's page, with status 200, is read by the SDK as an empty one.

    IsTruncated is in every answer: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html.
    """
    return isinstance(page, Mapping) and isinstance(page.get("IsTruncated"), bool)


def code_of(error: BaseException) -> str:
    """The service's own code of an error; the name of its class when it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(response.get("Error"), Mapping):
        return str(response["Error"].get("Code", "Unknown"))
    return type(error).__name__
