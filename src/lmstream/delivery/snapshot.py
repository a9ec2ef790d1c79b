"""A pipeline at one moment, for whoever looks at it: hosts, metrics, status lines."""

from collections.abc import Mapping

from msgspec import Struct

from lmstream.delivery.counts import Counts
from lmstream.delivery.in_flight import InFlight
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.delivery.outlet import Outlet
from lmstream.delivery.settlement import Settlement
from lmstream.model import Failure


class Snapshot(Struct, frozen=True, kw_only=True):
    """What a pipeline holds and does just now. Counts and mappings are the pipeline's own and keep counting: copy what
    is to be compared later."""

    counts: Counts
    in_flight: int
    """Records that are not settled, waiting ones included."""
    in_flight_bytes: int
    """What is held of everything that is not settled, waiting records included: payload, encoded lines, bodies of
    requests, and about a KiB a record for the objects around them."""
    budget: int
    """Bytes that may be in flight."""
    body_bytes: int
    """Bytes of the bodies of requests under way, which are copies of their packs; a part of `in_flight_bytes`."""
    fatal: Failure | None
    """Why nothing more is read until an operator acts: the sink's configuration, or too many refusals."""
    tripped: Failure | None
    """Set permanently when too many records are refused: nothing more is transformed, and no further record gets a dead
    letter."""
    refusals: Mapping[str, tuple[float, bool]]
    """By who refuses, `engine` or `sink`: the share of the last records that it refused, and whether reading stopped
    for that."""
    sink_trouble: Failure | None
    """The last failure of the sink that is being retried; None as soon as a pack is delivered."""
    concurrency: int
    """Requests that may be in flight at once just now."""
    next_object: float | None
    """Seconds until the oldest rows that are gathered become an object, at most; None when none are gathered."""
    request_durations: LatencyHistogram
    """Of requests to the sink, answered or ended by a deadline."""
    letters_trouble: Failure | None
    """A failure of dead letters that are not durable yet."""
    letters_waiting: int
    """Records that wait for their dead letter to be durable."""
    oldest_letter: str
    """Coordinates of the oldest of them; empty for none."""
    waiting_records: int
    """Records that wait until there is room for partitions of their hour."""
    waiting_hour: str
    """The oldest hour that waits, as yyyy-MM-ddTHH; empty when none does."""
    partitions_active: int
    """Partitions that rows went into lately."""
    partitions_quota: int
    """Active partitions that may be: DeliveryPolicy.partitions."""
    partitions_overflow: int
    """Partitions that began while as many as may be were active."""
    unknown: Mapping[str, str]
    """The first ten fields that OTLP metrics do not define, by path and name, in parts that gave no data point; with
    the coordinates of a record that has them."""


def taken(flight: InFlight, budget: MemoryBudget, outlet: Outlet, settlement: Settlement, now: float) -> Snapshot:
    """A snapshot of these parts of one pipeline."""
    way, waiting, since = outlet.way, outlet.waiting, outlet.gathering_since
    breakers, letters, active = settlement.breakers, settlement.letters, waiting.active
    oldest, many = letters.waiting
    return Snapshot(
        counts=flight.counts,
        in_flight=len(flight.records),
        in_flight_bytes=budget.held,
        budget=budget.total,
        body_bytes=budget.bodies,
        fatal=way.fatal or breakers.tripped,
        tripped=breakers.tripped,
        refusals=breakers.refusals,
        sink_trouble=way.trouble,
        concurrency=way.concurrency,
        next_object=None if since is None else max(0.0, since + outlet.gathers_for - now),
        request_durations=way.durations,
        letters_trouble=letters.writer.trouble,
        letters_waiting=many,
        oldest_letter=oldest,
        waiting_records=len(waiting),
        waiting_hour=waiting.oldest,
        partitions_active=active.count(now),
        partitions_quota=active.most,
        partitions_overflow=active.overflow,
        unknown=flight.unknown,
    )
