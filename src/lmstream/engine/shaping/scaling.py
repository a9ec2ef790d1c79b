"""Values in another unit, exactly or not at all."""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lmstream.codecs.fragments import encode
from lmstream.codecs.point_values import INT64
from lmstream.rules import Rule

_BITS: Final = 64
FAR: Final = 1000
"""Powers of two below this are doubles, as their inverses are."""
_decode: Final = msgspec.json.Decoder().decode


def exponent(rule: Rule) -> int:
    """The power of two that a rule multiplies by."""
    return 0 if rule.scale is None else rule.scale.multiply.bit_length() - rule.scale.divide.bit_length()


def scaled(value: float, power: int) -> int | float | None:
    """A value times 2**power; None when int64 and float64 have no such number. An integer that is divided becomes a
    double, whole or not, so that rows of a metric are alike."""
    if isinstance(value, int) and power >= 0:
        made = value << power if power < _BITS or not value else INT64.stop
        return made if made in INT64 else None
    try:
        number = float(value)
        result = math.ldexp(number, power)
        same = number == value and math.ldexp(result, -power) == number
    except OverflowError:
        return None
    return result if same and math.isfinite(result) else None


def all_scaled(values: Sequence[int | float | None], power: int) -> list[float] | None:
    """Many values at once, as `scaled` makes each; None when they have to be looked at one by one."""
    if not -FAR < power < FAR or (power >= 0 and int in map(type, values)):
        return None
    factor = 2.0**power
    try:
        made: list[float] = [value * factor for value in values]  # type: ignore[operator] # None raises
    except TypeError:
        return None
    # What overflows is infinite, what loses bits does not come back, and neither does an integer that no double has.
    exact = math.isfinite(sum(made)) and [each / factor for each in made] == values
    return made if exact else None


def body_scaled(body: bytes, power: int) -> bytes | None:
    """Members in place of a value, exemplars among them, all scaled; None when one of them cannot be, or there is no
    single value."""
    members: dict[str, Any] = _decode(b"{%b}" % body)
    exemplars = members.get("exemplars", [])
    if "value" not in members:
        return None
    for each in (members, *exemplars):
        made = scaled(each["value"], power)
        if made is None:
            return None
        each["value"] = made
    return encode(members)[1:-1]
