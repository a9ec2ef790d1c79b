"""Protobuf said in the many ways that mean the same: what google.protobuf reads as one message."""

import random
import struct
from typing import Any


def to_wire(message: Any, rng: random.Random, *, aloud: bool = True, unknown: bool = True) -> bytes:
    """Bytes that google.protobuf reads as the same message: fields in any order, singular messages in two halves,
    long varints, `unknown` fields, numbers packed or one by one, defaults said `aloud`."""
    pieces: list[list[bytes]] = []
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            values = list(getattr(message, field.name))
            if field.cpp_type != field.CPPTYPE_MESSAGE and values and rng.random() < 0.7:
                cut = rng.randint(0, len(values))
                parts = [p for p in (values[:cut], values[cut:]) if p]
                pieces.append(
                    [_tagged(field.number, 2, b"".join(_scalar(field, v, rng)[1] for v in p), rng) for p in parts]
                )
            else:
                pieces.append([_field(field, v, rng, unknown=unknown) for v in values])
        elif field.has_presence:
            if message.HasField(field.name):
                value = getattr(message, field.name)
                if field.cpp_type == field.CPPTYPE_MESSAGE and field.containing_oneof is None and rng.random() < 0.3:
                    pieces.append(
                        [_tagged(field.number, 2, half, rng) for half in _halves(value, rng, unknown=unknown)]
                    )
                else:
                    pieces.append([_field(field, value, rng, unknown=unknown)])
        elif _said(field, getattr(message, field.name), rng, aloud=aloud):
            again = rng.choice([1] * 9 + [2])  # a field said twice: the last one wins
            pieces.append([_field(field, getattr(message, field.name), rng, unknown=unknown)] * again)
    while unknown and rng.random() < 0.1:
        pieces.append([_unknown(rng)])
    return b"".join(_interleave([p for p in pieces if p], rng))


def _said(field: Any, value: Any, rng: random.Random, *, aloud: bool) -> bool:
    """Whether a value is put on the wire: defaults may be. A double of -0.0 is no default, so doubles always are."""
    return bool(value) or (aloud and (field.cpp_type == field.CPPTYPE_DOUBLE or rng.random() < 0.2))


def _interleave(pieces: list[list[bytes]], rng: random.Random) -> list[bytes]:
    """Merge the lists at random, each in its own order."""
    turns = [n for n, piece in enumerate(pieces) for _ in piece]
    if rng.random() < 0.5:
        rng.shuffle(turns)
    queues = [iter(piece) for piece in pieces]
    return [next(queues[n]) for n in turns]


def _halves(message: Any, rng: random.Random, *, unknown: bool) -> tuple[bytes, bytes]:
    """Two encodings that merge to the message: some fields here, the others there."""
    first, second = type(message)(), type(message)()
    for field, value in message.ListFields():
        target = first if rng.random() < 0.5 else second
        if field.is_repeated:
            cut = rng.randint(0, len(value))
            getattr(first, field.name).extend(value[:cut])
            getattr(second, field.name).extend(value[cut:])
        elif field.cpp_type == field.CPPTYPE_MESSAGE:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
    return tuple(to_wire(half, rng, aloud=False, unknown=unknown) for half in (first, second))


def _field(field: Any, value: Any, rng: random.Random, *, unknown: bool) -> bytes:
    if field.cpp_type == field.CPPTYPE_MESSAGE:
        return _tagged(field.number, 2, to_wire(value, rng, unknown=unknown), rng)
    wire_type, body = _scalar(field, value, rng)
    return _tagged(field.number, wire_type, body, rng)


def _scalar(field: Any, value: Any, rng: random.Random) -> tuple[int, bytes]:  # noqa: PLR0911 - one for each type
    match field.type:
        case field.TYPE_DOUBLE:
            return 1, struct.pack("<d", value)
        case field.TYPE_FIXED64:
            return 1, struct.pack("<Q", value)
        case field.TYPE_SFIXED64:
            return 1, struct.pack("<q", value)
        case field.TYPE_SINT32:
            return 0, varint((value << 1) ^ (value >> 31), rng)
        case field.TYPE_STRING:
            return 2, value.encode()
        case field.TYPE_BYTES:
            return 2, value
        case _:
            return 0, varint(int(value) & (2**64 - 1), rng)


def _tagged(number: int, wire_type: int, body: bytes, rng: random.Random) -> bytes:
    head = varint(number << 3 | wire_type, rng, longest=5)
    return head + (varint(len(body), rng, longest=5) + body if wire_type == 2 else body)


def _unknown(rng: random.Random) -> bytes:
    number = rng.choice([99, 1000, 536870911])
    match rng.randrange(5):
        case 0:
            return _tagged(number, 0, varint(rng.getrandbits(64), rng), rng)
        case 1:
            return _tagged(number, 1, rng.randbytes(8), rng)
        case 2:
            return _tagged(number, 2, rng.randbytes(rng.randint(0, 9)), rng)
        case 3:
            return _tagged(number, 5, rng.randbytes(4), rng)
        case _:
            return varint(number << 3 | 3) + (_unknown(rng) if rng.random() < 0.5 else b"") + varint(number << 3 | 4)


def varint(value: int, rng: random.Random | None = None, longest: int = 10) -> bytes:
    """A varint; with `rng` sometimes longer than it must be."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    if rng is not None and rng.random() < 0.05:
        while len(out) < longest and rng.random() < 0.7:
            out[-1] |= 0x80
            out.append(0)
    return bytes(out)
