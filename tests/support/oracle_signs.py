"""What bytes are that are no bundle: another signal, another compression, or a bundle inside something else."""

import base64
import binascii
import contextlib
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.oracle_names import search_proto
from support.oracle_shapes import Bundle, Refused

GENERAL = {"decode.json", "decode.utf8", "decode.protobuf", "decode.top_level", "decode.not_understood"}
"""Reasons that say only that something is wrong."""
NAMED = {"decode.signal", "decode.compression", "decode.framing"}
COMPRESSED = (
    b"\xff\x06\x00\x00sNaPpY",  # snappy's framing format, section 4.1
    b"\x82SNAPPY\x00",  # snappy-java's SnappyOutputStream, which Kafka clients use
    b"\x04\x22\x4d\x18",  # LZ4 frame format, "Magic Number"
    b"BZh",
    b"\xfd7zXZ\x00",
)
Read = Callable[[bytes], Bundle]


def sign_of(plain: bytes, reason: str, read: Read) -> str:
    """A reason that says more, or nothing."""
    if plain.startswith(COMPRESSED) or inflates(plain):
        return "decode.compression"
    if plain.startswith(b"Obj\x01") or any(holds_points(inner, read) for inner in inner_bytes(plain)):
        return "decode.framing"
    if reason != "decode.json" and not plain.lstrip().startswith((b"{", b"[", b'"')) and another_signal(plain):
        return "decode.signal"
    return ""


def inflates(plain: bytes) -> bool:
    """Whether the bytes are a whole zlib stream (RFC 1950)."""
    try:
        stream = zlib.decompressobj()
        stream.decompress(plain, 2**20)
    except zlib.error:
        return False
    return len(plain) > 6


def holds_points(inner: bytes, read: Read) -> bool:
    try:
        return any(metric.points for *_, metric in read(inner).metrics)
    except Refused:
        return False


def inner_bytes(plain: bytes) -> list[bytes]:
    """What may be inside: behind the prefix of a schema registry or of gRPC, in base64, hex or a JSON string."""
    found = []
    if plain[:1] == b"\0" and len(plain) > 9:
        found += [plain[5:], plain[6:], plain[9:]]  # Confluent (and its index of messages), Apicurio
    if plain[:1] == b"\x03" and plain[1:2] in (b"\0", b"\x05"):  # AWS Glue: version, compression, 16 bytes of a UUID
        found.append(plain[18:])
    if plain[:1] in (b"\0", b"\x01") and int.from_bytes(plain[1:5]) == len(plain) - 5:
        found.append(plain[5:])
    found += as_text(plain.strip())
    return [inner for inner in found if inner]


def as_text(plain: bytes) -> list[bytes]:
    found = []
    try:
        said = json.loads(plain)
    except ValueError:
        said = None
    if isinstance(said, str):
        plain = said.encode("utf-8", "replace")
        found.append(plain)
    if re.fullmatch(rb"([0-9A-Fa-f]{2})+", plain):
        found.append(bytes.fromhex(plain.decode()))
    if re.fullmatch(rb"[A-Za-z0-9+/\r\n]+={0,2}", plain):
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(plain))
    return found


def another_signal(plain: bytes) -> bool:
    """Whether the bytes are traces or logs that are understood to the last field, with a span that has its ids or a log
    record that has a time or a body: fewer bytes than that may be anything."""
    return any(map(is_span, inside(ExportTraceServiceRequest, plain, "spans"))) or any(
        map(is_log, inside(ExportLogsServiceRequest, plain, "log_records"))
    )


def inside(message: Any, plain: bytes, name: str) -> list[Any]:
    """Spans or log records of a request; none when it is no such request."""
    try:
        request = message.FromString(plain)
    except DecodeError:
        return []
    if any(search_proto(request)):
        return []
    resources = [one for _, many in request.ListFields() for one in many]
    scopes = [one for r in resources for one in (r.scope_spans if name == "spans" else r.scope_logs)]
    return [one for scope in scopes for one in getattr(scope, name)]


def is_span(span: Any) -> bool:
    return (len(span.trace_id), len(span.span_id)) == (16, 8)


def is_log(record: Any) -> bool:
    return bool(record.time_unix_nano or record.observed_time_unix_nano or record.HasField("body"))
