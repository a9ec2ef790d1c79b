"""What an invocation answers: Pipes have no partial answer, mappings have one when they are told to.

A Pipe ignores what its target returns and repeats the whole batch when it raises
(docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-error-troubleshooting.html). A mapping with
ReportBatchItemFailures goes on from the first failed offset of each partition
(docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html); without it, returning is success.
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
        f"{len(left.places)} of {of} records are not delivered, the first is {first}: {why or 'no request was made'}",
    )


def partial(places: Iterable[Place]) -> dict[str, Any] | None:
    """A mapping's partial answer: the first failed offset of each partition. None when one has no coordinates: then
    only raising is safe, for an identifier that is wrong or missing would acknowledge it."""
    first: dict[TopicPartition, int] = {}
    for tp, offset in places:
        if tp is None or offset is None:
            return None
        first[tp] = min(offset, first.get(tp, offset))
    return {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": f"{tp.topic}-{tp.partition}", "offset": offset}}
            for tp, offset in first.items()
        ]
    }
