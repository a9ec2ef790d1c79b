"""The checker behind `verify`: what should have landed against what did, at 14 bytes a data point."""

from array import array
from collections.abc import Mapping

import msgspec

from lmstream.model import DeadLetter
from lmstream.verification.expected import DIGEST, Expected
from lmstream.verification.keys import RESOURCE_KEY, Keys
from lmstream.verification.landed import digest, event_time, row_id
from lmstream.verification.older import newer, upgraded
from lmstream.verification.report import BAD, SAMPLES, Report, Tally

EXPECTED, OWED, DEAD, _ERROR, CHANGED, MISPLACED, _OLDER, ORPHAN = 1, 2, 4, 8, 16, 32, 64, 128
_STRANGERS = 1_000_000  # records that nobody named, told apart; some 200 bytes each
_MOST = 255  # times one row is counted; more copies than that are still duplicates


class _Stranger:
    """A record of which rows landed and that nobody named."""

    __slots__ = ("newest", "ordinal", "rows")

    def __init__(self, ordinal: int) -> None:
        self.ordinal, self.rows, self.newest = ordinal, 0, -1


class Checker:
    """Tell it all that is expected, then all that was found, then ask for the report."""

    def __init__(self) -> None:
        self._index: dict[bytes, int] = {}
        self._places: list[tuple[str, int]] = []
        self._place_number: dict[tuple[str, int], int] = {}
        self._place, self._offset, self._start, self._points = array("I"), array("q"), array("Q"), array("I")
        self._flags, self._copies = bytearray(), bytearray()
        self._lines, self._paths = array("Q"), array("I")
        self._compared = bytearray()  # by record: whether its rows have digests
        self._changed: list[str] = []
        self._misplaced: list[str] = []
        self._older: dict[int, tuple[int, ...]] = {}  # by record: what contract 1.0 skipped
        self._newer: set[int] = set()  # those of them of which a row landed that 1.0 wrote otherwise
        self._tallies: dict[int, Tally] = {}
        self._parts: dict[int, dict[str, bool]] = {}  # by record: the parts a letter must name, and whether one does
        self._phantoms: list[str] = []
        self._open = bytearray()  # by record: whether its rows need not be there yet
        self._strangers: dict[bytes, _Stranger] = {}
        self._ahead = 0
        self._malformed = 0
        self._keys, self._orphaned = Keys(), array("q")

    def expect(self, record: Expected, *, closed: bool = True) -> None:
        """One record. The same record twice is expected once. Rows of one that is not `closed` need not be there."""
        key = record.bundle_id.encode()
        if key in self._index:
            return
        place = self._place_number.setdefault((record.topic, record.partition), len(self._places))
        if place == len(self._places):
            self._places.append((record.topic, record.partition))
            self._tallies[place] = Tally()
        if closed:
            self._count(record, self._tallies[place])
        start = len(self._flags)
        self._index[key] = len(self._offset)
        self._place.append(place)
        self._offset.append(record.offset)
        self._start.append(start)
        self._points.append(record.points)
        # A record that is not a bundle has one place of its own, for the letter it is owed.
        self._flags += bytes([EXPECTED]) * record.points if record.points else bytes([OWED if record.poison else 0])
        self._copies += bytes(max(record.points, 1))
        if record.parts:
            self._parts[self._index[key]] = dict.fromkeys(record.parts, False)
        if record.older:
            self._older[self._index[key]] = record.older
        for ordinal in record.absent:
            self._flags[start + ordinal] = 0
        self._lines.frombytes(bytes(8 * max(record.points, 1)))
        self._paths.frombytes(bytes(4 * max(record.points, 1)))
        self._open.append(not closed)
        self._compared.append(bool(record.digests) or record.points == len(record.absent))
        if record.digests:
            rows = (n for n in range(record.points) if self._flags[start + n])
            for ordinal, pair in zip(rows, DIGEST.iter_unpack(record.digests), strict=True):
                self._lines[start + ordinal], self._paths[start + ordinal] = pair
        for ordinal in record.rejected:
            self._flags[start + ordinal] = OWED

    @staticmethod
    def _count(record: Expected, tally: Tally) -> None:
        """Count where a record and its points go."""
        tally.bundles += 1
        if record.poison:
            tally.undecodable += 1
        elif record.tombstone:
            tally.tombstones += 1
        elif not record.points:
            tally.undecodable += bool(record.parts)
            tally.empty += not record.parts
        else:
            tally.understood += 1
            tally.points += record.points
            tally.expected += record.points - len(record.absent)
            tally.rejected += len(record.rejected)
            tally.dropped += record.dropped
            tally.skipped += len(record.absent) - len(record.rejected) - record.dropped

    def found(self, line: bytes, path: int | None = None, where_from: str = "") -> None:
        """One line that landed: under a path with this digest (None: not judged), in an object of this name."""
        if self._keys.is_dimension(line):
            return
        where = self._locate(line)
        if where is None:
            return
        bundle, ordinal = where
        tally = self._tallies[self._place[bundle]]
        at = self._start[bundle] + ordinal
        if ordinal >= self._points[bundle] or not self._flags[at] & EXPECTED:
            tally.phantom += 1
            self._sample(self._phantoms, self._name(bundle, ordinal))
            return
        if self._compared[bundle] and (wrong := self._differs(line, path, at)):
            self._flags[at] |= wrong
            samples = self._changed if wrong == CHANGED else self._misplaced
            self._sample(samples, f"{self._name(bundle, ordinal)}{where_from and f' in {where_from}'}")
            return
        if bundle in self._older and newer(line):
            self._newer.add(bundle)
        if RESOURCE_KEY in line and not self._open[bundle]:  # of an open one what its rows need may be on its way
            self._keys.needs(line, self._name(bundle, ordinal), at)
        if self._copies[at]:
            tally.duplicate += 1
        if self._copies[at] < _MOST:
            self._copies[at] += 1

    def _differs(self, line: bytes, path: int | None, at: int) -> int:
        """Answer what is wrong with a row; 0 when nothing is."""
        if digest(line) != self._lines[at]:
            if digest(upgraded(line)) != self._lines[at]:
                return CHANGED
            self._flags[at] |= _OLDER
        return 0 if path is None or path == self._paths[at] else MISPLACED

    def failed(self, line: bytes) -> None:
        """One line that is in the sink's error prefix."""
        where = self._locate(line, judge=False)
        if where is not None and where[1] < self._points[where[0]]:
            self._flags[self._start[where[0]] + where[1]] |= _ERROR

    def dead(self, letter: DeadLetter, bundle_id: str) -> None:
        """One dead letter, of the record with this id."""
        bundle = self._index.get(bundle_id.encode())
        if bundle is None:
            return
        start, points = self._start[bundle], max(self._points[bundle], 1)
        whole = not letter.rejected and not letter.parts
        parts = self._parts.get(bundle, {})
        for path in parts if whole else [path for path, _ in letter.parts if path in parts]:
            parts[path] = True
        for ordinal in range(points) if whole else [n for n, _ in letter.rejected]:
            if 0 <= ordinal < points:  # one below would be a point of the record before
                self._flags[start + ordinal] |= DEAD

    @property
    def strangers(self) -> bool:
        """Whether rows landed of records that nobody named."""
        return bool(self._strangers)

    def came_later(self, record: Expected) -> None:
        """One record that came after those that are expected: its rows are in flight."""
        if (found := self._strangers.pop(record.bundle_id.encode(), None)) is not None:
            self._ahead += found.rows

    def report(
        self, *, letters_checked: bool = True, ranged: bool = False, oldest: int | None = None, settled: bool = True
    ) -> Report:
        """Judge. Without dead letters to look at, missing ones are not judged; in a range, strangers are not; nor are
        those from before `oldest`, in ms since 1970. Where it is not `settled`, what is missing may be buffered."""
        tallies = {place: msgspec.structs.replace(tally) for place, tally in self._tallies.items()}
        reached = self._reached() if any(self._open) else {}
        lost: list[str] = []
        missing: list[str] = []
        for bundle, key in enumerate(self._index):
            tally = tallies[self._place[bundle]]
            start = self._start[bundle]
            if self._open[bundle]:
                self._judge_open(bundle, tally, reached)
                continue
            seen = 0
            older = self._skipped(bundle, letters_checked=letters_checked) if bundle in self._older else ()
            for ordinal in range(max(self._points[bundle], 1)):
                flags = self._flags[start + ordinal]
                seen |= flags
                tally.changed += bool(flags & CHANGED)
                tally.misplaced += bool(flags & MISPLACED)
                tally.older_contract += bool(flags & _OLDER)
                verdict = self._judge(start + ordinal, letters_checked=letters_checked)
                if ordinal in older and verdict in {"lost", "letters_missing"}:
                    verdict = "older_skipped"
                if not verdict:
                    continue
                setattr(tally, verdict, getattr(tally, verdict) + 1)
                if verdict == "lost" and len(lost) < SAMPLES:
                    lost.append(f"{self._name(bundle, ordinal)} {key.decode()}:{ordinal}")
                elif verdict == "letters_missing":
                    self._sample(missing, self._name(bundle, ordinal))
            self._judge_parts(bundle, tally, missing, letters_checked=letters_checked)
            tally.dead_letters += bool(seen & DEAD) or any(self._parts.get(bundle, {}).values())
        total = Tally(**{f: sum(getattr(t, f) for t in tallies.values()) for f in Tally.__struct_fields__})
        strange = self._judge_strangers(total, ranged=ranged, oldest=oldest)
        total.in_flight += self._ahead
        total.phantom += self._malformed
        orphans, orphan_rows = self._orphans()
        if not settled:
            for tally in (*tallies.values(), total):
                tally.buffered, tally.lost = tally.lost, 0
        return Report(
            ok=not any(getattr(total, name) for name in BAD) and not (orphans and settled),
            total=total,
            sums=total.sums,
            partitions={f"{t}/{p}": tallies[n] for n, (t, p) in enumerate(self._places)},
            lost=lost,
            phantom=(self._phantoms + strange)[:SAMPLES],
            changed=self._changed,
            misplaced=self._misplaced,
            letters_missing=missing,
            letters_checked=letters_checked,
            settled=not total.buffered and (settled or not orphans),
            dimensions=self._keys.dimensions,
            orphans=orphans,
            orphan_rows=orphan_rows,
            ids_only=not all(self._compared),
            malformed=self._malformed,
        )

    def _orphans(self) -> tuple[int, list[str]]:
        """Judge rows by what their keys stand for, as far as that landed by now, and mark those that lack it."""
        for at in self._orphaned:
            self._flags[at] &= ~ORPHAN
        count, named = self._keys.orphans()
        self._orphaned = array("q", self._keys.places)
        for at in self._orphaned:
            self._flags[at] |= ORPHAN
        return count, named

    def _skipped(self, bundle: int, *, letters_checked: bool) -> tuple[int, ...]:
        """Answer what contract 1.0 skipped of a record, if it is seen to have written the record whole, and 1.1 is not:
        a row is there as only 1.0 writes it, none as only 1.1 does, and every other row and letter is there."""
        start, older = self._start[bundle], self._older[bundle]
        flags = self._flags[start : start + self._points[bundle]]
        if bundle in self._newer or bundle in self._parts or not any(each & _OLDER for each in flags):
            return ()
        for n, each in enumerate(flags):
            if n in older:
                against = self._copies[start + n] or each & (DEAD | _ERROR | CHANGED | MISPLACED)
            else:
                verdict = self._judge(start + n, letters_checked=letters_checked)
                against = each & (CHANGED | MISPLACED) or verdict in {"lost", "in_error_prefix", "letters_missing"}
            if against:
                return ()
        return older

    def _judge_strangers(self, total: Tally, *, ranged: bool, oldest: int | None) -> list[str]:
        """Count rows of records that nobody named; answer the first that are unexpected."""
        strange: list[str] = []
        for key, stranger in self._strangers.items():
            if ranged or (oldest is not None and 0 <= stranger.newest < oldest):
                total.outside += stranger.rows
            else:
                total.phantom += stranger.rows
                self._sample(strange, f"of no expected record: {key.decode()}:{stranger.ordinal}")
        return strange

    def _reached(self) -> dict[int, int]:
        """The highest offset of each place of which a row landed."""
        found: dict[int, int] = {}
        for bundle, (place, offset, start) in enumerate(zip(self._place, self._offset, self._start, strict=True)):
            if any(self._copies[start : start + self._points[bundle]]):
                found[place] = max(offset, found.get(place, 0))
        return found

    def _judge_open(self, bundle: int, tally: Tally, reached: Mapping[int, int]) -> None:
        """Count the rows of a record that is not committed; what landed of it must be right all the same."""
        start = self._start[bundle]
        flags = self._flags[start : start + max(self._points[bundle], 1)]
        rows = sum(each & EXPECTED for each in flags)
        if self._offset[bundle] <= reached.get(self._place[bundle], -1):
            tally.in_flight += rows
        else:
            tally.not_read += rows
        tally.changed += sum(bool(each & CHANGED) for each in flags)
        tally.misplaced += sum(bool(each & MISPLACED) for each in flags)

    def _judge_parts(self, bundle: int, tally: Tally, missing: list[str], *, letters_checked: bool) -> None:
        """Count the parts of a record that a letter names, and those that none does."""
        for path, named in self._parts.get(bundle, {}).items():
            if named:
                tally.letters += 1
            elif letters_checked:
                tally.letters_missing += 1
                self._sample(missing, f"{self._record(bundle)} {path}")

    def _judge(self, at: int, *, letters_checked: bool) -> str:
        """Answer the count of a tally that one data point belongs to."""
        flags = self._flags[at]
        if flags & EXPECTED:
            if self._copies[at]:
                return "landed"
            if flags & (CHANGED | MISPLACED):
                return ""  # counted as such: it is there
            return "dead_lettered" if flags & DEAD else "in_error_prefix" if flags & _ERROR else "lost"
        if flags & OWED:
            return "letters" if flags & DEAD else "letters_missing" if letters_checked else ""
        return ""

    def _locate(self, line: bytes, *, judge: bool = True) -> tuple[int, int] | None:
        key, number = row_id(line)
        if not key:
            self._malformed += judge
            return None
        bundle = self._index.get(key)
        if bundle is None:
            if judge:
                found = self._strangers.get(key)
                if found is None:
                    if len(self._strangers) >= _STRANGERS:
                        key = b"and more"
                    found = self._strangers.setdefault(key, _Stranger(int(number)))
                found.rows += 1
                found.newest = max(found.newest, event_time(line))
            return None
        return bundle, int(number)

    def _name(self, bundle: int, ordinal: int) -> str:
        return f"{self._record(bundle)}:{ordinal}"

    def _record(self, bundle: int) -> str:
        topic, partition = self._places[self._place[bundle]]
        return f"{topic}/{partition}/{self._offset[bundle]}"

    @staticmethod
    def _sample(samples: list[str], text: str) -> None:
        if len(samples) < SAMPLES:
            samples.append(text)
