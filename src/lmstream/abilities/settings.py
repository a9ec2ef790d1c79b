"""What the settings of a source, a sink or a place of dead letters may be able to do or say."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from lmstream.settings import Settings


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
