"""What was given up on: a dead letter, as it is written and as the record to replay."""

import zlib
from typing import Annotated

from msgspec import Meta, Struct

from lmstream.model.records import CLOSED, CLOSED_FOR, Identity, Position, Record


class DeadLetter(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was given up on, and why: one letter per bundle, the original bytes once. Written as one line of JSON, bytes
    as base64; the files source reads it back with the same coordinates, so that a replay gives the same row ids.
    """

    v: int = 1
    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    timestamp: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = -1
    value: bytes | None = None
    held: Annotated[int, Meta(ge=0)] = 0
    """Bytes of the record's value when `value` is the gzip of it, as for large ones; 0 when it is the value itself."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    header_keys: tuple[tuple[int, bytes], ...] = ()
    """(index in `headers`, bytes) of the keys that are no UTF-8: in `headers` they have U+FFFD for what is none."""
    reason: str = ""
    """A key of errors.REASONS: of the whole record, or of the first rejected point."""
    code: str = ""
    detail: str = ""
    points: Annotated[int, Meta(ge=0)] = 0
    """Data points that were counted in the record; 0 when it was refused as a whole before."""
    rejected: tuple[tuple[int, str], ...] = ()
    """(ordinal, reason) of the points that made no row; empty when the whole record was refused."""
    parts: tuple[tuple[str, str], ...] = ()
    """(path, reason) of parts of the bundle in which no points could be counted; beside `rejected`, not instead."""
    names: str = "otlp"
    """engine.field_names under which `rejected` was counted."""
    rows: bool = False
    """`value` is rows that were made before, a line each: see Record."""
    identity: Identity | None = None
    """What names the record in row ids, as [topic, partition, offset, stamp]; absent where its coordinates do, as in
    every letter of row contract 1.0."""
    position: Position | None = None
    """Where the record was settled, as [[lane, partition], number], when that was not at its coordinates: the claim of
    a lake lists it there."""
    sha256: str = ""
    version: str = ""
    """Version of lmstream that wrote the letter."""

    @property
    def identified(self) -> Identity:
        """What names the record in row ids: see Record."""
        return self.identity or Identity(self.topic, self.partition, self.offset, self.timestamp)

    @property
    def size(self) -> int:
        """Bytes of the record's value; 0 when the letter has none."""
        return self.held or len(self.value or b"")

    def beginning(self, most: int) -> bytes:
        """The first bytes of the record's value, at most so many; none of a gzip that is damaged."""
        if not self.held:
            return (self.value or b"")[:most]
        try:
            return zlib.decompressobj(wbits=31).decompress(self.value or b"", most)
        except zlib.error:
            return b""

    def record(self) -> Record:
        """The record to replay: same coordinates and bytes, and only what was refused of it."""
        odd = {at: key.decode(errors="surrogateescape") for at, key in self.header_keys}
        return Record(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            timestamp=self.timestamp,
            value=self.value,
            held=self.held,
            key=self.key,
            headers=tuple((odd.get(at, name), text) for at, (name, text) in enumerate(self.headers)),
            closed=self.detail if self.reason in CLOSED_FOR else "",
            closed_for=self.reason if self.reason in CLOSED_FOR else CLOSED,
            only=tuple(n for n, _ in self.rejected) if self.rejected or self.parts else None,
            below=tuple(path for path, _ in self.parts),
            names=self.names,
            rows=self.rows,
            identity=self.identity,
            claimed=self.position,
        )
