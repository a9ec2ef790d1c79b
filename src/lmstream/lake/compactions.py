"""What compaction means to do and has done: manifests, one after the other for each path, each made only once."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lmstream.errors import SinkError
from lmstream.lake.chains import MOST
from lmstream.lake.claims import CLAIM_BYTES, DIGITS, LAST, Claims, Digest

_AHEAD: Final = 32


class Replaced(Struct, frozen=True, kw_only=True):
    """One object whose rows lie in a larger one."""

    key: str
    """Below where rows land."""
    rows: Annotated[int, Meta(ge=1)]
    digest: Digest


class Compaction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One larger object, and those that it stands for. Of a path at most the newest is not finished."""

    form: Literal[1] = 1
    path: str
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    key: str
    """Of the larger object, below where rows land."""
    extension: str
    rows: Annotated[int, Meta(ge=1)]
    """The sum of those of `replaces`; of dimension rows, which windows share, those that are left with each once."""
    digest: Digest
    """Of all their rows."""
    size: int
    """Bytes of the larger object."""
    replaces: tuple[Replaced, ...]
    """Windows' objects, replays', and what earlier compactions made. They have no rows once this is finished."""
    writer: str
    at: int = 0
    """Unix milliseconds, for people."""


_decoder: Final = msgspec.json.Decoder(Compaction)


class Compactions:
    """The compactions of one lake."""

    def __init__(self, claims: Claims) -> None:
        self._requests, self._at = claims.requests, claims.compactions_at
        self._replaced: dict[str, dict[str, Compaction]] = {}

    async def chain(self, path: str) -> list[Compaction]:
        """Those of a path, the oldest first."""
        names = await self._requests.names(self._place(path), MOST)
        found = await asyncio.gather(*map(self._read, names))
        return sorted(found, key=lambda each: each.sequence)

    async def all(self) -> AsyncIterator[Compaction]:
        """Every one that is there, in any order."""
        names = await self._requests.names(self._at, MOST)
        for at in range(0, len(names), _AHEAD):
            for each in await asyncio.gather(*map(self._read, names[at : at + _AHEAD])):
                yield each

    async def create(self, compaction: Compaction) -> Compaction:
        """Make a manifest; answer the one that is there afterwards, this one or another's."""
        key = self._place(compaction.path, compaction.sequence)
        if await self._requests.create(key, msgspec.json.encode(compaction), {}):
            return compaction
        there = await self._read(key)
        return compaction if there.writer == compaction.writer else there

    async def replacing(self, path: str, key: str) -> Compaction | None:
        """The compaction that has the rows of this object; None when none has. A path is read once."""
        if path not in self._replaced:
            chain = await self.chain(path)
            self._replaced[path] = {each.key: compaction for compaction in chain for each in compaction.replaces}
        return self._replaced[path].get(key)

    @staticmethod
    def mark(compaction: Compaction) -> str:
        """What is kept beside an object whose rows this one has."""
        return f"{_hash(compaction.path)}/{compaction.sequence}"

    def _place(self, path: str, sequence: int | None = None) -> str:
        at = f"{self._at}{_hash(path)}/"
        return at if sequence is None else f"{at}{LAST - sequence:0{DIGITS}d}.json"

    async def _read(self, key: str) -> Compaction:
        data = await self._requests.get(key, CLAIM_BYTES)
        place = self._requests.place(key)
        if data is None:
            raise SinkError("lake.chain", f"{place}: the manifest of a compaction is gone")
        try:
            found = _decoder.decode(data)
        except msgspec.MsgspecError as error:
            detail = f"{place}: not a manifest of a compaction that this version can read: {error}"
            raise SinkError("lake.chain", detail) from error
        if self._place(found.path, found.sequence) != key:
            raise SinkError("lake.chain", f"{place}: it is the manifest of compaction {found.sequence} of {found.path}")
        return found


def _hash(path: str) -> str:
    """A part of a key: paths may lie below one another, so their names do not tell their manifests apart."""
    return blake2b(path.encode(), digest_size=16).hexdigest()
