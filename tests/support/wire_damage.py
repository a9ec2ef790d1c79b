"""Protobuf bundles with one part changed and all lengths above it true, so that readers come as far as that part."""

import random
import struct
from typing import Any

from support.wire import varint

_VALUE: dict[int, Any] = {}
_ATTRIBUTE = {2: _VALUE}
_DATA = {1: {7: _ATTRIBUTE}}
_METRIC = {5: _DATA, 7: _DATA}
_BUNDLE = {1: {1: {1: _ATTRIBUTE}, 2: {1: {3: _ATTRIBUTE}, 2: _METRIC}}}
"""Which fields are messages, down to the values of attributes."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_AS_IT_IS = -1
"""In place of a wire type: the body is the whole field."""
DOUBLES = [
    *(0.0, -0.0, 1.0, -1.0, 0.5, 0.01, 0.009, 0.001, 1e-5, 1e-7, 5e-324, 0.1 + 0.2, 1 / 3, 1e15, 1e16, 1e17, 1e22, 1e300),
    *(999999999999999.0, 99999999999999.5, 999999999999.999, 1000000000000.001, 123456789.000001, 0.123456, 0.1234567),
    *(9007199254740993.0, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), 12345.678, -0.05, 100.0),
]  # fmt: skip
INTEGERS = [0, 1, -1, 7, -10, 99, 100, 2**53 + 1, 10**18, 2**63 - 1, -(2**63)]

Field = list[Any]
"""[number, wire type, body]: bytes, or the fields of a message."""


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """A plain bundle with a few parts changed."""
    fields = _parsed(payload, _BUNDLE)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        below, schema = fields, _BUNDLE
        while True:
            inside = [each for each in below if isinstance(each[2], list) and each[2]]
            if not inside or rng.random() < 0.15:
                break
            chosen = rng.choice(inside)
            below, schema = chosen[2], schema.get(chosen[0], {})
        whole = [at for at, each in enumerate(below) if each[1] != _AS_IT_IS]
        if whole:
            _change(below, rng.choice(whole), rng)
    return _written(fields)


def _change(fields: list[Field], at: int, rng: random.Random) -> None:  # noqa: C901, PLR0912 - a line for each change
    number, kind, body = field = fields[at]
    encoded = _written(body) if isinstance(body, list) else body
    match rng.randrange(14):
        case 0:
            fields.insert(rng.randrange(len(fields) + 1), list(field))
        case 1:
            del fields[at]
        case 2:
            fields.insert(rng.randrange(len(fields)), fields.pop(at))
        case 3:
            field[1:] = rng.choice(_bodies(rng))
        case 4:
            fields.insert(at, [rng.choice((*range(1, 14), 99, 1000, 2**29 - 1)), *rng.choice(_bodies(rng))])
        case 5:
            fields[at] = [0, _AS_IT_IS, _longer(number << 3 | kind, rng) + _behind_tag(kind, encoded)]
        case 6 if kind == _BYTES:
            fields[at] = [0, _AS_IT_IS, varint(number << 3 | kind) + _longer(len(encoded), rng) + encoded]
        case 6 if kind == _VARINT and encoded:  # an earlier change may have cut it to nothing
            field[2] = _longer(encoded[0], rng)
        case 7 if kind == _BYTES:
            length = rng.choice((len(encoded) + 1, max(len(encoded) - 1, 0), 0, 2**20, 2**31, 2**64 - 1))
            fields[at] = [0, _AS_IT_IS, varint(number << 3 | kind) + varint(length) + encoded]
        case 8 if encoded:
            place = rng.randrange(len(encoded))
            field[2] = encoded[:place] + bytes([encoded[place] ^ 1 << rng.randrange(8)]) + encoded[place + 1 :]
        case 9:
            field[2] = encoded[: rng.randrange(len(encoded) + 1)]
        case 10 if kind == _BYTES:
            field[2] = rng.choice((b"", b"\xff", b"\xed\xa0\x80", b"\xc3", encoded + b"\x00", encoded + encoded))
        case 11:
            fields.insert(at, [0, _AS_IT_IS, rng.choice((b"\x53\x54", b"\x53\x08\x01\x54", b"\x53", b"\x54", b"\x07"))])
        case 12 if kind == _BYTES:
            for _ in range(rng.choice((3, 45, 60, 120))):
                encoded = (
                    b"\x2a"
                    + varint(len(encoded) + 1 + len(varint(len(encoded))))
                    + b"\x0a"
                    + varint(len(encoded))
                    + encoded
                )
            field[2] = encoded
        case _ if kind == _FIXED64:
            field[2] = (
                struct.pack("<d", _double(rng)) if rng.random() < 0.7 else struct.pack("<q", rng.choice(INTEGERS))
            )


def _bodies(rng: random.Random) -> list[tuple[int, bytes]]:
    """(wire type, body) of some fields."""
    return [
        (_VARINT, varint(rng.choice((0, 1, 2, 3, 127, 128, 2**32, 2**64 - 1)))),
        (_FIXED64, rng.randbytes(8)),
        (_BYTES, rng.choice((b"", b"x", b"\x0a\x01x", b"\x11" + bytes(8), rng.randbytes(5)))),
        (_FIXED32, rng.randbytes(4)),
    ]


def _double(rng: random.Random) -> float:
    if rng.random() < 0.5:
        return rng.choice(DOUBLES)
    number = rng.choice((rng.random(), rng.uniform(-1e6, 1e6), rng.gauss(0, 1) * 10 ** rng.randint(-12, 25)))
    return rng.choice((number, round(number, rng.randint(0, 12))))


def _longer(number: int, rng: random.Random) -> bytes:
    """A varint in more bytes than it needs."""
    encoded = bytearray(varint(number))
    for _ in range(rng.choice((1, 1, 2, 4, 8, 9, 10))):
        encoded[-1] |= 0x80
        encoded.append(0)
    return bytes(encoded)


def _behind_tag(kind: int, body: bytes) -> bytes:
    return varint(len(body)) + body if kind == _BYTES else body


def _parsed(payload: bytes, schema: dict[int, Any]) -> list[Field]:
    fields: list[Field] = []
    at = 0
    while at < len(payload):
        tag, at = _number(payload, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _number(payload, at)
        else:
            length = {_VARINT: _number(payload, at)[1] - at, _FIXED64: 8, _FIXED32: 4}[kind]
        body = payload[at : at + length]
        message = kind == _BYTES and tag >> 3 in schema
        fields.append([tag >> 3, kind, _parsed(body, schema[tag >> 3]) if message else body])
        at += length
    return fields


def _number(payload: bytes, at: int) -> tuple[int, int]:
    """(a varint, the place behind it)."""
    number = shift = 0
    while payload[at] >= 0x80:
        number |= (payload[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | payload[at] << shift, at + 1


def _written(fields: list[Field]) -> bytes:
    out = []
    for number, kind, body in fields:
        encoded = _written(body) if isinstance(body, list) else body
        out.append(encoded if kind == _AS_IT_IS else varint(number << 3 | kind) + _behind_tag(kind, encoded))
    return b"".join(out)
