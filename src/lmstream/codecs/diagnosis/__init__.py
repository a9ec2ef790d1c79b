"""Say what refused bytes are: another signal, a compression, a frame or an encoding around a bundle, or where they end.

Runs only after a codec has refused, so that it can rename no bundle that is understood. Pure, bounded, and without an
error of its own but RecursionError and MemoryError, which the engine knows.
"""

from typing import Final

from lmstream.codecs.diagnosis import text, wire
from lmstream.codecs.diagnosis.compressions import compression
from lmstream.codecs.diagnosis.frames import frames
from lmstream.codecs.diagnosis.text import BLANK, Found
from lmstream.errors import DecodeError

GENERAL: Final = frozenset(
    {"decode.json", "decode.utf8", "decode.protobuf", "decode.top_level", "decode.not_understood"}
)
"""Reasons of codecs that say only that something is wrong."""


def diagnose(data: bytes, refused: DecodeError) -> DecodeError:
    """A better answer than the codec's, or the codec's own."""
    if refused.reason not in GENERAL:
        return refused
    stripped = data.lstrip(BLANK)
    if stripped[:1] in (b"{", b"[", b'"') and refused.reason != "decode.protobuf":
        found = text.json(stripped)
        if found is None and refused.reason == "decode.json":
            found = text.malformed(data, refused.detail)
    else:
        found = _binary(data, refused)
    return DecodeError(*found) if found else refused


def _binary(data: bytes, refused: DecodeError) -> Found | None:
    # What was read as protobuf to its end, and holds no metrics: only its structure says more.
    name = "" if refused.reason == "decode.not_understood" else compression(data)
    if name:
        return "decode.compression", f"{name}: compress values with gzip or zstd, or leave it to Kafka"
    return _framed(data) or (_malformed if refused.reason == "decode.json" else _protobuf)(data, refused)


def _malformed(data: bytes, refused: DecodeError) -> Found | None:
    if wire.is_bundle(data):
        return "decode.json", "a bundle in protobuf, where engine.format demands JSON"
    return text.malformed(data, refused.detail)


def _protobuf(data: bytes, refused: DecodeError) -> Found | None:
    if part := wire.bare(data):
        return "decode.top_level", f"a bare {part} in protobuf: a bundle has it inside an ExportMetricsServiceRequest"
    if name := wire.signal(data):
        return text.signal(name, "OTLP in protobuf")
    return text.plain(data.lstrip(BLANK)) if refused.reason == "decode.top_level" else _broken(data, refused)


def _framed(data: bytes) -> Found | None:
    """A frame whose content is known, or that is proof itself."""
    proven = ""
    for frame in frames(data):
        if what := text.inside(frame.content):
            return "decode.framing", f"{frame.name} around {what}: write the bytes of the bundle alone"
        proven = proven or (frame.name if frame.proof else "")
    return ("decode.framing", f"{proven}: write the bytes of the bundle alone") if proven else None


def _broken(data: bytes, refused: DecodeError) -> Found | None:
    """Where a bundle breaks."""
    if refused.reason == "decode.utf8":
        place = wire.bad_text(data)
        return ("decode.utf8", place) if place else None
    if refused.reason != "decode.protobuf":
        return None
    if data.lstrip(BLANK)[:1] in (b"{", b"["):
        return "decode.protobuf", "JSON, where engine.format demands protobuf"
    if where := wire.cut(data):
        return "decode.protobuf", f"a bundle in protobuf that is cut: {where}"
    return "decode.protobuf", f"neither JSON nor a bundle in protobuf; it begins with {data[:8].hex(' ')}"
