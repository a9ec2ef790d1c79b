"""In which partition path the rows of a record lie: run by run, so that nothing is looked at row by row."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Final

from msgspec import structs

from lmstream.engine.timestamps import HOUR
from lmstream.interfaces import Bundle
from lmstream.model import DIMENSIONS, dimension_path
from lmstream.partitioning import path_renderer
from lmstream.settings import Settings

Run = tuple[str, int]
"""(path, row behind the last one) of rows that follow one another."""

_PATHS: Final = 16_384
"""Paths that are remembered, about 3 MiB: organizations and hours share them."""
_HOURS: Final = 1024
_KEY: Final = attrgetter("key")


class RowPaths:
    """The paths of one engine's rows."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a path template that cannot be used."""
        self._settings = settings
        self._render = path_renderer(settings)
        self._by_metric = "{metricKey}" in settings.path
        self._known: dict[tuple[str, bytes], _Paths] = {}

    def runs(self, bundle: Bundle, org_keys: list[str], times: list[bytes], faults: dict[int, str]) -> Iterable[Run]:
        """The runs of what is left of a bundle without the faults, in document order. `org_keys` are of its series,
        `times` of its points."""
        if times and not faults:
            one = times.count(times[0]) == len(times)
            hours = {piece[HOUR] for piece in (times[:1] if one else set(times))}
            if len(hours) == 1:
                return self._of_one_hour(bundle, org_keys, hours.pop())
        return self._each(bundle, org_keys, times, faults)

    def path(self, org_key: str, metric_key: str, hour: bytes) -> str:
        """The path below the landing root. `hour` is as yyyy-MM-ddTHH."""
        if metric_key == DIMENSIONS and not self._by_metric:  # of a dimension row that did not land: few are asked for
            template = dimension_path(self._settings.path)
            return path_renderer(structs.replace(self._settings, path=template))(org_key, metric_key, hour.decode())
        return self._of(org_key, hour)[metric_key if self._by_metric else ""]

    def clear(self) -> None:
        """Forget everything remembered."""
        self._known.clear()

    def _of_one_hour(self, bundle: Bundle, org_keys: list[str], hour: bytes) -> Iterable[Run]:
        """The same where all rows are of one hour, as those of nearly all bundles are."""
        heads, stops = bundle.heads, bundle.stops
        if not self._by_metric:
            return [(self._of(key, hour)[""], series.stop) for key, series in zip(org_keys, bundle.series, strict=True)]
        paths: list[str] = []
        for key, series in zip(org_keys, bundle.series, strict=True):
            path_of = self._of(key, hour).__getitem__
            paths += map(path_of, map(_KEY, heads[len(paths) : bisect_right(stops, series.stop)]))
        return zip(paths, stops, strict=True)

    def _each(self, bundle: Bundle, org_keys: list[str], times: list[bytes], faults: dict[int, str]) -> Iterator[Run]:
        metrics = zip(bundle.heads, bundle.stops, strict=True)
        start = rows = 0
        for series, org_key in zip(bundle.series, org_keys, strict=True):
            while start < series.stop:
                head, stop = next(metrics)
                left = times[start:stop]
                if faults:
                    left = [times[at] for at in range(start, stop) if at not in faults]
                start = stop
                for hour, run in groupby(left, itemgetter(HOUR)):
                    rows += len(list(run))
                    yield self.path(org_key, head.key, hour), rows

    def _of(self, org_key: str, hour: bytes) -> "_Paths":
        found = self._known.get((org_key, hour))
        # At least one: another thread may have emptied it just now.
        if found is None or len(found) > _PATHS // max(1, len(self._known)):
            if found is not None or len(self._known) >= _HOURS:
                self._known.clear()
            found = self._known[org_key, hour] = _Paths(self._render, org_key, hour.decode())
        return found


class _Paths(dict[str, str]):
    """From a metricKey to its path, which is made when it is first asked for."""

    def __init__(self, render: Callable[[str, str, str], str], org_key: str, hour: str) -> None:
        self._render, self._org_key, self._hour = render, org_key, hour

    def __missing__(self, metric_key: str) -> str:
        path = self[metric_key] = self._render(self._org_key, metric_key, self._hour)
        return path
