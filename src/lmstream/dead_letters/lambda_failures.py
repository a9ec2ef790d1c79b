"""Read what an event source mapping gave up: the document that Lambda writes into its on-failure destination.

Shape: docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html. In S3 `payload` holds the whole event as text, in a
Kafka topic as an object (kafka-on-failure-destination.html); SQS and SNS get none. Names of the objects are not
documented for Kafka, so a document is known by what it holds.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from lmstream import __version__
from lmstream.errors import REASONS, ConfigError
from lmstream.kafka import lambda_events
from lmstream.model import DeadLetter, Record
from lmstream.settings import KIB, MIB

REASON: Final = "record.given_up"
"""Reason of the letter of a record in such a document."""
LARGEST: Final = 16 * MIB
"""Bytes of a document that are read. Its event has 6 MB at most (gettingstarted-limits.html); as text inside JSON even
one of nothing but empty records stays below 8 MB."""
HEAD: Final = 4 * KIB
"""Bytes at the beginning of a file that tell whether it may be a document."""
_BATCH: Final = "KafkaBatchInfo"
_CONTEXT: Final = "requestContext"
_NAMED: Final = 5  # partitions that are named in one message


class Document(NamedTuple):
    """What one document holds."""

    records: list[Record]
    """The records of the event, under their own coordinates."""
    faulty: list[DeadLetter]
    """Entries of the event that are no Kafka records."""
    why: str
    """Why Lambda gave up, in words."""
    problem: str
    """Why the records cannot be had from the document; empty when they can. Says where they are."""

    @property
    def letters(self) -> list[DeadLetter]:
        """Each record as a letter, those that are no records among them."""
        return [*(_letter(record, self.why) for record in self.records), *self.faulty]


def begins(head: bytes) -> bool:
    """Whether a file that begins so may be a document: for files whose names say nothing."""
    text = head.lstrip()
    return text[:1] == b"{" and (f'"{_CONTEXT}"'.encode() in text or f'"{_BATCH}"'.encode() in text)


def read(data: bytes) -> Document | None:
    """Read a document; None for other bytes, such as a bundle."""
    if data.lstrip()[:1] != b"{" or f'"{_BATCH}"'.encode() not in data or f'"{_CONTEXT}"'.encode() not in data:
        return None
    found = _json(data)
    if not isinstance(found, dict):
        return None
    batch, context = found.get(_BATCH), found.get(_CONTEXT)
    if not isinstance(batch, dict) or not isinstance(context, dict):
        return None
    why, payload = _why(context, found.get("responseContext")), found.get("payload")
    try:
        event = lambda_events.parse(_json(payload) if isinstance(payload, str) else payload)
    except ConfigError as error:
        what = "has no records" if payload is None else f"has an event that cannot be read ({error.detail})"
        return Document([], [], why, f"{what}: read them from the topic, {_places(batch)}")
    if not event.records and not event.faulty:
        return Document([], [], why, f"has an event without records: read them from the topic, {_places(batch)}")
    return Document(event.records, [each.letter for each in event.faulty], why, "")


def _json(text: str | bytes) -> Any:
    """The value; None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also UnicodeDecodeError, and numbers too long to be any
        return None


def _why(context: Mapping[str, Any], response: object) -> str:
    tries = context.get("approximateInvokeCount")
    error = response.get("functionError") if isinstance(response, Mapping) else None
    parts = (
        f"after about {tries} invocations" if isinstance(tries, int) else "",
        f"condition {context.get('condition')!r:.60}",
        f"function error {error!r:.60}" if error else "",
        f"request {context.get('requestId')!r:.60}",
    )
    return "Lambda used up its retries: " + ", ".join(part for part in parts if part)


def _places(batch: Mapping[str, Any]) -> str:
    """Partitions and offsets, as the document says them."""
    found = batch.get("recordsInfo")
    if not isinstance(found, Mapping) or not found:
        return "without offsets in the document"
    said = [
        f"{str(where)[:260]} offsets {info.get('firstRecordOffset')!s:.20} to {info.get('lastRecordOffset')!s:.20}"
        for where, info in list(found.items())[:_NAMED]
        if isinstance(info, Mapping)
    ]
    more = len(found) - len(said)
    return ", ".join(said) + (f" and {more} more" if more else "")


def _letter(record: Record, why: str) -> DeadLetter:
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        value=record.value,
        key=record.key,
        headers=record.headers,
        reason=REASON,
        code=REASONS[REASON].code,
        detail=why,
        sha256=sha256(record.value or b"").hexdigest(),
        version=__version__,
    )
