"""What the topic owes a lake: the rows of its windows made again, by the settings that each claim names."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from lmstream.engine import Engine
from lmstream.errors import DecodeError
from lmstream.interfaces import PARTS
from lmstream.lake.claims import Buried, Claim, Put, mark
from lmstream.lake.digests import add, hexadecimal
from lmstream.lake.dimension_rows import DimensionRows
from lmstream.lake.layout import Layout
from lmstream.model import Record
from lmstream.settings import Settings
from lmstream.verification.lake.chain import Faults, Lane
from lmstream.verification.lake.judgement import Judgement, Owed, sample

Place = tuple[str, int]
"""Topic and partition."""
Read = Callable[[str, int, int, int], AsyncIterator[Record]]
"""Records of a topic's partition from an offset on, to before another."""


class Bounds(NamedTuple):
    """What may be asked of one partition."""

    begin: int
    """The first offset that the log still has, or that is asked for."""
    stop: int | None = None
    """The first offset that is not asked for."""
    committed: int | None = None
    """Next offset of the group."""


class Remade:
    """The rows that windows of some topics must have. Reads in event loops of its own: not where one runs."""

    def __init__(
        self,
        bounds: Mapping[Place, Bounds],
        read: Read,
        today: Settings,
        *,
        engine: Callable[[Settings], Engine] = Engine,
    ) -> None:
        """`bounds` are of every partition that is judged, and were asked for before the first claim was read. Records
        that no claim has are judged by the settings of `today`, and only lanes of its source_id are of these topics."""
        self._bounds, self._read, self._today = bounds, read, today
        self.layouts: Callable[[str], Layout | None] = lambda _: None
        """Answers settings by their hash. Set by who reads the claims."""
        self._make = engine
        self.faults = Faults()
        self._logs: dict[Place, _Log] = {}
        self._engines: dict[str, Engine | str] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._compared = 0
        self._not: dict[str, int] = {}
        self._unlisted: list[tuple[str, str]] = []

    def wants(self, lane: Lane, claim: Claim) -> bool:
        """Whether a window has any offset that is asked for. Other topics are judged by their claims alone."""
        if lane.source_id != self._today.source_id:
            return True
        bounds = [(self._bounds.get((claim.topic, p)), span) for p, span in claim.spans.items()]
        if all(at is None for at, _ in bounds):
            return not any(topic == claim.topic for topic, _ in self._bounds)
        return any(at is not None and (at.stop is None or span.start < at.stop) for at, span in bounds)

    def owed(self, lane: Lane, claim: Claim) -> Owed | None:
        """Rows and digest of each object of a window, made again. None where they cannot be made."""
        bounds = {p: self._bounds.get((claim.topic, p)) for p in claim.spans}
        if lane.source_id != self._today.source_id or None in bounds.values():
            return None
        why = ""
        engine = self._engine(claim)
        if isinstance(engine, str):
            why = engine
        elif any(
            at is None or span.start < at.begin for at, span in zip(bounds.values(), claim.spans.values(), strict=True)
        ):
            why = "the log begins later today"
        else:
            made = _Made(claim)
            counts = self._counts.setdefault(lane.name, {})
            for partition, span in sorted(claim.spans.items()):
                log = self._log(lane, partition, span.start)
                for record in log.until(span.end):
                    self._judge(lane, claim, engine, record, made, counts)
            if made.records >= sum(span.records for span in claim.spans.values()):
                self._compared += 1
                return made.owed
            why = "records of them are gone from the topic"
        self._not[why] = self._not.get(why, 0) + 1
        return None

    def _judge(
        self, lane: Lane, claim: Claim, engine: Engine, record: Record, made: "_Made", counts: dict[str, int]
    ) -> None:
        made.records += 1
        span = claim.spans[record.partition]
        for known in (span.first, span.last):
            if known is not None and known.offset == record.offset and mark(record) != known:
                what = f"{record.coordinates} is another record than the one whose rows landed"
                self.faults.add(f"{lane.name} claim {claim.sequence}: {what} (LMS-4021 lake.incarnation)")
        listed = made.buried.get((record.partition, record.offset))
        if listed is not None and listed.ordinals is None and not listed.parts:
            _count(counts, "undecodable")
            return
        refused, parts = made.add(engine, record, counts)
        known_bad = () if listed is None else listed.ordinals or ()
        unlisted = [str(n) for n in refused if n not in known_bad]
        unlisted += [part for part in parts if listed is None or part not in listed.parts]
        self._unlisted += [(lane.name, f"{record.coordinates}: {each}") for each in unlisted]

    def _engine(self, claim: Claim) -> Engine | str:
        """How to make the rows of a claim; why that cannot be done here."""
        if claim.layout not in self._engines:
            layout = self.layouts(claim.layout)
            if layout is None:
                return "their settings are gone"
            why = f"their rows were made by {layout.code}"
            self._engines[claim.layout] = self._make(layout.settings) if layout.is_made_here else why
        return self._engines[claim.layout]

    def _log(self, lane: Lane, partition: int, start: int) -> "_Log":
        at = lane.name, partition  # a partition may have been in other lanes before
        if at not in self._logs:
            assert lane.head is not None  # noqa: S101 - for the type checker: a claim of it was read
            self._logs[at] = _Log(self._read(lane.head.topic, partition, start, lane.head.spans[partition].end))
        self._logs[at].skip(start)
        return self._logs[at]

    def finish(self, lanes: Sequence[Lane], judgement: Judgement) -> None:
        """Judge what the group has committed and no claim has: it is lost."""
        for log in self._logs.values():
            log.close()
        heads = [(lane.name, lane.head) for lane in lanes if lane.source_id == self._today.source_id]
        some = [(name, head.topic, p, span.end) for name, head in heads if head for p, span in head.spans.items()]
        ends = {(topic, p): (end, name) for name, topic, p, end in sorted(some, key=itemgetter(-1))}
        for (topic, partition), bounds in self._bounds.items():
            end, lane_name = ends.get((topic, partition), (bounds.begin, f"{topic}/{partition}"))
            last = bounds.committed if bounds.stop is None else min(bounds.stop, bounds.committed or 0)
            if last is not None and last > max(end, bounds.begin):
                self._committed(topic, partition, max(end, bounds.begin), last, lane_name, judgement)
        for name, field, count in ((n, f, c) for n, counts in self._counts.items() for f, c in counts.items()):
            setattr(judgement.tally(name), field, count)
        for name, what in self._unlisted:
            judgement.tally(name).letters_missing += 1
            sample(judgement.letters_missing, f"{what} is refused, and no claim lists it")
        judgement.sums.compared = self._compared
        judgement.sums.not_compared = self._not

    def _committed(self, topic: str, partition: int, start: int, stop: int, lane: str, judgement: Judgement) -> None:
        """Count the rows of records that are committed and in no claim."""
        engine = self._make(self._today)
        tally = judgement.tally(lane)
        log = _Log(self._read(topic, partition, start, stop))
        for record in log.until(stop):
            tally.bundles += 1
            try:
                rows = engine.fan_out(record).rows
            except DecodeError as error:
                self._unlisted.append((lane, f"{record.coordinates}: {error.reason}"))
                continue
            tally.expected += rows
            tally.lost += rows
            if rows:
                sample(judgement.lost, f"{record.coordinates} ({rows:,} rows) is committed, and no claim has it")
        log.close()


