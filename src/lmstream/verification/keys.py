"""What rows with keys need beside themselves: dimension rows of their own hour and organization, wherever they lie."""

from array import array
from collections.abc import Iterator
from itertools import chain
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.model import DIMENSIONS
from lmstream.verification.lake.copies import Numbers
from lmstream.verification.report import SAMPLES

_LANDED: Final = 32_000_000
"""Dimension rows that are told apart: 512 MiB at most."""
_WAITING: Final = 1_000_000
"""Kinds of rows that wait for a dimension row."""
RESOURCE_KEY: Final = b'"resourceKey":"'
"""In every row with keys; elsewhere in maps alone, where it means nothing."""
_OF_DIMENSION: Final = b'"metricKey":"%b","ts":"' % DIMENSIONS.encode()
"""In every dimension row; elsewhere as above."""

Needed = tuple[str, str, str]
"""Organization, as orgKey, hour, as yyyy-MM-ddTHH, and key."""


class _Line(Struct, rename="camel"):
    row_id: str = ""
    org_key: str = ""
    metric_key: str = ""
    ts: str = ""
    dimension: str | None = None
    key: str = ""
    resource_key: str | None = None
    scope_key: str | None = None
    attributes_key: str | None = None


_LINE: Final = msgspec.json.Decoder(_Line)


class Keys:
    """Tell it all that landed, in any order."""

    def __init__(self) -> None:
        self.dimensions: int = 0
        """Dimension rows, copies too."""
        self._landed = Numbers(_LANDED)
        self._waiting: dict[tuple[Needed, ...], tuple[array[int], str]] = {}
        self._more = 0  # rows of kinds that are too many to be told apart

    def is_dimension(self, line: bytes) -> bool:
        """Whether a line that landed is a dimension row, which is then known."""
        if _OF_DIMENSION not in line:
            return False
        said = _said(line)
        if said is None or said.dimension is None or said.metric_key != DIMENSIONS:
            return False
        self.dimensions += 1
        self._landed.add(hash((said.org_key, said.ts[:13], said.key)))
        return True

    def needs(self, line: bytes, name: str, place: int) -> None:
        """Take note of what a row needs that landed, and has RESOURCE_KEY. `name` is how people find it, `place` its
        number."""
        if (said := _said(line)) is None:
            return
        keys = filter(None, (said.resource_key, said.scope_key, said.attributes_key))
        needed = tuple((said.org_key, said.ts[:13], key) for key in keys)
        if all(hash(each) in self._landed for each in needed):
            return
        found = self._waiting.get(needed)
        if found is not None:
            found[0].append(place)
        elif len(self._waiting) < _WAITING:
            self._waiting[needed] = array("q", [place]), f"{name} {said.row_id}"
        else:
            self._more += 1

    @property
    def places(self) -> Iterator[int]:
        """Places of the rows of which `orphans` told."""
        return chain.from_iterable(places for places, _ in self._waiting.values())

    def orphans(self) -> tuple[int, list[str]]:
        """(rows whose dimension rows are not there, the first of them in words)."""
        count = self._more
        named: list[str] = []
        for needed, (places, name) in list(self._waiting.items()):
            gone = [each for each in needed if hash(each) not in self._landed]
            if not gone:
                del self._waiting[needed]
                continue
            count += len(places)
            if len(named) < SAMPLES:
                org, hour, key = gone[0]
                named.append(f"{name}: no dimension row says what key {key} is, of {org} in the hour {hour}")
        return count, named


def _said(line: bytes) -> _Line | None:
    try:
        return _LINE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
