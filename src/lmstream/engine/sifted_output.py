"""What a record became of which rules dropped some rows: what is left is worked out when it is asked for."""

from collections.abc import Sequence

from lmstream.engine import kept
from lmstream.engine.columns import Columns
from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.fan_out import Spread
from lmstream.engine.lines import kept_ranges
from lmstream.engine.output import Output
from lmstream.engine.row_paths import Run


class SiftedOutput(Output, kw_only=True, eq=False, gc=False):
    """A FanOut of a bundle in which nothing is wrong. Its lines are those that are left, all else is of all points."""

    _verdicts: bytes
    """Of each point: 0, or the number behind that of the rule that drops it."""
    _drops: Sequence[int]
    """Numbers of the rules that may drop any."""
    _names: list[str]
    """Of all rules."""
    _whole: Output | None = None

    @property
    def dropped(self) -> dict[str, int]:
        return kept.counted(self._verdicts, self._drops, self._names)

    @property
    def hour(self) -> tuple[str, bytes] | None:
        if not self.rows:
            return None
        return super().hour or self._left.hour  # points that are dropped may be of other hours

    @property
    def dimensions(self) -> list[DimensionLine]:
        return [] if self._keys is None or not self.rows else self._left.dimensions

    def _spread(self) -> list[Spread]:
        return self._left._spread() if self.rows else []  # noqa: SLF001 - of the same class

    def _runs(self) -> list[Run]:
        found: list[Run] = []
        start = rows = 0
        for path, stop in self._paths(*self._of) if self.rows else ():
            if left := self._verdicts.count(0, start, stop):
                rows += left
                found.append((path, rows))
            start = stop
        return found

    def _columns(self) -> Columns:
        return self._left._columns()  # noqa: SLF001 - of the same class

    @property
    def _left(self) -> Output:
        """The same without what was dropped."""
        if self._whole is None:
            bundle, org_keys, times, _ = self._of
            row_id, orgs, _ = self._made or (b"", [], ())
            ranges = kept_ranges(self._verdicts)
            left = kept.left_of(bundle.series, bundle.heads, bundle.stops, ranges)
            only = [at for at, *_ in left.series]
            self._whole = Output(
                self.rows,
                self.noted,
                self._lines,
                self._paths,
                (kept.only(bundle, left, ranges), [org_keys[at] for at in only], kept.within(times, ranges), {}),
                _made=(row_id, [orgs[at] for at in only], kept.packed(ranges)),
                _keys=None if self._keys is None else self._keys.only(ranges),
            )
        return self._whole
