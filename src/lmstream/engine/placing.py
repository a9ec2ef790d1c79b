"""Points by their place in a bundle: which of them a replay judges, and why one was rejected."""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from lmstream.codecs.record_value import open_value
from lmstream.engine.whereabouts import is_below, signal_of
from lmstream.errors import reason_of
from lmstream.interfaces import Bundle, Codec, LostPart, Place
from lmstream.model import Record
from lmstream.settings import Limits

_TOLD: Final = 10
"""Rejected points of a record of which one call of `Why` looks up the place."""


def select(record: Record, codec: Codec, bundle: Bundle, faults: dict[int, str], limits: Limits) -> Sequence[int]:
    """The points of a replay: those of `only`, and those below the parts in which none could be counted. These are
    numbered behind all others, so that no row that landed has another's id. Answers the ordinal of each point."""
    n = len(bundle.times)
    only, below = set(record.only or ()), record.below
    bundle.lost = tuple(part for part in bundle.lost if is_below(part.path, below))
    if not below:
        faults |= dict.fromkeys(set(range(n)) - only, "")
        return range(n)
    _, payload = open_value(record.value or b"", limits)
    inside = [is_below(place.path, below) for place in _places(codec, payload)] or [False] * n
    common, behind = count(), count(n - sum(inside))
    ordinals = [next(behind if within else common) for within in inside]
    faults |= {at: "" for at in range(n) if not inside[at] and ordinals[at] not in only}
    return ordinals


def kept_apart(
    record: Record, codec: Codec, bundle: Bundle, rejected: list[int], faults: dict[int, str], limits: Limits
) -> list[int]:
    """Rejected points of a replay but for those below its paths: their ordinals say nothing without the path, so it
    is the part that stays in the letter. Its points that land now land again then, under the same ids."""
    _, payload = open_value(record.value or b"", limits)
    left = dict.fromkeys(rejected)
    for at, place in enumerate(_places(codec, payload)):
        part = next((path for path in record.below if is_below(place.path, (path,))), "") if at in left else ""
        if part:
            del left[at]
            if all(part != lost.path for lost in bundle.lost):
                what = place.cause(faults[at]) or reason_of(faults[at]).meaning
                bundle.lost = (*bundle.lost, LostPart(part, faults[at], f"{place.path}: {what}"))
    return list(left)


class Why:
    """See FanOut.why. The first of the rejected points are looked up together with the one that is asked for."""

    def __init__(
        self,
        codec: Codec,
        value: bytes | None,
        rejected: list[int],
        faults: dict[int, str],
        ordinals: Sequence[int],
        limits: Limits,
    ) -> None:
        """`rejected` are points by their number in the bundle, as `faults` and `ordinals` are."""
        self._codec, self._value, self._limits = codec, value, limits
        self._rejected, self._faults, self._ordinals = rejected, faults, ordinals
        self._told: dict[int, str] = {}

    def __call__(self, ordinal: int) -> str:
        """Why the point of that ordinal makes no row, with its place."""
        if ordinal not in self._told:
            self._look_up(ordinal)
        return self._told.get(ordinal, f"data point {ordinal:,}")

    def _look_up(self, ordinal: int) -> None:
        _, payload = open_value(self._value or b"", self._limits)
        rejected, ordinals = self._rejected, self._ordinals
        wanted = {*rejected[:_TOLD], *(at for at in rejected if ordinals[at] == ordinal)}
        # Logs or traces in protobuf may pass for metrics, but no point of theirs can stand.
        seems = signal_of(payload) if len(rejected) == len(ordinals) else ""
        for at, place in enumerate(_places(self._codec, payload)):
            if at in wanted:
                reason = self._faults[at]
                what = place.cause(reason) or reason_of(reason).meaning
                self._told[ordinals[at]] = f"{seems}{place.metric} at {place.path}: {what}"
                if at == max(wanted):
                    break


def _places(codec: Codec, payload: bytes) -> Iterable[Place]:
    """Where each point of a bundle is; nothing from codecs that cannot say."""
    places: Iterable[Place] = getattr(codec, "places", lambda _: ())(payload)
    return places
