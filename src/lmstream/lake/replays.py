"""Claims of replayed dead letters: outside of the lanes' chains, one for each letter that gave rows, made only once."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from msgspec import Struct

from lmstream.errors import SinkError
from lmstream.lake.chains import MOST
from lmstream.lake.claims import CLAIM_BYTES, DIGITS, Buried, Claims, Digest, Offset, Put
from lmstream.model import Record, TopicPartition

_AHEAD: Final = 32


class Replay(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one dead letter became. Whoever replays it again finds this and lands nothing else, by whatever settings."""

    form: Literal[1] = 1
    topic: str
    partition: int
    offset: Offset
    timestamp: int
    """As in its row ids."""
    ordinals: tuple[int, ...] | None = None
    """Points that the letter has; None when it has the whole record."""
    parts: tuple[str, ...] = ()
    """Paths of parts that the letter has, in which no points could be counted."""
    lane: str
    """Of the claim whose window has the record. It lists the letter, or a replay before this one does."""
    sequence: int
    layout: Digest
    rows: int
    objects: tuple[Put, ...]
    """What it gave, one object a path."""
    dimensions: tuple[Put, ...] = ()
    """Objects with the dimension rows that the rows need: put before them."""
    letter: Buried | None = None
    """What was refused once more: in a letter of its own, which may be replayed too."""
    writer: str
    at: int = 0
    """Unix milliseconds, for people."""


_decoder: Final = msgspec.json.Decoder(Replay)


def name(replay: Replay, entry: Put, extension: str) -> str:
    """The key of an object below where rows land."""
    letter = letter_of(replay)
    return f"{entry.path}replay-{replay.topic}-{replay.partition}-{replay.offset:0{DIGITS}d}-{letter}.{extension}"


def letter_of(replay: Replay) -> str:
    """What tells the letters of one record from one another, 16 hex digits."""
    return _letter(replay.timestamp, replay.ordinals, replay.parts)


class Replays:
    """The replays of one lake."""

    def __init__(self, claims: Claims) -> None:
        self._requests, self._at = claims.requests, claims.replays_at

    async def get(self, record: Record) -> Replay | None:
        """The replay of the letter that is replayed as this record; None when it has given no rows yet."""
        key = self._key(record)
        return await self._read(key) if await self._requests.stat(key) is not None else None

    async def of(self, record: Record) -> list[Replay]:
        """Replays of all letters of the same record."""
        names = await self._requests.names(self._place(*record.listed_at), MOST)
        return list(await asyncio.gather(*map(self._read, names)))

    async def all(self) -> AsyncIterator[Replay]:
        """Every one that is there, in any order."""
        names = await self._requests.names(self._at, MOST)
        for at in range(0, len(names), _AHEAD):
            for each in await asyncio.gather(*map(self._read, names[at : at + _AHEAD])):
                yield each

    async def create(self, replay: Replay) -> Replay:
        """Make the claim; answer the one that is there afterwards, this one or another's."""
        key = self._of(replay)
        if await self._requests.create(key, msgspec.json.encode(replay), {}):
            return replay
        there = await self._read(key)
        return replay if there.writer == replay.writer else there

    def _place(self, tp: TopicPartition, offset: int) -> str:
        return f"{self._at}{tp.topic}/{tp.partition}/{offset:0{DIGITS}d}/"

    def _of(self, replay: Replay) -> str:
        at = self._place(TopicPartition(replay.topic, replay.partition), replay.offset)
        return f"{at}{letter_of(replay)}.json"

    def _key(self, record: Record) -> str:
        at = self._place(*record.listed_at)
        return f"{at}{_letter(record.identified.stamp, record.only, record.below)}.json"

    async def _read(self, key: str) -> Replay:
        data = await self._requests.get(key, CLAIM_BYTES)
        place = self._requests.place(key)
        if data is None:
            raise SinkError("lake.chain", f"{place}: the claim of a replay is gone")
        try:
            found = _decoder.decode(data)
        except msgspec.MsgspecError as error:
            detail = f"{place}: not a claim of a replay that this version can read: {error}"
            raise SinkError("lake.chain", detail) from error
        if self._of(found) != key:
            raise SinkError("lake.chain", f"{place}: it is the claim of another letter")
        return found


def _letter(stamp: int, ordinals: tuple[int, ...] | None, parts: tuple[str, ...]) -> str:
    what = msgspec.json.encode([stamp, None if ordinals is None else sorted(ordinals), sorted(parts)])
    return blake2b(what, digest_size=8).hexdigest()
