"""For hosts that are called: a batch in, a status for each of its records out, before a deadline."""

import copy

from msgspec import field, structs

from lmstream.delivery.counts import Counts, since
from lmstream.delivery.pipeline import Pipeline
from lmstream.interfaces import Batch
from lmstream.model import NOT_TRIED, Failure, Status, TopicPartition


class Outcome(Counts, kw_only=True):
    """What `process` answers for a batch: a status per record, in order, and the counts behind it."""

    statuses: list[Status]
    failures: list[Failure] = field(default_factory=list)
    """Failures behind pending records, one of each code."""

    @property
    def complete(self) -> bool:
        """Whether every record may be acknowledged."""
        return Status.PENDING not in self.statuses


async def process(pipeline: Pipeline, batch: Batch, deadline: float | None = None) -> Outcome:
    """Deliver a batch; a status for each record, in order. Waits until all is settled or, by the pipeline's clock,
    until `deadline`; what is then pending is not acknowledged, and the source redelivers it.

    One batch at a time, and no other use of the pipeline meanwhile. Raises what went wrong unexpectedly: then nothing
    of the batch is acknowledged.
    """
    if pipeline.snapshot().in_flight:
        raise RuntimeError("process takes one batch at a time")
    before = copy.deepcopy(pipeline.counts)
    statuses = [Status.PENDING] * len(batch.records)
    places: dict[tuple[TopicPartition, int], list[int]] = {}  # an event may bring a record twice
    for at, record in enumerate(batch.records):
        places.setdefault((record.tp, record.offset), []).append(at)

    def settled(tp: TopicPartition, _epoch: int, offset: int, status: Status) -> None:
        statuses[places[tp, offset].pop(0)] = status

    submission = pipeline.submit(batch, settled, deadline)
    try:
        await pipeline.drain()
    finally:
        await pipeline.give_back()  # so that the next batch starts anew
    failures = submission.failures
    tripped = pipeline.snapshot().tripped
    if tripped is not None:
        failures[tripped.code] = tripped
    if not failures and Status.PENDING in statuses:
        failures[NOT_TRIED.code] = NOT_TRIED
    done = since(pipeline.counts, before)
    return Outcome(statuses=statuses, failures=list(failures.values()), **structs.asdict(done))
