"""What a record became of which rules dropped some rows: paths and columns are worked out when they are asked for."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from lmstream.engine import kept
from lmstream.engine.columns import Columns
from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.fan_out import Group, Spread
from lmstream.engine.lines import Lines
from lmstream.engine.output import Output, cut
from lmstream.engine.shaping import Shaped
from lmstream.interfaces import LostPart

if TYPE_CHECKING:
    from lmstream.engine.dimensions import Keys

Made = tuple[bytes, list[bytes], list[str], list[bytes]]
"""Id of the bundle, how the lines of each series begin, their organizations, and a piece of time for each point."""
_NOTHING: Final[dict[int, list[str]]] = {}


class SiftedOutput(Struct, eq=False, gc=False):
    """A FanOut of a bundle in which nothing is wrong."""

    rows: int
    noted: dict[str, int]
    _lines: Lines
    _paths_of: Callable[..., Iterable[tuple[str, int]]]
    _shaped: Shaped
    _made: Made
    _names: list[str]
    """Of rules."""
    _keys: "Keys | None" = None
    _whole: Output | None = None

    @property
    def points(self) -> int:
        return len(self._shaped.bundle.times)

    @property
    def parts(self) -> tuple[LostPart, ...]:
        return self._shaped.bundle.lost

    @property
    def unknown(self) -> tuple[str, ...]:
        return self._shaped.bundle.unknown

    @property
    def skipped(self) -> dict[str, int]:
        return {}

    @property
    def rejected(self) -> tuple[tuple[int, str], ...]:
        return ()

    @property
    def dropped(self) -> dict[str, int]:
        return kept.counted(self._shaped.dropped, self._names)

    @property
    def left_out(self) -> dict[int, list[str]]:
        return _NOTHING

    def why(self, ordinal: int) -> str:
        return f"data point {ordinal:,}"

    @property
    def paths(self) -> set[str]:
        return self._output.paths

    @property
    def hour(self) -> tuple[str, bytes] | None:
        return self._output.hour

    def spread(self) -> list[Spread]:
        return self._output.spread()

    def ndjson(self) -> bytes:
        return self._lines.whole()

    def first(self, rows: int) -> bytes:
        (data,) = self._lines.groups([[(0, min(rows, self.rows))]])
        return data

    @property
    def groups(self) -> list[Group]:
        return self._output.groups

    def by_path(self) -> list[tuple[str, bytes, int]]:
        return self._output.by_path()

    @property
    def dimensions(self) -> list[DimensionLine]:
        return [] if self._keys is None else self._output.dimensions

    def columns(self) -> list[Columns]:
        return self._output.columns()

    def cut(self, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
        return cut(self._lines, self.rows, max_rows, max_bytes)

    @property
    def _output(self) -> Output:
        """The same without what was dropped."""
        if self._whole is None:
            ranges, left = self._shaped.kept or (), self._shaped.left
            row_id, orgs, org_keys, times = self._made
            only = [at for at, *_ in left.series]
            self._whole = Output(
                self.rows,
                self.noted,
                self._lines,
                self._paths_of,
                (
                    kept.only(self._shaped.bundle, left, ranges),
                    [org_keys[at] for at in only],
                    kept.within(times, ranges),
                    {},
                ),
                _made=(row_id, [orgs[at] for at in only], kept.Ordinals(ranges)),
                _keys=None if self._keys is None else self._keys.only(ranges),
            )
        return self._whole
