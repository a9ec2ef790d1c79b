"""Prove that every expected row landed: compare what should be there with folders or buckets, and answer a report."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lmstream.bounded import LETTER_LINE
from lmstream.dead_letters.form import decode_or_none
from lmstream.engine import bundle_id
from lmstream.model import DeadLetter
from lmstream.storage.objects import Place, place
from lmstream.verification.checker import Checker
from lmstream.verification.expected import Expected, log
from lmstream.verification.landed import failed_lines, path_digest
from lmstream.verification.report import Report

Object = tuple[str, Iterator[bytes]]
"""Name and lines of an object."""


def verify(
    expected: Iterable[Expected],
    landed: Place | Path | str,
    dead_letters: Place | Path | str | None = None,
    errors: Place | Path | str | None = None,
    *,
    source_ids: Sequence[str] = ("",),
    ranged: bool = False,
    say: Callable[[str], None] = log.warning,
    watch: Callable[[Iterable[Object]], Iterable[Object]] = iter,
) -> Report:
    """Compare what is expected with the rows that landed in a folder or at s3://BUCKET/PREFIX.

    Without `dead_letters`, missing letters are not judged. `errors` is Firehose's error prefix, `errors` below `landed`
    by default. `source_ids` are the engine's setting of that name, several where it changed. With `ranged`, rows of
    other records than the expected are passed over. `say` gets what is left out; `watch` passes the landed objects
    through, for a progress bar.

    Raises SourceError for what cannot be read, BoundError for what is too large, ConfigError for a place that is none.
    """
    checker = Checker()
    for entry in expected:
        checker.expect(entry)
    rows, letters = _place(landed), None if dead_letters is None else _place(dead_letters)
    failed = rows.below("errors") if errors is None else _place(errors)
    for name, lines in watch(rows.objects(without=[failed])):
        path = path_digest(name.removeprefix(rows.name).rpartition("/")[0])
        for line in lines:
            checker.found(line, path, name)
    for line in failed_lines(failed):
        checker.failed(line)
    for letter in _letters(letters, say) if letters is not None else ():
        for source_id in source_ids:
            checker.dead(letter, bundle_id(source_id, letter.topic, letter.partition, letter.offset, letter.timestamp))
    return checker.report(letters_checked=letters is not None, ranged=ranged)


def _place(named: Place | Path | str) -> Place:
    return place(named) if isinstance(named, Path | str) else named


def _letters(root: Place, say: Callable[[str], None]) -> Iterator[DeadLetter]:
    for name, lines in root.objects(most=LETTER_LINE):
        for line in lines:
            if (letter := decode_or_none(line)) is not None:
                yield letter
            else:
                say(f"{name}: a line that is no dead letter was left out")
