"""Values of OTLP/JSON for the oracle: numbers as written, texts, hex, base64, attribute values. null is the default."""

import base64
import binascii
import re
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from support.oracle_names import unknown_keys
from support.oracle_shapes import HUGE, INT64, MAX_ITEMS, MAX_NESTING, WRONG, Attributes, Wrong

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
WORDS = {"NaN": "nan", "nan": "nan", "Infinity": "inf", "inf": "inf", "-Infinity": "-inf", "-inf": "-inf"}


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def obj(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Wrong
    return value


def array(value: Any) -> list[Any]:
    """An array without null in it."""
    if value is None:
        return []
    if not isinstance(value, list) or None in value:
        raise Wrong
    return value


def text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Number):
        raise Wrong
    return value


def boolean(value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Wrong
    return value


def number(value: Any) -> str:
    """The digits of a number, or of a string that holds one."""
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise Wrong
    return str(value)


def integer(value: Any) -> Any:
    """An int of any size, or HUGE."""
    if value is None:
        return 0
    digits = number(value)
    if re.fullmatch(r"-?[0-9]+", digits):
        return int(digits) if len(digits) < 1000 else HUGE
    as_float = float(digits)
    if as_float in (float("inf"), float("-inf")):
        return HUGE
    if not as_float.is_integer():
        raise Wrong
    return int(as_float)


def double(value: Any) -> Any:
    """A float, NaN and the infinities only where they are named; or HUGE."""
    if value is None:
        return 0.0
    if isinstance(value, str) and not isinstance(value, Number) and value in WORDS:
        return float(WORDS[value])
    as_float = float(number(value))
    return HUGE if as_float in (float("inf"), float("-inf")) else as_float


def small(value: Any) -> Any:
    """What must fit, because no rule of its own says what happens when it does not."""
    if value is HUGE or (isinstance(value, int) and value not in INT64):
        raise Wrong
    return value


def hexes(value: Any) -> bytes:
    if not re.fullmatch(r"([0-9A-Fa-f]{2})*", text(value)):
        raise Wrong
    return bytes.fromhex(text(value))


def part(read: Any, value: Any) -> Any:
    """What may be left out: None when it was not sent, WRONG when its type is."""
    try:
        return None if value is None else read(value)
    except Wrong:
        return WRONG


def base64s(value: Any) -> bytes:
    digits = text(value)
    if not re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", digits):
        raise Wrong
    bare = digits.rstrip("=").replace("-", "+").replace("_", "/")
    if digits.endswith("=") and len(digits) % 4:
        raise Wrong
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        raise Wrong from None


# ------------------------------------------------------------------------ attributes


def attributes(value: Any) -> Attributes:
    """Attributes, with what is tolerated in them and the limit that they exceed; Wrong comes before any limit."""
    made = Attributes()
    made.values = pairs(value, made, 0)
    return made


def limited(made: Attributes, reason: str) -> None:
    made.limit = made.limit or reason


def items(value: Any, made: Attributes) -> list[Any]:
    found = array(value)
    if len(found) > MAX_ITEMS:
        limited(made, "limits.attributes")
    return found


def pairs(value: Any, made: Attributes, nesting: int) -> dict[str, Any]:
    return dict(pair(obj(one), made, nesting) for one in items(value, made))


def pair(message: dict[str, Any], made: Attributes, nesting: int) -> tuple[str, Any]:
    key, value = text(message.get("key")), message.get("value")
    if value is None and unknown_keys(message, KeyValue.DESCRIPTOR):
        made.empty += 1
    return key, any_value(value, made, nesting)


def any_value(value: Any, made: Attributes, nesting: int) -> Any:
    message = obj(value)
    unknown = unknown_keys(message, AnyValue.DESCRIPTOR)
    sent = {k: v for k, v in message.items() if k not in unknown and v is not None}
    if unknown and not sent:
        made.empty += 1
    sent.pop("stringValueStrindex", None)
    if len(sent) > 1:
        raise Wrong
    for kind, inner in sent.items():
        if kind in SCALARS:
            return SCALARS[kind](inner)
        if nesting == MAX_NESTING:
            limited(made, "limits.depth")
        elif kind == "arrayValue":
            return [any_value(v, made, nesting + 1) for v in items(obj(inner).get("values"), made)]
        else:
            return pairs(obj(inner).get("values"), made, nesting + 1)
    return None


SCALARS = {
    "stringValue": text,
    "boolValue": boolean,
    "intValue": lambda v: small(integer(v)),
    "doubleValue": lambda v: small(double(v)),
    "bytesValue": base64s,
}
