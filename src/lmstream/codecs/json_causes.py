"""What of an OTLP/JSON data point is behind the reason it makes no row, in words. For messages: slow."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw, ValidationError

from lmstream.codecs.json_heads import attributes_fault
from lmstream.codecs.json_points import MESSAGES, labels_lacking
from lmstream.codecs.json_unknown import NAMED, NOTHING, decode_list, names, title
from lmstream.codecs.json_values import INT64, UINT32, double, integer, texts, within
from lmstream.codecs.json_walk import below, place, said, sent, token

_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_INTEGERS: Final = ("timeUnixNano", "asInt", "count", "scale", "zeroCount")


def cause(kind: str, raw: Raw, reason: str) -> str:
    """What is wrong with a point of a kind; nothing when the reason says it all."""
    try:
        members = _decode_members(raw)
    except ValidationError as error:
        return f"{said(error)}, saw {token(raw)}"
    tell = _TELL.get(reason)
    return tell(kind, raw, members) if tell is not None else ""


def _wrong_type(kind: str, raw: Raw, members: dict[str, Raw]) -> str:
    try:
        MESSAGES["gauge" if kind == "sum" else kind](raw)
    except ValidationError as error:
        member = below(error).partition(".")[2].partition("[")[0]
        return f"{place('', error).removeprefix('.')}, saw {token(members.get(member, raw))}"
    checks: list[tuple[str, Callable[[Raw], Any]]] = [(name, integer) for name in _INTEGERS]
    checks += [("asDouble", lambda raw: double(raw, [])), ("flags", lambda raw: within(raw, UINT32))]
    for name, check in checks:
        try:
            check(members.get(name, NOTHING))
        except ValidationError as error:
            return f"{name}: {said(error)}, saw {token(members[name])}"
    for name, read in (("bucketCounts", integer), ("explicitBounds", lambda raw: double(raw, []))):
        for at, item in enumerate(_list(members, name)):
            if said_of := _wrong_item(read, item):
                return f"{name}[{at}]: {said_of}, saw {token(item)}"
    for side in ("positive", "negative"):
        held = _decode_members(members[side]) if sent(members.get(side, NOTHING)) else {}
        items = [("offset", held.get("offset", NOTHING))]
        items += [(f"bucketCounts[{at}]", item) for at, item in enumerate(_list(held, "bucketCounts"))]
        for name, item in items:
            if said_of := _wrong_item(integer, item, null=name == "offset"):
                return f"{side}.{name}: {said_of}, saw {token(item)}"
    fault = attributes_fault(members.get("attributes", NOTHING), "attributes")
    return fault.detail if fault is not None else ""


def _wrong_item(read: Callable[[Raw], Any], raw: Raw, *, null: bool = False) -> str:
    try:
        return "null is not a number" if read(raw) is None and not null else ""
    except ValidationError as error:
        return said(error)


def _list(members: dict[str, Raw], name: str) -> list[Raw]:
    return (decode_list(members[name]) if name in members else None) or []


def _limits(_: str, __: Raw, members: dict[str, Raw]) -> str:
    fault = attributes_fault(members.get("attributes", NOTHING), "attributes")
    return fault.detail if fault is not None else ""


def _labels(_: str, __: Raw, members: dict[str, Raw]) -> str:
    found = texts(bytes(members.get("attributes", b"")))
    return f"labels: {labels_lacking(members.get('labels', Raw(b'null')), found)}"


def _no_time(kind: str, raw: Raw, members: dict[str, Raw]) -> str:
    seen = f"timeUnixNano is {token(members['timeUnixNano'])}" if "timeUnixNano" in members else "no timeUnixNano"
    return seen + _others(kind, raw)


def _bad_time(_: str, __: Raw, members: dict[str, Raw]) -> str:
    if "timeUnixNano" in members:
        return f"timeUnixNano is {token(members['timeUnixNano'])}, in nanoseconds"
    return "no timeUnixNano; the scope's epoch, or the record's time, is outside"


def _no_value(kind: str, raw: Raw, _: dict[str, Raw]) -> str:
    return "no asInt and no asDouble" + _others(kind, raw)


def _others(kind: str, raw: Raw) -> str:
    """Members that OTLP does not know: the sender's names, often."""
    found = names(bytes(raw), "NumberDataPoint" if kind in ("gauge", "sum") else f"{title(kind)}DataPoint")[:NAMED]
    return f", but {', '.join(f'{name!r:.100}' for name in found)}" if found else ""


def _two_values(_: str, __: Raw, members: dict[str, Raw]) -> str:
    return f"asInt {token(members['asInt'])} and asDouble {token(members['asDouble'])}"


def _out_of_range(_: str, __: Raw, members: dict[str, Raw]) -> str:
    return "; ".join(_outside(members)) or "a sum of the last two bucketCounts"


def _outside(members: dict[str, Raw]) -> Iterator[str]:
    for name, limits in (("asInt", INT64), *((name, range(2**63)) for name in ("count", "zeroCount"))):
        if sent(members.get(name, NOTHING)) and (integer(members[name]) or 0) not in limits:
            yield f"{name} {token(members[name])}"
    for name in ("asDouble", "bucketCounts", "explicitBounds", "scale", "positive", "negative"):
        if sent(members.get(name, NOTHING)):
            yield f"{name} {token(members[name])}"


def _shape(_: str, __: Raw, members: dict[str, Raw]) -> str:
    counts, bounds = len(_list(members, "bucketCounts")), _list(members, "explicitBounds")
    last = f", the last {token(bounds[-1])}" if bounds else ""
    return f"{counts:,} bucketCounts and {len(bounds):,} explicitBounds{last}"


_TELL: Final[dict[str, Callable[[str, Raw, dict[str, Raw]], str]]] = {
    "point.type": _wrong_type,
    "limits.attributes": _limits,
    "limits.depth": _limits,
    "point.labels": _labels,
    "time.missing": _no_time,
    "time.range": _bad_time,
    "value.missing": _no_value,
    "value.two": _two_values,
    "value.range": _out_of_range,
    "point.shape": _shape,
}
