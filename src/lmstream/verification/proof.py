"""Prove rows as they land, round by round: what is proved is not looked at again, what is not is looked at each time.

State, of each partition: `position`, the first offset that was not judged; `unproved`, offsets below it whose rows are
not all there as they must be; and when the group had committed what, so that a row is judged when it must have landed.
Memory is bounded by the rows of one round, and by MOST unproved offsets; with more of them a partition waits.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from msgspec import Struct, field, structs

from lmstream.bounded import ROW_LINE
from lmstream.engine import Engine, bundle_id
from lmstream.model import DeadLetter, Record
from lmstream.storage.by_key import Keyed
from lmstream.storage.line_files import lines
from lmstream.verification.chains import Walked
from lmstream.verification.expected import expectation
from lmstream.verification.landed import path_digest
from lmstream.verification.wanting import RepairingChecker

MOST: Final = 10_000
"""Offsets of one partition that may be unproved at a time."""
ROWS: Final = 1_000_000
"""Rows of one round: some 50 MiB in the checker."""
_MARGIN: Final = 600.0
"""Seconds that clocks may differ: an object with rows of a record is not older than the record, by more than that."""
_GAP: Final = 100  # unproved offsets so near to each other are read in one go

Place = tuple[str, int]
"""Topic and partition."""


class Bound(NamedTuple):
    """Where a partition stands."""

    begin: int
    committed: int | None


class Partition(Struct, kw_only=True):
    """What is known of one partition."""

    position: int
    unproved: dict[int, int] = field(default_factory=dict)
    """Offset and time, in ms since 1970, of records whose rows are not all there as they must be."""
    rows: int = 0
    """Rows of these that are lost, changed or misplaced, or letters that are missing."""
    commits: list[tuple[float, int]] = field(default_factory=list)
    """When it was seen, in seconds since 1970, what the group had committed; oldest first."""
    until: float = 0.0
    """Seconds since 1970: all that was written into the topic before is proved."""
    gone: int = 0
    """Offsets that the topic deleted before they were proved."""

    @property
    def offset(self) -> int:
        """All below is proved."""
        return min(self.unproved, default=self.position)

    def due(self, now: float, settle: float) -> int:
        """What was committed `settle` seconds ago, and must have landed by now."""
        return max((offset for at, offset in self.commits if at <= now - settle), default=self.position)

    def saw(self, now: float, settle: float, committed: int) -> None:
        """Take note of what the group has committed; forget what is older than needed."""
        self.commits.append((now, committed))
        while len(self.commits) > 1 and self.commits[1][0] <= now - settle:
            del self.commits[0]


class State(Struct, kw_only=True):
    """All partitions, by `topic/partition`: what a file keeps over a restart."""

    v: int = 1
    group: str = ""
    partitions: dict[str, Partition] = field(default_factory=dict)
    chains: Walked = field(default_factory=Walked)
    """Of a lake, how far its chains are proved."""


class Log(Protocol):
    """The topics, read outside of any group."""

    def bounds(self) -> Mapping[Place, Bound]:
        """Of every partition."""
        ...

    def read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Iterator[Record]:
        """Records by partition, from an offset to before another, in order within a partition."""
        ...

    def first(self, offsets: Mapping[Place, int]) -> Mapping[Place, int]:
        """Time, in ms since 1970, of the first record from each of these offsets on; nothing where none waits."""
        ...


class Prover:
    """Proves one round after another. `state` has where it stands."""

    def __init__(
        self,
        log: Log,
        engine: Engine,
        rows: Keyed,
        letters: Callable[[str, int], Iterable[DeadLetter]] | None,
        state: State,
        *,
        settle: float,
        start: Mapping[Place, int] | None = None,
        clock: Callable[[], float] = time.time,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`letters` gives those of a topic and partition; None: missing ones are not judged. Rows must be there
        `settle` seconds after their record was committed. `start` is where partitions begin that the state has not, by
        default at the beginning of the log. `stopped` is asked now and then, and ends a round early."""
        self._log, self._engine, self._rows, self._letters = log, engine, rows, letters
        self.state, self._settle, self._start = state, settle, dict(start or {})
        self._clock, self._stopped = clock, stopped
        self.rounds = 0
        self.behind = False
        """Whether the last round could not judge all that was due."""

    def round(self) -> None:
        """Judge what has become due, and what was not proved before. Raises SourceError and ConfigError."""
        now = self._clock()
        bounds = self._log.bounds()
        due: dict[Place, tuple[int, int]] = {}
        for place, bound in bounds.items():
            part = self._partition(place, bound)
            if bound.committed is not None:
                part.saw(now, self._settle, bound.committed)
            if part.position < bound.begin:
                part.gone += bound.begin - part.position
                part.position = bound.begin
            left = {offset: at for offset, at in part.unproved.items() if offset >= bound.begin}
            part.gone += len(part.unproved) - len(left)
            part.unproved = left
            if part.position < (stop := part.due(now, self._settle)) and len(part.unproved) < MOST:
                due[place] = part.position, stop
        checker, reached, paths = RepairingChecker(), dict[Place, int](), dict[str, float]()
        times: dict[tuple[str, int, int], int] = {}
        self.behind = self._expect(due, checker, reached, paths, times)
        self._look(checker, paths, since=True)
        bad = self._bad(checker)
        if bad:  # before anything is called lost, also objects that are older than they can be
            again = self._again(bad)
            self._look(again, paths, since=False)
            bad = self._bad(again)
        if self._stopped():
            return
        after = {name: structs.replace(part) for name, part in self.state.partitions.items()}
        self._note(after, bad, reached, times)
        self._date(after, now)
        self.state.partitions = after  # at once: whoever asks meanwhile sees one round or the other
        self.rounds += 1

    def _partition(self, place: Place, bound: Bound) -> Partition:
        name = f"{place[0]}/{place[1]}"
        if name not in self.state.partitions:
            self.state.partitions[name] = Partition(position=max(bound.begin, self._start.get(place, 0)))
        return self.state.partitions[name]

    def oldest(self) -> float:
        """When the first record was written that the log still has, in seconds since 1970; 0 where there is none.
        Raises SourceError."""
        firsts = self._log.first({place: bound.begin for place, bound in self._log.bounds().items()})
        return min(firsts.values(), default=0) / 1000

    def parts(self) -> Iterator[tuple[Place, Partition]]:
        """All partitions."""
        for name, part in self.state.partitions.items():
            yield _place_of(name), part

    def _expect(
        self,
        due: Mapping[Place, tuple[int, int]],
        checker: RepairingChecker,
        reached: dict[Place, int],
        paths: dict[str, float],
        times: dict[tuple[str, int, int], int],
    ) -> bool:
        """Take what is expected; note how far each partition was read. Whether something is left for the next round."""
        rows = 0
        for place, part in self.parts():
            for start, stop in _spans(part.unproved):
                for record in self._log.read(place[0], {place[1]: (start, stop)}):
                    if record.offset in part.unproved:
                        rows += self._take(record, checker, paths, times)
        for topic in sorted({topic for topic, _ in due}):
            ranges = {number: span for (name, number), span in due.items() if name == topic}
            whole = True
            for record in self._log.read(topic, ranges):
                rows += self._take(record, checker, paths, times)
                reached[topic, record.partition] = record.offset + 1
                if rows >= ROWS or self._stopped():
                    whole = False
                    break
            if not whole:
                return True
            reached |= {(topic, number): stop for number, (_, stop) in ranges.items()}
        return False

    def _take(
        self, record: Record, checker: RepairingChecker, paths: dict[str, float], times: dict[tuple[str, int, int], int]
    ) -> int:
        found: list[str] = []
        entry = expectation(self._engine, record, self._engine.settings.source_id, found.append)
        checker.expect(entry)
        at = record.topic, record.partition, record.offset
        times[at] = record.timestamp
        for path in found:
            paths[path] = min(paths.get(path, float("inf")), record.timestamp / 1000)
        return entry.points

    def _look(self, checker: RepairingChecker, paths: Mapping[str, float], *, since: bool) -> None:
        """Read the objects of these paths, those from before their records left out."""
        for path, first in paths.items():
            oldest = first - _MARGIN if since else 0.0
            for key, written in self._rows.keys(path):
                last = key.rpartition("/")[2]
                if written < oldest or last.startswith((".", "_")) or self._stopped():
                    continue
                if (opened := self._rows.open(key)) is None:
                    continue
                digest = path_digest(key.rpartition("/")[0])
                with opened:
                    for line in lines(opened, ROW_LINE, f"{self._rows.name}{key}"):
                        checker.found(line, digest, key)

    def _again(self, bad: Iterable[tuple[str, int, int, int]]) -> RepairingChecker:
        """A checker of the records that are not proved."""
        checker = RepairingChecker()
        places: dict[Place, dict[int, int]] = {}
        for topic, partition, offset, _ in bad:
            places.setdefault((topic, partition), {})[offset] = 0
        for (topic, partition), offsets in places.items():
            for start, stop in _spans(offsets):
                for record in self._log.read(topic, {partition: (start, stop)}):
                    if record.offset in offsets:
                        checker.expect(expectation(self._engine, record, self._engine.settings.source_id))
        return checker

    def _bad(self, checker: RepairingChecker) -> list[tuple[str, int, int, int]]:
        """Topic, partition, offset and rows of records that are not as they must be."""
        found = list(checker.unproved(letters_checked=self._letters is not None))
        if found and self._letters is not None:
            for topic, partition in sorted({(topic, partition) for topic, partition, _, _ in found}):
                for letter in self._letters(topic, partition):
                    checker.dead(letter, bundle_id(self._engine.settings.source_id, *letter.identified))
            found = list(checker.unproved(letters_checked=True))
        return found

    @staticmethod
    def _note(
        parts: Mapping[str, Partition],
        bad: Iterable[tuple[str, int, int, int]],
        reached: Mapping[Place, int],
        times: Mapping[tuple[str, int, int], int],
    ) -> None:
        """Move on, and remember what is not proved."""
        wrong: dict[str, dict[int, int]] = {}
        for topic, partition, offset, rows in bad:
            wrong.setdefault(f"{topic}/{partition}", {})[offset] = rows
        for name, part in parts.items():
            place, mine = _place_of(name), wrong.get(name, {})
            part.unproved = {offset: times.get((*place, offset), part.unproved.get(offset, 0)) for offset in mine}
            part.rows = sum(mine.values())
            part.position = max(part.position, reached.get(place, 0))

    def _date(self, parts: Mapping[str, Partition], now: float) -> None:
        """Say up to which time all is proved: that of the first record that is not, or now."""
        firsts = self._log.first({_place_of(name): part.position for name, part in parts.items()})
        for name, part in parts.items():
            waits = firsts.get(_place_of(name))
            some = [*part.unproved.values(), *([] if waits is None else [waits])]
            part.until = min(some) / 1000 if some else now


def _place_of(name: str) -> Place:
    topic, _, number = name.rpartition("/")
    return topic, int(number)


def _spans(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Offsets as ranges, those near to each other in one."""
    ordered = sorted(offsets)
    if not ordered:
        return []
    cuts = [0, *(n for n, (before, after) in enumerate(pairwise(ordered), 1) if after - before > _GAP), len(ordered)]
    return [(ordered[start], ordered[stop - 1] + 1) for start, stop in pairwise(cuts)]
