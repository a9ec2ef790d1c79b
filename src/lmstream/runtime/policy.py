"""How a run paces itself: what it does how often, and how long it waits for what."""

from typing import Annotated

from msgspec import Meta, Struct


class RuntimePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often, and how long."""

    commit_interval: Annotated[float, Meta(ge=0)] = 1.0
    """Seconds between two commits, at least. A crash reads again what was delivered since.
    Costs: duplicates: after a crash, those of this time. Row ids are the same."""
    commit_timeout: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds after which a commit has failed. The next one covers it.
    Costs: nothing."""
    drain_timeout: Annotated[float, Meta(ge=0)] = 45.0
    """Seconds to settle what is in flight before partitions are revoked. Must stay below the group's rebalance
    timeout (60 s), or the group continues without this member.
    Costs: duplicates: what is not settled when partitions move is read again by their next owner."""
    grace: Annotated[float, Meta(ge=0)] = 25.0
    """Seconds after `stop` to settle what is in flight: below the 30 s after which Fargate and Kubernetes kill.
    Costs: duplicates: what is not settled by then is read again after the next start."""
    close_timeout: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds each part may take to close; then it is left behind.
    Costs: nothing: it is closed after everything is settled."""
    fatal_patience: Annotated[float, Meta(ge=0)] | None = None
    """Seconds to wait for an operator while the sink refuses by configuration (missing stream, no permission), or too
    many records are refused.
    None waits for ever, paused and without loss, as a service should; a command line gives up after a few.
    Costs: restarts: a process that ends is started again by its orchestrator."""
    progress_interval: Annotated[float, Meta(gt=0)] = 0.25
    """Seconds between two calls of `on_progress`.
    Costs: nothing."""
    tick: Annotated[float, Meta(gt=0)] = 0.1
    """Seconds between two looks at ages, commits and progress while nothing else happens.
    Costs: delay: a shorter one uses more of a processor that is idle."""
    held_offsets: Annotated[int, Meta(ge=1)] = 100_000
    """Offsets read from the oldest unsettled one on, after which reading pauses: bounds memory, and what a restart
    reads again, when a single record stays stuck. A partition with more than its part of one half is paused alone, by
    sources that can.
    Costs: memory, duplicates: what a restart reads again when a record stays stuck."""
