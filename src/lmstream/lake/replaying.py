"""Dead letters become rows of a lake, each once: what a claim lists as a letter lands under a claim of its own.

The order for each letter: the claim whose window has its record must list it, or a replay before this one; what is
refused once more has its own letter durable; the claim of the replay, made once under record and points; objects, made
once. Who finds that claim there lands what it says, by its settings, and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.transform import Cut
from lmstream.engine import FanOut
from lmstream.errors import SinkError
from lmstream.lake.again import Maker, left_over
from lmstream.lake.chains import Chains
from lmstream.lake.claims import COMPACTED, Buried, Claim, Claims, Put
from lmstream.lake.compactions import Compactions
from lmstream.lake.digests import add, hexadecimal
from lmstream.lake.dimension_rows import DimensionRows
from lmstream.lake.formats import wanted
from lmstream.lake.layout import Layout
from lmstream.lake.objects import about, made_of, needs_code
from lmstream.lake.replays import Replay, Replays, name
from lmstream.lake.window import Object
from lmstream.model import Record, Status

Bury = Callable[[InFlightRecord], Awaitable[None]]
"""Have a letter written of what is refused once more; returns when it is durable."""


class Replayed(NamedTuple):
    """What became of one letter."""

    status: Status
    """DELIVERED: its rows are there. DEAD_LETTERED: something was refused once more. PENDING: it is not the lake's."""
    rows: int = 0
    """That were put now."""
    said: str = ""
    """What a person should know of it."""


