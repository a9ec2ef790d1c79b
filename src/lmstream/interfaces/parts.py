"""Sources, sinks and places of dead letters, and what a runtime and they tell each other."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from lmstream.model import DeadLetter, Failure, Pack, Record, TopicPartition

Sleep = Callable[[float], Awaitable[None]]
"""Wait for some seconds; hosts pass asyncio.sleep, tests a virtual clock."""
Clock = Callable[[], float]
"""Monotonic seconds."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a sink takes: constants of its service, kept in the sink's file beside their source."""

    pack_bytes: int
    pack_rows: int
    request_packs: int
    request_bytes: int
    """Bytes of one request, counted as the service counts them: see `overhead` and `base64`."""
    base64: bool = False
    """Whether the service counts packs in base64."""
    uncut: bool = False
    """Whether a request continues after its caller gave up, as one does that writes in a thread: it is then waited for
    without a time limit, because a second one beside it would write the same lines again."""
    partitions: bool = False
    """Whether the service partitions rows itself, and takes only so many partitions at a time (DeliveryPolicy)."""
    by_path: bool = False
    """Whether packs are objects, one partition path each: lines are then gathered across batches by `rolling`."""


class Sink(Protocol):
    """Where packs go."""

    @property
    def limits(self) -> Limits:
        """What one request takes."""
        ...

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Make one request; answer for each pack, in order. None is delivered (durable). Never retries, never sleeps.

        May raise anything: the caller then takes every pack as retryable with an unknown outcome.
        """
        ...

    async def close(self) -> None: ...


class DeadLetterSink(Protocol):
    """Where dead letters go."""

    @property
    def largest(self) -> int:
        """Bytes of the largest letter it takes, as one line of JSON. Hosts refuse one too small for their limits."""
        ...

    async def check(self) -> None:
        """See, before a start, whether letters can be written; raises when not. May lower `largest`."""
        ...

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when all are durable; raise otherwise. Writing the same letter again must be harmless."""
        ...

    async def close(self) -> None: ...


class PoisonGuard(Protocol):
    """Remembers beyond the life of a process which record was being transformed when it died."""

    def deaths(self, record: Record, /) -> int:
        """How many processes died while they transformed this record."""
        ...

    def enter(self, record: Record, /) -> None:
        """Mark the record that is being transformed from now on; called for each record, so it must cost nothing."""
        ...

    def leave(self) -> None: ...

    def forget(self, record: Record, /) -> None:
        """Called when a record with deaths is settled. May raise OSError."""
        ...

    def close(self) -> None: ...


class Batch(Struct, frozen=True):
    """The records of one poll, in offset order per partition."""

    records: Sequence[Record]
    epochs: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Assignment epoch of each partition in the batch: acknowledgements of an older epoch are dropped."""
    end: bool = False
    """The source is finished: nothing follows."""
    passed: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Next offset to read of partitions in which offsets without a record follow what was handed out: markers of
    transactions, aborted records, what compaction removed. Each has its epoch in `epochs`."""
    cramped: bool = False
    """A batch waits in the source for bytes in flight to be settled: what is gathered should go now, not when it is
    old enough."""


class Load(NamedTuple):
    """What is in memory of records that were read."""

    held: int
    """Bytes in flight: payloads, lines, bodies of requests."""
    budget: int
    """Bytes that may be."""


Drain = Callable[[Iterable[TopicPartition]], Awaitable[None]]


class Assigned(NamedTuple):
    """Where a partition stands that the group has just given us."""

    next: int
    """Offset to read first: the group's commit, or by the source's settings where it has none."""
    committed: bool
    """Whether that is the group's commit."""
    begin: int
    """The first offset that the partition holds, or will hold."""
    end: int
    """The offset behind its last."""
    topics: Mapping[str, int] = MappingProxyType({})
    """How many partitions each topic has that the group reads; empty when that is not known."""
    same: bool = False
    """Whether it never holds other records than before: it is named after them."""


Assign = Callable[[Mapping[TopicPartition, Assigned]], Awaitable[Mapping[TopicPartition, int]]]
"""Told of partitions that were assigned; answers where to begin in those that are to begin elsewhere than at `next`."""


class Standing(NamedTuple):
    """Where the group stands in one partition."""

    next: int | None
    """Offset of the oldest record that is not committed; None while it is unknown."""
    end: int | None
    """Offset that the next record of the partition will have; None before the first answer."""


class Source(Protocol):
    """Where records come from. What one may be able to do besides is in the protocols of lmstream.abilities."""

    on_revoke: Drain | None
    """Set by the runtime; awaited before partitions are revoked, so that what is in flight can be settled."""

    async def poll(self, room: int, /) -> Batch:
        """Wait a little for records of at most about `room` bytes. With `room` 0 or less: no records, but stay in the
        group."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Make these the next offsets to read. Raises when it cannot; nothing is lost by that."""
        ...

    async def close(self) -> None: ...
