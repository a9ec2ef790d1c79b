"""Inflate gzip and zstd within bounds: what a value in either of them holds, and the parts that files share with it."""

import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from lmstream.errors import ConfigError, DecodeError
from lmstream.settings import MIB, Limits

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = (b"\x28\xb5\x2f\xfd", *(bytes((first, 0x2A, 0x4D, 0x18)) for first in range(0x50, 0x60)))
"""Magic numbers of zstd frames, and of those to skip, which parallel writers put first (RFC 8878, 3.1.1 and 3.1.2)."""
COMPRESSED: Final = (GZIP, *ZSTD)
"""How the values begin that are inflated."""
PADDING: Final = b"\0 \t\r\n"
"""What may follow compressed data and means nothing: blocks filled up with zeros, and an editor's or echo's newline."""
RATIO_FROM: Final = 8 * MIB
"""Output from which on the inflate ratio is judged: small bundles of repeated text compress honestly well."""
WINDOW: Final = 8 * MIB
"""Largest window of a zstd value. RFC 8878, 3.1.1.1.2: decoders should take 8 MB, encoders should need no more."""
SLICE: Final = 512
"""Bytes of zstd that are inflated at a time, which bounds the output: a block has 4 bytes or more and gives 128 KiB or
less (RFC 8878 section 3.1.1.2), so a slice gives 16 MiB at worst."""
_STEP: Final = 1 * MIB
_FRAMES: Final = 1000


def zstd_frame(window: int) -> Any:
    """Make a decompressor of one zstd frame, with `decompress`, `eof` and `unused_data` as zlib's. Raises ConfigError
    config.extra when zstandard is not installed."""
    return zstandard().ZstdDecompressor(max_window_size=window).decompressobj()


def zstandard() -> Any:
    """The library. Raises ConfigError config.extra: a value that this host cannot read is no fault of the value."""
    try:
        return import_module("zstandard")
    except ModuleNotFoundError as error:
        raise ConfigError.missing("a value or file in zstd", "consumer", "cli", "lambda") from error


def inflate(value: bytes, limits: Limits) -> bytes:
    """A gzip or zstd value, inflated: all its members or frames. Never holds more than one step over the bounds.

    Raises DecodeError decode.gzip, limits.size, limits.ratio; ConfigError config.extra.
    """
    kind, pieces = ("gzip", _gzip(value)) if value[:2] == GZIP else ("zstd", _zstd(value))
    out: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            out.append(piece)
            if size > limits.inflated_bytes:
                raise DecodeError("limits.size", f"{kind} inflates to more than {limits.inflated_bytes:,} bytes")
            if size > RATIO_FROM and size > limits.inflate_ratio * len(value):
                raise DecodeError("limits.ratio", f"{len(value):,} bytes inflate more than {limits.inflate_ratio}-fold")
    except _DamagedError as error:
        raise DecodeError("decode.gzip", f"{kind} data: {error}, after {size:,} inflated bytes") from error.__cause__
    return b"".join(out)


class _DamagedError(Exception):
    pass


def _gzip(value: bytes) -> Iterator[bytes]:
    rest, members = value, 0
    while rest:
        members += 1
        if members > _FRAMES:  # what follows a member is copied for the next one: thousands would take hours
            raise _DamagedError(f"more than {_FRAMES:,} members")
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                data = member.decompress(rest, _STEP)
            except zlib.error as error:
                raise _DamagedError(f"damaged ({error})") from error
            rest = member.unconsumed_tail
            yield data
            if not data and not rest and not member.eof:
                raise _DamagedError("truncated")
        rest = _next(member.unused_data, GZIP)


def _zstd(value: bytes) -> Iterator[bytes]:
    library = zstandard()
    rest, frames = value, 0
    while rest:
        frames += 1
        if frames > _FRAMES:
            raise _DamagedError(f"more than {_FRAMES:,} frames")
        frame, at = zstd_frame(WINDOW), 0
        while not frame.eof:
            if at >= len(rest):
                raise _DamagedError("truncated")
            try:
                data = frame.decompress(rest[at : at + SLICE])
            except library.ZstdError as error:
                raise _zstd_fault(error) from error
            at += SLICE
            yield data
        rest = _next(rest[min(at, len(rest)) - len(frame.unused_data) :], ZSTD)


def _zstd_fault(error: Exception) -> Exception:
    if "too much memory" in str(error):
        return DecodeError("limits.size", f"zstd with a window of more than {WINDOW:,} bytes; compress without --long")
    if "ictionary" in str(error):
        return DecodeError("decode.compression", "zstd that needs a dictionary; compress without one")
    return _DamagedError(f"damaged ({error})")


def _next(rest: bytes, magic: bytes | tuple[bytes, ...]) -> bytes:
    """What follows a member, without padding in front."""
    if not rest or rest.startswith(magic):
        return rest
    rest = rest.lstrip(PADDING)
    if rest and not rest.startswith(magic):
        raise _DamagedError(f"whole, but {len(rest):,} bytes of something else follow")
    return rest
