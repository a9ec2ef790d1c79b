"""How a consumer is doing, and the ways in which a member of its group is lost."""

import itertools
import logging
from typing import Final, Literal

from msgspec import Struct, field

from lmstream.model import TopicPartition

log: Final = logging.getLogger("lmstream.sources.kafka")

State = Literal["starting", "running", "draining", "suspect", "recreating", "stopped"]
Cause = Literal["client", "silent", "denied", "fenced", "offset", "renewed", "start"]
"""Why a member was given up: an error of its client, no answer in time, missing rights, another member under the same
instance id, an offset that is gone, a renewed certificate that only a new client takes, or no start."""

_EPOCHS: Final = itertools.count(1)  # of the process: a source made anew must not use those of the one before


def next_epoch() -> int:
    """Answer an assignment epoch that no member of this process has had."""
    return next(_EPOCHS)


_MIXED: Final = (
    'members of one group must be of one kind: another one has the other source.type ("kafka" and "confluent" share no '
    "protocol), or is another application. Stop all of them and start them with one kind, or take another source.group "
    "(docs/decisions/0007)"
)


class LostError(Exception):
    """A member cannot go on; another one can."""

    def __init__(self, cause: Cause, detail: str) -> None:
        if "inconsistentgroupprotocol" in detail.replace("_", "").lower():
            detail = f"{detail}; {_MIXED}"
        super().__init__(f"{cause}: {detail}")
        self.cause: Cause = cause
        self.detail = detail


class Health(Struct, kw_only=True):
    """How the source is doing, for metrics and readiness."""

    state: State = "starting"
    """Only `running` is ready: a member of the group that polls."""
    recreations: dict[str, int] = field(default_factory=dict)
    """Members given up, by cause, since the start."""
    failed_starts: int = 0
    """New members that could not start."""
    rebalances: int = 0
    """Assignments received."""
    lost_by_retention: int = 0
    """Offsets that were gone from the topic before they were read."""
    topic_resets: int = 0
    """Partitions whose end was found below what the group had read: the topic was made anew, or cut."""
    headers_unread: int = 0
    """Records whose headers the client could not give."""
    unreadable: dict[TopicPartition, str] = field(default_factory=dict)
    """Partitions of ours that are held, because what comes next in them arrives damaged: where, and what to do."""
    throttled: int = 0
    """Answers that the brokers held back, by a quota, for a second or more."""
    missing: tuple[str, ...] = ()
    """Topics of the settings that are not there, and patterns that no topic matches: not ready while there are some."""
    last_error: str = ""
    recovery_seconds: float = 0.0
    """From the end of the last member that was lost to the assignment of the next."""
