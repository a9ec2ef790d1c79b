"""For hosts that are called: a batch in, a status for each of its records out, before a deadline."""

import copy

from lmstream.delivery.in_flight import since
from lmstream.delivery.pipeline import Pipeline
from lmstream.interfaces import Batch
from lmstream.model import NOT_TRIED, Outcome, Status


async def process(pipeline: Pipeline, batch: Batch, deadline: float | None = None) -> Outcome:
    """Deliver a batch; a status for each record, in order. Waits until all is settled or, by the pipeline's clock,
    until `deadline`; what is then pending is not acknowledged, and the source brings it again.

    One batch at a time, and no other use of the pipeline meanwhile. Raises what went wrong unexpectedly: then nothing
    of the batch is acknowledged.
    """
    if pipeline.in_flight:
        raise RuntimeError("process takes one batch at a time")
    counts, before = pipeline.counts, copy.deepcopy(pipeline.counts)
    mine = pipeline.submit(batch)
    pipeline.deadline, pipeline.failures = deadline, {}
    try:
        await pipeline.drain()
    finally:
        await pipeline.give_back()  # so that the next batch starts anew
        pipeline.deadline = None
    failures = pipeline.failures
    if pipeline.broken is not None:
        failures[pipeline.broken.code] = pipeline.broken
    if not failures and any(each.status is Status.PENDING for each in mine):
        failures[NOT_TRIED.code] = NOT_TRIED
    return Outcome(
        statuses=[each.status for each in mine],
        rows=counts.rows - before.rows,
        understood=counts.understood - before.understood,
        empty=counts.empty - before.empty,
        undecodable=counts.undecodable - before.undecodable,
        parts_undecodable=counts.parts_undecodable - before.parts_undecodable,
        dead_letters=counts.dead_letters - before.dead_letters,
        skipped=since(counts.skipped, before.skipped),
        rejected=since(counts.rejected, before.rejected),
        noted=since(counts.noted, before.noted),
        failures=list(failures.values()),
    )
