"""Event time as a piece of the row, from integers only.

A float of nanoseconds is off by up to 128 ns, enough to land in the hour before.
"""

from datetime import UTC, datetime
from typing import Final

from lmstream.interfaces import Bundle

YEAR_2000: Final = 946_684_800_000
"""First ms of the year 2000."""
YEAR_2101: Final = 4_133_980_800_000
"""First ms of the year 2101. A time outside is a clock or a unit gone wrong, and would make partitions nobody reads."""
HOUR: Final = slice(6, 19)
"""Where a time piece has yyyy-MM-ddTHH."""
VALUE: Final = len('"value":')
"""Bytes that close a time piece, and that a point without a single value goes without."""

NS_PER_MS: Final = 1_000_000
_REMEMBERED: Final = 4096

Key = tuple[int | None, int | None]
"""(timeUnixNano, startTimeUnixNano); 0 or None when absent."""


def time_piece(time: int | None, start: int | None) -> bytes:
    """`"ts":…,"tsUnixMs":…,"startTsUnixMs":…,"value":`, or nothing when these times do not stand for one:
    the time is 0, or one of them is outside the years that rows may have."""
    # Joined from cut digits, not formatted, and the text of a second is remembered: every bundle of a poll has a time
    # of its own, and an f-string with a float took three times as long.
    if not time:
        return b""
    ms = time // NS_PER_MS
    began = b""
    if start:
        start_ms = start // NS_PER_MS
        if not YEAR_2000 <= start_ms < YEAR_2101:
            return b""
        began = b',"startTsUnixMs":%d' % start_ms
    if not YEAR_2000 <= ms < YEAR_2101:
        return b""
    digits = b"%d" % ms
    second = digits[:-3]
    text = _seconds.get(second) or _second_text(second)
    return b"".join((text, digits[-3:], b'Z","tsUnixMs":', digits, began, b',"value":'))


class TimePieces(dict[Key, bytes]):
    """From (time, start time) to its piece. Bounded; emptied when full, for every poll brings new times."""

    def __missing__(self, key: Key) -> bytes:
        piece = time_piece(*key)
        if len(self) >= _REMEMBERED:
            self.clear()
        self[key] = piece
        return piece

    def of(self, bundle: Bundle) -> list[bytes]:
        """A piece for each point. Points of a series share their times, mostly: then it is looked up once."""
        found: list[bytes] = []
        for series in bundle.series:
            ended, began = bundle.times[series.start : series.stop], bundle.starts[series.start : series.stop]
            n = len(ended)
            if n and ended.count(ended[0]) == n and began.count(began[0]) == n:
                found += [self[ended[0], began[0]]] * n
            else:
                found += map(self.__getitem__, zip(ended, began, strict=True))
        return found


_seconds: Final[dict[bytes, bytes]] = {}


def _second_text(second: bytes) -> bytes:
    if len(_seconds) >= _REMEMBERED:
        _seconds.clear()
    text = datetime.fromtimestamp(int(second), UTC).strftime('"ts":"%Y-%m-%dT%H:%M:%S.').encode()
    _seconds[second] = text
    return text
