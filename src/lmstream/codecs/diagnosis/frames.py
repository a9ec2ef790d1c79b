"""Recognize what may stand around a bundle: prefixes of schema registries, gRPC, Avro, Java, lengths."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from lmstream.codecs.proto_limits import varint


class Frame(NamedTuple):
    """What the bytes may be."""

    name: str
    content: bytes
    proof: bool
    """Whether the frame says so alone, whatever its content is."""


_IDS: Final = 1 << 24
"""Ids of schemas count from 1, or from 100,001: so many are in no registry."""
_FIXED: Final = (
    # Marker, bytes to the content, name. Avro 1.12, "Object Container Files" and "Single-object encoding"; Java Object
    # Serialization, 6.4.2: TC_STRING has two bytes of length, TC_LONGSTRING eight; RFC 7464.
    (re.compile(rb"Obj\x01"), None, "an Avro object container file"),
    (re.compile(rb"\xc3\x01.{8}", re.DOTALL), 10, "Avro's single-object encoding (10 bytes)"),
    (re.compile(rb"\xac\xed\0\x05t"), 7, "a Java-serialized string"),
    (re.compile(rb"\xac\xed\0\x05\x7c"), 13, "a Java-serialized string"),
    (re.compile(rb"\xac\xed\0\x05"), None, "a Java-serialized object"),
    # Glue: the version of the header, none or zlib, the id of the schema's version (aws-glue-schema-registry).
    (re.compile(rb"\x03\0.{16}", re.DOTALL), 18, "a Glue schema-registry prefix (18 bytes)"),
    (re.compile(rb"\x03\x05.{16}", re.DOTALL), 18, "a Glue schema-registry prefix (18 bytes)"),
    (re.compile(rb"\x1e+(?=[ \t\r\n]*[{\[])"), 1, "RFC 7464's record separator (1e)"),
)


def frames(data: bytes) -> Iterator[Frame]:
    """Each frame that the bytes may be, the surest first."""
    for marker, skip, name in _FIXED:
        if marker.match(data):
            yield Frame(name, data[skip:].lstrip(b"\x1e") if skip else b"", proof=True)
            break
    yield from _lengths(data)
    yield from _registries(data)


def _lengths(data: bytes) -> Iterator[Frame]:
    size = len(data)
    # gRPC over HTTP/2, "Length-Prefixed-Message": whether it is compressed, then the length.
    if data[:1] in (b"\0", b"\x01") and size > 5 and int.from_bytes(data[1:5], "big") == size - 5:  # noqa: PLR2004
        yield Frame("a gRPC frame (5 bytes: a flag and the length)", data[5:], proof=True)
    if size > 4 and int.from_bytes(data[:4], "big") == size - 4:  # noqa: PLR2004 - the length's own size
        yield Frame("a length of four bytes (File Exporter)", data[4:], proof=True)
    length, start = varint(data, 0, min(size, 10))
    if length and length == size - start:
        yield Frame("a length as varint (delimited protobuf)", data[start:], proof=False)
    if length and not length & 1 and length >> 1 == size - start:  # zigzag
        yield Frame("an Avro string or bytes", data[start:], proof=False)


def _registries(data: bytes) -> Iterator[Frame]:
    size = len(data)
    if data[:1] == b"\0" and size > 5:  # noqa: PLR2004 - magic byte and id
        schema = int.from_bytes(data[1:5], "big")
        long = int.from_bytes(data[1:9], "big")
        if not schema and size > 9:  # noqa: PLR2004 - magic byte and id
            yield Frame(f"an Apicurio schema-registry prefix (9 bytes: 00, id {long})", data[9:], 0 < long < _IDS)
        # Behind it protobuf has the indexes of its message: 0 for the first one, else a list.
        name = f"a Confluent schema-registry prefix (5 bytes: 00, id {schema})"
        yield Frame(name, data[6:] if data[5] == 0 else data[5:], 0 < schema < _IDS)
        yield Frame(name, data[5:], proof=False)
    if data[:1] == b"\x01" and size > 17:  # noqa: PLR2004 - magic byte and GUID
        yield Frame("a Confluent schema-registry prefix (17 bytes: 01 and a GUID)", data[17:], proof=False)
        yield Frame("a Confluent schema-registry prefix (17 bytes: 01 and a GUID)", data[18:], proof=False)
