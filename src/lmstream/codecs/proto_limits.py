"""Refuse protobuf that would cost far more memory than it has bytes, before it is parsed.

Two bytes make an empty submessage, for which the parser keeps about sixty: 64 MiB could take gigabytes. So large
payloads are walked first, down to the data points, counting fields and never building anything.
"""

from typing import Final

from lmstream.errors import DecodeError
from lmstream.settings import MIB, Limits

WALK_FROM: Final = 1 * MIB
"""Payloads below are parsed at once: at worst they take some 60 MiB."""
LEAF_MAX: Final = 1 * MIB
"""Bytes of one resource, scope or data point. More could not become a row of 900 KiB."""
_FIELDS_PER_POINT: Final = 16

_REQUEST, _RESOURCE_METRICS, _SCOPE_METRICS, _METRIC, _DATA = range(5)
_LEAF: Final = -1
# What to do with a length-delimited field: the level to go down to, or that it is a leaf.
_DOWN: Final[tuple[dict[int, int], ...]] = (
    {1: _RESOURCE_METRICS},
    {1: _LEAF, 2: _SCOPE_METRICS},
    {1: _LEAF, 2: _METRIC},
    {5: _DATA, 7: _DATA, 9: _DATA, 10: _DATA, 11: _DATA, 12: _LEAF},
    {1: _LEAF},
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CONTINUES: Final = 0x80
_LONGEST: Final = 63
"""Shift past which a varint is no varint."""


def check(payload: bytes, limits: Limits) -> None:
    """Raise DecodeError limits.points or limits.size. What is malformed is left for the parser to refuse."""
    left = _FIELDS_PER_POINT * limits.points
    todo = [(0, len(payload), _REQUEST)]
    while todo:
        at, end, level = todo.pop()
        down = _DOWN[level]
        while at < end:
            left -= 1
            if left < 0:
                raise DecodeError("limits.points", f"fields enough for more than {limits.points:,} data points")
            tag, at = varint(payload, at, end)
            kind = tag & 7
            if kind == _BYTES:
                length, at = varint(payload, at, end)
                into = down.get(tag >> 3)
                if into == _LEAF:
                    if length > LEAF_MAX:
                        raise DecodeError("limits.size", f"a resource, scope or data point of {length:,} bytes")
                elif into is not None:
                    todo.append((at, min(at + length, end), into))
                at += length
            elif kind == _VARINT:
                _, at = varint(payload, at, end)
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            else:
                break  # groups, and what is no wire type: the parser knows


def varint(payload: bytes, at: int, end: int) -> tuple[int, int]:
    """(value, place behind it); behind `end` when there is none."""
    value = shift = 0
    while at < end and shift <= _LONGEST:
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _CONTINUES:
            return value, at
        shift += 7
    return 0, end + 1
