"""What is left of a bundle when rules dropped some of its points: for its paths and columns, which count rows alone."""

from collections.abc import Iterable, Sequence
from itertools import chain, starmap
from struct import pack, unpack
from typing import NamedTuple, TypeVar

from lmstream.interfaces import Bundle, Metric, Series

T = TypeVar("T")
Range = tuple[int, int]


def packed(kept: Sequence[Range]) -> bytes:
    """The ordinals of the points in ranges, each as a 32-bit integer, the lowest byte first."""
    every = [*chain.from_iterable(starmap(range, kept))]
    return pack(f"<{len(every)}I", *every)


def ordinals(packed: bytes) -> tuple[int, ...]:
    """The ordinals again. They are only asked for where rows become columns."""
    return unpack(f"<{len(packed) // 4}I", packed)


class Left(NamedTuple):
    """Metrics and series of what is kept."""

    heads: Sequence[Metric]
    stops: Sequence[int]
    series: Sequence[tuple[int, int, int]]
    """(which of the bundle's, start, stop)."""


def left_of(series: Sequence[Series], heads: Sequence[Metric], stops: Sequence[int], kept: Sequence[Range]) -> Left:
    """Of ranges that may begin and end inside of metrics."""
    found_heads: list[Metric] = []
    found_stops: list[int] = []
    for head, before, after in zip(heads, (0, *rows_up_to(stops, kept)), rows_up_to(stops, kept), strict=False):
        if after > before:
            found_heads.append(head)
            found_stops.append(after)
    ends = rows_up_to([each.stop for each in series], kept)
    left = [(at, start, stop) for at, (start, stop) in enumerate(zip((0, *ends), ends, strict=False)) if stop > start]
    return Left(found_heads, found_stops, left)


def rows_up_to(ordinals: Sequence[int], kept: Sequence[Range]) -> list[int]:
    """How many points are kept below each of these ordinals, which rise."""
    found: list[int] = []
    ranges = iter(kept)
    start, stop = next(ranges, (0, 0))
    before = 0  # in ranges that are over
    for ordinal in ordinals:
        while stop <= ordinal and stop > start:
            before += stop - start
            start, stop = next(ranges, (0, 0))
        found.append(before + max(0, ordinal - start) if stop > start else before)
    return found


def only(bundle: Bundle, left: Left, kept: Sequence[Range]) -> Bundle:
    """The bundle without what is dropped. Its values as text stay whole: see engine.columns_of."""
    series = bundle.series
    found = [Series(series[at].resource, series[at].scope, start, stop) for at, start, stop in left.series]
    values: Sequence[int | float | None] = () if bundle.texts else within(bundle.values, kept)
    odd: dict[int, bytes | str] = {}
    if bundle.odd:
        numbers = {ordinal: at for at, ordinal in enumerate(ordinals(packed(kept)))}
        odd = {numbers[at]: what for at, what in bundle.odd.items() if at in numbers}
    return Bundle(found, left.heads, left.stops, (), (), (), values, (), odd, {}, {}, (), (), bundle.texts)


def within(column: Sequence[T], kept: Sequence[Range]) -> list[T]:
    """A column without what is dropped."""
    found: list[T] = []
    for start, stop in kept:
        found += column[start:stop]
    return found


def counted(verdicts: bytes, drops: Iterable[int], names: Sequence[str]) -> dict[str, int]:
    """Points by the name of the rule that drops them, of these rules."""
    return {names[rule]: dropped for rule in drops if (dropped := verdicts.count(rule + 1))}


def drop(verdicts: bytes, names: Sequence[str], faults: dict[int, str]) -> dict[str, int]:
    """Take dropped points out of what is judged: whatever else is wrong with one does not matter. Counted by rule are
    those that are not left out already, as by a replay of others."""
    found: dict[str, int] = {}
    for at, verdict in enumerate(verdicts):
        if verdict:
            name = names[verdict - 1]
            if faults.get(at) != "":
                found[name] = found.get(name, 0) + 1
                faults[at] = ""
    return found
