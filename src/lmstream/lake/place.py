"""One source alone lands a topic in a place: names of objects have the topic, and not the cluster that it is in."""

from typing import Final

import msgspec
from msgspec import Struct

from lmstream.errors import SinkError
from lmstream.lake.claims import Claims

RECORD_BYTES: Final = 4096


class _Taken(Struct, frozen=True, kw_only=True):
    """Who lands a topic of some name in a place."""

    source_id: str


async def take_place(claims: Claims, topic: str, incarnation: str) -> None:
    """Take the place of a topic for our source_id, once. Raises SinkError `lake.place` when another source_id has it:
    claims are apart by source_id, and objects of both would have the same names."""
    key = f"{claims.names_at}{topic}/{incarnation or '_'}.json"
    mine = _Taken(source_id=claims.source_id)
    if await claims.requests.create(key, msgspec.json.encode(mine), {}):
        return
    data = await claims.requests.get(key, RECORD_BYTES)
    place = claims.requests.place(key)
    try:
        there = mine if data is None else msgspec.json.decode(data, type=_Taken)  # a lifecycle rule took it just now
    except msgspec.MsgspecError as error:
        raise SinkError("lake.chain", f"{place}: not one that this version can read: {error}") from error
    if there != mine:
        what = f"{claims.requests.place(claims.rows)} has {topic} of engine.source_id {there.source_id!r}"
        raise SinkError("lake.place", f"{what}, and this process has {mine.source_id!r} ({place})")
