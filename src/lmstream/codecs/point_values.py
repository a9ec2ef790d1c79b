"""The members of a row that stand in place of `"value":…`: exemplars, histograms, summaries. Shared by the codecs.

Every body answers the encoded members, joined by commas, or a reason why there is no row. One rule holds for all kinds
and both formats: count, buckets and value decide whether there is a row; every other part that is not finite, out of
range or of a wrong type is left out, and its reason added to the list `left`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from lmstream.codecs.fragments import encode

INT64: Final = range(-(2**63), 2**63)
INT32: Final = range(-(2**31), 2**31)
COUNTS: Final = range(2**63)


def members(row: dict[str, Any]) -> bytes:
    """A dict's members without the braces."""
    return encode(row)[1:-1]


def not_finite(number: float) -> str:
    """`nan`, `infinite` or nothing."""
    return "" if math.isfinite(number) else "nan" if math.isnan(number) else "infinite"


def part(number: float | None, left: list[str]) -> float | None:
    """A part of a point that is left out unless it is finite."""
    if number is not None and (what := not_finite(number)):
        left.append(f"part.{what}")
        return None
    return number


def of_pair(why: Sequence[str]) -> str:
    """The one reason of a pair of numbers that is left out: the first, but NaN before infinite."""
    return "part.nan" if sorted(why) == ["part.infinite", "part.nan"] else why[0]


def fits(numbers: Iterable[int], limits: range = COUNTS) -> bool:
    """Whether all are counts that Athena's bigint holds, though OTLP's go up to 2^64."""
    return all(number in limits for number in numbers)


def number(value: float, exemplars: Sequence[dict[str, Any]]) -> bytes | str:
    """A number with exemplars."""
    if isinstance(value, int):
        if value not in INT64:
            return "value.range"
    elif what := not_finite(value):
        return f"value.{what}"
    row: dict[str, Any] = {"value": value}
    if exemplars:
        row["exemplars"] = exemplars
    return members(row)


def histogram(
    count: int,
    total: float | None,
    least: float | None,
    most: float | None,
    counts: Sequence[int],
    bounds: Sequence[float],
    exemplars: Sequence[dict[str, Any]],
    left: list[str],
) -> bytes | str:
    """A histogram with explicit bounds."""
    if not fits((count, *counts)):
        return "value.range"
    if bounds and bounds[-1] == math.inf:
        # Some SDKs write the bound that OTLP implies. Then there are as many counts as bounds, which fit without it, or
        # one more, of values above infinity: none, but whatever is counted there belongs into the last bucket.
        if len(counts) not in (len(bounds), len(bounds) + 1):
            return "point.shape"
        if len(counts) > len(bounds):
            counts = [*counts[:-2], counts[-2] + counts[-1]]
            if not fits(counts):
                return "value.range"
        bounds = bounds[:-1]
        left.append("part.bound")
    if ((counts or bounds) and len(counts) != len(bounds) + 1) or not all(map(math.isfinite, bounds)):
        return "point.shape"
    row: dict[str, Any] = {"count": count}
    _set(row, sum=total, min=least, max=most)
    if counts:
        row["bucketCounts"] = counts
    if bounds:
        row["explicitBounds"] = bounds
    if exemplars:
        row["exemplars"] = exemplars
    return members(row)


def exponential(
    count: int,
    total: float | None,
    least: float | None,
    most: float | None,
    scale: int,
    zero_count: int,
    zero_threshold: float | None,
    positive: tuple[int, Sequence[int]] | None,
    negative: tuple[int, Sequence[int]] | None,
    exemplars: Sequence[dict[str, Any]],
) -> bytes | str:
    """An exponential histogram; each side is (offset, bucket counts)."""
    sides = [side for side in (positive, negative) if side]
    if not fits((count, zero_count, *(n for _, counts in sides for n in counts))) or not fits(
        (scale, *(offset for offset, _ in sides)), INT32
    ):
        return "value.range"
    row: dict[str, Any] = {"count": count}
    _set(row, sum=total, min=least, max=most)
    row |= {"scale": scale, "zeroCount": zero_count}
    _set(row, zeroThreshold=zero_threshold)
    if positive:
        row["positive"] = {"offset": positive[0], "bucketCounts": positive[1]}
    if negative:
        row["negative"] = {"offset": negative[0], "bucketCounts": negative[1]}
    if exemplars:
        row["exemplars"] = exemplars
    return members(row)


def summary(count: int, total: float | None, quantiles: Sequence[tuple[float, float]]) -> bytes | str:
    """A summary; quantiles are (quantile, value)."""
    if not fits((count,)):
        return "value.range"
    row: dict[str, Any] = {"count": count}
    _set(row, sum=total)
    if quantiles:
        row["quantiles"] = [{"quantile": quantile, "value": value} for quantile, value in quantiles]
    return members(row)


def exemplar(
    nanoseconds: int | None, value: float, trace: str, span: str, attributes: dict[str, str]
) -> dict[str, Any]:
    """One exemplar as the row has it; `value` is finite, `trace` and `span` are lowercase hex, no time is none."""
    row: dict[str, Any] = {}
    _set(row, tsUnixMs=nanoseconds // 1_000_000 if nanoseconds else None)
    row["value"] = value
    _set(row, traceId=trace or None, spanId=span or None, attributes=attributes or None)
    return row


def _set(row: dict[str, Any], **optional: Any) -> None:
    row.update({name: value for name, value in optional.items() if value is not None})
