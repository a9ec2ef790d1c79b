"""What a source may be able to do besides what each must."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct, field

from lmstream.abilities.traits import Check
from lmstream.behind import Look, Retention
from lmstream.interfaces import Assign, Assigned, Load, PoisonGuard, Standing
from lmstream.members import Fellow
from lmstream.model import TopicPartition

State = Literal["starting", "running", "draining", "suspect", "recreating", "stopped"]
"""States of a source that keeps a member in its group."""


@runtime_checkable
class Pausable(Protocol):
    """A source of several partitions: one whose records cannot be settled does not stop the others."""

    def pause(self, partitions: Iterable[TopicPartition], /) -> None:
        """Read nothing of these until the next call."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A source that can be told where to read on."""

    on_assign: Assign | None
    """Set by the runtime; awaited when partitions are assigned, before a record of them is handed out. What it raises
    ends the member, and the next one asks again."""

    async def seek(self, places: Mapping[TopicPartition, int], /) -> None:
        """Read these from there on, under a new epoch: what was handed out of them and is not settled is read again.
        Those that are assigned no longer are left out. Raises SourceError."""
        ...


Seek = Callable[[Mapping[TopicPartition, int]], Awaitable[None]]
"""`Placed.seek`."""


@runtime_checkable
class Laned(Protocol):
    """A source whose group can assign partitions together."""

    lanes: int | None
    """Set before `start`: the partitions of a topic whose numbers are the same mod `lanes` go to one member. None: each
    goes anywhere."""


@runtime_checkable
class Placing(Protocol):
    """An outlet that knows better than the group's commits what has landed, and so where reading begins."""

    seek: Seek | None
    """Set by the runtime: the source's."""

    async def assigned(self, places: Mapping[TopicPartition, Assigned], /) -> Mapping[TopicPartition, int]:
        """As `Assign`."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A source that has something to tell the operator once it has begun."""

    say: Callable[[str], None] | None
    """Set by the host."""


@runtime_checkable
class Positions(Protocol):
    """A source that knows how far it is behind."""

    def standings(self) -> Mapping[TopicPartition, Standing]: ...


@runtime_checkable
class Looking(Protocol):
    """A source that can look at partitions that it does not read at the moment."""

    async def look(self, start: Mapping[TopicPartition, int], /) -> Mapping[TopicPartition, Look]:
        """Where these begin and end, and what comes first from each of these offsets on. Raises whatever its client
        raises."""
        ...


@runtime_checkable
class Retained(Protocol):
    """A source whose records are deleted after a time."""

    async def retentions(self) -> Mapping[str, Retention]:
        """How long each topic keeps records; no topic of which that is not known. Raises whatever its client raises."""
        ...


@runtime_checkable
class Askable(Protocol):
    """A source that can be asked before a start about all that it needs."""

    async def questions(self, workers: int, /) -> Sequence[Check]:
        """What it answers, with `workers` processes. Reads no record, commits nothing, and raises nothing."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """A source that shares its records with other members of a group."""

    async def members(self) -> Sequence[Fellow]:
        """Who is in the group now. Raises whatever its client raises."""
        ...


@runtime_checkable
class Loaded(Protocol):
    """A source that unpacks what it reads, and asks before what is in flight."""

    load: Callable[[], Load] | None
    """Set by the runtime."""


@runtime_checkable
class Journaled(Protocol):
    """A source that marks the record that it unpacks, for the case that the process dies of it."""

    journal: PoisonGuard | None
    """Set by the host."""


class Health(Struct, kw_only=True):
    """How the source is doing, for metrics and readiness."""

    state: State = "starting"
    """Only `running` is ready: a member of the group that polls."""
    recreations: dict[str, int] = field(default_factory=dict)
    """Members replaced, by cause, since the start."""
    failed_starts: int = 0
    """New members that could not start."""
    rebalances: int = 0
    """Assignments received."""
    lost_by_retention: int = 0
    """Offsets that were gone from the topic before they were read."""
    topic_resets: int = 0
    """Partitions whose end was found below what the group had read: the topic was recreated, or cut."""
    headers_unread: int = 0
    """Records whose headers the client could not give."""
    unreadable: dict[TopicPartition, str] = field(default_factory=dict)
    """Assigned partitions that are held, because what comes next in them arrives damaged: where, and what to do."""
    throttled: int = 0
    """Answers that the brokers held back, by a quota, for a second or more."""
    missing: tuple[str, ...] = ()
    """Topics of the settings that are not there, and patterns that no topic matches: not ready while there are some."""
    last_error: str = ""
    recovery_seconds: float = 0.0
    """From the end of the last member that was lost to the assignment of the next."""


@runtime_checkable
class Healthy(Protocol):
    """A source that says how it is doing: a host is not ready while it is not `running`, or misses topics."""

    health: Health


@runtime_checkable
class Certified(Protocol):
    """A source with a client certificate."""

    @property
    def certificate_expiry(self) -> float | None:
        """Unix time at which it ends; None without one."""
        ...
