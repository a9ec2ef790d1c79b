"""The members of a row that stand in place of `"value":…`: exemplars, histograms, summaries. Shared by the codecs.

Every function answers the encoded members, joined by commas, or a reason why there is no row.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from lmstream.codecs.pieces import encode

INT64: Final = range(-(2**63), 2**63)
INT32: Final = range(-(2**31), 2**31)
COUNTS: Final = range(2**63)


def members(row: dict[str, Any]) -> bytes:
    """A dict's members without the braces."""
    return encode(row)[1:-1]


def finite(numbers: Iterable[float | None]) -> str:
    """The reason why these numbers make no row, or nothing."""
    for number in numbers:
        if number is not None and not math.isfinite(number):
            return "value.nan" if math.isnan(number) else "value.infinite"
    return ""


def fits(numbers: Iterable[int], limits: range = COUNTS) -> bool:
    """Whether all are counts that Athena's bigint holds, though OTLP's go up to 2^64."""
    return all(number in limits for number in numbers)


def number(value: float, exemplars: Sequence[dict[str, Any]]) -> bytes | str:
    """A number with exemplars."""
    if isinstance(value, int):
        if value not in INT64:
            return "value.range"
    elif reason := finite((value,)):
        return reason
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
) -> bytes | str:
    """A histogram with explicit bounds."""
    if not fits((count, *counts)):
        return "value.range"
    if (counts or bounds) and len(counts) != len(bounds) + 1:
        return "point.shape"
    if reason := finite((total, least, most, *bounds)):
        return reason
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
    zero_threshold: float,
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
    if reason := finite((total, least, most, zero_threshold)):
        return reason
    row: dict[str, Any] = {"count": count}
    _set(row, sum=total, min=least, max=most)
    row |= {"scale": scale, "zeroCount": zero_count, "zeroThreshold": zero_threshold}
    if positive:
        row["positive"] = {"offset": positive[0], "bucketCounts": positive[1]}
    if negative:
        row["negative"] = {"offset": negative[0], "bucketCounts": negative[1]}
    if exemplars:
        row["exemplars"] = exemplars
    return members(row)


def summary(count: int, total: float, quantiles: Sequence[tuple[float, float]]) -> bytes | str:
    """A summary; quantiles are (quantile, value)."""
    if not fits((count,)):
        return "value.range"
    if reason := finite((total, *(n for pair in quantiles for n in pair))):
        return reason
    row: dict[str, Any] = {"count": count, "sum": total}
    if quantiles:
        row["quantiles"] = [{"quantile": quantile, "value": value} for quantile, value in quantiles]
    return members(row)


def exemplar(
    nanoseconds: int, value: float | None, trace: str, span: str, attributes: dict[str, str]
) -> dict[str, Any] | None:
    """One exemplar as the row has it, or None when it has no finite value; `trace` and `span` are lowercase hex."""
    if value is None or not math.isfinite(value):
        return None
    row: dict[str, Any] = {"tsUnixMs": nanoseconds // 1_000_000, "value": value}
    _set(row, traceId=trace or None, spanId=span or None, attributes=attributes or None)
    return row


def _set(row: dict[str, Any], **optional: Any) -> None:
    row.update({name: value for name, value in optional.items() if value is not None})
