"""Whether the columns of a bundle fit together, as the engine takes for granted of its own codecs."""

from typing import Final

from lmstream.interfaces import Bundle

_COLUMNS: Final = ("metrics", "times", "starts", "values", "tails")


def misfit(bundle: Bundle) -> str:
    """What does not fit, in words; empty when all does. Looks at lengths and ranges alone, which costs microseconds;
    what pieces hold is for lmstream.testing to read."""
    if type(bundle) is not Bundle:
        return f"returned a {type(bundle).__name__}, not an interfaces.Bundle"
    for name in _COLUMNS:
        column = getattr(bundle, name)
        if not isinstance(column, list | tuple):
            return f"returned a bundle whose `{name}` is a {type(column).__name__}, not a list or tuple"
    n = len(bundle.times)
    columns: tuple[str, ...] = _COLUMNS
    if bundle.texts:  # of a codec that asks one of lmstream's, and has what its native part gave
        columns = ("times", "starts", "tails")
        if bundle.metrics or bundle.values or bundle.odd or bundle.texts.count(b",") != n - 1:
            return f"returned a bundle with {n:,} times and `texts` beside other values, or of another number"
    for name in columns:
        column = getattr(bundle, name)
        if len(column) != n:
            return f"returned a bundle with {n:,} times and {len(column):,} {name}: each data point has a place in both"
    return _heads(bundle, n) or _series(bundle, n) or _odd(bundle, n)


def _heads(bundle: Bundle, n: int) -> str:
    stops = bundle.stops
    if len(stops) != len(bundle.heads):
        return f"returned a bundle with {len(bundle.heads):,} heads and {len(stops):,} stops: each head has one"
    if any(first >= second for first, second in zip((0, *stops), stops, strict=False)):
        return "returned a bundle whose `stops` do not rise: a metric without data points has no head"
    if n != (stops[-1] if stops else 0):
        return f"returned a bundle with {n:,} data points whose last stop is {stops[-1] if stops else 0:,}"
    return ""


def _series(bundle: Bundle, n: int) -> str:
    at = 0
    stops = {0, *bundle.stops}
    for series in bundle.series:
        if series.start != at or series.stop <= at:
            return f"returned a bundle with series {series.start:,} to {series.stop:,} where one from {at:,} on belongs"
        at = series.stop
        if at not in stops:
            return f"returned a bundle with a series that ends at {at:,}, inside a metric"
    return "" if at == n else f"returned a bundle with {n:,} data points whose series end at {at:,}"


def _odd(bundle: Bundle, n: int) -> str:
    outside = [at for at in (*bundle.odd, *bundle.left_out) if not 0 <= at < n]
    return f"returned a bundle that says something of data point {outside[0]:,}, and has {n:,}" if outside else ""