class Replaying:
    """Lands letters in one lake, by the settings of this process."""

    def __init__(
        self,
        claims: Claims,
        chains: Chains,
        maker: Maker,
        layout: Layout,
        bury: Bury,
        *,
        incarnation: str = "",
        writer: str,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        """`now` is in Unix milliseconds, for people."""
        self._claims, self._chains, self._maker, self._layout = claims, chains, maker, layout
        self._bury, self._incarnation, self._writer, self._now = bury, incarnation, writer, now
        self._replays, self._compactions = Replays(claims), Compactions(claims)
        self._number = 0

    async def land(self, record: Record) -> Replayed:
        """Land what a letter gives. Raises SinkError, `lake.code` when a replay was begun by other code."""
        if (there := await self._replays.get(record)) is not None:
            return await self._again(there, record)
        tp, offset = record.listed_at
        claim = await self._chains.of(tp.topic, tp.partition, offset, self._incarnation)
        if claim is None:
            why = "no claim has its offset: its window has not landed yet, or its claim was deleted by age"
            return Replayed(Status.PENDING, said=f"{record.coordinates}: {why}")
        if not await self._is_listed(record, claim):
            why = f"claim {claim.sequence} of {claim.topic}/{claim.lane} does not list this letter: those points landed"
            return Replayed(Status.PENDING, said=f"{record.coordinates}: {why}, or another letter has them")
        each, made = self._maker.rows(record, self._layout, "this process")
        if made is None:
            await self._bury(each)
            return Replayed(Status.DEAD_LETTERED)
        return await self._first(claim, each, *made)

    async def _first(self, claim: Claim, each: InFlightRecord, out: FanOut, cuts: Sequence[Cut]) -> Replayed:
        """Land a letter that has given no rows yet."""
        record = each.record
        (topic, partition), offset = at = record.listed_at
        if left := left_over(at, out):
            each.rejected = tuple(out.rejected)
            each.parts = tuple((part.path, part.reason) for part in out.parts)
            each.points = out.points
            await self._bury(each)
        status = Status.DEAD_LETTERED if left else Status.DELIVERED
        if not out.rows:
            return Replayed(status)
        objects = self._objects(out, cuts, self._layout)
        self._number += 1
        mine = Replay(
            topic=topic,
            partition=partition,
            offset=offset,
            timestamp=record.identified.stamp,
            ordinals=record.only,
            parts=record.below,
            lane=claim.lane,
            sequence=claim.sequence,
            layout=await self._claims.keep(self._layout),
            rows=out.rows,
            objects=tuple(each.entry for each in objects if not each.dimensions),
            dimensions=tuple(each.entry for each in objects if each.dimensions),
            letter=left,
            writer=f"{self._writer} {self._number}",
            at=self._now(),
        )
        there = await self._replays.create(mine)
        if there is not mine:
            return await self._again(there, record)
        return Replayed(status, await self._put(there, self._layout, objects))

    async def _is_listed(self, record: Record, claim: Claim) -> bool:
        """Whether exactly these points have a letter and no rows: by the claim, or by a replay of a part of them."""
        tp, offset = record.listed_at
        letters = [each for each in claim.letters if (each.partition, each.offset) == (tp.partition, offset)]
        before = await self._replays.of(record)
        return any(_is_of(each, record) for each in (*letters, *(each.letter for each in before if each.letter)))

    async def _again(self, replay: Replay, record: Record) -> Replayed:
        """See that everything of a replay is there; what is not is made again by its settings."""
        layout = await self._claims.layout(replay.layout)
        every = (*replay.dimensions, *replay.objects)
        names = [name(replay, each, layout.extension) for each in every]
        stats = await asyncio.gather(*(self._claims.requests.stat(self._claims.rows + key) for key in names))
        missing = {
            each.path
            for each, key, stat in zip(every, names, stats, strict=True)
            if stat is None and await self._compactions.replacing(each.path, key) is None
        }
        put = 0
        if missing:
            what = f"{record.coordinates}: its replay"
            _, made = self._maker.rows(record, layout, what)
            objects = [] if made is None else self._objects(*made, layout)
            if [each.entry for each in objects] != list(every):
                raise needs_code(what, layout, "other rows are made of it now")
            put = await self._put(replay, layout, [each for each in objects if each.entry.path in missing])
        said = f"{record.coordinates}: " + (
            "an earlier replay was finished" if put else f"already landed, {replay.rows:,} rows: nothing more lands"
        )
        return Replayed(Status.DEAD_LETTERED if replay.letter else Status.DELIVERED, put, said)

    def _objects(self, out: FanOut, cuts: Sequence[Cut], layout: Layout) -> list[Object]:
        """Objects of dimension rows, and then of rows."""
        form, dimensions = self._maker.form(layout), DimensionRows()
        dimensions.add(out.dimensions)
        objects = [Object(entry, gather, form, dimensions=True) for entry, gather in dimensions.put(form)]
        columns = wanted(form, out)
        for cut in sorted(cuts, key=lambda each: each[0]):
            path, data, rows = cut
            gather = form.gather()
            gather.add(cut, columns.get(path))
            entry = Put(path=path, piece=0, rows=rows, digest=hexadecimal(add(0, data)))
            objects.append(Object(entry, gather, form))
        return objects

    async def _put(self, replay: Replay, layout: Layout, objects: Sequence[Object]) -> int:
        """Put objects, one after the other; answers how many rows are in those that were not there."""
        requests, rows = self._claims.requests, 0
        for entry, gather, form, dimensions in objects:
            key = self._claims.rows + name(replay, entry, layout.extension)
            if await requests.create(key, await made_of(form, gather), about(entry)):
                rows += 0 if dimensions else entry.rows
                continue
            there = await requests.stat(key)
            if there is None or (COMPACTED not in there and there.get("digest", entry.digest) != entry.digest):
                raise SinkError("lake.object", f"{requests.place(key)}: its rows are not those of the replay")
        return rows


def _is_of(letter: Buried, record: Record) -> bool:
    """Whether a letter has exactly the points and parts that this record is replayed for."""
    if letter.ordinals is None and not letter.parts:
        return record.only is None and not record.below
    return (
        record.only is not None
        and sorted(letter.ordinals or ()) == sorted(record.only)
        and sorted(letter.parts) == sorted(record.below)
    )
