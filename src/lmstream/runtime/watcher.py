"""What a run says of itself in log lines, and when it loses patience: decided from snapshots, a look at each tick."""

import logging
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from lmstream.delivery import Snapshot
from lmstream.errors import REASONS, SinkError, coded
from lmstream.model import Failure

NEWS: Final = 3.0
"""Seconds a sink fails without a pack delivered before that is worth a line."""


class Notice(NamedTuple):
    """One line of the log."""

    level: int
    text: str
    extra: Mapping[str, str]
    """Its code, as the log's formatters take it."""


class Watcher:
    """Looks at snapshots, one after the other, and says what changed between two of them.

    Pure: it reads no clock and writes no log. All times are by the clock of who calls it.
    """

    def __init__(self, now: float, patience: float | None = None) -> None:
        """`patience` is how many seconds an operator has to act while nothing can be delivered; None: for ever."""
        self._patience = patience
        self.looked_at: float = now
        """When it last looked."""
        self.settled_at: float = now
        """When it last saw that a record was settled, or that none was in flight."""
        self._settled = 0
        self._failing_since: float | None = None
        self._failing_said = False
        self._fatal_since: float | None = None
        self._letters_wait = self._hours_wait = self._unknown_said = False

    def look(self, seen: Snapshot, now: float) -> Iterator[Notice]:
        """Take the next snapshot; what is new. Raises SinkError when patience is over."""
        self.looked_at = now
        if seen.counts.settled != self._settled or not seen.in_flight:
            self._settled, self.settled_at = seen.counts.settled, now
        yield from self._letters(seen)
        yield from self._hours(seen)
        yield from self.members(seen)
        yield from self._sink(seen, now)
        yield from self._fatal(seen, now)

    def members(self, seen: Snapshot) -> Iterator[Notice]:
        """Say once that senders use members which OTLP metrics do not know: what they hold is in no row."""
        if seen.unknown and not self._unknown_said:
            self._unknown_said = True
            what = "fields that OTLP metrics do not define, in parts that gave no data point"
            record = next(iter(seen.unknown.values()))
            yield _warning(f"{record}: {what}: {', '.join(seen.unknown)}", "decode.not_understood")

    def _letters(self, seen: Snapshot) -> Iterator[Notice]:
        """Say when dead letters begin to wait, and when they are durable again."""
        trouble = seen.letters_trouble
        if (trouble is not None) == self._letters_wait:
            return
        self._letters_wait = trouble is not None
        if trouble is None:
            yield _warning("dead letters are durable again", "dead_letters.unavailable")
            return
        more = max(0, seen.letters_waiting - 1)
        what = f"dead letters cannot be written, {seen.oldest_letter} and {more:,} more wait"
        text = f"{what}, their partitions are not committed: {trouble.message}"
        yield Notice(logging.ERROR, text, coded("dead_letters.unavailable"))

    def _hours(self, seen: Snapshot) -> Iterator[Notice]:
        """Say when hours begin to wait for room among the stream's partitions, and when none does any more."""
        if bool(seen.waiting_records) == self._hours_wait:
            return
        self._hours_wait = bool(seen.waiting_records)
        if not seen.waiting_records:
            yield _warning("no hour waits for room any more", "sink.partitions")
            return
        active = f"{seen.partitions_active:,} of {seen.partitions_quota:,} partitions are active"
        what = f"records from {seen.waiting_hour} on wait until older hours are written"
        yield _warning(f"{active}: {what}", "sink.partitions")

    def _sink(self, seen: Snapshot, now: float) -> Iterator[Notice]:
        """Say when the sink has failed for a while, and when it takes rows again; one throttle is no news."""
        trouble = seen.sink_trouble
        if trouble is None:
            if self._failing_since is not None and self._failing_said:
                after = f"the sink accepts rows again after {now - self._failing_since:.0f} s"
                yield _warning(after, "sink.unreachable")
            self._failing_since, self._failing_said = None, False
        elif self._failing_since is None:
            self._failing_since = now
        elif not self._failing_said and now - self._failing_since >= NEWS:
            self._failing_said = True
            what = "the sink accepts no rows; they wait and are retried"
            extra = coded(trouble.code, "sink.unreachable")
            yield Notice(logging.WARNING, f"{what}: {trouble.code}: {trouble.message}", extra)

    def _fatal(self, seen: Snapshot, now: float) -> Iterator[Notice]:
        """Say that reading is paused until an operator acts."""
        fatal = seen.fatal
        if fatal is None:
            self._fatal_since = None
            return
        error = sink_error(fatal)
        if self._fatal_since is None:
            self._fatal_since = now
            what = "reading is paused until an operator acts" + (", or another pack is taken" if fatal.unsure else "")
            yield Notice(logging.ERROR, f"{what}: {error}", coded(error.reason))
            self._failing_said = True  # under the right code; that it takes rows again is news afterwards
        if self._patience is not None and now - self._fatal_since >= self._patience:
            raise error


def sink_error(failure: Failure) -> SinkError:
    """What pauses reading, with our code: the operator must act."""
    if failure.code in REASONS:
        return SinkError(failure.code, failure.message)
    said = f"{failure.code}: {failure.message}"
    if failure.unsure:
        return SinkError("sink.refused", said)
    return SinkError("sink.missing" if "NotFound" in failure.code else "sink.denied", said)


def _warning(text: str, reason: str) -> Notice:
    return Notice(logging.WARNING, text, coded(reason))
