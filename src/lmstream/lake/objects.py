"""Objects of a window: put, each once, and compared with what their claim says; rows that are lost are named."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from lmstream.errors import SinkError, coded
from lmstream.lake.claims import COMPACTED, Claim, Claims, Put, name
from lmstream.lake.formats import Format, Gather
from lmstream.lake.layout import Layout
from lmstream.lake.window import Object, Window

log: Final = logging.getLogger("lmstream.lake")

SHORT: Final = "short"
"""Beside an object: how many of its rows could be made no more when it was put. `lmstream lake repair` may add them."""

Entries = Mapping[tuple[str, int], Put]
"""Objects by path and piece."""


async def made_of(form: Format, gather: Gather) -> bytes:
    """The object. What takes long is done in a thread, so that heartbeats and requests continue."""
    return await asyncio.to_thread(gather.finish) if form.slow else gather.finish()


def about(entry: Put, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is kept beside an object."""
    return {"digest": entry.digest, "rows": str(entry.rows), **(more or {})}


async def put(claims: Claims, claim: Claim, each: Object, layout: Layout) -> bool:
    """Put one object of a claim; False when it is there. Raises SinkError `lake.object` when another one is."""
    entry = each.entry
    key = claims.rows + name(claim, entry, layout.extension)
    listed = next((said for said in claim.every if (said.path, said.piece) == (entry.path, entry.piece)), entry)
    short = listed.rows - entry.rows if entry.digest != listed.digest else 0
    meta = about(entry, {SHORT: str(short)} if short else None)
    if await claims.requests.create(key, await made_of(each.form, each.gather), meta):
        return True
    there = await claims.requests.stat(key)
    if there is not None and COMPACTED in there:
        return False  # its rows lie in a larger object by now
    if there is not None and (SHORT in there or there.get("digest", entry.digest) in {entry.digest, listed.digest}):
        return False
    detail = f"{claims.requests.place(key)}: its rows are not those of claim {claim.sequence}"
    raise SinkError("lake.object", detail)


async def put_all(claims: Claims, claim: Claim, objects: Sequence[Object], layout: Layout) -> None:
    """Put the objects of a claim side by side, those of dimension rows before those of rows. Raises the first
    SinkError, and no group; the others are cancelled."""
    for some in ([each for each in objects if each.dimensions], [each for each in objects if not each.dimensions]):
        await _put_some(claims, claim, some, layout)


async def _put_some(claims: Claims, claim: Claim, objects: Sequence[Object], layout: Layout) -> None:
    tasks = [asyncio.ensure_future(put(claims, claim, each, layout)) for each in objects]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def compare(claims: Claims, window: Window, claim: Claim, objects: Sequence[Object], layout: Layout) -> int:
    """See, before anything is put, that a window made again is what its claim says; answers how many rows are lost,
    which is said. Raises SinkError `lake.code`."""
    made = {(each.entry.path, each.entry.piece): each.entry for each in objects}
    said = {(each.path, each.piece): each for each in claim.every}
    if {at: (e.rows, e.digest) for at, e in made.items()} == {at: (e.rows, e.digest) for at, e in said.items()}:
        return 0
    gone = sum(claim.spans[p].records - span.records for p, span in window.spans().items())
    if gone <= 0 or made.keys() - said.keys() or any(made[at].rows > said[at].rows for at in made):
        raise other_code(claim, layout, "other rows are made of its records now")
    return await _report_lost(claims, claim, said, made, gone, layout)


async def _report_lost(
    claims: Claims, claim: Claim, said: Entries, made: Entries, gone: int, layout: Layout
) -> int:  # fmt: skip
    """Name the rows that can be made no more: their records are gone from the topic."""
    rows = {(each.path, each.piece) for each in claim.objects}
    less = [each for at, each in said.items() if at in rows and (at not in made or made[at].digest != each.digest)]
    keys = [claims.rows + name(claim, each, layout.extension) for each in less]
    there = await asyncio.gather(*map(claims.requests.stat, keys))
    missing = [each for each, stat in zip(less, there, strict=True) if stat is None]
    lost = sum(each.rows - (made[at].rows if (at := (each.path, each.piece)) in made else 0) for each in missing)
    if lost:
        log.error(
            "%s/%s: claim %d: %d rows are lost, of %d objects: %d records were deleted from the topic before their "
            "rows had landed",
            claim.topic, claim.lane, claim.sequence, lost, len(missing), gone, extra=coded("lake.lost"),
        )  # fmt: skip
    return lost


def other_code(claim: Claim, layout: Layout, why: str) -> SinkError:
    """Refuse to make a window again: it needs other code than this."""
    return needs_code(f"{claim.topic}/{claim.lane}: claim {claim.sequence}", layout, why)


def needs_code(what: str, layout: Layout, why: str) -> SinkError:
    """The same, of anything that was made by a layout."""
    fix = f"run {layout.code} until this window has landed, then this version again"
    return SinkError("lake.code", f"{what} was made by {layout.code}: {why}", fix)
