"""Keep dead letters in a bucket, at any S3 endpoint: one object a letter, at a key that only its coordinates decide."""

import asyncio
import base64
import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from hashlib import md5
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from lmstream.abilities import Traits
from lmstream.aws.answers import bound_async
from lmstream.aws.asking import BUSY, asked, is_busy
from lmstream.aws.clock import CLOCK, is_clock
from lmstream.bounded import LETTER_LINE, BoundError, read_async
from lmstream.dead_letters.form import encode, folder_of, name_of, other_name_of, same
from lmstream.errors import ConfigError, LmstreamError, SinkError
from lmstream.model import DeadLetter

_CHECK: Final = ".lmstream-check"
_TAKEN: Final = frozenset({"PreconditionFailed", "412"})
_NO_CONDITIONS: Final = frozenset({"NotImplemented", "501"})  # of stores that know no If-None-Match
_NO_KEY: Final = frozenset({"NoSuchKey", "404"})


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of dead letters in S3. Credentials come from the usual AWS chain; encryption is the bucket's default."""

    bucket: str
    """Bucket of the letters; it must exist. It holds original bytes: keep it as private as the topic."""
    prefix: str = "dead-letters"
    """Where in the bucket: `<prefix>/<topic>/<partition>/<offset>.json`."""
    region: str = ""
    """AWS region; empty takes that of the environment."""
    endpoint_url: str = ""
    """Another endpoint: a VPC endpoint, or any store that speaks S3."""
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 8
    """Letters written at a time: size of the connection pool."""
    connect_timeout: Annotated[float, Meta(gt=0)] = 3.0
    """Seconds to connect."""
    read_timeout: Annotated[float, Meta(gt=0)] = 15.0
    """Seconds without a byte of the answer."""

    def key(self, *parts: str) -> str:
        """Key of an object below the prefix."""
        return "/".join((*(part for part in self.prefix.split("/") if part), *parts))


class Bucket:
    """A client of one bucket, made when it is first needed. Used by the sink, and by whoever reads letters back."""

    def __init__(self, settings: Settings, *, client: Any = None) -> None:
        """`client` is used as it is and stays the caller's to close; without one, aioboto3's is made when needed."""
        self.settings = settings
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
            import aioboto3  # noqa: PLC0415 - the folder of letters needs none of it
            from aiobotocore.config import AioConfig  # noqa: PLC0415 - as above
        except ImportError as error:
            raise ConfigError("config.extra", "dead letters in S3 need the extra [consumer]") from error
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
        return aioboto3.Session().client(
            "s3", region_name=settings.region or None, endpoint_url=settings.endpoint_url or None, config=config
        )

    async def get(self, key: str, most: int = LETTER_LINE) -> bytes | None:
        """The object; None when there is none, or when we may not see whether there is. BoundError when it has more
        than `most` bytes, or comes too slowly."""
        client = await self.client()
        try:
            answer = await client.get_object(Bucket=self.settings.bucket, Key=key)
            body = answer["Body"]
            async with body:
                data = await read_async(body, most, self.place(key))
        except Exception as error:
            if code_of(error) in _NO_KEY | {"AccessDenied", "403"}:
                return None
            raise
        return data

    async def put(self, key: str, data: bytes, **more: str) -> None:
        """Make one PutObject, and return only when its answer is the service's own: an ETag, not a proxy's page."""
        client = await self.client()
        answer = await client.put_object(
            Bucket=self.settings.bucket,
            Key=key,
            Body=io.BytesIO(data),  # aiohttp warns of bytes over a MiB
            ContentLength=len(data),
            ContentMD5=base64.b64encode(md5(data, usedforsecurity=False).digest()).decode(),
            ContentType="application/json",
            **more,
        )
        if not isinstance(answer, Mapping) or not isinstance(answer.get("ETag"), str) or not answer["ETag"].strip('"'):
            raise SinkError("dead_letters.unavailable", f"{self.place(key)}: an answer to PutObject without an ETag")

    def place(self, key: str) -> str:
        """The key as people write it."""
        return f"s3://{self.settings.bucket}/{key}"

    async def close(self) -> None:
        """Close the client. Safe to call twice."""
        async with self._connecting:
            await self._stack.aclose()
            self._client = None


