"""A window lands: letters, claim, objects, and then its records are settled. In this order, whatever happens."""

from collections.abc import Awaitable, Callable

from lmstream.delivery.outlet import SENDING, Parts
from lmstream.lake.claims import Claim, Claims
from lmstream.lake.lane import Lane
from lmstream.lake.layout import Layout
from lmstream.lake.objects import compare, put_all
from lmstream.lake.window import Object, Window

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
            objects=tuple(each.entry for each in objects if not each.dimensions),
            dimensions=tuple(each.entry for each in objects if each.dimensions),
            letters=tuple(window.letters),
            writer=f"{self._writer} {self._windows}",
            at=self._wall(),
        )

    async def _put(self, lane: Lane, window: Window, claim: Claim, objects: list[Object]) -> None:
        layout = await self._claims.layout(claim.layout)
        if window.claim is not None:
            self._parts.flight.counts.rows_lost += await compare(self._claims, window, claim, objects, layout)
        await put_all(self._claims, claim, objects, layout)
        lane.undone.discard(claim.sequence)
        self._settle(window, len(objects))

    def _settle(self, window: Window, objects: int) -> None:
        """Everything of a window is durable."""
        parts, counts = self._parts, self._parts.flight.counts
        counts.packs += objects
        counts.bytes += window.lines
        parts.budget.release(window.held + window.kept)
        window.held = window.kept = 0
        for each, status in window.records:
            if each.number in parts.flight.records:
                counts.accepted += each.remaining
                each.remaining = 0
                parts.settlement.settle(each, status)
        parts.tasks.changed.set()
