"""What an invocation answers: Pipes have no partial answer, mappings have one when they are told to.

A Pipe ignores what its target returns and repeats the whole batch when it raises
(docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-error-troubleshooting.html). A mapping with
ReportBatchItemFailures retries "just those specific items" that the answer names, and acknowledges the others
(docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html). The page leaves open whether it also sends again
what follows the lowest of them, as a mapping of Kinesis does; an answer that names everything is right either way.
Without ReportBatchItemFailures, returning is success.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lmstream.errors import SinkError
from lmstream.model import Failure, TopicPartition

Place = tuple[TopicPartition | None, int | None]
"""Where an undelivered record lies, if that can be told."""


class Remainder(NamedTuple):
    """What is left undelivered."""

    places: Sequence[Place]
    failures: Sequence[Failure]


def undelivered(left: Remainder, of: int) -> SinkError:
    """The error that makes the source send again what is left: where it begins, and why."""
    first = next((f"{tp.topic}/{tp.partition}/{offset}" for tp, offset in left.places if tp), "without coordinates")
    why = "; ".join(f"{failure.code}: {failure.message[:300]}" for failure in left.failures[:3])
    return SinkError(
        "event.undelivered",
        f"{len(left.places):,} of {of:,} records are undelivered, the first is {first}: {why or 'no request was made'}",
    )


def partial(places: Iterable[Place]) -> dict[str, Any] | None:
    """A mapping's partial answer: every place once, in order. None when one has no coordinates: it cannot be named, so
    only raising is safe.

    An event has at most 10,000 records (BatchSize), a topic's name at most 249 characters: the largest answer has
    3.3 MB, and Lambda takes 6 MB.
    """
    named: dict[tuple[TopicPartition, int], None] = {}
    for tp, offset in places:
        if tp is None or offset is None:
            return None
        named[tp, offset] = None
    # An older edition of AWS's page says "topic-partition" for "partition". A service that still reads that finds no
    # partition here, and repeats the whole batch: late, not lost.
    return {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": f"{tp.topic}-{tp.partition}", "offset": offset}}
            for tp, offset in sorted(named)
        ]
    }
