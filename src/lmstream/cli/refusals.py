"""Points and parts of a bundle that made no row, named by place and cause."""

from typing import Final

from lmstream.delivery.dead_letter import described, place
from lmstream.engine import FanOut
from lmstream.errors import reason_of

NAMED: Final = 10
"""Points of a record that are named with their place: each takes about as long as the record did."""


def refusals(out: FanOut) -> list[str]:
    """A line for each of the first rejected points, lost parts and unknown members."""
    lines = []
    for ordinal, reason in out.rejected[:NAMED]:
        where = place(out, ordinal)
        lines.append(f"point {ordinal}: {reason_of(reason).code} {reason}" + (f": {where}" if where else ""))
    lines += _more(len(out.rejected), "rejected points")
    lines += [f"part: {reason_of(part.reason).code} {part.reason}: {described(part)}" for part in out.parts[:NAMED]]
    lines += _more(len(out.parts), "parts")
    lines += [f"unknown to OTLP metrics: {name}" for name in out.unknown]
    return lines


def _more(count: int, what: str) -> list[str]:
    return [f"and {count - NAMED:,} more {what}"] if count > NAMED else []
