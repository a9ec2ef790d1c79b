"""Prove the chains of a lake as they grow, walk by walk: what is proved is not looked at again.

A walk begins in each lane where the last good one ended. It sees that claims follow one another, that each object is
there with the rows of its claim, and that no row is there twice. Once an hour, and before anything is called a fault,
it looks at replays, compactions and what no claim names as well: for that the whole place has to be listed.
"""

import time
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Final

from msgspec import Struct, field

from lmstream.storage.by_key import Keyed
from lmstream.verification.lake import walked
from lmstream.verification.lake.walk import Item
from lmstream.verification.report import Report

_WHOLE: Final = 3_600.0
"""Seconds between two listings of the whole place: a thousand keys cost half a cent in a hundred."""
_MARGIN: Final = 600.0
"""Seconds that clocks may differ."""
_NAMED: Final = 5


class Walked(Struct, kw_only=True):
    """How far the chains are proved: what a file keeps over a restart."""

    begin: dict[str, int] = field(default_factory=dict)
    """By folder of a lane, the first claim that the next walk looks at."""
    until: float = 0.0
    """Seconds since 1970: when the last walk began that found no fault; 0 before the first."""
    listed: float = 0.0
    """When the last of those began that looked at all."""


class Chains:
    """Proves one walk after another. `state` has where it stands."""

    def __init__(
        self,
        rows: Keyed,
        claims: Keyed,
        state: Walked,
        *,
        since: Callable[[], float],
        without: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`since` answers from when on claims of lanes are judged that the state has not, in seconds since 1970. Keys
        that begin with one of `without` are no rows. `stopped` is asked now and then, and ends a walk early."""
        self._rows, self._claims, self.state = rows, claims, state
        self._since, self._without, self._clock, self._stopped = since, list(without), clock, stopped
        self.faults = 0
        """Found by the last walk: of chains, of objects, and rows that are there twice."""
        self.named: list[str] = []
        """The first of them, in words."""

    @property
    def until(self) -> float:
        """Seconds since 1970: all that was claimed before is proved, up to windows that are under way."""
        return self.state.until

    def walk(self) -> None:
        """Walk on. Raises SourceError, ConfigError and BoundError."""
        began = self._clock()
        # While there are faults all is looked at each time: what no claim names is seen in no other way.
        whole = bool(self.faults) or began - self.state.listed >= _WHOLE
        report, after = self._look(whole=whole)
        if not report.ok and not whole and not self._stopped():
            whole = True
            report, after = self._look(whole=True)
        if self._stopped():
            return  # it has not seen all
        self.faults, self.named = _faults(report), _named(report)[:_NAMED]
        if report.ok:
            # At once: whoever asks meanwhile sees one walk or the other.
            self.state = Walked(begin=dict(after), until=began, listed=began if whole else self.state.listed)

    def _look(self, *, whole: bool) -> tuple[Report, dict[str, int]]:
        def unless_stopped(items: Iterable[Item]) -> Iterable[Item]:
            return takewhile(lambda _: not self._stopped(), items)

        begin = self.state.begin
        since = max(0.0, self._since() - _MARGIN) if not begin else self.state.until - _MARGIN
        report, after = walked(
            self._rows,
            self._claims,
            begin,
            since=since,
            whole=whole,
            without=self._without,
            watch=unless_stopped,
        )
        return report, dict(after)


def _faults(report: Report) -> int:
    lake = report.lake
    if lake is None:
        return 0
    objects = lake.objects_lost + lake.objects_changed + lake.objects_misplaced + lake.objects_unexpected
    return lake.chain_faults + objects + report.total.duplicate


def _named(report: Report) -> list[str]:
    lake = report.lake
    if lake is None or report.ok:
        return []
    return [*lake.chain, *report.lost, *report.changed, *report.misplaced, *lake.unexpected, *lake.copies]
