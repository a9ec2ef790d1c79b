"""Keep dead letters in a bucket, at any S3 endpoint: one object a letter, at a key that only its coordinates decide."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from lmstream.abilities import Traits
from lmstream.aws import credentials
from lmstream.aws.asking import BUSY, asked, is_busy
from lmstream.aws.clock import CLOCK, is_clock
from lmstream.bounded import BoundError
from lmstream.dead_letters.form import encode, folder_of, name_of, other_name_of, same
from lmstream.errors import LmstreamError, SinkError
from lmstream.model import DeadLetter
from lmstream.storage.bucket import Access, Bucket, code_of

_CHECK: Final = ".lmstream-check"
_TAKEN: Final = frozenset({"PreconditionFailed", "412"})
_NO_CONDITIONS: Final = frozenset({"NotImplemented", "501"})  # of stores that know no If-None-Match


class Settings(Access, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of dead letters in S3."""

    prefix: str = "dead-letters"
    """Where in the bucket: `<prefix>/<topic>/<partition>/<offset>.json`.
    Costs: nothing: letters below the former prefix stay there."""

    def key(self, *parts: str) -> str:
        """Key of an object below the prefix."""
        return "/".join((*(part for part in self.prefix.split("/") if part), *parts))


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
        self._conditions = True

    async def check(self) -> None:
        """Write an empty object, before a start; again while the store is busy. Raises SinkError
        `dead_letters.unavailable` or `sink.busy`, or ConfigError."""
        key = self._settings.key(_CHECK)
        await asked(lambda: self._tried(key))
        # Deleting takes a permission that writing letters does not: without it the empty object stays.
        with contextlib.suppress(Exception):
            await self._bucket.delete(key)

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when every letter is in the bucket. Raises SinkError `dead_letters.unavailable` otherwise."""
        answers = await asyncio.gather(*map(self._write, letters), return_exceptions=True)
        for answer in answers:
            if answer is not None:
                raise answer

    async def close(self) -> None:
        """Close the client."""
        self._bucket.close()

    async def _write(self, letter: DeadLetter) -> None:
        folder = folder_of(letter)
        key = self._settings.key(*folder, name_of(letter))
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
            raise SinkError(reason_of(error), what) from error


def reason_of(error: Exception) -> str:
    """The reason for which letters of a bucket cannot be written or read."""
    if is_clock(code_of(error), str(error)):
        return CLOCK
    return credentials.REASON if code_of(error) in credentials.UNUSABLE else "dead_letters.unavailable"


def _store(settings: Settings, say: Callable[[str], None]) -> Any:
    from lmstream.dead_letters.store import ObjectStore  # noqa: PLC0415 - for who reads letters, not for who writes them

    return ObjectStore(settings, say)


TRAITS: Final = Traits(store=_store, service="s3")
make = Letters
