"""Read and write the objects of one bucket, at any S3 endpoint; every answer is bounded, and none is taken on trust."""

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import md5
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from lmstream.aws.answers import body
from lmstream.aws.threaded import Client
from lmstream.bounded import LETTER_LINE

NO_KEY: Final = frozenset({"NoSuchKey", "404"})
NO_LISTING: Final = "the answer to a listing is not S3's (it does not say whether it is complete)"


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bucket is reached. Credentials come from the usual AWS chain; encryption is the bucket's default."""

    bucket: str
    """Bucket; it must exist. Letters hold original bytes: keep theirs as private as the topic.
    Costs: nothing: what is in the other bucket stays there, and replay reads one bucket at a time."""
    region: str = ""
    """AWS region; empty takes that of the environment.
    Costs: money: traffic between regions is billed."""
    endpoint_url: str = ""
    """Another endpoint: a VPC endpoint, or any store that speaks S3.
    Costs: nothing."""
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 8
    """Calls at a time: size of the connection pool.
    Unit: calls.
    Costs: memory.
    Limit: lmstream's own, against mistyped values."""
    connect_timeout: Annotated[float, Meta(gt=0)] = 3.0
    """Seconds to connect.
    Costs: delay."""
    read_timeout: Annotated[float, Meta(gt=0)] = 15.0
    """Seconds without a byte of the answer.
    Costs: delay: a call that is cut off is made again."""


class Bucket:
    """A client of one bucket, made when it is first needed. Raises what the SDK raises."""

    def __init__(self, settings: Access, *, client: Any = None, credentials: tuple[str, str] | None = None) -> None:
        """`client` is an `aws.threaded.Client`, and stays the caller's to close; without one, an own is made.
        `credentials` are access key id and secret; None: those of the usual chain."""
        self.settings = settings
        keys = zip(("aws_access_key_id", "aws_secret_access_key"), credentials or (), strict=False)
        self._own = client is None
        self._client: Client = client or Client("s3", settings, dict(keys))

    async def get(self, key: str, most: int = LETTER_LINE) -> bytes | None:
        """The object; None when there is none, or when we may not see whether there is. BoundError when it has more
        than `most` bytes, or comes too slowly."""
        try:
            found: bytes = await self._call("get_object", key, lambda answer: body(answer, most, self.place(key)))
        except Exception as error:
            if code_of(error) in NO_KEY | {"AccessDenied", "403"}:
                return None
            raise
        return found

    async def put(self, key: str, data: bytes, content_type: str = "application/json", **more: str) -> None:
        """Make one PutObject, and return only when its answer is the service's own: ValueError for one without an ETag,
        such as a proxy's page."""
        md5_of = base64.b64encode(md5(data, usedforsecurity=False).digest()).decode()
        answer = await self._call("put_object", key, Body=data, ContentMD5=md5_of, ContentType=content_type, **more)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("ETag"), str) or not answer["ETag"].strip('"'):
            raise ValueError("a response to PutObject without an ETag")

    async def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        await self._call("delete_object", key)

    async def pages(self, prefix: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """What is below a prefix, a page of a thousand at a time, each object with Key, Size and LastModified. Raises
        ValueError for an answer that is not S3's."""
        paginator = (await self._client.made()).get_paginator("list_objects_v2")
        pages = iter(paginator.paginate(Bucket=self.settings.bucket, Prefix=prefix))
        while (page := await self._client.run(lambda: next(pages, None))) is not None:
            if not is_listing(page):
                raise ValueError(NO_LISTING)
            yield page.get("Contents", ())

    async def _call(self, name: str, key: str, after: Callable[[Any], Any] | None = None, /, **request: Any) -> Any:
        return await self._client.call(name, after, Bucket=self.settings.bucket, Key=key, **request)

    def place(self, key: str) -> str:
        """The key as people write it."""
        return f"s3://{self.settings.bucket}/{key}"

    def close(self) -> None:
        """Close the client if it is our own. Safe to call twice."""
        if self._own:
            self._client.close()


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
