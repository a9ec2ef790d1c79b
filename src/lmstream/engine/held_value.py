"""How a dead letter holds a large value: as its gzip, so that a letter never has megabytes of nothing."""

import zlib
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from lmstream.errors import DecodeError
from lmstream.model import Record
from lmstream.settings import MIB, Limits

PLAIN: Final = 8 * MIB
"""Bytes of a value up to which a letter holds it as it is: what the engine takes unless engine.limits says more."""
_SAMPLE: Final = 1 * MIB


def held_as(value: bytes | None) -> tuple[bytes | None, int]:
    """(the bytes that a letter holds, those of the value when they are its gzip, else 0)."""
    if value is None or len(value) <= PLAIN or 2 * len(_gzip(value[:_SAMPLE])) > _SAMPLE:
        return value, 0
    made = _gzip(value)
    return (made, len(value)) if 2 * len(made) < len(value) else (value, 0)


def unheld(record: Record, limits: Limits) -> Record:
    """The record of a letter that holds a gzip, with its value again: as large as the letter says, and as the engine
    takes. Raises DecodeError."""
    if record.held > limits.record_bytes:
        raise DecodeError("limits.size", f"{record.held:,} bytes, the limit for a record is {limits.record_bytes:,}")
    try:
        value = zlib.decompressobj(wbits=31).decompress(record.value or b"", record.held + 1)
    except zlib.error as error:
        raise DecodeError("decode.gzip", f"the value that the letter holds is damaged ({error})") from error
    if len(value) != record.held:
        raise DecodeError("decode.gzip", f"the letter says that it holds {record.held:,} bytes, and holds others")
    return replace(record, value=value, held=0)


def digest(value: bytes, held: int) -> str:
    """The sha256 of a record's value, in hex; of one that is held as gzip without having it whole."""
    if not held:
        return sha256(value).hexdigest()
    made, inflating, rest = sha256(), zlib.decompressobj(wbits=31), value
    try:
        while rest and held > 0:
            piece = inflating.decompress(rest, min(held, MIB))
            made.update(piece)
            held -= len(piece)
            rest = inflating.unconsumed_tail
    except zlib.error:
        return sha256(value).hexdigest()  # damaged: of what there is
    return made.hexdigest()


def _gzip(data: bytes) -> bytes:
    return zlib.compress(data, 1, 31)  # without a time: the same value gives the same letter
