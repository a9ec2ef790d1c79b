"""The lines of one record before they are bytes: as one list of pieces, or as columns that the native part weaves."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from lmstream.engine import kept

PIECES: Final = 6
"""Pieces of a line: what its scope shares, ordinal, metric, time, value, attributes."""
_KEPT_RUN: Final = re.compile(rb"\0+")
_KEPT: Final = 16_384
"""Lines of a record up to which their numbers are kept."""

Ranges = list[tuple[int, int]]
"""(first line, behind the last) of lines that lie together somewhere, at least one."""


class Pieced(Struct, gc=False):
    """PIECES of them a line, lines in document order: joined, they are the lines."""

    pieces: list[bytes]

    def whole(self) -> bytes:
        """All lines."""
        return b"".join(self.pieces)

    def runs(self, stops: Sequence[int]) -> list[bytes]:
        """The lines up to each of these, from the one before on."""
        pieces = self.pieces
        return [b"".join(pieces[PIECES * start : PIECES * stop]) for start, stop in pairwise((0, *stops))]

    def groups(self, groups: list[Ranges]) -> list[bytes]:
        """The lines of each group, range behind range."""
        pieces = self.pieces
        found = []
        for ranges in groups:
            start, stop = ranges[0]
            some = pieces[PIECES * start : PIECES * stop]
            for start, stop in ranges[1:]:
                some += pieces[PIECES * start : PIECES * stop]
            found.append(b"".join(some))
        return found

    def without(self, faults: dict[int, str]) -> "Pieced":
        """The lines that are not these."""
        kept = [at for at in range(len(self.pieces) // PIECES) if at not in faults]
        return Pieced([piece for at in kept for piece in self.pieces[PIECES * at : PIECES * (at + 1)]])

    def number(self, ordinals: Sequence[int]) -> None:
        """Give lines other ordinals than their places."""
        self.pieces[1::PIECES] = [b'%d",' % ordinal for ordinal in ordinals]

    def column(self, number: int) -> list[bytes]:
        """The piece of that number of each line."""
        return self.pieces[number::PIECES]

    def only(self, verdicts: bytes) -> "Pieced":
        """The lines of which the verdict is 0."""
        pieces: list[bytes] = []
        for start, stop in kept_ranges(verdicts):
            pieces += self.pieces[PIECES * start : PIECES * stop]
        return Pieced(pieces)


class Woven(Struct, gc=False):
    """Columns of a plain bundle, which has what its lines need and no faults yet."""

    begins: list[bytes]
    """Of each scope."""
    begin_stops: list[int]
    """The line behind its last one."""
    metrics: list[bytes]
    """Of each metric."""
    metric_stops: Sequence[int]
    times: list[bytes]
    """Of each run of lines that have the same."""
    time_stops: Sequence[int]
    values: bytes
    """Of all lines, with commas between."""
    tails: Sequence[bytes]
    """Of each line."""
    weave: Callable[..., list[bytes]]
    """Of the native part."""
    verdicts: bytes = b""
    """Of each line: 0 where it is left, which is counted among those that are; empty where all are."""
    kept: bytes = b""
    """The ordinals of all lines, as `kept.packed` has them; empty where they count from 0."""

    def whole(self) -> bytes:
        """All lines."""
        rows = self.verdicts.count(0) if self.verdicts else len(self.tails)
        return self.groups([rows])[0]

    def runs(self, stops: Sequence[int]) -> list[bytes]:
        """The lines up to each of these, from the one before on."""
        return self.groups(stops)

    def groups(self, groups: list[Ranges] | Sequence[int]) -> list[bytes]:
        """The lines of each group, range behind range; of a number, those up to it, from the one before on."""
        return self.weave(
            self.begins,
            self.begin_stops,
            self.metrics,
            self.metric_stops,
            self.times,
            self.time_stops,
            self.values,
            self.tails,
            self.verdicts,
            self.kept,
            groups,
        )

    def column(self, number: int) -> list[bytes]:
        """The piece of that number of each line."""
        return self.pieced().column(number)

    def pieced(self) -> Pieced:
        """The same as pieces."""
        pieces = blank(len(self.tails))
        pieces[::6] = each_of(self.begins, self.begin_stops)
        pieces[2::6] = each_of(self.metrics, self.metric_stops)
        pieces[3::6] = each_of(self.times, self.time_stops)
        pieces[4::6] = self.values.split(b",")
        pieces[5::6] = self.tails
        made = Pieced(pieces)
        if self.kept:
            made.number(kept.ordinals(self.kept))
        return made.only(self.verdicts) if self.verdicts else made

    def only(self, verdicts: bytes) -> "Woven":
        """The lines of which the verdict is 0: these, changed in place."""
        self.verdicts = verdicts
        return self


Lines = Pieced | Woven


def kept_ranges(verdicts: bytes) -> Ranges:
    """Where verdicts are 0."""
    return [found.span() for found in _KEPT_RUN.finditer(verdicts)]


def blank(lines: int) -> list[bytes]:
    """A list for the pieces of lines, nothing in place but what follows the bundle's id in `rowId`: their numbers."""
    made = _Kept.numbers
    if PIECES * lines > len(made):
        # A new list each time: another thread may be growing the old one.
        more = range(len(made) // PIECES, lines)
        made = made + [piece for at in more for piece in (b"", b'%d",' % at, b"", b"", b"", b"")]
        if lines <= _KEPT:
            _Kept.numbers = made
    return made[: PIECES * lines]


class _Kept:
    numbers: list[bytes] = []  # noqa: RUF012 - replaced, never changed


def each_of(pieces: Sequence[bytes], stops: Sequence[int]) -> list[bytes]:
    """A piece for each line, from those of runs of lines and the line behind each run."""
    column: list[bytes] = []
    for piece, stop in zip(pieces, stops, strict=True):
        column += [piece] * (stop - len(column))
    return column
