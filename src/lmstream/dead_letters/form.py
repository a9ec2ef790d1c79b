"""What all dead-letter sinks share: the form of a letter, its name, and how large the largest is."""

from hashlib import blake2b
from typing import Final

import msgspec

from lmstream.errors import ConfigError
from lmstream.model import DeadLetter
from lmstream.partitioning import token
from lmstream.settings import KIB, Limits

ENVELOPE: Final = 64 * KIB
"""Bytes of a letter beside value and rejected points: coordinates, reason, key and headers as producers use them."""
REJECTED: Final = 32
"""Bytes of one rejected point in a letter, at most: `[99999,"org.unresolved"],` and some to spare."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(DeadLetter).decode


class NotALetterError(ValueError):
    """A line is not a dead letter; says why."""


def decode(line: bytes) -> DeadLetter:
    """The letter of a line. Raises NotALetterError for anything else, however deeply it is nested."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise NotALetterError(str(e)) from e


def decode_or_none(line: bytes) -> DeadLetter | None:
    """The letter of a line; None for anything else."""
    try:
        return decode(line)
    except NotALetterError:
        return None


def encode(letter: DeadLetter) -> bytes:
    """The letter as one line of JSON, the same bytes for the same letter."""
    return _encode(letter) + b"\n"


def folder_of(letter: DeadLetter) -> tuple[str, str]:
    """Where a letter goes below the root: topic, made path-safe, and partition."""
    return token(letter.topic), str(int(letter.partition))


def name_of(letter: DeadLetter) -> str:
    """The letter's name in its folder: the same record always gives the same one."""
    return f"{int(letter.offset)}.json"


def other_name_of(letter: DeadLetter) -> str:
    """Its name when another record has the first one: a topic was recreated, or other files were read."""
    times = b"" if letter.identity is None else b"\0%d" % letter.identity.offset
    digest = blake2b(b"%d\0%b%b" % (letter.timestamp, letter.value or b"", times), digest_size=8).hexdigest()
    return f"{int(letter.offset)}-{digest}.json"


def same(data: bytes, letter: DeadLetter) -> bool:
    """Whether `data` is a letter of that very record, which may then be replaced. Anything else is left alone."""
    there = decode_or_none(data)
    return there is not None and (there.value, there.identity, there.timestamp) == (
        letter.value,
        letter.identity,
        letter.timestamp,
    )


def largest(limits: Limits) -> int:
    """Bytes of the largest letter there can be under these limits."""
    return -(-limits.record_bytes // 3) * 4 + limits.points * REJECTED + ENVELOPE


def refuse_small(what: str, takes: int, limits: Limits) -> None:
    """Raise ConfigError when a sink takes less than the largest letter: such a letter would stall its partition."""
    needed = largest(limits)
    if takes < needed:
        raise ConfigError(
            "config.invalid",
            f"{what} accepts letters of {takes:,} bytes at most, and the largest may have {needed:,}: "
            f"engine.limits.record_bytes {limits.record_bytes:,} in base64 ({-(-limits.record_bytes // 3) * 4:,}) "
            f"+ engine.limits.points {limits.points:,} x {REJECTED} + {ENVELOPE:,}; raise the limit of the place, "
            "or lower these settings",
        )
