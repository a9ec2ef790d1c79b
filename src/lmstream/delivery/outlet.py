"""What a pipeline hands its records to: it makes their rows, gathers and delivers them, and settles the records."""

from collections.abc import Callable, Container
from typing import NamedTuple, Protocol

from lmstream.delivery.active_partitions import ActivePartitions
from lmstream.delivery.in_flight import InFlight, InFlightRecord
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.delivery.retry import Attempts
from lmstream.delivery.settlement import Settlement
from lmstream.delivery.tasks import Tasks
from lmstream.delivery.waiting import Waiting
from lmstream.engine import Engine
from lmstream.interfaces import PoisonGuard
from lmstream.model import Failure, TopicPartition

SENDING = "sending"
"""Kind of the tasks that deliver rows (see Tasks)."""


class Parts(NamedTuple):
    """What a pipeline shares with its outlet."""

    engine: Engine
    guard: PoisonGuard | None
    flight: InFlight
    budget: MemoryBudget
    tasks: Tasks
    settlement: Settlement
    attempts: Attempts
    active: ActivePartitions


class Way(Protocol):
    """How requests to the sink fare."""

    durations: LatencyHistogram
    """Of requests, answered or ended by a deadline."""

    @property
    def trouble(self) -> Failure | None:
        """The last failure that is being retried; None as soon as something is delivered."""
        ...

    @property
    def fatal(self) -> Failure | None:
        """Set while the sink answers that an operator must act: whoever reads must stop reading."""
        ...

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once just now."""
        ...

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet if `fatal` is about the sink, or about one pack alone."""
        ...

    async def close(self) -> None: ...


class Outlet(Protocol):
    """Makes rows of records, delivers them and settles the records. Everything it begins is a task of `Parts.tasks`."""

    gathers_for: float
    """Seconds that rows are gathered at most before they are sent."""

    @property
    def way(self) -> Way: ...

    @property
    def gathering_since(self) -> float | None:
        """Time, by the clock, of the oldest row that is gathered and not sent; None for none."""
        ...

    @property
    def waiting(self) -> Waiting:
        """Records that wait for an hour; without a task that would end by itself."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether it waits for records whose memory is reckoned with already, so that reading must not stop."""
        ...

    def suspects(self, each: InFlightRecord) -> bool:
        """Whether this record must be transformed alone."""
        ...

    def make(self, each: InFlightRecord) -> None:
        """Make rows of one record, and gather them; or have it settled for want of any. Takes one off
        `counts.unjudged` as soon as it is counted what the record became."""
        ...

    def cut(self) -> None:
        """Send what waited for the end of its batch."""
        ...

    def tick(self, now: float) -> None:
        """Send what is old enough."""
        ...

    def flush(self) -> None:
        """Send everything that is gathered."""
        ...

    def passed(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Take note that below this offset lies no record of the partition that was not handed over."""
        ...

    def forget(self, partitions: Container[TopicPartition]) -> None:
        """Give back records of these partitions of which no row was sent yet."""
        ...

    def clear(self) -> None:
        """Forget what is gathered and waits: all records are given back."""
        ...

    def close(self) -> None:
        """Leave nothing behind: no more is made. Requests have ended."""
        ...


MakeOutlet = Callable[[Parts], Outlet]
