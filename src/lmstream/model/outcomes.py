"""What is sent and what became of it: packs of lines, the failure of a pack, the status of a record."""

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """What a failure means for who retries."""

    RETRYABLE = "retryable"
    """May succeed later: throttling, 5xx, timeouts, an unknown outcome."""
    PERMANENT = "permanent"
    """The same lines will always fail: dead-letter them."""
    FATAL_CONFIG = "fatal-config"
    """Nobody's lines can succeed until an operator acts: pause, alarm, never dead-letter healthy rows."""


class Failure(Struct, frozen=True):
    """Why a pack was not delivered."""

    kind: Kind
    code: str
    """The service's own error code, or lmstream's name for it in snake_case."""
    message: str = ""
    apart: bool = False
    """The request was refused as a whole for something in one of its packs: send them apart, and find which."""
    unsure: bool = False
    """The service's words do not say whether it refuses this pack or the whole request: the refusal is final only if
    another pack was taken since (see refusals.py). Sinks set it with PERMANENT."""


NOT_TRIED = Failure(Kind.RETRYABLE, "not_tried", "no request was made")
"""Where every verdict starts: stopping early repeats work and never loses it."""


class Pack(Struct, frozen=True, gc=False):
    """Lines that travel together: one Firehose record, or one object of an object sink."""

    data: bytes
    rows: int
    path: str = ""
    """Partition path below the landing root, with a closing slash; empty for sinks that partition themselves."""
    spans: tuple[tuple[int, int], ...] = ()
    """(running number of the record in its pipeline, rows of it in this pack): a verdict maps back to records. 0 rows:
    dimension rows that it needs."""


class Status(StrEnum):
    """What became of one record. Only the first three may be acknowledged."""

    DELIVERED = "delivered"
    DEAD_LETTERED = "dead-lettered"
    """All that could not be delivered is in a durable dead letter; the rest was delivered."""
    TOMBSTONE = "tombstone"
    PENDING = "pending"
    """Not everything is durable yet: must not be acknowledged."""
