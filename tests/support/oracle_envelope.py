"""The bytes of a bundle, out of their gzip or zstd if they are in one: the oracle's way."""

import zlib
from typing import Any

import zstandard

from support.oracle_shapes import Refused

JSON_SPACE = b" \t\r\n"
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
ZSTD_WINDOW = 8 * 2**20
"""Bytes. RFC 8878, 3.1.1.1.2, recommends decoders to support at least this much, and encoders to ask for no more."""
RATIO_FROM = 8 * 2**20


def opened(payload: bytes, limits: Any) -> bytes:
    """The bundle's bytes, out of their gzip or zstd if they are in one."""
    if len(payload) > limits.record_bytes:
        raise Refused("limits.size")
    if compressed(payload):
        payload = inflate(payload, limits)
        if compressed(payload):
            raise Refused("decode.gzip")
    if not payload:
        raise Refused("decode.empty")
    return payload


def compressed(payload: bytes) -> bool:
    skippable = payload[1:4] == b"\x2a\x4d\x18" and payload[0] & 0xF0 == 0x50
    return payload.startswith((GZIP, ZSTD)) or skippable


def inflate(payload: bytes, limits: Any) -> bytes:
    """All members (RFC 1952) or frames (RFC 8878); zeros and white space behind them are passed over."""
    gzip = payload.startswith(GZIP)
    out = b""
    rest = payload
    while rest:
        if gzip:
            member: Any = zlib.decompressobj(31)
            most = [limits.inflated_bytes + 1 - len(out)]
        else:
            member, most = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj(), []
        try:
            out += member.decompress(rest, *most)
        except (zlib.error, zstandard.ZstdError):
            raise Refused("decode.gzip") from None
        if len(out) > RATIO_FROM and len(out) > limits.inflate_ratio * len(payload):
            raise Refused("limits.ratio")
        if len(out) > limits.inflated_bytes:
            raise Refused("limits.size")
        if not member.eof:
            raise Refused("decode.gzip")
        rest = member.unused_data
        if not compressed(rest):
            rest = rest.lstrip(b"\0" + JSON_SPACE)
    return out
