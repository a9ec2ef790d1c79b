"""Holds back what clients of Kafka repeat while a broker is away: a few lines a minute, and a count."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

SAID: Final = 3
"""Lines of one kind that are let through in a minute."""
MINUTE: Final = 60.0
KINDS: Final = 256
"""Kinds that are remembered, at most; the oldest goes first."""
_OURS: Final = "lmstream.sources."
_THEIRS: Final = ".librdkafka"  # its lines come under this name, with levels of its own
# What differs between two lines of one kind: counts, ports, addresses, and what stands in brackets.
_DIFFERS: Final = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|[^\s:]*\d[^\s:]*")


@contextmanager
def levels(ours: int) -> Iterator[None]:
    """Let lmstream log from `ours` on; from DEBUG on also what its clients complain. What matters of theirs comes as
    one lmstream error with its fix; asyncio reports what they leave behind."""
    theirs = logging.INFO if ours <= logging.DEBUG else logging.CRITICAL
    wanted = dict.fromkeys(("aiokafka", "asyncio", "botocore", "aiobotocore", "aiohttp", "opentelemetry"), theirs)
    wanted["lmstream"] = ours
    before = {name: logging.getLogger(name).level for name in wanted}
    for name, level in wanted.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class Calm(logging.Filter):
    """Filter of a handler. Errors of lmstream itself always pass, and so does whatever is not about a source."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}  # since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is let through; one that comes after others were held back says how many."""
        theirs = record.name.endswith(_THEIRS)
        if not record.name.startswith(_OURS) or (record.levelno >= logging.ERROR and not theirs):
            return True
        text = record.getMessage()
        kind = (record.name, _DIFFERS.sub("#", text[:200]) if theirs else str(record.msg))
        now = self._clock()
        since, many = self._kinds.pop(kind, (now, 0))
        if now - since >= MINUTE:
            if many > SAID:
                record.msg = f"{text} ({many - SAID} more like this in the last {now - since:.0f} s)"
                record.args = ()
            since, many = now, 0
        while len(self._kinds) >= KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = (since, many + 1)
        return many < SAID
