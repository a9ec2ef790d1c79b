"""Objects of a bucket that are made once: written by obstore, a tenth of the SDK's CPU, and read by the SDK.

Why two clients. obstore (0.12) writes a small object in 140 microseconds of CPU, and that is what a lake does all day.
But it takes an `<Error>` with status 200 for an empty listing, asks for 1,000 keys where one is wanted, lists whole
parts of keys only, and reads answers without a bound. Reading is rare, so there the SDK's strictness costs nothing.
"""

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, TypeVar

from lmstream.aws.answers import body
from lmstream.aws.threaded import Client
from lmstream.bounded import BoundError
from lmstream.delivery.retry import unknown_outcome
from lmstream.errors import ConfigError
from lmstream.interfaces import StoreError, Tagged
from lmstream.model import Failure, Kind
from lmstream.storage import _s3_errors as errors
from lmstream.storage._s3_writer import opened
from lmstream.storage.bucket import NO_LISTING, Access, is_listing
from lmstream.storage.object_keys import refuse_improper, refuse_meta

T = TypeVar("T")

_PAGE: Final = 1000  # keys: docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
_EMPTY_PAGES: Final = 10
_TYPES: Final = {
    "json": "application/json",
    "gz": "application/gzip",
    "zst": "application/zstd",
    "parquet": "application/vnd.apache.parquet",
}


class S3Objects:
    """An interfaces.ReplacingStore of one bucket at any S3 endpoint that honours `If-None-Match: *`, and `If-Match` for
    what is to be replaced.

    Needs s3:PutObject, s3:GetObject and s3:ListBucket. Neither client retries: a retry of obstore's own would make the
    412 of another one's object out of a lost answer, and one of the SDK's would hide throttling.
    A bucket may keep versions: a condition looks at the current version (docs.aws.amazon.com/AmazonS3/latest/userguide/
    conditional-writes.html), and nothing here deletes one.
    """

    def __init__(self, settings: Access, *, client: Any = None) -> None:
        """`client` is an aws.threaded.Client, and stays the caller's to close; without one, an own is made. Nothing
        connects yet."""
        self.name = f"s3://{settings.bucket}"
        self.settings = settings
        self._own = client is None
        self._reader: Client = client or Client("s3", settings)
        self._writer: Any = None
        self._put: Any = None
        self._making = asyncio.Lock()

    async def create(self, key: str, data: bytes, meta: Mapping[str, str], /) -> bool:
        return await self._write(key, data, meta, "create", {(412, errors.TAKEN)})

    async def tagged(self, key: str, /) -> Tagged | None:
        return await self._head(key, lambda answer: Tagged(answer["ETag"], dict(answer.get("Metadata") or {})))

    async def replace(self, key: str, data: bytes, meta: Mapping[str, str], tag: str, /) -> bool:
        # If-Match of an object that is gone is a 404 (docs.aws.amazon.com/AmazonS3/latest/userguide/
        # conditional-writes.html: "If there's no current object version with the same name").
        gone = {(412, errors.TAKEN), (404, "NoSuchKey")}
        return await self._write(key, data, meta, {"e_tag": tag}, gone)

    async def _write(
        self, key: str, data: bytes, meta: Mapping[str, str], mode: object, refusals: Container[tuple[int, str]]
    ) -> bool:
        """One PUT under a condition; False when the answer is that it does not hold."""
        refuse_improper(key)
        refuse_meta(meta)
        writer = await self._opened()
        attributes = {**meta, "Content-Type": _TYPES.get(key.rpartition(".")[2], "application/octet-stream")}
        try:
            answer = await self._put(writer, key, data, attributes=attributes, mode=mode, use_multipart=False)
        except Exception as error:
            found = errors.of_obstore(error, key)
            if not isinstance(found, errors.Answer):
                raise StoreError(found) from error
            if (found.status, found.code) in refusals:
                return False
            raise StoreError(errors.failure(found)) from error
        # A 200 counts with an ETag only: a proxy's page has none, nor has an error that came with status 200.
        if not isinstance(tag := answer.get("e_tag"), str) or not tag.strip('"'):
            raise StoreError(unknown_outcome(f"PUT {self.place(key)}: a response without an ETag"))
        return True

    async def get(self, key: str, most: int, /) -> bytes | None:
        refuse_improper(key)
        place = self.place(key)

        def read(answer: Mapping[str, Any]) -> bytes:
            _refuse_other(answer, place)
            return body(answer, most, place)

        try:
            found: bytes = await self._call("get_object", read, Key=key)
        except StoreError as error:
            if _is_missing(error):
                return None
            raise
        return found

    async def stat(self, key: str, /) -> Mapping[str, str] | None:
        return await self._head(key, lambda answer: dict(answer.get("Metadata") or {}))

    async def _head(self, key: str, take: Callable[[Mapping[str, Any]], T]) -> T | None:
        refuse_improper(key)
        place = self.place(key)

        def read(answer: Mapping[str, Any]) -> T:
            _refuse_other(answer, place)
            return take(answer)

        try:
            found: T = await self._call("head_object", read, Key=key)
        except StoreError as error:
            # The answer to a HEAD request has no body: whether the key is missing or the bucket, or what is denied, is
            # in the answer to a GET alone.
            if (answer := errors.answer_of(error.__cause__ or error)) is None or answer.code:
                raise
            await self._ask_again(key, error)
            return None
        return found

    async def names(self, prefix: str, most: int, /) -> Sequence[str]:
        return await self._listed(prefix, most, lambda page: [each["Key"] for each in page.get("Contents", ())])

    async def folders(self, prefix: str, most: int, /) -> Sequence[str]:
        found = await self._listed(
            prefix, most, lambda page: [each["Prefix"] for each in page.get("CommonPrefixes", ())], Delimiter="/"
        )
        return [each.removeprefix(prefix).removesuffix("/") for each in found]

    async def _listed(
        self, prefix: str, most: int, take: Callable[[Mapping[str, Any]], list[str]], **how: str
    ) -> Sequence[str]:
        found: list[str] = []
        more: dict[str, Any] = {}
        empty = 0
        while empty < _EMPTY_PAGES:
            wanted = min(_PAGE, most - len(found))
            page = await self._call("list_objects_v2", None, Prefix=prefix, MaxKeys=wanted, **how, **more)
            if not is_listing(page):
                raise StoreError(unknown_outcome(f"{self.name}: {NO_LISTING}"))
            keys = take(page)
            self._refuse_unordered(prefix, [*found[-1:], *keys])
            found += keys
            empty += not keys
            if not page["IsTruncated"] or len(found) >= most:
                return found[:most]
            if not (token := page.get("NextContinuationToken")):
                raise StoreError(unknown_outcome(f"{self.name}: a listing that is cut without saying where"))
            more = {"ContinuationToken": token}
        raise StoreError(unknown_outcome(f"{self.name}: a listing of empty pages"))

    async def close(self) -> None:
        """Close the clients. Safe to call twice."""
        self._writer = None
        if self._own:
            self._reader.close()

    def place(self, key: str) -> str:
        """The key as people write it."""
        return f"{self.name}/{key}"

    async def ask(self, name: str) -> Mapping[str, Any]:
        """Make a call of boto3 about the bucket. Raises what the SDK raises."""
        found: Mapping[str, Any] = await self._reader.call(name, None, Bucket=self.settings.bucket)
        return found

    async def _ask_again(self, key: str, first: StoreError) -> None:
        """Return when there is no such object. Raises StoreError with what the answer to HEAD does not say."""
        try:
            await self._call("get_object", _close, Key=key, Range="bytes=0-0")
        except StoreError as error:
            if _is_missing(error):
                return
            raise
        # It is there now: what the HEAD request met has passed, such as that another was just making it.
        raise StoreError(Failure(Kind.RETRYABLE, first.failure.code, f"{self.place(key)}: made meanwhile")) from first

    async def _call(self, name: str, after: Any, /, **request: Any) -> Any:
        try:
            return await self._reader.call(name, after, Bucket=self.settings.bucket, **request)
        except (ConfigError, BoundError, StoreError):
            raise
        except Exception as error:
            raise StoreError(errors.of_boto(error)) from error

    def _refuse_unordered(self, prefix: str, keys: Sequence[str]) -> None:
        ordered = [each.encode() for each in keys]
        if sorted(set(ordered)) != ordered or not all(each.startswith(prefix) for each in keys):
            what = f"{self.name} lists keys out of order, or others than were asked for"
            fix = "use a general purpose bucket (directory buckets, S3 Express, have no order)"
            raise StoreError(Failure(Kind.FATAL_CONFIG, "config.invalid", f"{what}. Fix: {fix}"))

    async def _opened(self) -> Any:
        if self._writer is None:
            async with self._making:
                if self._writer is None:
                    # The SDK says where the bucket is, so that both clients mean the same one.
                    try:
                        sdk = await self._reader.made()
                    except ConfigError:
                        raise
                    except Exception as error:
                        raise StoreError(errors.of_boto(error)) from error
                    self._put, self._writer = await opened(self.settings, sdk.meta)
        return self._writer


def _refuse_other(answer: object, place: str) -> None:
    """Raise StoreError for an answer that is not S3's: an object has an ETag."""
    tag = answer.get("ETag") if isinstance(answer, Mapping) else None
    if not isinstance(tag, str) or not tag.strip('"'):
        if isinstance(answer, Mapping):
            _close(answer)
        raise StoreError(unknown_outcome(f"{place}: a response without an ETag"))


def _close(answer: Mapping[str, Any]) -> None:
    if stream := answer.get("Body"):
        stream.close()


def _is_missing(error: StoreError) -> bool:
    """Whether there is no object of that name, in S3's own word: a 404 may also be about the bucket, or a proxy's."""
    answer = errors.answer_of(error.__cause__ or error)
    return answer is not None and (answer.status, answer.code) == (404, "NoSuchKey")
