"""What a verdict leaves to do: rows and letters that have to be sent again, and objects that hold wrong lines."""

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from lmstream.model import Record
from lmstream.verification.checker import CHANGED, DEAD, EXPECTED, MISPLACED, ORPHAN, OWED, Checker
from lmstream.verification.landed import row_id

MOST: Final = 10_000
"""Objects with wrong lines that are remembered by name; with more of them, something else than they is wrong."""

_BUNDLE: Final = re.compile(rb"[0-9a-f]{32}")

Kind = Literal["right", "wrong", "malformed", "other"]


class Wanted(NamedTuple):
    """What has to be sent again of one record."""

    topic: str
    partition: int
    offset: int
    bundle_id: str
    rows: int
    """Of them."""
    only: tuple[int, ...] | None
    """Ordinals of the rows, and of all points that are owed a letter if one is; None: the whole record is owed one."""
    below: tuple[str, ...] = ()
    """Paths of parts that are owed a letter."""

    def again(self, record: Record, field_names: str) -> Record:
        """The record with only that in it."""
        return msgspec.structs.replace(record, only=self.only, below=self.below, names=field_names)


class RepairingChecker(Checker):
    """A checker that also keeps what a repair needs. It reads the id of each line twice."""

    def __init__(self) -> None:
        super().__init__()
        self.damaged: dict[str, int] = {}
        """Objects with lines that are not as they must be, and how many."""
        self.unreadable: dict[str, str] = {}
        """Objects that cannot be read to their end, and why."""
        self.more_damaged = False
        """Whether there are more than are named."""
        self._at, self._known, self._malformed_here = "", False, 0

    def found(self, line: bytes, path: int | None = None, where_from: str = "") -> None:
        """As of Checker."""
        if where_from != self._at:
            self._at, self._known, self._malformed_here = where_from, False, 0
        kind = self.kind(line, path)
        if kind in {"right", "wrong"} and not self._known:
            self._known = True
            self._note(self._malformed_here)
        if kind == "wrong" or (kind == "malformed" and self._known):
            self._note(1)
        elif kind == "malformed":
            self._malformed_here += 1
        super().found(line, path, where_from)

    def _note(self, count: int) -> None:
        if not count:
            return
        if self._at in self.damaged or len(self.damaged) < MOST:
            self.damaged[self._at] = self.damaged.get(self._at, 0) + count
        else:
            self.more_damaged = True

    def kind(self, line: bytes, path: int | None) -> Kind:
        """What a line is: right or wrong for a record that is judged, of no record of its own, or of another one. Lines
        of an object without a single row of a record that is judged are somebody else's, whatever they are."""
        key, number = row_id(line)
        if not key:
            return "malformed"
        bundle = self._index.get(key)
        if bundle is None:
            return "other" if _BUNDLE.fullmatch(key) else "malformed"
        if self._open[bundle]:
            return "other"
        at = self._start[bundle] + int(number)
        if int(number) >= self._points[bundle] or not self._flags[at] & EXPECTED:
            return "wrong"
        return "wrong" if self._compared[bundle] and self._differs(line, path, at) else "right"

    def wanted(self, *, letters_checked: bool) -> Iterator[Wanted]:
        """What has to be sent again, record by record. Rows of which a right copy landed are not among it, unless the
        last report found that what their keys stand for did not."""
        for bundle, key in enumerate(self._index):
            if self._open[bundle]:
                continue
            start, points = self._start[bundle], self._points[bundle]
            older = self._skipped(bundle, letters_checked=letters_checked) if bundle in self._older else ()
            rows = [n for n in range(points) if self._flags[start + n] & EXPECTED and self._is_missing(start + n)]
            owed = [n for n in range(max(points, 1)) if self._flags[start + n] & OWED]
            missing = letters_checked and any(not self._flags[start + n] & DEAD for n in owed if n not in older)
            parts = [path for path, named in self._parts.get(bundle, {}).items() if letters_checked and not named]
            rows = [n for n in rows if n not in older]
            if not (rows or missing or parts):
                continue
            # A letter names all points that are owed one: who reads it must not find some of them.
            only = None if not points and not parts else tuple(sorted({*rows, *(owed if missing or parts else ())}))
            topic, partition = self._places[self._place[bundle]]
            below = tuple(self._parts.get(bundle, {})) if parts else ()
            yield Wanted(topic, partition, self._offset[bundle], key.decode(), len(rows), only, below)

    def unproved(self, *, letters_checked: bool) -> Iterator[tuple[str, int, int, int]]:
        """Topic, partition, offset and rows (or letters) of the records that are not as they must be."""
        bad: dict[tuple[str, int, int], int] = {}
        for each in self.wanted(letters_checked=letters_checked):
            bad[each.topic, each.partition, each.offset] = max(each.rows, 1)
        for bundle, start in enumerate(self._start):
            wrong = sum(
                bool(flags & (CHANGED | MISPLACED)) for flags in self._flags[start : start + self._points[bundle]]
            )
            if wrong and not self._open[bundle]:
                at = (*self._places[self._place[bundle]], self._offset[bundle])
                bad[at] = max(wrong, bad.get(at, 0))
        yield from ((*at, rows) for at, rows in sorted(bad.items()))

    def _is_missing(self, at: int) -> bool:
        """Whether no right copy of a row landed with what its keys stand for, and none is in a dead letter."""
        return not self._flags[at] & DEAD and (not self._copies[at] or bool(self._flags[at] & ORPHAN))
