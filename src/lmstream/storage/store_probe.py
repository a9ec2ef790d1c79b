"""Ask a store, before a start, whether it does what a lake rests on: objects are made once, by one writer."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from lmstream.abilities import Check
from lmstream.aws.asking import PASSING, WAITS
from lmstream.aws.credentials import UNUSABLE
from lmstream.errors import REASONS, ConfigError, LmstreamError, refuse
from lmstream.interfaces import ObjectStore, StoreError
from lmstream.model import Failure, Kind

WRITERS: Final = 16
"""Who make one object at once."""
LISTING: Final = "listing"
CONDITIONS: Final = "conditional writes"
_MOST: Final = 64  # bytes of an object that is tried
_REASONS: Final = {
    "AccessDenied": "place.denied",
    "AllAccessDisabled": "place.denied",
    "http_403": "place.denied",
    "NoSuchBucket": "place.missing",
    "NotImplemented": "lake.conditions",
}
"""By code of a failure that no retry fixes; others are a setting's."""


class _UntrueError(Exception):
    """The store does not do what it answers."""


async def probe(store: ObjectStore, claims_prefix: str) -> list[Check]:
    """Whether objects below `claims_prefix` can be listed, and are made once; asks again while the store is busy.

    Small objects stay there, below `probe/` and the day: deleting needs a right that landing does not. A bucket may
    keep versions: nothing is deleted or overwritten, and a condition looks at the current version.
    """
    folder = f"{claims_prefix}probe/{datetime.now(UTC):%Y-%m-%d}/"
    listed = await _asked(LISTING, lambda: _lists(store, folder))
    if listed.verdict == "failed" and listed.code != REASONS["place.denied"].code:
        return [listed]  # what does not answer that is not asked more: it may not be a store at all
    may_list = listed.verdict == "ok"
    return [listed, await _asked(CONDITIONS, lambda: _makes_once(store, folder, may_list=may_list))]


async def _lists(store: ObjectStore, folder: str) -> str:
    if await store.names(f"{folder}{secrets.token_hex(8)}", 1):
        raise _UntrueError("an object that was never made is listed")
    return "objects can be listed"


async def _makes_once(store: ObjectStore, folder: str, *, may_list: bool) -> str:
    key = f"{folder}{secrets.token_hex(8)}"  # of each attempt its own: what the one before has made is not known
    # Without the right to list, S3 says 403 of an object that is missing, and nothing can be learnt.
    if may_list and await store.get(key, _MOST) is not None:
        raise _UntrueError("an object that was never made can be read")
    written = [b"writer %d" % n for n in range(WRITERS)]
    answers = await asyncio.gather(*(_create(store, key, data) for data in written))
    winners = [data for data, won in zip(written, answers, strict=True) if won]
    if len(winners) > 1:
        raise _UntrueError(f"{len(winners)} of {WRITERS} writers of one object succeeded")
    # All may have met each other (409), or the winner's answer was lost: then one alone makes the object, or finds it.
    if not winners and await store.create(key, b"alone", _meta(b"alone")):
        winners = [b"alone"]
    if await store.create(key, b"again", _meta(b"again")):
        raise _UntrueError("an object was made twice under one name")
    found = await store.get(key, _MOST) or b""
    if found not in (winners or written):
        raise _UntrueError("an object does not hold what its one writer gave it")
    if await store.stat(key) not in ({}, _meta(found)):
        raise _UntrueError("an object does not have the metadata that its one writer gave it")
    if may_list and list(await store.names(key, 2)) != [key]:
        raise _UntrueError("an object that was made is not listed at once")
    return f"of {WRITERS} writers of one object, one succeeds"


async def _create(store: ObjectStore, key: str, data: bytes) -> bool:
    """Whether the object is ours for sure."""
    try:
        return await store.create(key, data, _meta(data))
    except StoreError as error:
        if error.failure.kind is Kind.FATAL_CONFIG:
            raise
        return False


def _meta(data: bytes) -> dict[str, str]:
    return {"probe": data.decode()}


async def _asked(name: str, ask: Callable[[], Awaitable[str]]) -> Check:
    for wait in (*WAITS, None):
        try:
            return Check(name, "ok", await ask())
        except _UntrueError as error:
            return failed(name, "lake.conditions", str(error))
        except LmstreamError as error:
            return Check(name, "failed", error.detail, error.fix, error.code)
        except StoreError as error:
            if error.failure.kind is Kind.FATAL_CONFIG or wait is None:
                return _refused(name, error.failure)
        await asyncio.sleep(wait * (0.5 + random.random()))  # noqa: S311 - so that many do not come again together
    raise AssertionError  # pragma: no cover - the last attempt has answered


def _refused(name: str, failure: Failure) -> Check:
    said, _, fix = failure.message.partition(". Fix: ")
    said = f"{failure.code}: {said}"
    if failure.code in REASONS:
        return failed(name, failure.code, said, fix)
    if failure.kind is Kind.RETRYABLE:
        return failed(name, "place.unreachable" if name == LISTING else "lake.conditions", f"not answered: {said}")
    reason = "place.credentials" if failure.code in UNUSABLE else _REASONS.get(failure.code, "config.invalid")
    if reason == "place.denied" and name == LISTING:
        fix = "grant s3:ListBucket on the bucket: without it S3 reports a missing object as denied"
    return failed(name, reason, said, fix)


def failed(name: str, reason: str, said: str, fix: str = "") -> Check:
    """What failed for a key of errors.REASONS."""
    return Check(name, "failed", said, fix or REASONS[reason].fix, REASONS[reason].code)


def refuse_failed(checks: Sequence[Check], where: str) -> None:
    """Raise ConfigError for all that failed. Never for a reason that a run would wait for: what is not proven of a
    store cannot be made good once two members have written."""
    by_code = {why.code: reason for reason, why in REASONS.items()}
    found = []
    for each in checks:
        if each.verdict == "failed":
            reason = by_code[each.code]
            reason = "lake.conditions" if reason in PASSING else reason
            found.append(ConfigError(reason, f"{where}: {each.name}: {each.said}", each.fix))
    refuse(found)
