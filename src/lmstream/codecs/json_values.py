"""OTLP/JSON attribute values: from AnyValue to plain values, with the checks that a JSON schema cannot make."""

import binascii
import re
from typing import Final

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs.fragments import MAX_ITEMS, MAX_NESTING, PartlyRead, Plain, bounded, text, too_deep
from lmstream.codecs.json_unknown import NOTHING, not_understood

INT64: Final = range(-(2**63), 2**63)
UINT64: Final = range(2**64)
UINT32: Final = range(2**32)
INFINITY: Final = float("inf")
_NUMBER: Final = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NULL: Final = b"null"
_decode_int: Final = msgspec.json.Decoder(int, strict=False).decode
_decode_float: Final = msgspec.json.Decoder(float, strict=False).decode


def integer(raw: Raw) -> int | None:
    """An integer, written as a number or as text, whole fractions too; None when absent or null. One of more digits
    than Python reads comes back as some integer outside every range. Raises ValidationError for anything else."""
    token = bytes(raw)
    if not token or token == _NULL:
        return None
    try:
        return _decode_int(token)
    except ValidationError:
        digits = token.strip(b'"')
        if not _NUMBER.fullmatch(digits):
            raise
        value = float(digits)
        if value in (INFINITY, -INFINITY) or digits.removeprefix(b"-").isdigit():
            return 2**1024 if value > 0 else -(2**1024)
        if not value.is_integer():
            raise
        return int(value)


def within(raw: Raw, limits: range) -> int | None:
    """An integer of a fixed width. Raises ValidationError for one outside."""
    number = integer(raw)
    if number is not None and number not in limits:
        raise ValidationError(f"Expected an integer from {limits.start} to {limits.stop - 1}")
    return number


def double(raw: Raw, faults: list[str] | None = None) -> float | None:
    """A double, written as a number or as text; None when absent or null. One outside float64 adds value.range to the
    faults if there is such a list. Raises ValidationError for anything else."""
    token = bytes(raw)
    if not token or token == _NULL:
        return None
    try:
        return _decode_float(token)
    except ValidationError:
        if faults is None or not _NUMBER.fullmatch(token.strip(b'"')):
            raise
        faults.append("value.range")
        return 0.0


def boolean(raw: Raw) -> bool | None:
    """A boolean; None when absent or null. Raises ValidationError for anything else."""
    token = bytes(raw)
    if token in (b"true", b"false"):
        return token == b"true"
    if token and token != _NULL:
        raise ValidationError("Expected true or false")
    return None


class _Array(Struct, gc=False):
    values: "list[AnyValue] | None" = None


class _Map(Struct, gc=False):
    values: "list[KeyValue] | None" = None


class AnyValue(Struct, gc=False):
    """One attribute value: at most one member is set; none is the empty value."""

    # Numbers and booleans are raw: lax decoding would take "null" for null, and "true" for true.
    stringValue: str | None = None  # noqa: N815 - the format's names
    boolValue: Raw = NOTHING  # noqa: N815
    intValue: Raw = NOTHING  # noqa: N815
    doubleValue: Raw = NOTHING  # noqa: N815
    arrayValue: _Array | None = None  # noqa: N815
    kvlistValue: _Map | None = None  # noqa: N815
    bytesValue: str | None = None  # noqa: N815


class KeyValue(Struct, gc=False):
    """One attribute."""

    key: str | None = ""
    value: AnyValue | None = None


class _Text(Struct, gc=False, forbid_unknown_fields=True):
    stringValue: str  # noqa: N815


class TextKeyValue(Struct, gc=False, forbid_unknown_fields=True):
    """An attribute that is text and nothing else, as most are."""

    key: str
    value: _Text


_decode_texts: Final = msgspec.json.Decoder(list[TextKeyValue]).decode
_decode_any: Final = msgspec.json.Decoder(list[KeyValue] | None).decode


def attributes(raw: bytes) -> dict[str, str]:
    """Attributes as text, from a JSON array or nothing. Of keys that come twice the last value wins, at the first one's
    place. Raises msgspec's ValidationError for values of wrong types, DecodeError for too many and for those nested too
    deep."""
    if not raw:
        return {}
    items = _decode_any(raw) or ()
    bounded(items, "attributes")
    nothing: list[None] = []
    found = {item.key or "": _text(item.value, nothing) for item in items}
    if nothing and (empty := not_understood(raw)):
        found = PartlyRead(found)
        found.empty = empty
    return found


def texts(raw: bytes) -> dict[str, str]:
    """As `attributes`, quicker for those that are text and nothing else, as the attributes of most points are."""
    if not raw:
        return {}
    try:
        items = _decode_texts(raw)
    except ValidationError:
        return attributes(raw)
    if len(items) > MAX_ITEMS:
        bounded(items, "attributes")
    return {item.key: item.value.stringValue for item in items}


def _text(value: AnyValue | None, nothing: list[None]) -> str:
    """A value as text; one without a member that is known, at any depth, adds to the list."""
    if (
        value is not None
        and value.stringValue is not None
        and value.intValue is value.boolValue is value.doubleValue is NOTHING
        and value.arrayValue is None
        and value.kvlistValue is None
        and value.bytesValue is None
    ):
        return value.stringValue
    return text(_plain(value, 0, nothing))


def _plain(value: AnyValue | None, level: int, nothing: list[None]) -> Plain:  # noqa: C901 - a line for each member
    if value is None:
        nothing.append(None)
        return None
    if level > MAX_NESTING:
        raise too_deep()
    found: list[Plain] = []
    if value.stringValue is not None:
        found.append(value.stringValue)
    if value.boolValue is not NOTHING and (truth := boolean(value.boolValue)) is not None:
        found.append(truth)
    if value.intValue is not NOTHING and (whole := within(value.intValue, INT64)) is not None:
        found.append(whole)
    if value.doubleValue is not NOTHING and (number := double(value.doubleValue)) is not None:
        found.append(number)
    if value.bytesValue is not None:
        found.append(_bytes(value.bytesValue))
    if value.arrayValue is not None:
        items = value.arrayValue.values or ()
        bounded(items, "items of one array")
        found.append([_plain(item, level + 1, nothing) for item in items])
    if value.kvlistValue is not None:
        pairs = value.kvlistValue.values or ()
        bounded(pairs, "items of one map")
        found.append({item.key or "": _plain(item.value, level + 1, nothing) for item in pairs})
    if len(found) > 1:
        raise ValidationError("Expected one member of AnyValue")
    if not found:
        nothing.append(None)
        return None
    return found[0]


def _bytes(encoded: str) -> bytes:
    """base64 in either alphabet, padded or not, as the proto3 JSON mapping has it."""
    standard = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(standard + "=" * (-len(standard) % 4), strict_mode=True)
    except ValueError as error:
        raise ValidationError(f"Expected base64: {error}") from error
