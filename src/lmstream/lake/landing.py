"""A window lands: letters, claim, objects, and then its records are settled. In this order, whatever happens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from lmstream.delivery.outlet import SENDING, Parts
from lmstream.errors import SinkError, coded
from lmstream.lake.claims import COMPACTED, Claim, Claims, Put, name
from lmstream.lake.lane import Lane
from lmstream.lake.layout import Layout
from lmstream.lake.window import Object, Window

log: Final = logging.getLogger("lmstream.lake")

Entries = Mapping[tuple[str, int], Put]
"""Objects by path and piece."""
Contested = Callable[[Lane, Claim], Awaitable[None]]


class Landing:
    """Lands the windows of all lanes: claims of one lane one after the other, objects side by side."""

    def __init__(
        self, parts: Parts, claims: Claims, writer: str, layout: Layout, wall: Callable[[], int], contested: Contested
    ) -> None:
        """`contested` is awaited when the claim of another member is where ours was to be."""
        self._parts, self._claims = parts, claims
        self._writer, self._layout, self._wall, self._contested = writer, layout, wall, contested
        self._windows = 0

    def start(self, lane: Lane) -> None:
        """Land what has ended in this lane, unless that is being done."""
        if not lane.busy:
            lane.busy = True
            self._parts.tasks.spawn(self._land(lane), SENDING)

    async def _land(self, lane: Lane) -> None:
        try:
            while lane.landing and not lane.closed:
                window = lane.claiming = lane.landing.popleft()
                while window.unwritten and not lane.closed:
                    lane.awake.clear()
                    await lane.awake.wait()
                claim = window.claim
                objects = window.objects()
                if claim is None:
                    mine = await self._claim(lane, window, objects)
                    claim = await self._claims.create(mine)
                    if claim is not mine:
                        if not self._gone(lane):
                            await self._contested(lane, claim)
                        return
                    lane.sequence = claim.sequence + 1
                    lane.undone.add(claim.sequence)
                    lane.claimed_at = claim.at
                if self._gone(lane):
                    return
                lane.claiming = None
                self._parts.tasks.spawn(self._put(lane, window, claim, objects), SENDING)
        finally:
            lane.busy = False

    @staticmethod
    def _gone(lane: Lane) -> bool:
        """Whether the lane was closed while we waited."""
        return lane.closed

    async def _claim(self, lane: Lane, window: Window, objects: list[Object]) -> Claim:
        self._windows += 1
        return Claim(
            topic=lane.topic,
            lane=lane.name,
            sequence=lane.sequence,
            kind=window.kind,
            why=window.why,
            spans=window.spans(),
            done=lane.done,
            layout=await self._claims.keep(self._layout),
            rows=window.rows,
            held=window.held,
            objects=tuple(each.entry for each in objects),
            letters=tuple(window.letters),
            writer=f"{self._writer} {self._windows}",
            at=self._wall(),
        )

    async def _put(self, lane: Lane, window: Window, claim: Claim, objects: list[Object]) -> None:
        layout = await self._claims.layout(claim.layout)
        if window.claim is not None:
            await self._compare(window, claim, objects, layout)
        async with asyncio.TaskGroup() as group:
            for each in objects:
                group.create_task(self._object(claim, each, layout))
        lane.undone.discard(claim.sequence)
        self._settle(window, len(objects))

    async def _object(self, claim: Claim, each: Object, layout: Layout) -> None:
        entry = each.entry
        key = self._claims.rows + name(claim, entry, layout.extension)
        meta = {"digest": entry.digest, "rows": str(entry.rows)}
        if await self._claims.requests.create(key, each.gather.finish(), meta):
            return
        there = await self._claims.requests.stat(key)
        if there is not None and COMPACTED in there:
            return  # its rows lie in a larger object by now
        listed = {put.digest for put in claim.objects if (put.path, put.piece) == (entry.path, entry.piece)}
        if there is None or ("digest" in there and there["digest"] not in {entry.digest, *listed}):
            detail = f"{self._claims.requests.place(key)}: its rows are not those of claim {claim.sequence}"
            raise SinkError("lake.object", detail)

    def _settle(self, window: Window, objects: int) -> None:
        """Everything of a window is durable."""
        parts, counts = self._parts, self._parts.flight.counts
        counts.packs += objects
        counts.bytes += window.lines
        parts.budget.release(window.held)
        window.held = 0
        for each, status in window.records:
            if each.number in parts.flight.records:
                counts.accepted += each.remaining
                each.remaining = 0
                parts.settlement.settle(each, status)
        parts.tasks.changed.set()

    async def _compare(self, window: Window, claim: Claim, objects: list[Object], layout: Layout) -> None:
        """See, before anything is put, that a window made again is what its claim says."""
        made = {(each.entry.path, each.entry.piece): each.entry for each in objects}
        said = {(each.path, each.piece): each for each in claim.objects}
        if {at: (e.rows, e.digest) for at, e in made.items()} == {at: (e.rows, e.digest) for at, e in said.items()}:
            return
        gone = sum(claim.spans[p].records - span.records for p, span in window.spans().items())
        if gone <= 0 or made.keys() - said.keys():
            raise other_code(claim, layout, "other rows are made of its records now")
        await self._report_lost(claim, said, made, gone, layout)

    async def _report_lost(self, claim: Claim, said: Entries, made: Entries, gone: int, layout: Layout) -> None:
        """Name the rows that can be made no more: their records are gone from the topic."""
        less = [each for at, each in said.items() if at not in made or made[at].digest != each.digest]
        keys = [self._claims.rows + name(claim, each, layout.extension) for each in less]
        there = await asyncio.gather(*map(self._claims.requests.stat, keys))
        missing = [each for each, stat in zip(less, there, strict=True) if stat is None]
        lost = sum(each.rows - (made[at].rows if (at := (each.path, each.piece)) in made else 0) for each in missing)
        if lost:
            log.error(
                "%s/%s: claim %d: %d rows are lost, of %d objects: %d records were deleted from the topic before their "
                "rows had landed",
                claim.topic, claim.lane, claim.sequence, lost, len(missing), gone, extra=coded("lake.lost"),
            )  # fmt: skip
            self._parts.flight.counts.rows_lost += lost


def other_code(claim: Claim, layout: Layout, why: str) -> SinkError:
    """Refuse to make a window again: it needs other code than this."""
    needs = ", ".join(
        [f"{layout.distribution} {layout.version}", *(f"{m.name} (source {m.source})" for m in layout.modules)]
    )
    detail = f"{claim.topic}/{claim.lane}: claim {claim.sequence} was made by {needs}: {why}"
    return SinkError("lake.code", detail, f"run {needs} until this window has landed, then this version again")
