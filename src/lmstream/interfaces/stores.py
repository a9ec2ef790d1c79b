"""Objects that are made once: what a lake consists of."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from lmstream.model import Failure


class StoreError(Exception):
    """An object store did not do what it was asked, or did not say so: nothing is known of the outcome."""

    def __init__(self, failure: Failure) -> None:
        """`failure` is retryable or fatal-config, never permanent: another object of these rows fares no better."""
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class ObjectStore(Protocol):
    """Objects that are made once, whole, and never changed: what a lake consists of. Never retries, never sleeps."""

    name: str
    """For messages: `s3://BUCKET/PREFIX`, or a folder."""

    async def create(self, key: str, data: bytes, meta: Mapping[str, str], /) -> bool:
        """Make an object, durably; False when there is one of that name already, be it by a lost answer our own.
        Two who make the same at once: one is told True. Raises StoreError."""
        ...

    async def get(self, key: str, most: int, /) -> bytes | None:
        """The object; None when there is none. Raises StoreError, BoundError when it has more than `most` bytes."""
        ...

    async def stat(self, key: str, /) -> Mapping[str, str] | None:
        """What `create` was given beside the object, {} where the store keeps no such thing; None when there is no such
        object. Raises StoreError."""
        ...

    async def names(self, prefix: str, most: int, /) -> Sequence[str]:
        """The first keys that begin with this, in the order of their bytes; strongly consistent. Raises StoreError."""
        ...

    async def folders(self, prefix: str, most: int, /) -> Sequence[str]:
        """What keys below `prefix`, which ends with a slash, have up to the next slash: the first of them, without
        either, each once, in order; strongly consistent. Raises StoreError."""
        ...

    async def close(self) -> None: ...


class Tagged(NamedTuple):
    """One version of an object."""

    tag: str
    """What tells it from the others: S3's ETag."""
    meta: Mapping[str, str]
    """As of `stat`."""


class ReplacingStore(ObjectStore, Protocol):
    """An ObjectStore for compaction, which alone puts something else under a name. A sink has no use for it."""

    async def tagged(self, key: str, /) -> Tagged | None:
        """The version that is there; None when there is no such object. Raises StoreError."""
        ...

    async def replace(self, key: str, data: bytes, meta: Mapping[str, str], tag: str, /) -> bool:
        """Put this in the place of the version with that tag; False when another one is there, be it by a lost answer
        our own, or none. Raises StoreError."""
        ...
