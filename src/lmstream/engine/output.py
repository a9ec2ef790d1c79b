"""How the lines of a record are kept until somebody asks for them: see fan_out."""

from collections.abc import Callable, Iterable, Sequence
from operator import sub
from typing import Any, Final, NamedTuple

from msgspec import Struct

from lmstream.engine.columns import Columns
from lmstream.engine.columns_of import columns_again, columns_of, selected
from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.fan_out import Group, Named, Spread
from lmstream.engine.lines import Lines, Ranges
from lmstream.engine.row_paths import Run
from lmstream.engine.timestamps import HOUR
from lmstream.interfaces import LostPart
from lmstream.model import DIMENSIONS

_BUNDLE: Final = 4  # parts of what the rows of a bundle are made of


class _Path(NamedTuple):
    """A whole path in place of a metric."""

    key: str


_DIMENSIONS: Final = _Path(DIMENSIONS)


def with_dimensions(spread: list[Spread]) -> list[Spread]:
    """Partitions, and those of the dimension rows beside them."""
    return [Spread(org, hour, (*metrics, _DIMENSIONS)) for org, hour, metrics in spread]


class Output(Struct, eq=False, gc=False):
    """A FanOut, which says what its members are. Lines are joined when they are asked for."""

    rows: int
    noted: dict[str, int]
    _lines: Lines
    _paths: Callable[..., Iterable[tuple[str, int]]]
    """Called with what follows, gives (path, row behind the last one) of runs of rows, in document order."""
    _of: tuple[Any, ...]
    points: int = 0
    parts: tuple[LostPart, ...] = ()
    unknown: tuple[str, ...] = ()
    skipped: dict[str, int] = {}
    rejected: tuple[tuple[int, str], ...] = ()
    _why: Callable[[int], str] | None = None
    _made: tuple[bytes, list[bytes], Sequence[int]] | None = None
    """Id of the bundle, how the lines of each series begin, and the ordinals of a replay or, packed, of what is left;
    None of rows that were made before."""
    _dropped: dict[str, int] = {}
    _keys: Any = None
    """Of a bundle with dimensions: an engine.dimensions.Keys."""

    def why(self, ordinal: int) -> str:
        return self._why(ordinal) if self._why is not None else f"data point {ordinal:,}"

    @property
    def dropped(self) -> dict[str, int]:
        return self._dropped

    @property
    def left_out(self) -> dict[int, list[str]]:
        return self._of[0].left_out if len(self._of) == _BUNDLE else {}

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in self._runs()}

    @property
    def hour(self) -> tuple[str, bytes] | None:
        if len(self._of) != _BUNDLE:
            return None
        _, org_keys, times, _ = self._of
        if not times or (len(org_keys) > 1 and org_keys.count(org_keys[0]) != len(org_keys)):
            return None
        first = times[0]
        if first and times.count(first) == len(times):
            return org_keys[0], first[HOUR]
        # Points share their pieces of time, so that there are few of them.
        hours = {piece[HOUR] for piece in set(times) if piece}
        return (org_keys[0], hours.pop()) if len(hours) == 1 else None

    def spread(self) -> list[Spread]:
        return self._spread() if self._keys is None else with_dimensions(self._spread())

    def _spread(self) -> list[Spread]:
        if len(self._of) != _BUNDLE:
            return [Spread(path, b"", [_Path(path)]) for path in sorted(self.paths)]
        bundle, org_keys, times, _ = self._of
        if (hour := self.hour) is not None:
            return [Spread(*hour, bundle.heads)]
        found: dict[tuple[str, bytes], list[Named]] = {}
        metrics = zip(bundle.heads, bundle.stops, strict=True)
        start = 0
        for series, org_key in zip(bundle.series, org_keys, strict=True):
            while start < series.stop:
                head, stop = next(metrics)
                for hour in {piece[HOUR] for piece in set(times[start:stop]) if piece}:
                    found.setdefault((org_key, hour), []).append(head)
                start = stop
        return [Spread(org, hour, heads) for (org, hour), heads in found.items()]

    def ndjson(self) -> bytes:
        return self._lines.whole()

    def first(self, rows: int) -> bytes:
        (data,) = self._lines.groups([[(0, min(rows, self.rows))]])
        return data

    @property
    def groups(self) -> list[Group]:
        return [Group(*each) for each in self.by_path()]

    def by_path(self) -> list[tuple[str, bytes, int]]:
        runs = self._runs()
        stops = dict(runs)
        if len(stops) == len(runs):  # each path once, as nearly always where the metric is part of it
            data = self._lines.runs([*stops.values()])
            return list(zip(stops, data, map(sub, stops.values(), (0, *stops.values())), strict=True))
        found = self._ranges(runs)
        rows = [sum([stop - start for start, stop in ranges]) for ranges in found.values()]
        return list(zip(found, self._lines.groups([*found.values()]), rows, strict=True))

    @property
    def dimensions(self) -> list[DimensionLine]:
        if self._keys is None:
            return []
        _, _, times, faults = self._of
        found: list[DimensionLine] = self._keys.lines(times, faults)
        return found

    def columns(self) -> list[Columns]:
        if self._keys is not None:
            raise NotImplementedError("rows with keys have no columns: Parquet has each distinct map once as it is")
        at = self._ranges(self._runs())
        if not at:
            return []
        whole = self._columns()
        if len(at) == 1:
            whole.path = next(iter(at))
            return [whole]
        return [selected(whole, path, ranges) for path, ranges in at.items()]

    def cut(self, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
        return cut(self._lines, self.rows, max_rows, max_bytes)

    def _runs(self) -> list[Run]:
        """Paths, each with the row behind the last one of a run of rows."""
        return list(self._paths(*self._of))

    def _columns(self) -> Columns:
        """All rows, whatever their path."""
        if self._made is None:
            return columns_again(self._lines)
        bundle, _, _, faults = self._of
        return columns_of(self._lines, bundle, faults, *self._made)

    @staticmethod
    def _ranges(runs: Iterable[tuple[str, int]]) -> dict[str, Ranges]:
        """Where the lines of each path are, paths in order of first appearance."""
        found: dict[str, Ranges] = {}
        start = 0
        for path, stop in runs:
            if path not in found:
                found[path] = [(start, stop)]
            elif (ranges := found[path])[-1][1] == start:
                ranges[-1] = ranges[-1][0], stop
            else:
                ranges.append((start, stop))
            start = stop
        return found


def cut(lines: Lines, rows: int, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
    """See fan_out."""
    out: list[tuple[bytes, int]] = []
    for start in range(0, rows, max_rows):
        _cut_range(lines, start, min(start + max_rows, rows), max_bytes, out)
    return out


def _cut_range(lines: Lines, start: int, stop: int, max_bytes: int, out: list[tuple[bytes, int]]) -> None:
    (data,) = lines.groups([[(start, stop)]])
    if len(data) <= max_bytes or stop - start == 1:
        out.append((data, stop - start))
        return
    middle = (start + stop) // 2
    _cut_range(lines, start, middle, max_bytes, out)
    _cut_range(lines, middle, stop, max_bytes, out)