class _Made:
    """The rows of a window, as they are made again: cut as its manifest says."""

    def __init__(self, claim: Claim) -> None:
        self.records = 0
        self.buried: dict[tuple[int, int], Buried] = {(each.partition, each.offset): each for each in claim.letters}
        self._cuts: dict[str, list[Put]] = {}
        for each in claim.objects:
            self._cuts.setdefault(each.path, []).append(each)
        self._sums: dict[tuple[str, int], tuple[int, int]] = {}
        self._dimensions = DimensionRows()
        self._at: dict[str, int] = {}

    def add(self, engine: Engine, record: Record, counts: dict[str, int]) -> tuple[list[int], list[str]]:
        """Make the rows of a record, the next in order; answers ordinals and parts that are refused."""
        try:
            out = engine.fan_out(record)
        except DecodeError as error:
            _count(counts, "undecodable")
            return [], [f"all of it, {error.reason}"]
        if len(out.parts) > PARTS:
            _count(counts, "undecodable")
            return [], [f"all of it, {out.parts[0].reason}"]
        kind = "understood" if out.points else "tombstones" if record.value is None else "empty"
        _count(counts, kind)
        for name, count in (
            ("points", out.points),
            ("rejected", len(out.rejected)),
            ("skipped", 0 if record.value is None else sum(out.skipped.values())),
            ("dropped", sum(out.dropped.values())),
        ):
            _count(counts, name, count)
        self._dimensions.add(out.dimensions)
        for group in out.groups:
            at = group.path, self._piece(group.path, record)
            rows, digest = self._sums.get(at, (0, 0))
            self._sums[at] = rows + group.rows, add(digest, group.data)
        return [n for n, _ in out.rejected], [part.path for part in out.parts]

    def _piece(self, path: str, record: Record) -> int:
        """The number of the object that rows of this record go to."""
        cuts = self._cuts.get(path, ())
        at = self._at.get(path, 0)
        while (
            at < len(cuts) - 1
            and (until := cuts[at].until) is not None
            and (record.partition, record.offset) > until[:2]
        ):
            at += 1
        self._at[path] = at
        return cuts[at].piece if cuts else 0

    @property
    def owed(self) -> Owed:
        """By path and piece, rows and digest."""
        owed = {at: (rows, hexadecimal(digest)) for at, (rows, digest) in self._sums.items()}
        for entry in self._dimensions.entries():
            owed[entry.path, entry.piece] = entry.rows, entry.digest
        return owed


def _count(counts: dict[str, int], name: str, count: int = 1) -> None:
    counts[name] = counts.get(name, 0) + count


class _Log:
    """Records of one partition, one after the other, in an event loop of its own."""

    def __init__(self, records: AsyncIterator[Record]) -> None:
        self._runner = asyncio.Runner()
        self._records = records
        self._next: Record | None = None
        self._ended = False

    def until(self, end: int) -> Iterator[Record]:
        """The records that are left below an offset."""
        while (record := self._peek()) is not None and record.offset < end:
            self._next = None
            yield record

    def skip(self, start: int) -> None:
        """Leave out records below an offset: a lane jumped over them."""
        for _ in self.until(start):
            pass

    def _peek(self) -> Record | None:
        if self._next is None and not self._ended:
            self._next = self._runner.run(self._following())
            self._ended = self._next is None
        return self._next

    async def _following(self) -> Record | None:
        return await anext(self._records, None)

    def close(self) -> None:
        """Stop reading."""
        if isinstance(self._records, AsyncGenerator):
            self._runner.run(self._records.aclose())
        self._runner.close()
