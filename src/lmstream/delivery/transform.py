"""Rows of one record: what it becomes, or why it becomes nothing."""

import logging
from typing import Final

from msgspec import structs

from lmstream.delivery.dead_letter import what_failed
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.engine import Engine, FanOut
from lmstream.errors import DecodeError, PluginError, coded
from lmstream.interfaces import PARTS, Limits, PoisonGuard
from lmstream.model import KILLS, Record

log: Final = logging.getLogger("lmstream.delivery.transform")
IDLE_AFTER: Final = 100_000
"""Data points after which rules that applied to none are told."""
DEATHS: Final = 3
"""Processes that a record may kill; then it is dead-lettered without its value, untouched."""

Cut = tuple[str, bytes, int]
"""(path, lines, rows) of one record."""


class Transform:
    """The engine, under the watch of the guard."""

    def __init__(self, engine: Engine, limits: Limits, guard: PoisonGuard | None) -> None:
        self.engine: Engine = engine
        self._limits, self._guard = limits, guard
        self._told = engine.shaping is None  # whether rules that apply to nothing were
        self._points = 0  # until then

    def suspects(self, each: InFlightRecord) -> bool:
        """Whether a process died over this record: then it is transformed alone, so as not to be blamed for others."""
        return self._guard is not None and self._guard.deaths(each.record) > 0

    def make(self, each: InFlightRecord) -> tuple[FanOut, list[Cut]] | None:
        """What a record becomes; None, with `why` set, when nothing can."""
        guard = self._guard
        if guard is None:
            return self._transform(each)
        if guard.deaths(each.record) >= DEATHS:
            size = each.record.size
            each.why = (KILLS, f"{DEATHS} processes died while they transformed its {size:,} bytes, left out here")
            return None
        guard.enter(each.record)
        try:
            return self._transform(each)
        finally:
            guard.leave()

    def close(self) -> None:
        """Leave no mark behind."""
        if self._guard is not None:
            self._guard.close()

    def _transform(self, each: InFlightRecord) -> tuple[FanOut, list[Cut]] | None:
        limits = self._limits
        try:
            out = self._fan_out(each.record)
            if limits.by_path:
                cuts = out.by_path()
            else:
                cuts = [("", data, rows) for data, rows in out.cut(limits.pack_rows, limits.pack_bytes)]
        except DecodeError as e:
            each.why = (e.reason, e.detail)
            if each.record.closed and each.payload > self.engine.settings.limits.record_bytes:
                # The places of letters are made for values of that size: a larger letter could stall for ever.
                each.record = structs.replace(each.record, value=None)
            return None
        except MemoryError:
            # The only error beside DecodeError that the data alone can cause; anything else is a bug and must stop us.
            each.why = ("limits.size", "not enough memory to transform this record")
            return None
        if sum(rows for _, _, rows in cuts) != out.rows:
            raise RuntimeError(f"{each.record.coordinates}: {out.rows} rows were made, but another number was packed")
        if out.points and each.record.only is None:  # a replay judges some of the points
            judged = out.rows + sum(out.skipped.values()) + sum(out.dropped.values()) + len(out.rejected)
            if judged != out.points:
                what = f"{out.points} points were read, but {judged} became a row, skipped, dropped or rejected"
                raise RuntimeError(f"{each.record.coordinates}: {what}")
        if out.rejected or out.parts:
            each.names = self.engine.settings.field_names
            each.detail = what_failed(out)
        if len(out.parts) > PARTS:
            # None of it may land: its replay could not tell what is new from what has an ordinal already.
            each.why = (out.parts[0].reason, f"more than {PARTS:,}, so all of the record is refused: {each.detail}")
            return None
        return out, cuts

    def _tell_idle(self, points: int) -> None:
        self._points += points
        shaping = self.engine.shaping
        if shaping is not None and self._points >= IDLE_AFTER:
            self._told = True
            if idle := shaping.idle:
                names = ", ".join(idle)
                log.warning(
                    "engine.rules: none of %s data points met %s, or earlier rules dropped those that did: look for "
                    "misspelled names and values, and at the order of rules",
                    f"{self._points:,}",
                    names,
                    extra=coded("config.invalid"),
                )

    def _fan_out(self, record: Record) -> FanOut:
        try:
            out = self.engine.fan_out(record)
        except PluginError as e:
            raise PluginError(e.module, f"{e.what}, for {record.coordinates}") from e.__cause__
        if not self._told:
            self._tell_idle(out.points)
        return out
