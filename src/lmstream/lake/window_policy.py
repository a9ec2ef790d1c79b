"""When a window ends."""

from typing import Annotated

from msgspec import Meta, Struct

from lmstream.delivery.window_length import WINDOW_BYTES, WINDOW_ROWS, monthly_usd

MIB = 1 << 20


class WindowPolicy(Struct, frozen=True, kw_only=True):
    """A window ends at the first of these; sooner when partitions are given up, at a stop, or when memory is short."""

    seconds: Annotated[float, Meta(gt=0)] = 60.0
    """After its first record: how late a row may land, and how much a crash reads again."""
    longest: Annotated[float, Meta(gt=0)] = 900.0
    """Seconds to which `dollars` may stretch it."""
    dollars: Annotated[float, Meta(gt=0)] | None = None
    """US dollars a month for the requests of all lanes: a window continues while it would cost more than its share."""
    rows: Annotated[int, Meta(ge=1)] = WINDOW_ROWS
    bytes: Annotated[int, Meta(ge=1)] = WINDOW_BYTES
    """Of lines, before compression."""
    object_bytes: Annotated[int, Meta(ge=1)] = 64 * MIB
    """Of lines in one object, before compression: gzip cannot be split, and readers hold a piece of it. The last record
    of an object is whole, so that it may be larger by one record."""

    def is_due(self, age: float, objects: int, lanes: int) -> bool:
        """Whether a window of so many seconds ends, that would become so many objects, in one of so many lanes."""
        if age < self.seconds:
            return False
        if self.dollars is None or age >= self.longest:
            return True
        return monthly_usd(objects, age) <= self.dollars / lanes
