"""Rows with keys whose dimension rows are not in their own hour and organization: whoever reads them misses a part."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.verification.lake.copies import Numbers
from lmstream.verification.report import SAMPLES

_LANDED: Final = 32_000_000
"""Dimension rows that are told apart: 512 MiB at most."""
_WAITING: Final = 1_000_000
"""Kinds of rows that wait for dimension rows of another object."""


class _Line(Struct, rename="camel"):
    row_id: str = ""
    org_id: str = ""
    org_key: str = ""
    ts: str = ""
    key: str = ""
    metric_key: str = ""
    dimension: str | None = None
    resource_key: str | None = None
    scope_key: str | None = None
    attributes_key: str | None = None


_line: Final = msgspec.json.Decoder(_Line)
Place = tuple[str, str]
"""Organization, as orgKey, and hour, as yyyy-MM-ddTHH."""


class Orphans:
    """Rows of a window are judged by the dimension rows of that window; what these lack, by all others in the end."""

    def __init__(self, read: Callable[[Place, Callable[[list[bytes]], None]], None]) -> None:
        """`read` reads whatever dimension rows lie at a place, and gives them away."""
        self._read = read
        self.any = False
        """Whether rows have keys at all: set by who knows the settings of a claim."""
        self.count = 0
        """Rows."""
        self.named: list[str] = []
        self.untold = False
        """Whether there were too many rows to tell."""
        self._window: set[tuple[str, str, str]] = set()
        self._landed = Numbers(_LANDED)
        self._waiting: dict[tuple[tuple[str, str, str], ...], list[object]] = {}

    def begin(self) -> None:
        """A window begins."""
        self._window = set()

    def told(self, where: str) -> Callable[[list[bytes]], None]:
        """What takes the lines of an object: `where` is how it is named."""

        def take(lines: list[bytes]) -> None:
            for each in _decoded(lines):
                if each.dimension is not None:
                    self._lands(each)
                elif each.resource_key or each.scope_key or each.attributes_key:
                    self._needs(where, each)

        return take

    def end(self) -> None:
        """Judge what waits, now that all objects were seen."""
        for place in sorted({key[:2] for keys in self._left() for key in keys}):
            self._read(place, self.told(""))
        for keys in self._left():
            rows, where = self._waiting[keys]
            assert isinstance(rows, int)  # noqa: S101 - for the type checker
            self.count += rows
            org, hour, key = next(each for each in keys if hash(each) not in self._landed)
            if len(self.named) < SAMPLES:
                self.named.append(f"{where}: no dimension row says what key {key} is, of {org} in the hour {hour}")

    def _left(self) -> list[tuple[tuple[str, str, str], ...]]:
        return [keys for keys in self._waiting if any(hash(key) not in self._landed for key in keys)]

    def _lands(self, each: _Line) -> None:
        at = each.org_key, each.ts[:13], each.key
        self._window.add(at)
        self._landed.add(hash(at))
        self.untold = self.untold or self._landed.full

    def _needs(self, where: str, each: _Line) -> None:
        org, hour = each.org_key, each.ts[:13]
        keys = filter(None, (each.resource_key, each.scope_key, each.attributes_key))
        left = tuple((org, hour, key) for key in keys if (org, hour, key) not in self._window)
        if not left:
            return
        waiting = self._waiting.get(left)
        if waiting is not None:
            waiting[0] += 1  # type: ignore[operator]
        elif len(self._waiting) < _WAITING:
            self._waiting[left] = [1, f"{where}: {each.row_id}"]
        else:
            self.untold = True


def _decoded(lines: Iterable[bytes]) -> Iterable[_Line]:
    for line in lines:
        try:
            yield _line.decode(line)
        except msgspec.MsgspecError:
            continue  # its object has another digest than its claim says, which is told
