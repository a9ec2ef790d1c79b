"""When a window ends."""

from typing import Annotated

from msgspec import Meta, Struct

MIB = 1 << 20


class WindowPolicy(Struct, frozen=True, kw_only=True):
    """A window ends at the first of these; sooner when partitions are given up, at a stop, or when memory is short."""

    seconds: Annotated[float, Meta(gt=0)] = 60.0
    """After its first record: how late a row may land, and how much a crash reads again."""
    rows: Annotated[int, Meta(ge=1)] = 5_000_000
    bytes: Annotated[int, Meta(ge=1)] = 1024 * MIB
    """Of lines, before compression."""
    object_bytes: Annotated[int, Meta(ge=1)] = 64 * MIB
    """Of lines in one object, before compression: gzip cannot be split, and readers hold a piece of it. The last record
    of an object is whole, so that it may be larger by one record."""
