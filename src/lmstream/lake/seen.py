"""What an object is: by what is kept beside it, or by its rows where a store keeps nothing beside objects."""

from collections.abc import Mapping
from typing import Final

from lmstream.lake.claims import COMPACTED
from lmstream.lake.contents import Contents
from lmstream.lake.digests import hexadecimal
from lmstream.lake.requests import Requests

OBJECT: Final = 1 << 30
"""Bytes of an object that is read."""
UNREADABLE: Final = "unreadable"
"""Instead of a digest, of what cannot be read as an object."""


async def seen(requests: Requests, key: str, contents: Contents) -> Mapping[str, str] | None:
    """What is kept beside an object, with its `digest` in any case; None when it is not there. No window makes an
    object without rows: one that has none is what a compaction left (COMPACTED)."""
    beside = await requests.stat(key)
    if beside is None or "digest" in beside:
        return beside
    data = await requests.get(key, OBJECT)
    return None if data is None else {**beside, **by_rows(data, contents)}


def by_rows(data: bytes, contents: Contents) -> dict[str, str]:
    """The same of the bytes of an object."""
    try:
        rows, digest = contents.count(data)
    except ValueError:
        return {"digest": UNREADABLE}
    return {"digest": hexadecimal(digest), "rows": str(rows)} | ({} if rows else {COMPACTED: ""})
