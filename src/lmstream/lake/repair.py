"""Objects of claims that are missing, or have less rows than their claim says, are made again from the topic.

Nothing is put before the window that was made again has the digests of the manifest, and everything is made only once.
So two repairs at once, or one beside a member that lands the same window, make each row once. Nothing that is there is
touched, but for objects that are damaged by the word of who verified the lake: such a one is kept beside, hidden, and
what the manifest says is put in its place.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct

from lmstream.errors import SinkError, coded
from lmstream.lake.again import Maker, Read
from lmstream.lake.chains import Chains
from lmstream.lake.claims import COMPACTED, Claim, Claims, Put, name
from lmstream.lake.compactions import Compactions
from lmstream.lake.contents import Contents
from lmstream.lake.digests import hexadecimal
from lmstream.lake.layout import Layout
from lmstream.lake.objects import SHORT, about, compare, made_of, put
from lmstream.lake.seen import OBJECT, seen
from lmstream.lake.window import Object

log: Final = logging.getLogger("lmstream.lake")

_SUPPLEMENTS: Final = 100
"""Of one object: each is of a repair that found more records than the one before."""
_STATS: Final = 32


Replace = Callable[[str, bytes, Mapping[str, str]], Awaitable[bool]]
"""Put this in the place of the object of that key, and keep beside it, hidden, what was there. False when it is there
already."""


class Repaired(Struct, kw_only=True):
    """What a repair of one claim found and did."""

    topic: str
    lane: str
    sequence: int
    objects: int
    """That its manifest has."""
    missing: int = 0
    """Of these, that were not there."""
    short: int = 0
    """Of these, that had less rows than the manifest says."""
    damaged: int = 0
    """Of these, that were found to have other rows."""
    made: int = 0
    """Objects that were put now."""
    rows: int = 0
    """In them."""
    lost: int = 0
    """Rows that can be made no more."""


class Repair:
    """Repairs the claims of one lake."""

    def __init__(
        self,
        claims: Claims,
        maker: Maker,
        contents: Mapping[str, Contents],
        read: Read,
        *,
        budget: int,
        replace: Replace | None = None,
        damaged: Collection[str] = (),
    ) -> None:
        """`contents` are by extension. A window that took more than `budget` bytes in memory is refused. `damaged` are
        keys, below rows, of objects with other rows than their claims say; `replace` puts others in their place."""
        self._claims, self._maker, self._contents, self._read = claims, maker, contents, read
        self._budget, self._replace, self._damaged = budget, replace, frozenset(damaged)
        self._compactions = Compactions(claims)

    async def all(self, chains: Chains, lanes: Iterable[tuple[str, str]], *, dry: bool) -> AsyncIterator[Repaired]:
        """Repair each claim of these lanes that needs it; with `dry` only say which do."""
        for topic, lane in lanes:
            async for claim in chains.claims(topic, lane):
                done = await self.claim(claim, dry=dry)
                if done.missing or done.short or done.damaged:
                    yield done

    async def claim(self, claim: Claim, *, dry: bool = False) -> Repaired:
        """Repair one claim. Raises SinkError: see `Maker.window`, and `lake.object` for an object of someone else."""
        done = Repaired(topic=claim.topic, lane=claim.lane, sequence=claim.sequence, objects=len(claim.every))
        layout = await self._claims.layout(claim.layout)
        missing, short = await self._looked(claim, layout)
        names = {(each.path, each.piece): name(claim, each, layout.extension) for each in claim.every}
        broken = {at: key for at, key in names.items() if key in self._damaged and at not in missing}
        short = {at: each for at, each in short.items() if at not in broken}
        done.missing, done.short, done.damaged = len(missing), len(short), len(broken)
        if dry or not (missing or short or broken):
            return done
        if claim.held > self._budget:
            detail = f"claim {claim.sequence} of {claim.topic}/{claim.lane} has rows of {claim.held:,} bytes"
            raise SinkError("lake.memory", detail, f"set run.budget_bytes to {claim.held:,} or more for this repair")
        window = await self._maker.window(claim, layout, self._read)
        objects = window.objects()
        done.lost = await compare(self._claims, window, claim, objects, layout)
        made = {(each.entry.path, each.entry.piece): each for each in objects}
        for listed in claim.every:  # dimension rows first: no row is there before what its keys stand for
            at = listed.path, listed.piece
            if at in missing:
                if at in made and await put(self._claims, claim, made[at], layout):
                    done.made, done.rows = done.made + 1, done.rows + made[at].entry.rows
            elif at in broken:
                await self._set_right(claim, broken[at], at, made.get(at), done)
            elif at in short:
                await self._supplement(claim, listed, made.get(at), layout, done)
        return done

    async def _looked(
        self, claim: Claim, layout: Layout
    ) -> tuple[dict[tuple[str, int], Put], dict[tuple[str, int], Put]]:
        """Objects that are missing, and those that have other rows than the manifest says."""
        missing: dict[tuple[str, int], Put] = {}
        short: dict[tuple[str, int], Put] = {}
        every = claim.every
        for start in range(0, len(every), _STATS):
            some = every[start : start + _STATS]
            names = [name(claim, each, layout.extension) for each in some]
            stats = await asyncio.gather(*(self._claims.requests.stat(self._claims.rows + key) for key in names))
            for each, key, stat in zip(some, names, stats, strict=True):
                there = stat
                if there is not None and "digest" not in there:  # one object at a time in memory
                    contents = self._contents[layout.extension]
                    there = await seen(self._claims.requests, self._claims.rows + key, contents)
                if there is None or (COMPACTED in there and not there[COMPACTED]):
                    # Somebody removed the object without rows that keeps its name: its rows are there all the same.
                    if await self._compactions.replacing(each.path, key) is None:
                        (missing if there is None else short)[each.path, each.piece] = each
                elif COMPACTED not in there and there["digest"] != each.digest:
                    short[each.path, each.piece] = each
        return missing, short

    async def _set_right(
        self, claim: Claim, key: str, at: tuple[str, int], made: Object | None, done: Repaired
    ) -> None:
        """Put what the manifest says in the place of other rows. What can be made no more as a whole stays as it is."""
        listed = next(each for each in claim.every if (each.path, each.piece) == at)
        if made is None or made.entry.digest != listed.digest or self._replace is None:
            done.lost += listed.rows
            return
        data = await made_of(made.form, made.gather)
        if await self._replace(self._claims.rows + key, data, about(made.entry)):
            done.made, done.rows = done.made + 1, done.rows + listed.rows

    async def _supplement(self, claim: Claim, listed: Put, made: Object | None, layout: Layout, done: Repaired) -> None:
        """Put the rows that an object and its supplements lack into one more, and never a second copy of a row."""
        contents, requests = self._contents[layout.extension], self._claims.requests
        data = b"" if made is None else made.gather.finish()
        mine = contents.ids(data) if data else set[str]()
        there: set[str] = set()
        for number in range(_SUPPLEMENTS):
            key = self._claims.rows + name(claim, listed, layout.extension, number)
            found = await requests.get(key, OBJECT)
            if found is None:
                if number == 0:
                    raise SinkError("lake.object", f"{requests.place(key)}: it was removed while it was repaired")
                if not mine - there:
                    break
                rest = contents.without(data, there)
                rows, digest = contents.count(rest)
                entry = Put(path=listed.path, piece=listed.piece, rows=rows, digest=hexadecimal(digest))
                if await requests.create(key, rest, about(entry)):
                    done.made, done.rows = done.made + 1, done.rows + rows
                    there |= mine
                    break
                found = await requests.get(key, OBJECT) or b""
            try:
                ids = contents.ids(found)
            except ValueError as error:
                raise SinkError("lake.object", f"{requests.place(key)}: it cannot be read: {error}") from error
            if number == 0 and not await self._is_ours(key, ids, mine, listed):
                detail = f"{requests.place(key)}: it has rows that are not of claim {claim.sequence}"
                raise SinkError("lake.object", detail)
            there |= ids
        if (lost := listed.rows - len(there)) > 0:
            done.lost += lost
            log.error(
                "%s/%s: claim %d: %d rows of %s are lost: their records were deleted from the topic",
                claim.topic, claim.lane, claim.sequence, lost, name(claim, listed, layout.extension),
                extra=coded("lake.lost"),
            )  # fmt: skip

    async def _is_ours(self, key: str, ids: set[str], mine: set[str], listed: Put) -> bool:
        """Whether an object has rows of its claim alone. When records are gone only what lies beside it can say so."""
        if ids <= mine:
            return True
        return len(mine) < listed.rows and SHORT in (await self._claims.requests.stat(key) or {})
