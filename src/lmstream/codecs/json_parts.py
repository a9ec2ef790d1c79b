"""Parts of OTLP/JSON data points that a row may go without: read leniently, left out by reason.

Identity, time and value of a point decide whether there is a row; nothing here does.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs import point_values
from lmstream.codecs.fragments import MAX_ITEMS, PartlyRead
from lmstream.codecs.json_unknown import NOTHING, decode_list
from lmstream.codecs.json_values import INT64, UINT64, attributes, double, integer
from lmstream.codecs.json_walk import sent
from lmstream.errors import DecodeError

_HEX: Final = re.compile(r"[0-9a-fA-F]*")


class _Quantile(Struct, gc=False):
    quantile: Raw = NOTHING
    value: Raw = NOTHING


class _Exemplar(Struct, gc=False):
    filteredAttributes: Raw = NOTHING  # noqa: N815
    timeUnixNano: Raw = NOTHING  # noqa: N815
    asInt: Raw = NOTHING  # noqa: N815
    asDouble: Raw = NOTHING  # noqa: N815
    traceId: Raw = NOTHING  # noqa: N815
    spanId: Raw = NOTHING  # noqa: N815


_decode_exemplar: Final = msgspec.json.Decoder(_Exemplar).decode
_decode_quantile: Final = msgspec.json.Decoder(_Quantile).decode
_decode_text: Final = msgspec.json.Decoder(str | None).decode


def part(raw: Raw, left: list[str]) -> float | None:
    """A double that the row may go without."""
    faults: list[str] = []
    try:
        number = double(raw, faults)
    except ValidationError:
        left.append("part.type")
        return None
    if faults:
        left.append("part.range")
        return None
    return point_values.part(number, left)


def whole(raw: Raw, left: list[str], limits: range | None = None) -> int | None:
    """An integer that the row may go without."""
    try:
        number = integer(raw)
    except ValidationError:
        left.append("part.type")
        return None
    if number is not None and limits is not None and number not in limits:
        left.append("part.range")
        return None
    return number


def _items(raw: Raw, left: list[str]) -> list[Raw]:
    """The items of an array that the row may go without."""
    try:
        return (decode_list(raw) if raw is not NOTHING else None) or []
    except ValidationError:
        left.append("part.type")
        return []


def exemplars(raw: Raw, left: list[str]) -> list[dict[str, Any]]:
    """A point's exemplars; what of them cannot be understood is left out, by reasons."""
    items = _items(raw, left)
    if len(items) > MAX_ITEMS:
        left.append("part.limit")
        return []
    rows = (_exemplar(item, left) for item in items)
    return [row for row in rows if row is not None]


def _exemplar(raw: Raw, left: list[str]) -> dict[str, Any] | None:
    try:
        item = _decode_exemplar(raw)
    except ValidationError:
        left.append("part.type")
        return None
    value: float | None
    if sent(item.asInt) and sent(item.asDouble):
        left.append("part.type")
        return None
    before = len(left)
    value = whole(item.asInt, left, INT64) if sent(item.asInt) else part(item.asDouble, left)
    if value is None:
        if len(left) == before:
            left.append("part.missing")
        return None
    trace, span = _hex(item.traceId, left), _hex(item.spanId, left)
    time = whole(item.timeUnixNano, left, UINT64)
    return point_values.exemplar(time, value, trace, span, _filtered(item.filteredAttributes, left))


def _filtered(raw: Raw, left: list[str]) -> dict[str, str]:
    """Attributes of an exemplar."""
    try:
        found = attributes(bytes(raw))
    except ValidationError:
        left.append("part.type")
        return {}
    except DecodeError:
        left.append("part.limit")
        return {}
    if isinstance(found, PartlyRead):
        left += ["attribute.empty"] * found.empty
    return found


def _hex(raw: Raw, left: list[str]) -> str:
    """OTLP/JSON writes ids as hex in either case, not as the base64 of the proto3 mapping."""
    try:
        text = (_decode_text(raw) if raw is not NOTHING else None) or ""
    except ValidationError:
        text = "?"
    if len(text) % 2 or not _HEX.fullmatch(text):
        left.append("part.type")
        return ""
    return text.lower()


def default(raw: Raw, left: list[str]) -> float | None:
    """Nought for what is absent; minus nought stays what it is, and what is left out is none."""
    before = len(left)
    number = part(raw, left)
    return 0.0 if number is None and len(left) == before else number


def quantiles(raw: Raw, left: list[str]) -> list[tuple[float, float]]:
    """A summary's quantiles, as (quantile, value)."""
    pairs = (_quantile(item, left) for item in _items(raw, left))
    return [pair for pair in pairs if pair is not None]


def _quantile(raw: Raw, left: list[str]) -> tuple[float, float] | None:
    try:
        item = _decode_quantile(raw)
    except ValidationError:
        left.append("part.type")
        return None
    why: list[str] = []
    quantile, value = default(item.quantile, why), default(item.value, why)
    if quantile is None or value is None:
        left.append(point_values.of_pair(why))
        return None
    return quantile, value
