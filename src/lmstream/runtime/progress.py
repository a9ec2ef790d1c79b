"""Where a run stands, as plain numbers: for status lines, metrics and readiness."""

from copy import copy
from typing import Any, Final, Self

from msgspec import Struct, field

from lmstream.delivery import Counts, Sums
from lmstream.model import Failure
from lmstream.runtime.snapshot import RunSnapshot


class Progress(Struct, kw_only=True):
    """Where a run stands. The last one is the summary, which `Runtime.run` returns."""

    records: int = 0
    """Records taken up: understood, empty, undecodable, without a value, or skipped because they kill processes."""
    understood: int = 0
    """Records that gave at least one data point."""
    empty: int = 0
    """Records with a value and without a data point, in which nothing was wrong or unknown."""
    undecodable: int = 0
    """Records refused as a whole before any point was judged."""
    all_skipped: int = 0
    """Understood records that gave no row because all of their points were skipped."""
    parts_undecodable: int = 0
    """Parts of bundles in which points could not be counted."""
    rows: int = 0
    """Rows that were delivered: the sink accepted them."""
    rows_in_flight: int = 0
    """Rows that were made, and are neither delivered nor in a durable dead letter."""
    rows_dead: int = 0
    """Rows that the sink refused permanently, in a durable dead letter."""
    bytes: int = 0
    """Bytes of packs delivered."""
    dead_letters: int = 0
    given_back: int = 0
    """Records of which nothing was landed here, to be read again; or which another process has landed meanwhile."""
    tombstones: int = 0
    sums: Sums = Sums()
    """Where each record and each data point went. `rows` were made: delivered, in flight or refused permanently."""
    skipped: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """The first ten fields that OTLP metrics do not define, in parts that gave no data point."""
    unacked: int = 0
    """Records read and not settled: the source redelivers them after a restart."""
    in_flight_bytes: int = 0
    retried_packs: int = 0
    unknown_outcomes: int = 0
    commits: int = 0
    commit_failures: int = 0
    late: int = 0
    """Settlements that came after their partition was revoked."""
    stale: int = 0
    """Records dropped because their partition had been revoked when they came."""
    trouble: Failure | None = None
    """What is being retried just now, of the sink or the dead letters."""
    fatal: Failure | None = None
    """Set while the sink's configuration is wrong; reading is paused."""
    duration: float = 0.0
    """Seconds since the start."""

    @property
    def accepted(self) -> int:
        """The rows, under the name that they have in Counts."""
        return self.rows

    @classmethod
    def of(cls, run: RunSnapshot) -> Self:
        """The numbers of a snapshot: copies, which stay as they are."""
        pipeline, counts = run.pipeline, run.pipeline.counts
        same: dict[str, Any] = {name: copy(getattr(counts, name)) for name in _COUNTED}
        return cls(
            **same,
            rows=counts.accepted,
            rows_in_flight=counts.rows_in_flight,
            sums=counts.sums,
            unknown=list(pipeline.unknown),
            unacked=pipeline.in_flight,
            in_flight_bytes=pipeline.in_flight_bytes,
            commits=run.commits,
            commit_failures=run.commit_failures,
            late=run.late,
            stale=run.stale,
            trouble=pipeline.letters_trouble or pipeline.sink_trouble,
            fatal=pipeline.fatal,
            duration=run.duration,
        )


_COUNTED: Final = frozenset(Progress.__struct_fields__) & frozenset(Counts.__struct_fields__) - {"rows"}
"""What is counted under the same name. `rows` are those made in Counts, and those accepted here."""
