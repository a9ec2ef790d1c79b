"""Rows of one lane from one place to another: gathered by path, cut into objects, with what a claim says of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.transform import Cut
from lmstream.engine import FanOut
from lmstream.lake.claims import Buried, Claim, Kind, Mark, Put, Span, mark
from lmstream.lake.digests import Digest, add, hexadecimal
from lmstream.lake.formats import Format, Gather, wanted
from lmstream.model import Record, Status


class Object(NamedTuple):
    """One object to be put."""

    entry: Put
    gather: Gather
    form: Format


class _Path:
    """What is gathered for one path: pieces that are full, and the one that is not."""

    __slots__ = ("cuts", "digest", "gather", "pieces")

    def __init__(self, gather: Gather, cuts: Sequence[tuple[int, int, int] | None]) -> None:
        self.gather = gather
        self.digest: Digest = 0
        self.pieces: list[tuple[Gather, Digest, tuple[int, int, int] | None]] = []
        self.cuts = cuts  # of a claim: where each piece ends


class Window:
    """One window. `held` is what its rows take; the caller keeps account of it."""

    def __init__(
        self,
        form: Format,
        began: float,
        position: Mapping[int, int],
        object_bytes: int,
        claim: Claim | None = None,
        lasts: Mapping[int, Mark] | None = None,
    ) -> None:
        """`position` is where each partition of the lane stands, `lasts` the last record before it. With a `claim` its
        window is made again, cut as its manifest says."""
        self._lasts = lasts or {}
        self.began: float = began
        self.claim: Claim | None = claim
        self.records: list[tuple[InFlightRecord, Status]] = []
        self.rows = self.lines = self.held = 0
        self.kind: Kind = "window"
        self.why: str = ""
        """Of a claim without rows: why it is made."""
        self.letters: list[Buried] = []
        self.unwritten: int = 0
        """Letters that are not durable yet."""
        self.position: dict[int, int] = dict(position)
        """By partition, the offset behind the last that is in it."""
        self._start = dict(position)
        self.form: Format = form
        self._object_bytes = object_bytes
        self._paths: dict[str, _Path] = {}
        # Two records a partition are kept whole for their marks: which is the last one is known at the end alone.
        self._first: dict[int, Record] = {}
        self._last: dict[int, Record] = {}
        self._records: dict[int, int] = {}
        self._cuts: dict[str, list[tuple[int, int, int] | None]] = {}
        if claim is not None:
            for each in claim.objects:
                self._cuts.setdefault(each.path, []).append(each.until)
        self.buried: dict[tuple[int, int], Buried] = (
            {} if claim is None else {(each.partition, each.offset): each for each in claim.letters}
        )
        """Of a claim: what must not become rows."""

    @property
    def moved(self) -> bool:
        """Whether there is anything in it that has to be claimed."""
        return self.position != self._start

    @property
    def paths(self) -> int:
        """Paths with rows in it: as many objects it becomes, at least."""
        return len(self._paths)

    @property
    def complete(self) -> bool:
        """Of a claim: whether all of its offsets were reached."""
        assert self.claim is not None  # noqa: S101 - for the type checker
        return all(self.position.get(partition, 0) >= span.end for partition, span in self.claim.spans.items())

    def saw(self, record: Record) -> None:
        """Note the first and last record."""
        partition = record.partition
        self._records[partition] = self._records.get(partition, 0) + 1
        self._first.setdefault(partition, record)
        self._last[partition] = record
        self.reached(partition, record.offset + 1)

    def keep(self, each: InFlightRecord, status: Status) -> None:
        """Settle this record with the window."""
        self.records.append((each, status))

    def reached(self, partition: int, offset: int) -> None:
        """Note that everything of a partition below this offset is in it."""
        self.position[partition] = max(offset, self.position.get(partition, 0))

    def add(self, each: InFlightRecord, out: FanOut, cuts: Iterable[Cut]) -> None:
        """Gather the rows of one record."""
        columns = wanted(self.form, out)
        partition, offset = each.tp.partition, each.record.offset
        for cut in cuts:
            path, data, rows = cut
            at = self._paths.get(path)
            if at is None:
                at = self._paths[path] = _Path(self.form.gather(), self._cuts.get(path, ()))
            gather = at.gather
            before = gather.held
            if at.cuts:
                self._cut_before(at, partition, offset)
                gather, before = at.gather, at.gather.held
            gather.add(cut, columns.get(path))
            at.digest = add(at.digest, data)
            self.rows += rows
            self.lines += len(data)
            self.held += gather.held - before
            if not self._is_again and gather.lines >= self._object_bytes:
                at.pieces.append((gather, at.digest, (partition, offset, max(0, out.points - 1))))
                at.gather, at.digest = self.form.gather(), 0

    def squeeze(self) -> int:
        """Take less memory; answers how many bytes came free."""
        before = self.held
        for at in self._paths.values():
            held = at.gather.held
            at.gather.squeeze()
            self.held += at.gather.held - held
        return before - self.held

    def objects(self) -> list[Object]:
        """What its rows become, paths in the order of their names."""
        made = []
        for path in sorted(self._paths):
            at = self._paths[path]
            pieces = [*at.pieces, (at.gather, at.digest, None)]
            whole = [each for each in pieces if each[0].rows]
            for number, (gather, digest, until) in enumerate(whole if not self._is_again else pieces):
                last = not self._is_again and number == len(whole) - 1
                if gather.rows:
                    entry = Put(
                        path=path,
                        piece=number,
                        rows=gather.rows,
                        digest=hexadecimal(digest),
                        until=None if last else until,
                    )
                    made.append(Object(entry, gather, self.form))
        return made

    def lasts(self) -> dict[int, Mark]:
        """By partition, its last record."""
        return {partition: mark(record) for partition, record in self._last.items()}

    def spans(self) -> dict[int, Span]:
        """What a claim says of its ranges."""
        return {
            partition: Span(
                start=start,
                end=self.position[partition],
                first=mark(self._first[partition]) if partition in self._first else None,
                last=mark(self._last[partition]) if partition in self._last else self._lasts.get(partition),
                records=self._records.get(partition, 0),
            )
            for partition, start in self._start.items()
        }

    @property
    def _is_again(self) -> bool:
        return self.claim is not None

    def _cut_before(self, at: _Path, partition: int, offset: int) -> None:
        """End pieces that a claim ends before this record."""
        while len(at.pieces) < len(at.cuts) - 1:
            until = at.cuts[len(at.pieces)]
            if until is None or (partition, offset) <= until[:2]:
                return
            at.pieces.append((at.gather, at.digest, until))
            at.gather, at.digest = self.form.gather(), 0
