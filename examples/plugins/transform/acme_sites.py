"""A transform that says where a device is, and temperatures in degrees Celsius: put your own changes in its place."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from lmstream.model import RowEvent
from lmstream.settings import Settings

# What rows depend on stands here, and not in a file: the claims of a lake name the source of this module.
SITES = {"ams": "Amsterdam", "fra": "Frankfurt"}


class Transform:
    """The same rows give the same rows, in every process: no clock, no files, no network, no order of sets."""

    def __init__(self, settings: Settings) -> None:
        """Called once, with what stands in [engine] of lmstream.toml."""

    def apply(self, rows: Sequence[RowEvent], /) -> Iterable[RowEvent]:
        """All rows of one record, after the rules. What is not given back does not land, and is counted."""
        return [self._row(row) for row in rows if not (row.device_name or "").startswith("test-")]

    def _row(self, row: RowEvent) -> RowEvent:
        if site := SITES.get((row.device_name or "")[:3]):
            row.attributes["site"] = site  # a map is the row's own; all else of a row is frozen
        if row.unit == "[degF]" and row.value is not None:
            return replace(row, unit="Cel", value=(row.value - 32) / 1.8)
        return row
