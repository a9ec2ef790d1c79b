"""What a source, a sink, a place of dead letters or its module may be able to do besides what each must: all optional.

Nothing is registered: an ability is there when the methods or fields of its protocol are, whoever wrote the part.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct, field

from lmstream.behind import Look, Retention
from lmstream.errors import LmstreamError
from lmstream.interfaces import Assign, Assigned, DeadLetterSink, Load, ObjectStore, PoisonGuard, Standing
from lmstream.members import Fellow
from lmstream.model import TopicPartition
from lmstream.settings import Settings

__all__ = [
    "Askable", "Buffering", "Certified", "Check", "Checkable", "Describable", "Examinable", "Grouped", "Health",
    "Healthy", "InFolder", "InGroup", "InTopic", "Joining", "Journaled", "Laned", "Loaded", "Looking", "OnAws",
    "OnCluster", "OnTopics", "Outliving", "Pausable", "Placed", "Placing", "Pooled", "Positions", "Rebalanced",
    "Remarked", "Retained", "Seek", "Shared", "State", "Stored", "Timed", "Traits", "Verdict", "Walking",
]  # fmt: skip

Verdict = Literal["ok", "warning", "failed"]
State = Literal["starting", "running", "draining", "suspect", "recreating", "stopped"]
"""States of a source that keeps a member in its group."""


class Traits(Struct, frozen=True, kw_only=True):
    """What a module says of its part, as `TRAITS`, before any is made."""

    takes: tuple[Literal["limits", "source"], ...] = ()
    """What `make` takes beside the settings, by name: `limits` of the engine; `source`, the source's settings."""
    service: str = ""
    """The AWS service that a sink or place of dead letters calls, as boto3 names it (`firehose`, `s3`). Credentials are
    then looked for before a start. Its `make` takes `client`: in Lambda the runtime's own boto3, with each call to be
    awaited. Its settings are OnAws."""
    finite: bool = False
    """A source that ends by itself: files. A person looks at its end. So log lines are
    plain, endpoints off unless set, dead letters in ./dead-letters unless set, and a run without a row ends with 4."""
    letters: Callable[[DeadLetterSink, Any], DeadLetterSink] | None = None
    """A source whose letters have to be completed: wraps the place of dead letters; gets the source's settings too."""
    store: Callable[[Any, Callable[[str], None]], Any] | None = None
    """Opens a place of dead letters for reading (a dead_letters.store.DeadLetterStore), from its settings and what gets
    a line about each thing left out: for `lmstream dlq`."""
    unbounded_bytes: int = 0
    """Bytes that a source's client takes for one partition whose batches inflate 20,000-fold; 0 when it has a bound."""
    commits: bool = True
    """A source that remembers what is committed, and does not hand it out again; files do not."""
    claims: bool = False
    """A sink whose rows land by claims: its source has to be one that can be told where to read on (Placed)."""
    placed: bool = False
    """A source that can be."""
    lanes: bool = False
    """A source that can be (see Laned)."""
    reads: Callable[[Any], Any] | None = None
    """A source whose ranges of offsets can be read beside its group: gets its settings, answers a lake.again.Read."""
    discards: bool = False
    """A sink that keeps nothing: what it took is nowhere afterwards. Sources that commit are refused with it."""
    prints: bool = False
    """A sink whose rows go to standard output: one process at a time, and no counts beside them. It keeps nothing
    either: whoever reads may have read nothing yet."""


class Check(Struct, frozen=True):
    """One thing that was looked at before a start, and what came of it."""

    name: str
    verdict: Verdict
    said: str
    fix: str = field(default="", name="mend")  # the key of `validate --json` stays
    code: str = ""
    """What `lmstream explain` takes, of what failed."""

    @classmethod
    def refused(cls, name: str, error: LmstreamError) -> "Check":
        """What failed with this error."""
        return cls(name, "failed", f"{error.code} {error.detail}", error.fix, error.code)


# Of settings


