"""The chain of claims of a lane: what each holds, under which key, and the only ways to read and to make one."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lmstream.errors import SinkError
from lmstream.lake.layout import Layout
from lmstream.lake.requests import Requests
from lmstream.model import Record

CLAIM_BYTES: Final = 64 << 20
"""Bytes of a claim that is read: a manifest of some 400,000 objects."""
LAYOUT_BYTES: Final = 16 << 20
DIGITS: Final = 20
NUMBER: Final = 12
"""Digits of a sequence number in the name of an object, so that names of a lane lie in its order."""
LANES: Final = 1_000_000
"""Lanes of a topic that are listed: of all its divisions together."""
LAST: Final = 10**19 - 1
"""Sequence numbers are written as what is missing to this, so that the newest claim is the first key of a listing."""
COMPACTED: Final = "compacted"
"""Beside an object without rows: which compaction has its rows in a larger one. Its name stays taken."""

Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Kind = Literal["window", "start", "jump", "renewed", "barrier"]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Mark(Struct, frozen=True, kw_only=True):
    """What tells a record from another one at the same place of a topic that was created again."""

    offset: Offset
    timestamp: int
    """Milliseconds."""
    digest: Digest
    """blake2b of key, value and headers."""


class Span(Struct, frozen=True, kw_only=True):
    """Offsets of one partition, and what lay in them."""

    start: Offset
    end: Offset
    """Behind the last."""
    first: Mark | None = None
    last: Mark | None = None
    """Of the last record; None when there was none."""
    records: int = 0
    """Records that lay between."""


class Put(Struct, frozen=True, kw_only=True):
    """One object of a window."""

    path: str
    piece: int
    rows: Annotated[int, Meta(ge=1)]
    digest: Digest
    """Of its rows, in any order (see `row_digest`)."""
    until: tuple[int, int, int] | None = None
    """(partition, offset, ordinal) of the last point that may be in it, in the order of records; None in the last piece
    of a path, which has all the rest."""


class Buried(Struct, frozen=True, kw_only=True):
    """A record of a window that has a dead letter."""

    partition: int
    offset: Offset
    reason: str
    ordinals: tuple[int, ...] | None = None
    """Points that are in the letter; None when all of the record is."""
    parts: tuple[str, ...] = ()
    """Paths of parts in which no points could be counted."""


class Divided(Struct, frozen=True, kw_only=True):
    """How a topic is divided into lanes from some offsets on."""

    number: Annotated[int, Meta(ge=0)]
    """Of the division; the next one's is larger."""
    lanes: int | None
    """None: each partition is a lane."""

    def __str__(self) -> str:
        return "a lane for each partition" if self.lanes is None else f"{self.lanes} lanes"


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One window of a lane, or a change of place without rows."""

    form: Literal[1] = 1
    topic: str
    lane: str
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    kind: Kind
    why: str = ""
    """Why the lane moved without rows, in words."""
    spans: Mapping[int, Span]
    """By partition; each begins where that of the claim before it ends."""
    done: int
    """The oldest sequence number whose objects may not all be there; all before it are."""
    layout: Digest
    rows: int = 0
    held: int = 0
    """Bytes that its rows took in memory when it was made: a member with less cannot make them again."""
    objects: tuple[Put, ...] = ()
    dimensions: tuple[Put, ...] = ()
    """Objects with the dimension rows that the rows need: put before them."""
    letters: tuple[Buried, ...] = ()
    next: Divided | None = None
    """Of a barrier, the last claim of its lane: the division whose lanes begin where this one ends."""
    writer: str
    """Who made it: tells our claim whose answer was lost from another's."""
    at: int = 0
    """Unix milliseconds, for people."""

    @property
    def every(self) -> tuple[Put, ...]:
        """All objects, in the order in which they are put."""
        return (*self.dimensions, *self.objects)


def name(claim: Claim, entry: Put, extension: str, supplement: int = 0) -> str:
    """The key of an object below where rows land; of one of its supplements, which have rows that it lacks."""
    piece = f"{entry.piece:03d}" + (f"s{supplement}" if supplement else "")
    return f"{entry.path}{claim.topic}-{claim.lane}-{claim.sequence:0{NUMBER}d}-{piece}.{extension}"


_decoder: Final = msgspec.json.Decoder(Claim)
_layouts: Final = msgspec.json.Decoder(Layout)


def mark(record: Record) -> Mark:
    """What tells this record from another at its place."""
    text = blake2b(digest_size=16)
    for part in (record.key, record.value):
        text.update(b"-" if part is None else b"%d:" % len(part))
        text.update(part or b"")
    for name, value in record.headers:
        key = name.encode(errors="surrogateescape")
        text.update(b"%d:%b" % (len(key), key))
        text.update(b"-" if value is None else b"%d:%b" % (len(value), value))
    return Mark(offset=record.at, timestamp=record.timestamp, digest=text.hexdigest())


