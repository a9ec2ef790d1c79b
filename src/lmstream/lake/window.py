"""Rows of one lane from one place to another: gathered by path, cut into objects, with what a claim says of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.transform import Cut
from lmstream.engine import FanOut
from lmstream.engine.row_digest import hasher
from lmstream.lake.claims import Buried, Claim, Kind, Mark, Put, Span, mark
from lmstream.lake.digests import Digest, hexadecimal, join
from lmstream.lake.dimension_rows import DimensionRows
from lmstream.lake.formats import Format, Gather, wanted
from lmstream.model import Record, Status
from lmstream.settings import KIB

_WHOLE: Final = 256 * KIB
"""Bytes of a record that may be kept whole. Larger ones are hashed at once, at about a gigabyte a second."""

Until = tuple[int, int, int]
"""As in `Put`."""


class Object(NamedTuple):
    """One object to be put."""

    entry: Put
    gather: Gather
    form: Format
    dimensions: bool = False
    """Whether it has dimension rows: these are put first."""


class _Part:
    """Rows of one partition in one piece of a path."""

    __slots__ = ("digest", "gather", "until")

    def __init__(self, gather: Gather) -> None:
        self.gather = gather
        self.digest: Digest = 0
        self.until = (0, 0, 0)  # its last point, as of `Put`


class _Path:
    """What is gathered for one path. Partitions are kept apart until the window ends: which rows come next in the order
    of records is known only then."""

    __slots__ = ("cuts", "parts", "pieces")

    def __init__(self, cuts: Sequence[Until | None]) -> None:
        self.cuts = cuts  # of a claim: where each piece ends
        self.pieces: dict[int, int] = {}  # by partition: which of its pieces is not full
        self.parts: dict[tuple[int, int], _Part] = {}  # by partition and piece


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
        self._open: dict[int, dict[str, _Part]] = {}  # by partition and path, where rows were put last
        self.kept: int = 0
        """Bytes of records that are kept whole."""
        self._first: dict[int, Mark] = {}
        # One a partition is kept whole for its mark: which is the last is known at the end alone, and a mark for each
        # costs as much as a quarter of its rows. Not a large one, of which a budget holds only a few.
        self._last: dict[int, Record | Mark] = {}
        self._records: dict[int, int] = {}
        self._dimensions = DimensionRows()
        self._cuts: dict[str, list[Until | None]] = {}
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
        return len(self._paths) + self._dimensions.paths

    @property
    def complete(self) -> bool:
        """Of a claim: whether all of its offsets were reached."""
        assert self.claim is not None  # noqa: S101 - for the type checker
        return all(self.position.get(partition, 0) >= span.end for partition, span in self.claim.spans.items())

    def saw(self, record: Record) -> None:
        """Note the first and last record."""
        partition = record.tp.partition
        self._records[partition] = self._records.get(partition, 0) + 1
        if partition not in self._first:
            self._first[partition] = mark(record)
        self.kept += (record.size if record.size <= _WHOLE else 0) - _size(self._last.get(partition))
        self._last[partition] = record if record.size <= _WHOLE else mark(record)
        self.reached(partition, record.at + 1)

    def keep(self, each: InFlightRecord, status: Status) -> None:
        """Settle this record with the window."""
        self.records.append((each, status))

    def reached(self, partition: int, offset: int) -> None:
        """Note that everything of a partition below this offset is in it."""
        self.position[partition] = max(offset, self.position.get(partition, 0))

    def add(self, each: InFlightRecord, out: FanOut, cuts: Iterable[Cut]) -> None:
        """Gather the rows of one record."""
        columns = wanted(self.form, out)
        partition, offset = each.tp.partition, each.offset
        until = (partition, offset, max(0, out.points - 1))
        open_parts, again, digest_of = self._open.setdefault(partition, {}), self._is_again, hasher()
        held = lines = rows = 0
        # Once for each path of each record: with the metric in the path that is for every five rows or so.
        for cut in cuts:
            path, data, count = cut
            part = open_parts.get(path)
            if part is None or part.gather.lines >= self._object_bytes or again:
                at = self._paths.get(path)
                if at is None:
                    at = self._paths[path] = _Path(self._cuts.get(path, ()))
                part = open_parts[path] = self._part(at, partition, offset)
            held += part.gather.add(cut, columns.get(path))
            part.digest += digest_of(data)  # as digests.add does, without two calls
            part.until = until
            rows += count
            lines += len(data)
        if dimensions := out.dimensions:
            new, taken = self._dimensions.add(dimensions)
            lines += new
            held += taken
        self.rows += rows
        self.lines += lines
        self.held += held

    def squeeze(self) -> int:
        """Take less memory; answers how many bytes came free."""
        before = self.held
        for at in self._paths.values():
            for part in at.parts.values():
                held = part.gather.held
                part.gather.squeeze()
                self.held += part.gather.held - held
        return before - self.held

    def objects(self) -> list[Object]:
        """What its rows become, dimension rows first, paths in the order of their names. To be asked once, when all is
        gathered."""
        made = [Object(entry, gather, self.form, dimensions=True) for entry, gather in self._dimensions.put(self.form)]
        for path in sorted(self._paths):
            at = self._paths[path]
            pieces = self._claimed(at) if self._is_again else self._joined(at)
            for number, piece in pieces:
                digest = hexadecimal(piece.digest)
                until = at.cuts[number] if at.cuts else None if number == len(pieces) - 1 else piece.until
                entry = Put(path=path, piece=number, rows=piece.gather.rows, digest=digest, until=until)
                made.append(Object(entry, piece.gather, self.form))
        return made

    def _part(self, at: _Path, partition: int, offset: int) -> _Part:
        """Where the rows of a record are gathered."""
        if at.cuts:
            piece = next(n for n, until in enumerate(at.cuts) if until is None or (partition, offset) <= until[:2])
        else:
            piece = at.pieces.get(partition, 0)
            full = at.parts.get((partition, piece))
            if full is not None and full.gather.lines >= self._object_bytes and not self._is_again:
                piece = at.pieces[partition] = piece + 1
        part = at.parts.get((partition, piece))
        if part is None:
            part = at.parts[partition, piece] = _Part(self.form.gather())
        return part

    def _joined(self, at: _Path) -> list[tuple[int, _Part]]:
        """Pieces of our own: partitions one behind the other, as long as an object may be."""
        pieces: list[_Part] = []
        for _, part in sorted(at.parts.items()):
            if pieces and pieces[-1].gather.lines + part.gather.lines <= self._object_bytes:
                _append(pieces[-1], part)
            else:
                pieces.append(part)
        return list(enumerate(pieces))

    @staticmethod
    def _claimed(at: _Path) -> list[tuple[int, _Part]]:
        """Pieces of a claim; one whose records are all gone is not among them."""
        pieces: dict[int, _Part] = {}
        for (_, number), part in sorted(at.parts.items()):
            if number in pieces:
                _append(pieces[number], part)
            else:
                pieces[number] = part
        return sorted(pieces.items())

    def lasts(self) -> dict[int, Mark]:
        """By partition, its last record."""
        return {partition: _mark(last) for partition, last in self._last.items()}

    def spans(self) -> dict[int, Span]:
        """What a claim says of its ranges."""
        return {
            partition: Span(
                start=start,
                end=self.position[partition],
                first=self._first.get(partition),
                last=_mark(self._last[partition]) if partition in self._last else self._lasts.get(partition),
                records=self._records.get(partition, 0),
            )
            for partition, start in self._start.items()
        }

    @property
    def _is_again(self) -> bool:
        return self.claim is not None


def _mark(last: Record | Mark) -> Mark:
    return last if isinstance(last, Mark) else mark(last)


def _size(last: Record | Mark | None) -> int:
    return last.size if isinstance(last, Record) else 0


def _append(to: _Part, part: _Part) -> None:
    """Let one follow the other."""
    to.gather.append(part.gather)
    to.digest = join((to.digest, part.digest))
    to.until = part.until