@runtime_checkable
class Shared(Protocol):
    """Settings of a source that several workers divide among them; without it each worker reads all that is set, as
    members of a group do."""

    def shares(self, count: int, /) -> Sequence[Mapping[str, Any]]:
        """The settings of `source` that each of `count` workers gets. Raises LmstreamError when it cannot be shared."""
        ...


@runtime_checkable
class Remarked(Protocol):
    """Settings that have something to say before a run."""

    def remark(self) -> str:
        """One sentence for the operator; empty for nothing."""
        ...


@runtime_checkable
class InFolder(Protocol):
    """Settings of rows or dead letters in a folder of this machine. That of dead letters also remembers over which
    records a process died."""

    folder: str


@runtime_checkable
class Walking(Protocol):
    """Settings of a source that reads folders of this machine."""

    paths: Sequence[str]
    without: Sequence[str]
    """Folders below the paths that it leaves out. A run adds those into which it writes: its rows and dead letters are
    no input."""


@runtime_checkable
class InTopic(Protocol):
    """Settings of dead letters in a topic."""

    topic: str


@runtime_checkable
class OnCluster(Protocol):
    """Settings of a source that reads a cluster."""

    bootstrap: str


@runtime_checkable
class OnTopics(Protocol):
    """Settings of a source that reads topics by name, or by a pattern that begins with ^."""

    topics: Sequence[str]


@runtime_checkable
class InGroup(Protocol):
    """Settings of a source that shares its records with the other members of a group, and has to be told which."""

    group: str


@runtime_checkable
class Examinable(Protocol):
    """Settings of a source that can look at what they name, before a start and without a connection."""

    def mistakes(self, engine: Settings, /) -> Sequence[str]:
        """What cannot be read as bundles, a sentence each with its name and why; nothing when all can."""
        ...


@runtime_checkable
class OnAws(Protocol):
    """Settings of a sink, or of dead letters, that calls a service of AWS by a client of its own."""

    region: str
    endpoint_url: str
    concurrency: int
    """Requests at a time."""
    connect_timeout: float
    """Seconds."""
    read_timeout: float
    """Seconds."""


@runtime_checkable
class Rebalanced(Protocol):
    """Settings of a source whose group takes partitions from a member that is silent, and waits for one that drains."""

    session_timeout_ms: int
    heartbeat_interval_ms: int
    rebalance_timeout_ms: int
    drain_timeout_ms: int


@runtime_checkable
class Joining(Rebalanced, Protocol):
    """Those of a source that joins its group by a request, which is answered when all members have joined."""

    request_timeout_ms: int


@runtime_checkable
class Buffering(Protocol):
    """Settings of a source whose client holds bytes beside the budget of a run."""

    fetch_bytes: int


@runtime_checkable
class Timed(Protocol):
    """Settings of a sink whose calls end by themselves."""

    call_timeout: float


@runtime_checkable
class Pooled(Protocol):
    """Settings of a sink that makes so many requests at once."""

    concurrency: int


# Of sources


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


# Of sinks


@runtime_checkable
class Stored(Protocol):
    """A sink that is a place for objects which are made once: rows land there by claims, exactly once."""

    store: ObjectStore
    settings: Any

    async def close(self) -> None: ...


@runtime_checkable
class Checkable(Protocol):
    """A sink that can be tried before a start."""

    async def check(self) -> None:
        """Raises LmstreamError when rows could not be written."""
        ...


@runtime_checkable
class Outliving(Protocol):
    """A sink that keeps what it knows of landed records, and has to keep it for longer than their topics keep them."""

    retention: Retention | None
    """Of the topic that keeps records longest; None while that is not known. Set before the sink is asked or tried."""


@runtime_checkable
class Describable(Protocol):
    """A sink whose service can be asked how it is set up, by a right of its own."""

    async def describe(self) -> Mapping[str, Any]:
        """Raises LmstreamError; `sink.denied` when only this question is not allowed."""
        ...
