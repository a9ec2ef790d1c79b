"""Windows of other lanes are made whole, before a barrier ends their lane."""

import asyncio
import logging
from typing import Final

from lmstream.delivery.outlet import Parts
from lmstream.delivery.window_length import window_fits
from lmstream.errors import SinkError
from lmstream.lake.again import Maker, Read
from lmstream.lake.claims import Claim, Claims
from lmstream.lake.objects import compare, put_all
from lmstream.lake.opening import is_there

log: Final = logging.getLogger("lmstream.lake")


class Finishing:
    """Makes objects that are missing from the topic, by what their claim says, as `lmstream lake repair` does."""

    def __init__(self, claims: Claims, maker: Maker, read: Read | None, parts: Parts) -> None:
        """Without `read` no window can be finished that is not whole."""
        self._claims, self._maker, self._read, self._parts = claims, maker, read, parts
        self._one = asyncio.Lock()
        """One window is in memory at a time."""

    async def __call__(self, claim: Claim) -> None:
        """Finish one window. Raises SinkError: see `Maker.window`, `lake.memory` for one that is too large."""
        if await is_there(self._claims, claim):
            return
        what = f"{claim.topic}/{claim.lane}: the window of claim {claim.sequence}"
        if self._read is None:
            raise SinkError("lake.lanes", f"{what} is not whole, and this source cannot read its records again")
        if not window_fits(claim.held, self._parts.budget.total):
            fix = f"set run.budget_bytes to {claim.held:,} or more until this lane has ended"
            raise SinkError("lake.memory", f"{what} has rows of {claim.held:,} bytes", fix)
        log.info("%s is finished, for its lane ends", what)
        layout = await self._claims.layout(claim.layout)
        async with self._one:
            window = await self._maker.window(claim, layout, self._read)
            objects = window.objects()
            self._parts.flight.counts.rows_lost += await compare(self._claims, window, claim, objects, layout)
            await put_all(self._claims, claim, objects, layout)
