"""Report dead letters in the log: which record, why; bounded, and never its bytes."""

import logging
from collections.abc import Sequence
from typing import Final

from lmstream.interfaces import Clock, DeadLetterSink
from lmstream.model import DeadLetter

log: Final = logging.getLogger("lmstream.dead_letters")

NAMED: Final = 20
"""Records that are named in a minute; the rest is a number."""
MINUTE: Final = 60.0
_DETAIL: Final = 500


class LoggingDeadLetterSink:
    """A sink of dead letters that logs what it has written."""

    def __init__(self, sink: DeadLetterSink, clock: Clock) -> None:
        self._sink, self._clock = sink, clock
        self.largest: int = sink.largest
        self._since = clock()
        self._named = 0
        self._more: dict[tuple[str, str], int] = {}  # by code and reason

    async def check(self) -> None:
        await self._sink.check()
        self.largest = self._sink.largest

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        await self._sink.write(letters)
        if (now := self._clock()) - self._since >= MINUTE:
            self._tell_more()
            self._since, self._named = now, 0
        for letter in letters:
            if self._named == NAMED:
                kind = (letter.code, letter.reason)
                self._more[kind] = self._more.get(kind, 0) + 1
                continue
            self._named += 1
            extra = {name: getattr(letter, name) for name in ("topic", "partition", "offset", "code", "reason")}
            where = f"{letter.topic}/{letter.partition}/{letter.offset}"
            log.warning("%s is dead-lettered: %s %s", where, letter.reason, letter.detail[:_DETAIL], extra=extra)

    async def close(self) -> None:
        self._tell_more()
        await self._sink.close()

    def _tell_more(self) -> None:
        for (code, reason), count in self._more.items():
            extra = {"code": code, "reason": reason}
            log.warning("%s more records were dead-lettered: %s", f"{count:,}", reason, extra=extra)
        self._more.clear()
