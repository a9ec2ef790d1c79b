"""What Kafka holds, and what names it: records, their coordinates, and why one was never opened."""

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

CLOSED = "limits.batch"
"""Reason of a letter that holds a whole compressed batch of Kafka, never opened."""
UNREADABLE = "record.unreadable"
"""Reason of a letter that holds bytes of Kafka which no record can be taken out of: a batch, or one record of it."""
KILLS = "record.kills"
"""Reason of a letter without a value: processes died over it, time and again."""
CLOSED_FOR = (CLOSED, UNREADABLE, KILLS)
"""Reasons for which a source keeps a batch closed."""


class TopicPartition(NamedTuple):
    """One partition of one topic: offsets count inside it."""

    topic: str
    partition: int


class Identity(NamedTuple):
    """What names a record in its row ids. Each member has the range that the id's form gives it."""

    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    stamp: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    """Kafka's timestamp; of the content of a file, the first eight bytes of its blake2b, as a signed integer."""


class Position(NamedTuple):
    """Where a record lies for those who settle it and may have it read again."""

    tp: TopicPartition
    offset: int


class Record(Struct, frozen=True, kw_only=True):
    """What Kafka holds at (topic, partition, offset)."""

    topic: str
    partition: int
    offset: int
    timestamp: int = -1
    """Kafka's timestamp in milliseconds; -1 when unknown. Part of the row id, so that a topic that was
    deleted and made again, whose offsets restart, gives new ids."""
    value: bytes | None
    """The bundle; None is a tombstone, acknowledged and counted."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    """Keys that are no UTF-8 hold their other bytes as surrogates (PEP 383, `surrogateescape`)."""
    closed: str = ""
    """Why the source did not open it, in words: `value` is then not a bundle, but the batch of Kafka that ends here,
    or what else could not be read. Else empty."""
    closed_for: str = CLOSED
    """The reason of its letter, one of CLOSED_FOR. Of no meaning while `closed` is empty."""
    only: tuple[int, ...] | None = None
    """Ordinals of the data points that may become rows; None is all. Set when a dead letter is replayed."""
    below: tuple[str, ...] = ()
    """Paths, as `$.resourceMetrics[0].scopeMetrics`, of parts in which no points could be counted: a replay makes rows
    of what can be read below them now, beside those of `only`, and numbers them behind all others."""
    names: str = "otlp"
    """engine.field_names under which the points of `only` were counted: under another one they have other ordinals."""
    held: int = 0
    """Bytes of the value when `value` is its gzip, as a dead letter holds a large one; else 0."""
    rows: bool = False
    """`value` is not a bundle but rows that were made before, a line each, which go as they are. Only what an operator
    reads by hand may say so, never a message of a topic."""
    identity: Identity | None = None
    """What names it in row ids where its coordinates must not: a file's name says nothing of what it holds today."""
    position: Position | None = None
    """Where it lies, when that is not at its coordinates: a record of a file is settled by its number in the run."""
    claimed: Position | None = None
    """Of a letter that is replayed: the position of its record, by which the claim of a lake lists it."""

    @property
    def identified(self) -> Identity:
        """What names it in row ids: its own identity, else its coordinates and timestamp."""
        return self.identity or Identity(self.topic, self.partition, self.offset, self.timestamp)

    @property
    def tp(self) -> TopicPartition:
        """The partition in which it is settled: the one it came from, but for records with a position."""
        return TopicPartition(self.topic, self.partition) if self.position is None else self.position.tp

    @property
    def at(self) -> int:
        """Its offset in `tp`."""
        return self.offset if self.position is None else self.position.offset

    @property
    def listed_at(self) -> Position:
        """Where a claim lists the letter that is replayed as this record."""
        return self.claimed or Position(TopicPartition(self.topic, self.partition), self.offset)

    @property
    def size(self) -> int:
        """Bytes it holds in memory, as far as somebody else chose them: value, key and headers."""
        size = len(self.value or b"") + len(self.key or b"")
        return size + sum(len(name) + len(text or b"") for name, text in self.headers) if self.headers else size

    @property
    def coordinates(self) -> str:
        """`topic/partition/offset`, for messages."""
        return f"{self.topic}/{self.partition}/{self.offset}"
