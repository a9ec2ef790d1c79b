"""Reasons that a module of somebody else's makes up: each is a label of metrics, so they are few and short."""

import re
from typing import Final

from lmstream.errors import REASONS, DecodeError

_REASON: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+", re.ASCII)
_LONGEST: Final = 64  # characters of a reason: it is a label of metrics
REASONS_OF_ITS_OWN: Final = 100
"""Reasons that a module may make up: each is a label of metrics, and a module that puts numbers into them would make
one a record. Those after these are told as `decode.own`, with the reason in the words."""
_UNSAID: Final = "decode.own"


class OwnReasons:
    """Those of one module."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, reason: str) -> str:
        """The reason as it is counted."""
        if reason in REASONS or reason in self._known:
            return reason
        if not fits(reason) or len(self._known) >= REASONS_OF_ITS_OWN:
            return _UNSAID
        self._known.add(reason)
        return reason

    def refused(self, error: DecodeError) -> DecodeError:
        """The error with its reason as it is counted."""
        reason = self.of(error.reason)
        if reason == error.reason:
            return error
        return DecodeError(reason, f"{str(error.reason)[:_LONGEST]}: {error.detail}" if error.detail else error.reason)


def fits(reason: object) -> bool:
    """Whether something can be a reason: `name.word`, in lower case, of at most 64 characters."""
    return isinstance(reason, str) and len(reason) <= _LONGEST and _REASON.fullmatch(reason) is not None
