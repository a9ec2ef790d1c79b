"""The rows of a record as columns: what repeats as encoded pieces that are the same objects, what varies as numbers.

A piece is as in a line (see interfaces). Whoever gathers columns of many records makes a pool of the distinct ones,
decodes each once, and keeps an index for each row: `Pools` does. No line is made for that, and none is read.
"""

from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from struct import Struct as Packed
from typing import Final, NamedTuple

from msgspec import Struct

from lmstream.engine.lines import Lines, Ranges
from lmstream.interfaces import Scope

Value = int | float | None


class Series(NamedTuple):
    """What consecutive rows share."""

    bundle: str
    """Their row ids but for the ordinal."""
    org: bytes
    """`{"orgId":…,"orgKey":…,`."""
    resource: bytes
    """`"deviceId":…,"deviceName":…,"resource":{…},`."""
    scope: Scope
    rows: int


class Columns(Struct, gc=False):
    """Rows of one record in one partition path, in document order. All lists have an entry for each row."""

    path: str
    series: list[Series]
    """In the order of rows; their `rows` together are all."""
    ordinals: Sequence[int]
    metrics: list[bytes]
    """`"metric":…,"metricKey":…,"unit":…,"type":…,"temporality":…,"monotonic":…,`."""
    times: list[bytes]
    """`"ts":…,"tsUnixMs":…,"startTsUnixMs":…,` and, but for odd points, `"value":`."""
    values: list[Value]
    """As the sender wrote it: asInt within int64, or asDouble; None for odd points."""
    tails: list[bytes]
    """`,"instance":…,"attributes":{…}}` and a newline."""
    odd: dict[int, bytes]
    """By row, the members that stand in place of a value: histograms, summaries, values with exemplars."""
    _lines: Lines
    """Of the whole record."""
    _ranges: Ranges | None = None
    """Which of its rows these are; None for all."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.tails)

    def lines(self) -> bytes:
        """The rows as lines, as the digest of rows wants them (engine.row_digest)."""
        if self._ranges is None:
            return self._lines.whole()
        (data,) = self._lines.groups([self._ranges])
        return data


class _Pool(dict[bytes, int]):
    """From a piece to its index; a piece that is new gets the next one."""

    size = 0
    """Bytes of its pieces."""

    def __missing__(self, piece: bytes) -> int:
        index = self[piece] = len(self)
        self.size += len(piece) + _ENTRY
        return index


@cache
def _packed(rows: int) -> Packed:
    return Packed(f"<{rows}d")


_ENTRY: Final = 150  # bytes of a piece's head, its index and its slot in a table
_ROW: Final = 72  # five indices, a double, and the number in a list
_SERIES: Final = 56  # three indices, an epoch, and the bundle, whose text its other series and paths share
_SHAPES: Final = 8192  # lists of pieces that are remembered together
_KEPT: Final = 1024  # rows of a record for which there is a packer


class Pools:
    """Columns of many records. Indices and numbers lie in arrays, an entry for each row, as Arrow takes them."""

    def __init__(self) -> None:
        self.rows = 0
        self.orgs: _Pool = _Pool()
        self.resources: _Pool = _Pool()
        self.scopes: _Pool = _Pool()
        """Scopes with zeros for their epoch, where the codec knows that; else as they are."""
        self.metrics: _Pool = _Pool()
        self.times: _Pool = _Pool()
        self.tails: _Pool = _Pool()
        self.bundles: list[str] = []
        """Of each series."""
        self.org_of: array[int] = array("i")
        """Of each series, as the next three."""
        self.resource_of: array[int] = array("i")
        self.scope_of: array[int] = array("i")
        self.epochs: array[int] = array("q")
        """What to put into the scope, as 13 digits; -1 when it is whole."""
        self.series_of: array[int] = array("i")
        """For each row its series."""
        self.metric_of: array[int] = array("i")
        self.time_of: array[int] = array("i")
        self.tail_of: array[int] = array("i")
        self.ordinals: array[int] = array("i")
        self.doubles: bytearray = bytearray()
        """Values as float64, rounded where an integer is larger; 0.0 of odd points."""
        self.values: list[Value] = []
        self.odd: dict[int, bytes] = {}
        self._odd = 0
        self._shapes: dict[tuple[bytes, ...], array[int]] = {}
        self._heads: dict[tuple[bytes, ...], array[int]] = {}

    @property
    def held(self) -> int:
        """Bytes it takes in memory, about."""
        pools = (self.orgs, self.resources, self.scopes, self.metrics, self.times, self.tails)
        return sum(pool.size for pool in pools) + self.rows * _ROW + len(self.bundles) * _SERIES + self._odd

    def add(self, columns: Columns) -> None:
        """Gather the rows of one record."""
        n = columns.rows
        number = len(self.bundles)
        bundles, orgs, resources, scopes, rows = zip(*columns.series, strict=True)
        self.bundles += bundles
        self.org_of.extend(map(self.orgs.__getitem__, orgs))
        self.resource_of.extend(map(self.resources.__getitem__, resources))
        self.scope_of.extend([self.scopes[scope.frame or scope.piece] for scope in scopes])
        self.epochs.extend([int(scope.epoch) if scope.frame else -1 for scope in scopes])
        if n == len(bundles):  # one row each
            self.series_of.extend(range(number, number + n))
        else:
            for each, count in enumerate(rows, number):
                self.series_of.extend([each] * count)
        self.metric_of += _indices(self._heads, self.metrics, columns.metrics)
        self.tail_of += _indices(self._shapes, self.tails, columns.tails)
        times = columns.times
        if times.count(times[0]) == n:
            self.time_of.extend([self.times[times[0]]] * n)
        else:
            self.time_of.extend(map(self.times.__getitem__, times))
        self.ordinals.extend(columns.ordinals)
        values = columns.values
        if columns.odd:
            self._odd += sum(map(len, columns.odd.values())) + _ENTRY * len(columns.odd)
            self.odd.update({self.rows + at: body for at, body in columns.odd.items()})
            values = [0.0 if value is None else value for value in values]
        self.doubles += _packed(n).pack(*values) if n <= _KEPT else Packed(f"<{n}d").pack(*values)
        self.values += columns.values
        self.rows += n

    def append(self, other: "Pools") -> None:
        """Take the rows of other pools behind these."""
        number = len(self.bundles)
        self.bundles += other.bundles
        self.epochs += other.epochs
        self.ordinals += other.ordinals
        self.doubles += other.doubles
        self.values += other.values
        self.series_of.extend(number + at for at in other.series_of)
        for pool, of in (
            ("orgs", "org_of"),
            ("resources", "resource_of"),
            ("scopes", "scope_of"),
            ("metrics", "metric_of"),
            ("times", "time_of"),
            ("tails", "tail_of"),
        ):
            mine: _Pool = getattr(self, pool)
            now = [mine[piece] for piece in getattr(other, pool)]
            getattr(self, of).extend(map(now.__getitem__, getattr(other, of)))
        self.odd.update({self.rows + at: body for at, body in other.odd.items()})
        self._odd += sum(map(len, other.odd.values())) + _ENTRY * len(other.odd)
        self.rows += other.rows


def _indices(known: dict[tuple[bytes, ...], "array[int]"], pool: _Pool, pieces: list[bytes]) -> "array[int]":
    """The index of each piece. The records of a datasource have the same ones, on all its devices."""
    key = tuple(pieces)
    found = known.get(key)
    if found is None:
        if len(known) >= _SHAPES:
            known.clear()
        found = known[key] = array("i", map(pool.__getitem__, pieces))
    return found


def gathered(columns: Iterable[Columns]) -> Pools:
    """Columns of many records as one."""
    pools = Pools()
    for each in columns:
        pools.add(each)
    return pools