class Letters:
    """Dead-letter sink of one bucket: `<prefix>/<topic>/<partition>/<offset>.json`, each object one DeadLetter.

    A letter written again replaces itself; another record at the same coordinates gets a key of its own, as in the
    folder. Needs s3:PutObject; without s3:GetObject a letter that is written again lands beside itself once more.
    """

    largest = 5 * 1024**3
    """Bytes of one PutObject: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html."""

    def __init__(self, settings: Settings, *, client: Any = None) -> None:
        """`client`: as of Bucket."""
        self._bucket = Bucket(settings, client=client)
        self._settings = settings
        self._gate = asyncio.Semaphore(settings.concurrency)
        self._conditions = True

    async def check(self) -> None:
        """Write an empty object, before a start; again while the store is busy. Raises SinkError
        `dead_letters.unavailable` or `sink.busy`, or ConfigError."""
        key = self._settings.key(_CHECK)
        await asked(lambda: self._tried(key))
        # Deleting takes a permission that writing letters does not: without it the empty object stays.
        with contextlib.suppress(Exception):
            await (await self._bucket.client()).delete_object(Bucket=self._settings.bucket, Key=key)

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when every letter is in the bucket. Raises SinkError `dead_letters.unavailable` otherwise."""
        answers = await asyncio.gather(*map(self._write, letters), return_exceptions=True)
        for answer in answers:
            if answer is not None:
                raise answer

    async def close(self) -> None:
        """Close the client."""
        await self._bucket.close()

    async def _write(self, letter: DeadLetter) -> None:
        folder = folder_of(letter)
        key = self._settings.key(*folder, name_of(letter))
        async with self._gate:
            await self._named(key, self._place(letter, key, self._settings.key(*folder, other_name_of(letter))))

    async def _place(self, letter: DeadLetter, key: str, other: str) -> None:
        data = encode(letter)
        if self._conditions:
            try:
                await self._bucket.put(key, data, IfNoneMatch="*")
            except Exception as error:
                code = code_of(error)
                if code not in _TAKEN | _NO_CONDITIONS:
                    raise
                self._conditions = code in _TAKEN
            else:
                return
        try:
            there = await self._bucket.get(key)
        except BoundError:
            there = b""  # somebody else's: it is left alone, and this letter lands beside it
        free = there is None and not self._conditions
        await self._bucket.put(key if free or (there is not None and same(there, letter)) else other, data)

    async def _tried(self, key: str) -> None:
        try:
            await self._named(key, self._bucket.put(key, b""))
        except SinkError as error:
            if error.__cause__ is not None and is_busy(error.__cause__):
                raise SinkError(BUSY, error.detail) from error
            raise

    async def _named(self, key: str, work: Any) -> None:
        try:
            await work
        except LmstreamError:
            raise
        except Exception as error:
            what = f"dead letters at {self._bucket.place(key)}: {code_of(error)}: {error}"
            reason = CLOCK if is_clock(code_of(error), str(error)) else "dead_letters.unavailable"
            raise SinkError(reason, what) from error


def code_of(error: BaseException) -> str:
    """The service's own code of an error; the name of its class when it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(response.get("Error"), Mapping):
        return str(response["Error"].get("Code", "Unknown"))
    return type(error).__name__


def _store(settings: Settings, say: Callable[[str], None]) -> Any:
    from lmstream.dead_letters.store import ObjectStore  # noqa: PLC0415 - for who reads letters, not for who writes them

    return ObjectStore(settings, say)


TRAITS: Final = Traits(store=_store)
make = Letters
