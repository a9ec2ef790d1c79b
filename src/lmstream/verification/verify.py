"""Prove that every expected row landed: compare what should be there with folders or buckets, and answer a report."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lmstream.bounded import LETTER_LINE
from lmstream.dead_letters.form import decode_or_none
from lmstream.engine import bundle_id
from lmstream.errors import SourceError
from lmstream.model import DeadLetter
from lmstream.storage.line_files import CLAIMS
from lmstream.storage.objects import Place, place
from lmstream.verification.checker import Checker
from lmstream.verification.expected import Expected, log
from lmstream.verification.landed import failed_lines, path_digest
from lmstream.verification.report import Report
from lmstream.verification.topics import Topics
from lmstream.verification.wanting import RepairingChecker

Object = tuple[str, Iterator[bytes]]
"""Name and lines of an object."""


_AN_HOUR: Final = 3_600_000  # ms; where retention took records, those next to it may be a little out of order


def verify(
    expected: Iterable[Expected] | Topics,
    landed: Place | Path | str,
    dead_letters: Place | Path | str | None = None,
    errors: Place | Path | str | None = None,
    *,
    source_ids: Sequence[str] = ("",),
    ranged: bool = False,
    settle: float = 0.0,
    wait: Callable[[float], None] | None = time.sleep,
    step: float | None = None,
    checker: Checker | None = None,
    say: Callable[[str], None] = log.warning,
    watch: Callable[[Iterable[Object]], Iterable[Object]] = iter,
) -> Report:
    """Compare what is expected with the rows that landed in a folder or at s3://BUCKET/PREFIX.

    Without `dead_letters`, missing letters are not judged. `errors` is Firehose's error prefix, `errors` below `landed`
    by default. `source_ids` are the engine's setting of that name, several where it changed. With `ranged`, rows of
    other records than the expected are skipped. Rows that are missing may be buffered until `settle` seconds after
    the call: `wait` is called with what is left of them, or with `step` as often as that takes, and new objects are
    read; with None, they are `buffered`. A `checker` of the caller's knows afterwards what a repair needs: then an
    object that cannot be read ends nothing, and is noted there. `say` gets what is left out; `watch` passes the landed
    objects through, for a progress bar.

    Raises SourceError for what cannot be read, BoundError for what is too large, ConfigError for what is not a place.
    """
    until = time.monotonic() + settle
    rows = _place(landed)
    failed = rows.below("errors") if errors is None else _place(errors)
    letters = None if dead_letters is None else _place(dead_letters)
    again = bool(settle) and wait is not None
    work = _Comparison(rows, failed, letters, source_ids, say, watch, again=again, checker=checker)
    work.expect(expected)
    report = work.look(ranged=ranged, settled=not settle or wait is not None)
    ended = False
    while (report.total.lost or report.orphans) and again and wait is not None and not ended:
        left = max(0.0, until - time.monotonic())
        ended = step is None or left <= step
        wait(left if step is None else min(step, left))
        report = work.look(ranged=ranged, settled=True)
    return report


class _Comparison:
    """What is expected, and what was seen of it so far."""

    def __init__(
        self,
        rows: Place,
        failed: Place,
        letters: Place | None,
        source_ids: Sequence[str],
        say: Callable[[str], None],
        watch: Callable[[Iterable[Object]], Iterable[Object]],
        *,
        again: bool,
        checker: Checker | None,
    ) -> None:
        self._rows, self._failed, self._letters, self._source_ids = rows, failed, letters, source_ids
        self._say, self._watch = say, watch
        self._checker = Checker() if checker is None else checker
        self._topics: Topics | None = None
        self._ends: dict[tuple[str, int], int] = {}
        self._oldest: int | None = None
        self._again, self._seen = again, set[str]()

    def expect(self, expected: Iterable[Expected] | Topics) -> None:
        """Take all that is expected."""
        topics = self._topics = expected if isinstance(expected, Topics) else None
        firsts: dict[tuple[str, int], int] = {}
        for entry in expected.entries() if isinstance(expected, Topics) else expected:
            self._checker.expect(entry, closed=topics is None or topics.closed(entry))
            tp = entry.topic, entry.partition
            firsts.setdefault(tp, entry.timestamp)
            self._ends[tp] = max(entry.offset + 1, self._ends.get(tp, 0))
        if topics is not None:
            self._oldest = max(firsts.values(), default=0) + (0 if topics.whole else _AN_HOUR)

    def look(self, *, ranged: bool, settled: bool) -> Report:
        """Read what landed since the last look, and judge."""
        for name, lines in self._watch(
            self._rows.objects(without=[self._failed, self._rows.below(CLAIMS)], seen=self._seen)
        ):
            if self._again:
                self._seen.add(name)
            self._read(name, lines)
        for line in failed_lines(self._failed):
            self._checker.failed(line)
        for letter in letters_in(self._letters, self._say) if self._letters is not None else ():
            for source_id in self._source_ids:
                self._checker.dead(letter, bundle_id(source_id, *letter.identified))
        if self._topics is not None and self._checker.strangers and not self._topics.ranged:
            for entry in self._topics.later(self._ends):
                self._checker.came_later(entry)
        return self._checker.report(
            letters_checked=self._letters is not None,
            ranged=ranged or (self._topics is not None and self._topics.ranged),
            oldest=self._oldest,
            settled=settled,
        )

    def _read(self, name: str, lines: Iterator[bytes]) -> None:
        path = path_digest(name.removeprefix(self._rows.name).rpartition("/")[0])
        try:
            for line in lines:
                self._checker.found(line, path, name)
        except SourceError as error:
            if error.reason != "source.file" or not isinstance(self._checker, RepairingChecker):
                raise
            self._checker.unreadable[name] = error.detail


def _place(named: Place | Path | str) -> Place:
    return place(named) if isinstance(named, Path | str) else named


def letters_in(root: Place, say: Callable[[str], None]) -> Iterator[DeadLetter]:
    """The dead letters that lie at a place; `say` gets what is left out."""
    for name, lines in root.objects(most=LETTER_LINE):
        for line in lines:
            if (letter := decode_or_none(line)) is not None:
                yield letter
            else:
                say(f"{name}: skipped a line that is not a dead letter")
