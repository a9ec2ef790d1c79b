"""Questions before a start: a service that is busy has answered, and is asked again before it is skipped."""

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from lmstream.aws.clock import CLOCK
from lmstream.delivery.sender import THROTTLING
from lmstream.errors import LmstreamError

T = TypeVar("T")

WAITS: Final = (0.5, 1.0, 2.0)
"""Seconds to wait, give or take a half: DescribeDeliveryStream is taken five times a second for a whole account
(docs.aws.amazon.com/firehose/latest/dev/limits.html), and workers start together."""
BUSY: Final = "sink.busy"
FULL: Final = "sink.full"
AGAIN: Final = frozenset({BUSY, CLOCK})
"""Reasons to ask again: a machine that slept, or booted before NTP had set its clock, signs right in a moment."""
PASSING: Final = frozenset({BUSY, FULL, CLOCK})
"""Reasons with which a run that is under way would wait; a start needs no more than that."""
_BROKEN, _TOO_MANY = 500, 429  # HTTP
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


async def asked(ask: Callable[[], Awaitable[T]]) -> T:
    """What a service answers. Asks again while it is busy; raises what `ask` raises at last."""
    for wait in WAITS:
        try:
            return await ask()
        except LmstreamError as error:
            if error.reason not in AGAIN:
                raise
        await asyncio.sleep(wait * (0.5 + random.random()))  # noqa: S311 - so that many do not come again together
    return await ask()


def is_busy(error: BaseException) -> bool:
    """Whether an error of an AWS call says that the service was reached and cannot do it now: throttled, or 5xx."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return False
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or (int(code) if code.isdigit() else 0)
    return status >= _BROKEN or status == _TOO_MANY or "Throttl" in code or code in THROTTLING


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a disk, or a quota of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL
