"""Metrics of a bundle that get another piece, and their values another unit: the columns of a bundle that is ours."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lmstream.codecs.fragments import encode
from lmstream.engine.kept import Range
from lmstream.engine.shaping.plan import Plan, Run, Scaled
from lmstream.engine.shaping.scaling import all_scaled, body_scaled, scaled
from lmstream.interfaces import TWO_VALUES, Bundle, Metric

_number: Final = msgspec.json.Decoder(int | float).decode
_numbers: Final = msgspec.json.Decoder(list[int | float]).decode


def put_metrics(bundle: Bundle, plan: Plan) -> None:
    """Put the plan's metrics into a bundle whose values are in their units."""
    heads, stops = plan.heads, bundle.stops
    if not bundle.texts:
        if 2 * len(plan.pieces) > len(heads):
            bundle.metrics = _column(heads, stops)
        else:
            metrics = list(bundle.metrics)
            for at, piece in plan.pieces:
                start = stops[at - 1] if at else 0
                metrics[start : stops[at]] = [piece] * (stops[at] - start)
            bundle.metrics = metrics
    bundle.heads = heads


def put_cut(bundle: Bundle, plan: Plan, others: dict[int, Metric]) -> None:
    """The same where single points have other metrics: those of values that could not be scaled."""
    made: list[Metric] = []
    ends: list[int] = []
    start = 0
    for head, stop in zip(plan.heads, bundle.stops, strict=True):
        for at in range(start, stop):
            mine = others.get(at, head)
            if ends and ends[-1] > start and made[-1] is mine:
                ends[-1] = at + 1
            else:
                made.append(mine)
                ends.append(at + 1)
        start = stop
    bundle.heads, bundle.stops = made, ends
    if not bundle.texts:
        bundle.metrics = _column(made, ends)


def _column(heads: Sequence[Metric], stops: Sequence[int]) -> list[bytes]:
    metrics: list[bytes] = []
    for head, stop in zip(heads, stops, strict=True):
        metrics += [head.piece] * (stop - len(metrics))
    return metrics


def scale_values(bundle: Bundle, plan: Plan) -> dict[int, Metric]:
    """Scale the values of a bundle. Answers the metric of those that cannot be, by ordinal."""
    if bundle.odd or not _scale_together(bundle, plan.runs):
        return scale_each(bundle, plan.scaled)
    return {}


def scale_each(bundle: Bundle, every: Sequence[Scaled]) -> dict[int, Metric]:
    """The same, one by one."""
    stops = bundle.stops
    texts = bundle.texts.split(b",") if bundle.texts else []
    values = list(bundle.values)
    odd = dict(bundle.odd)
    unscaled: dict[int, Metric] = {}
    for metric, power, otherwise in every:
        for at in range(stops[metric - 1] if metric else 0, stops[metric]):
            body = odd.get(at)
            value = _number(texts[at]) if texts else values[at]
            made: Any = None
            if isinstance(body, bytes):
                made = odd[at] = body_scaled(body, power) or body
                if made is body:
                    unscaled[at] = otherwise
            elif value is None or value is TWO_VALUES or value != value:  # noqa: PLR0124 - NaN, which makes no row
                continue
            elif (made := scaled(value, power)) is None:
                unscaled[at] = otherwise
            elif texts:
                texts[at] = encode(made)
            else:
                values[at] = made
    bundle.texts, bundle.values, bundle.odd = b",".join(texts), values, odd
    return unscaled


def _scale_together(bundle: Bundle, runs: Sequence[Run]) -> bool:
    """The same in one go, as nearly always can be done; False, and all as it was, when values have to be looked at one
    by one."""
    power, stops = runs[0][2], bundle.stops
    ranges: list[Range] = []
    for first, last, another in runs:
        if another != power:
            return False
        ranges.append((stops[first - 1] if first else 0, stops[last - 1]))
    column: list[Any] = bundle.texts.split(b",") if bundle.texts else list(bundle.values)
    some: list[Any] = []
    for start, stop in ranges:
        some += column[start:stop]
    made: list[Any] | None = all_scaled(_numbers(b"[%b]" % b",".join(some)) if bundle.texts else some, power)
    if made is None:
        return False
    if bundle.texts:
        made = encode(made)[1:-1].split(b",")
    at = 0
    for start, stop in ranges:
        column[start:stop] = made[at : at + stop - start]
        at += stop - start
    if bundle.texts:
        bundle.texts = b",".join(column)
    else:
        bundle.values = column
    return True
