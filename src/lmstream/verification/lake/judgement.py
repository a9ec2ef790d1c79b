"""Judge what was seen of the objects that claims name: landed, lost, changed, or under another name."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from lmstream.lake.claims import Claim, Put
from lmstream.verification.lake.copies import Numbers
from lmstream.verification.lake.object_rows import Seen
from lmstream.verification.lake_sums import Lake
from lmstream.verification.report import SAMPLES, Tally

_MOST: Final = 100_000
"""Objects in trouble that are told apart, for whether their rows lie somewhere else."""

_DAMAGED: Final = 1_000

Owed = Mapping[tuple[str, int], tuple[int, str]]
"""What the topic owes a window: by path and piece, rows and digest."""


class Trouble(NamedTuple):
    """An object that is not there, or that has other rows than its claim says."""

    lane: str
    sequence: int
    key: str
    entry: Put
    seen: Seen | None

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.lane} claim {self.sequence}: {self.key} ({self.entry.rows:,} rows)"


class Judgement:
    """Counts of all lanes, and what is in trouble."""

    def __init__(self) -> None:
        self.sums = Lake()
        self.tallies: dict[str, Tally] = {}
        self.lost: list[str] = []
        self.changed: list[str] = []
        self.misplaced: list[str] = []
        self.phantom: list[str] = []
        self.letters_missing: list[str] = []
        self.paths: set[str] = set()
        """Of objects that claims name, as long as these are not too many."""
        self._troubles: dict[str, Trouble] = {}
        self._emptied = Numbers(640 * _MOST)
        self._empty: dict[int, Trouble] = {}  # the first of them
        self._empty_rows: dict[str, int] = {}
        self._wanted: set[str] = set()  # digests of what is in trouble
        self._found: dict[str, str] = {}  # by digest, where rows were seen that do not belong there

    def tally(self, lane: str) -> Tally:
        """The counts of a lane."""
        return self.tallies.setdefault(lane, Tally())

    def entry(self, lane: str, sequence: int, key: str, entry: Put, seen: Seen | None, owed: Owed | None) -> None:
        """Judge one object of a claim, by what the claim says, and by what the topic owes where that is known."""
        tally = self.tally(lane)
        tally.expected += entry.rows
        self.sums.objects += 1
        if len(self.paths) < _MOST:
            self.paths.add(entry.path)
        trouble = Trouble(lane, sequence, key, entry, seen)
        if seen is not None and not seen.rows and seen.digest:
            # As compaction leaves it: a manifest has to say where its rows lie.
            token = hash((key, entry.rows, entry.digest))
            self._emptied.add(token)
            self._empty_rows[lane] = self._empty_rows.get(lane, 0) + entry.rows
            if len(self._empty) < _MOST:
                self._empty[token] = trouble
        elif seen is None or (seen.rows, seen.digest) != (entry.rows, entry.digest):
            if len(self._troubles) < _MOST:
                self._troubles[key] = trouble
                self._wanted.add(entry.digest)
            else:
                self._count(trouble, "")
            if seen is not None and seen.digest:
                self._found.setdefault(seen.digest, key)
        elif owed is not None and owed.get((entry.path, entry.piece)) != (entry.rows, entry.digest):
            tally.changed += entry.rows
            self.sums.objects_changed += 1
            sample(self.changed, f"{trouble.text}: its rows are those of the claim, but not those that the topic owes")
        else:
            tally.landed += entry.rows

    def waits(self, lane: str, entry: Put) -> None:
        """An object that is not there yet."""
        tally = self.tally(lane)
        tally.expected += entry.rows
        tally.buffered += entry.rows
        self.sums.objects += 1

    def owes(self, lane: str, claim: Claim, at: tuple[str, int], rows: int) -> None:
        """Rows that the topic owes a window, for an object that its claim does not name."""
        tally = self.tally(lane)
        tally.expected += rows
        tally.lost += rows
        sample(
            self.lost, f"{lane} claim {claim.sequence}: {at[0]} piece {at[1]} ({rows:,} rows) is not in its manifest"
        )

    def found(self, key: str, seen: Seen, copies: int, of: str = "") -> None:
        """Judge an object that no claim names; so many of its rows are of records that landed. `of` is what its name
        says."""
        self.sums.objects_unexpected += 1
        if seen.digest in self._wanted:
            self._found[seen.digest] = key
            sample(self.sums.unexpected, f"{key}: {of}{seen.rows:,} rows, which belong under another name")
            return
        tally = self.tally("no claim")
        tally.duplicate += copies
        tally.phantom += max(seen.rows - copies, 0 if seen.rows or seen.digest else 1)
        what = f"{of}{seen.rows:,} rows, {copies:,} of records that landed{seen.why and f'; {seen.why}'}"
        sample(self.sums.unexpected, f"{key}: {what}")
        if seen.rows > copies or not seen.digest:
            sample(self.phantom, f"{key}, which no claim names: {what}")

    def covered(self, token: int, key: str, rows: int, lane: str) -> bool:
        """Note that a compaction has the rows of this object; whether the object itself has none."""
        trouble = self._troubles.get(key)
        if token in self._emptied:
            self._empty_rows[lane] = self._empty_rows.get(lane, 0) - rows
            self._empty.pop(token, None)
        elif trouble is not None and trouble.seen is None:
            del self._troubles[key]
        else:
            return False
        self.tally(lane).landed += rows
        return True

    def spoilt(self, manifest: str, key: str, rows: int, seen: Seen) -> None:
        """An object that a compaction made and that has other rows: what it replaced is judged without it."""
        self.sums.objects_changed += 1
        tally = self.tally("compactions")
        tally.phantom += max(1, seen.rows)
        why = seen.why or f"it has {seen.rows:,} rows"
        sample(self.phantom, f"{key}: its rows are not the {rows:,} that {manifest} says: {why}")

    def end(self, own: Mapping[str, Mapping[str, str]]) -> None:
        """Judge what is in trouble, now that all objects were seen. `own` is what the store keeps beside objects that
        have too few rows, by key."""
        for trouble in self._troubles.values():
            where = self._found.get(trouble.entry.digest, "")
            self._count(trouble, where if where != trouble.key else "", own.get(trouble.key, {}))
        for lane, rows in self._empty_rows.items():
            self.tally(lane).changed += rows
        for trouble in self._empty.values():
            self.sums.objects_changed += 1
            self._damaged(trouble)
            sample(self.changed, f"{trouble.text} has no rows, and no compaction has them")
        self._troubles.clear()

    @property
    def short(self) -> list[str]:
        """Keys of objects with fewer rows than their claim says."""
        some = self._troubles.values()
        return [each.key for each in some if each.seen is not None and 0 < each.seen.rows < each.entry.rows]

    def _count(self, trouble: Trouble, where: str, meta: Mapping[str, str] | None = None) -> None:
        tally, entry, seen = self.tally(trouble.lane), trouble.entry, trouble.seen
        if where:
            tally.misplaced += entry.rows
            self.sums.objects_misplaced += 1
            sample(self.misplaced, f"{trouble.text}: its rows lie in {where}")
        elif seen is None:
            tally.lost += entry.rows
            self.sums.objects_lost += 1
            sample(self.lost, f"{trouble.text} is not there")
        elif meta and seen.digest and meta.get("digest") == seen.digest:
            # Whoever made it wrote it so: of the records of its window some were gone from the topic by then.
            tally.landed += seen.rows
            tally.lost += entry.rows - seen.rows
            self.sums.objects_lost += 1
            why = "it was made when records of its window had been deleted from the topic (LMS-4025 lake.lost)"
            sample(self.lost, f"{trouble.text} has {seen.rows:,} rows: {why}")
        else:
            tally.changed += entry.rows
            self.sums.objects_changed += 1
            self._damaged(trouble)
            why = seen.why or f"it has {seen.rows:,} rows, and their digest is {seen.digest}, not {entry.digest}"
            sample(self.changed, f"{trouble.text}: {why}")

    def _damaged(self, trouble: Trouble) -> None:
        if len(self.sums.damaged) < _DAMAGED:
            self.sums.damaged.append(trouble.key)


def sample(samples: list[str], text: str) -> None:
    """Keep the first SAMPLES texts."""
    if len(samples) < SAMPLES:
        samples.append(text)
