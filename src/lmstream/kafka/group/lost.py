"""The ways in which a member of a group is lost, and the epochs of its assignments."""

import itertools
import logging
from typing import Final, Literal

log: Final = logging.getLogger("lmstream.sources.kafka")

Cause = Literal["client", "silent", "denied", "fenced", "offset", "place", "renewed", "start"]
"""Why a member was replaced: an error of its client, no answer in time, missing rights, another member under the same
instance id, an offset that is gone, no answer where its partitions begin, a renewed certificate that only a new client
takes, or no start."""

_EPOCHS: Final = itertools.count(1)  # of the process: a new source must not use those of the one before


def next_epoch() -> int:
    """Answer an assignment epoch that no member of this process has had."""
    return next(_EPOCHS)


_MIXED: Final = (
    'members of one group must be of one kind: another one has the other source.type ("kafka" and "confluent" share no '
    "protocol), has another sink.lanes, or is another application. Stop all of them and start them with one kind, or "
    "take another source.group (docs/decisions/0007)"
)


class LostError(Exception):
    """A member cannot continue; another one can."""

    def __init__(self, cause: Cause, detail: str) -> None:
        if "inconsistentgroupprotocol" in detail.replace("_", "").lower():
            detail = f"{detail}; {_MIXED}"
        super().__init__(f"{cause}: {detail}")
        self.cause: Cause = cause
        self.detail = detail
