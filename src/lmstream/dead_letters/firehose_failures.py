"""Read what Firehose took and could not deliver: the lines that it writes below the error prefix of a stream.

Forms: docs.aws.amazon.com/firehose/latest/dev/data-transformation-failure-handling.html and
record-format-conversion-error-handling.html. The first has `errorCode`, the second `ErrorCode`, or `lastErrorCode` in
older editions; numbers stand as numbers or as text. `rawData` is the record in base64 in all of them. For dynamic
partitioning AWS documents no form of its own.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from lmstream import __version__
from lmstream.errors import REASONS
from lmstream.model import DeadLetter, Record

REASON: Final = "record.returned"
"""Reason of the letter of such a line."""
_MARKS: Final = (b'"rawData"', b'"attemptsMade"')
_CUT: Final = 500


class Returned(NamedTuple):
    """What one line holds."""

    rows: bytes
    """The rows as they were put: lines of the row contract, or what else was put there."""
    why: str
    """Why Firehose gave up, in its words."""
    arrived_ms: int
    """When Firehose took them, in ms; -1 when it does not say."""

    def record(self, topic: str, partition: int, offset: int) -> Record:
        """A record of these rows. The coordinates name the line, not the record of Kafka: row ids do that."""
        return Record(topic=topic, partition=partition, offset=offset, value=self.rows, rows=True)

    def letter(self, place: str, number: int) -> DeadLetter:
        """The line as a letter of its place."""
        return DeadLetter(
            topic=place,
            partition=0,
            offset=number,
            timestamp=self.arrived_ms,
            value=self.rows,
            rows=True,
            reason=REASON,
            code=REASONS[REASON].code,
            detail=self.why,
            sha256=sha256(self.rows).hexdigest(),
            version=__version__,
        )


def begins(head: bytes) -> bool:
    """Whether a file that begins so may hold such lines: for files whose names say nothing."""
    return head.lstrip()[:1] == b"{" and _MARKS[1] in head


def read(line: bytes) -> Returned | None:
    """Read a line; None for another line, such as a bundle."""
    if line.lstrip()[:1] != b"{" or not all(mark in line for mark in _MARKS):
        return None
    try:
        found = json.loads(line)
        rows = base64.b64decode(found["rawData"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return None
    said = (str(_first(found, *names)) for names in _WORDS)
    code, message = (text[:_CUT] for text in said)
    return Returned(rows, f"Firehose could not deliver it: {code}: {message}", _moment(found.get("arrivalTimestamp")))


_WORDS: Final = (
    ("errorCode", "ErrorCode", "lastErrorCode"),
    ("errorMessage", "ErrorMessage", "lastErrorMessage"),
)


def _first(found: Mapping[str, Any], *names: str) -> object:
    return next((found[name] for name in names if name in found), "not said")


def _moment(text: object) -> int:
    digits = str(text)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else -1  # noqa: PLR2004 - within int64
