"""A run at one moment: what the loop, the ledger and the pipeline hold."""

from typing import Literal

from msgspec import Struct

from lmstream.delivery import Snapshot

RunState = Literal["starting", "running", "draining"]


class RunSnapshot(Struct, frozen=True, kw_only=True):
    """Where a run stands just now. Times are by the runtime's clock."""

    state: RunState
    duration: float
    """Seconds since the start."""
    silent: float
    """Seconds since the loop last ran."""
    still: float
    """Seconds that records are in flight of which none is settled."""
    reading: bool
    """Whether all that is assigned is read: false while there is no room, or partitions are paused by themselves."""
    commits: int
    commit_failures: int
    late: int
    """Settlements that came after their partition was revoked."""
    stale: int
    """Records dropped because their partition had been revoked when they came."""
    pipeline: Snapshot