class Claims:
    """The claims of one lake. Every request is repeated until it is answered."""

    def __init__(self, requests: Requests, prefix: str, source_id: str, rows: str = "") -> None:
        """`prefix` is where claims lie: outside of every table. Rows lie below `rows`."""
        self.requests: Requests = requests
        self.rows: str = rows
        self._layouts_at = f"{prefix}settings/"
        self.source_id: str = source_id
        self.names_at: str = f"{prefix}names/{rows}"
        """Below it, which source lands a topic where rows lie."""
        self.claims_at: str = f"{prefix}claims/{source_id or '_'}/"
        self.lanes_at: str = f"{prefix}lanes/{source_id or '_'}/"
        self.replays_at: str = f"{prefix}replays/{source_id or '_'}/"
        self.compactions_at: str = f"{prefix}compactions/{source_id or '_'}/"
        self.known: dict[str, Layout] = {}
        """Layouts that were made or read, by hash."""

    def place(self, topic: str, lane: str, sequence: int | None = None) -> str:
        """The key of a claim, or the prefix of all keys of a lane."""
        at = f"{self.claims_at}{topic}/{lane}/"
        return at if sequence is None else f"{at}{LAST - sequence:0{DIGITS}d}.json"

    async def head(self, topic: str, lane: str) -> Claim | None:
        """The newest claim of a lane; None when it has none. Raises SinkError for what is not a claim."""
        names = await self.requests.names(self.place(topic, lane), 1)
        return None if not names else await self._read(names[0])

    async def lanes(self, topic: str) -> Sequence[str]:
        """Names of the lanes of a topic that have claims, of all divisions."""
        return await self.requests.folders(f"{self.claims_at}{topic}/", LANES)

    async def get(self, topic: str, lane: str, sequence: int) -> Claim:
        """One claim. Raises SinkError when it is not there."""
        return await self._read(self.place(topic, lane, sequence))

    async def create(self, claim: Claim) -> Claim:
        """Make a claim; answer the one that is there afterwards, this one or another's."""
        key = self.place(claim.topic, claim.lane, claim.sequence)
        if await self.requests.create(key, msgspec.json.encode(claim), {}):
            return claim
        there = await self._read(key)
        return claim if there.writer == claim.writer else there

    async def keep(self, layout: Layout) -> str:
        """Have a layout where claims can name it; answers its hash."""
        name = layout.hash
        if name not in self.known:
            await self.requests.create(f"{self._layouts_at}{name}.json", layout.encoded, {})
            self.known[name] = layout
        return name

    async def layout(self, name: str) -> Layout:
        """The layout of that hash. Raises SinkError when it is not there, or another."""
        if name not in self.known:
            key = f"{self._layouts_at}{name}.json"
            data = await self.requests.get(key, LAYOUT_BYTES)
            if data is None:
                raise SinkError("lake.chain", f"{self.requests.place(key)}: the settings of a claim are gone")
            if blake2b(data, digest_size=16).hexdigest() != name:
                raise SinkError("lake.chain", f"{self.requests.place(key)}: its content is not what its name says")
            try:
                self.known[name] = _layouts.decode(data)
            except msgspec.MsgspecError as error:
                detail = f"{self.requests.place(key)}: this version cannot read the settings of a claim: {error}"
                raise SinkError("lake.code", detail) from error
        return self.known[name]

    async def _read(self, key: str) -> Claim:
        data = await self.requests.get(key, CLAIM_BYTES)
        place = self.requests.place(key)
        if data is None:
            raise SinkError("lake.chain", f"{place}: the claim is gone")
        try:
            claim = _decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise SinkError("lake.chain", f"{place}: not a claim that this version can read: {error}") from error
        if self.place(claim.topic, claim.lane, claim.sequence) != key:
            said = f"{claim.topic}/{claim.lane}/{claim.sequence}"
            raise SinkError("lake.chain", f"{place}: it says that it is the claim of {said}")
        return claim


def follows(before: Claim, after: Claim) -> str:
    """What is wrong with `after` as the next claim of the chain; empty when nothing is."""
    if after.sequence != before.sequence + 1:
        return f"claim {after.sequence} comes after {before.sequence}"
    if before.kind == "barrier":
        return f"claim {after.sequence} comes after the barrier that ends this lane"
    for partition, span in after.spans.items():
        known = before.spans.get(partition)
        if known is not None and span.start != known.end:
            return f"claim {after.sequence} begins at {span.start} of partition {partition}, not at {known.end}"
    return ""


def ends(claims: Sequence[Claim]) -> dict[int, int]:
    """Where a chain stands: by partition the offset behind its last span."""
    return {partition: span.end for claim in claims for partition, span in claim.spans.items()}
