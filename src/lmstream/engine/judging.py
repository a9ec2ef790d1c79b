"""Which points of a bundle make no row, and why: times, values, organizations, sizes, what a codec found odd.

`faults` is from ordinal to reason; the first that is found stays, but for those that are judged before the time.
"""

import math
from collections.abc import Sequence
from typing import Final

from lmstream.codecs.fragments import HEADS
from lmstream.engine.lines import PIECES
from lmstream.engine.timestamps import NS_PER_MS, VALUE, TimePieces
from lmstream.errors import REASONS
from lmstream.interfaces import TWO_VALUES, Bundle, Series

SKIPS: Final = frozenset(name for name, why in REASONS.items() if why.code.startswith("LMS-12"))
"""Reasons that are no fault of the point: it makes no row and needs no dead letter."""
FIRST: Final = HEADS | {"point.type", "flags.no_value", "point.labels"}
"""Judged before the point's time; other reasons only count for points whose time is right."""


def judge_times(bundle: Bundle, pieces: list[bytes], faults: dict[int, str], times: TimePieces, fallback: int) -> None:
    """Points whose own times make no row: the scope's epoch stands in for a time that is missing, then `fallback` (ms),
    never now(). A start time that makes none is left out."""
    for series in bundle.series:
        epoch = int(series.scope.epoch or 0)
        for at in range(series.start, series.stop):
            if not pieces[at]:
                time, start = bundle.times[at], bundle.starts[at]
                left = []
                if not time:
                    left += ["time.record"] if not epoch and fallback > 0 else []
                    time = (epoch or max(0, fallback)) * NS_PER_MS
                piece = times[time, start]
                if not piece and start and (piece := times[time, 0]):
                    left.append("part.range")
                pieces[at] = piece
                if left:
                    bundle.left_out[at] = [*bundle.left_out.get(at, ()), *left]
                if not piece:
                    faults[at] = "time.range" if time else "time.missing"


def note_parts(left_out: dict[int, list[str]], faults: dict[int, str], noted: dict[str, int]) -> None:
    """Count the parts that are not in rows that were made."""
    for at, reasons in left_out.items():
        if at not in faults:
            for reason in reasons:
                noted[reason] = noted.get(reason, 0) + 1


def note_series(every: Sequence[Series], noted: dict[str, int]) -> None:
    """Count what each point of a resource and scope notes."""
    for series in every:
        for notes in (series.resource.noted, series.scope.noted):
            for what, each in notes.items():
                noted[what] = noted.get(what, 0) + each * (series.stop - series.start)


def judge_values(values: Sequence[int | float | None], faults: dict[int, str]) -> None:
    """Values that are missing, two, or not finite."""
    for at, value in enumerate(values):
        if value is None:
            faults.setdefault(at, "value.missing")
        elif value is TWO_VALUES:
            faults.setdefault(at, "value.two")
        elif not math.isfinite(value):
            faults.setdefault(at, "value.nan" if math.isnan(value) else "value.infinite")


def judge_orgs(bundle: Bundle, org_keys: list[str], faults: dict[int, str]) -> None:
    """Points of resources without an organization."""
    for series, org_key in zip(bundle.series, org_keys, strict=True):
        if not org_key:
            for at in range(series.start, series.stop):
                faults.setdefault(at, "org.unresolved")


def judge_sizes(pieces: list[bytes], limit: int, faults: dict[int, str]) -> None:
    """Lines that are longer than `limit` bytes."""
    for at in range(len(pieces) // PIECES):
        if sum(map(len, pieces[PIECES * at : PIECES * (at + 1)])) > limit:
            faults.setdefault(at, "row.too_large")


def apply_odd(odd: dict[int, bytes | str], times: list[bytes], values: list[bytes], faults: dict[int, str]) -> None:
    """Put the members of points that are more than a number in their places, and note why others make no row."""
    for at, body in odd.items():
        if isinstance(body, bytes):
            times[at] = times[at][:-VALUE]
            values[at] = body
        elif (
            body in FIRST or body not in REASONS
        ):  # a codec's own reason: whatever the time then is, it is not the fault
            faults[at] = body
        else:
            faults.setdefault(at, body)
