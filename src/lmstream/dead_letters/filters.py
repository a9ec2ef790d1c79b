"""Choose dead letters: by reason, topic, partition, offset and time."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from lmstream.dead_letters.store import Found
from lmstream.errors import ConfigError
from lmstream.settings import seconds_of

_SPAN: Final = re.compile(r"^(\d+)(?:-(\d+))?$")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which letters; all of the filters must fit, and any value of one that is repeated."""

    reason: tuple[str, ...] = ()
    """Reason of the letter, as in decode.json or 'decode.*'; may be repeated."""
    topic: tuple[str, ...] = ()
    """Topic the record came from, as in lm.metrics.otlp or 'lm.*'; may be repeated."""
    partition: tuple[int, ...] = ()
    """Partition the record came from; may be repeated."""
    offset: tuple[str, ...] = ()
    """Offset of the record, or the first and last as in 100-200; may be repeated."""
    since: str | None = None
    """Records from this time on: 2024-05-09T14:00Z, or 2h for two hours ago (s, m, h, d). UTC without a zone."""
    until: str | None = None
    """Records before this time."""
    written_since: str | None = None
    """Letters that were written from this time on: what was dead-lettered in the last hour is --written-since 1h."""
    written_until: str | None = None
    """Letters that were written before this time."""

    @property
    def given(self) -> bool:
        """Whether anything is filtered."""
        return self != Filters()

    def compiled(self) -> Callable[[Found], bool]:
        """Answer the filter. Raises ConfigError for a text that is not a filter."""
        spans = [_span(text) for text in self.offset]
        since, until = moment("--since", self.since), moment("--until", self.until)
        if since is not None and until is not None and since >= until:
            what = f"--since {self.since} --until {self.until}: no time is in this range"
            raise ConfigError("config.invalid", what)
        written = _between("--written-since", self.written_since, "--written-until", self.written_until)

        def fits(found: Found) -> bool:
            letter = found.letter
            return (
                (not self.reason or any(fnmatchcase(letter.reason, each) for each in self.reason))
                and (not self.topic or any(fnmatchcase(letter.topic, each) for each in self.topic))
                and (not self.partition or letter.partition in self.partition)
                and (not spans or any(first <= letter.offset <= last for first, last in spans))
                and (since is None or found.time >= since)
                and (until is None or found.time < until)
                and written(found.kept)
            )

        return fits


def _between(from_flag: str, start: str | None, to_flag: str, stop: str | None) -> Callable[[float], bool]:
    """Whether a Unix time lies between the two. Raises ConfigError."""
    first, last = moment(from_flag, start), moment(to_flag, stop)
    if first is not None and last is not None and first >= last:
        raise ConfigError("config.invalid", f"{from_flag} {start} {to_flag} {stop}: no time is in this range")
    low = -math.inf if first is None else first.timestamp()
    high = math.inf if last is None else last.timestamp()
    return lambda at: low <= at < high


def _span(text: str) -> tuple[int, int]:
    found = _SPAN.match(text)
    if not found:
        raise ConfigError("config.invalid", f"--offset {text}: expected OFFSET or FIRST-LAST, as in 100-200")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ConfigError("config.invalid", f"--offset {text}: no offset is in this range")
    return first, last


def moment(flag: str, text: str | None) -> datetime | None:
    """Answer the moment that a flag names, as in 2024-05-09T14:00Z or 2h for two hours ago. Raises ConfigError."""
    if text is None:
        return None
    try:
        if (ago := seconds_of(text)) is not None:
            return datetime.now(UTC) - timedelta(seconds=ago)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as e:
        raise ConfigError(
            "config.invalid", f"{flag} {text}: expected 2024-05-09T14:00Z, or 2h for two hours ago"
        ) from e
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
