"""Throw rows away: for measuring what source and engine take by themselves. Nothing is delivered to anybody."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from lmstream.abilities import Traits
from lmstream.model import Failure, Pack
from lmstream.sinks.stdout import LIMITS  # nobody's limits: batches are cut as for a sink that takes whatever comes


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The null sink has nothing to set."""


TRAITS: Final = Traits(discards=True, dimensions=True)


class Null:
    """Sink that says yes and keeps two counts. It `discards`: a topic's offsets would be committed for rows that are
    nowhere, so it takes files, and a topic only with run.discard.
    """

    limits = LIMITS

    def __init__(self, settings: Settings | None = None) -> None:
        del settings
        self.rows = 0
        """Rows thrown away so far."""
        self.bytes = 0
        """Their bytes."""

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Count the packs."""
        self.rows += sum(pack.rows for pack in packs)
        self.bytes += sum(len(pack.data) for pack in packs)
        return [None] * len(packs)

    async def close(self) -> None:
        """Nothing to close."""


make = Null
