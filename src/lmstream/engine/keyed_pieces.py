"""Pieces of rows with a key in them, and the dimension that the key stands for: see engine.dimensions."""

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.codecs import fragments
from lmstream.engine.pool_values import Device, Point
from lmstream.model import DimensionKind

KEY_BYTES: Final = 12
"""Of a key: 96 bits. Keys are compared within one organization and hour. Of a million maps there, two have one key with
odds of 1 in 10^17; 16 bytes would cost rows 2 % more. To make the key of somebody else's map takes 2^96 attempts."""
_DEVICE: Final = msgspec.json.Decoder(Device)
_POINT: Final = msgspec.json.Decoder(Point)


class Dimension(Struct, frozen=True, gc=False):
    """What a key stands for."""

    kind: DimensionKind
    key: bytes
    members: bytes
    """As in a line, maps sorted by name, without a comma at either end."""

    @classmethod
    def of(cls, kind: DimensionKind, members: bytes) -> "Dimension":
        """With its key."""
        digest = blake2b(b"%b\0%b" % (kind.encode(), members), digest_size=KEY_BYTES).digest()
        return cls(kind, urlsafe_b64encode(digest), members)


class Keyed(bytes):
    """A piece of a row with a key in it, or a piece that needs none."""

    dimension: Dimension | None = None


def keyed_piece(piece: bytes, dimension: Dimension) -> Keyed:
    """A piece with the dimension's key in the place of its `%b`."""
    made = Keyed(piece % dimension.key)
    made.dimension = dimension
    return made


def keyed_resource(piece: bytes) -> tuple[Keyed, int]:
    """What stands in place of a resource's piece, for a PieceCache."""
    if not piece:  # of a resource that was refused: its points make no rows
        return Keyed(), 0
    said = _DEVICE.decode(b"{%b}" % piece[:-1])
    members = fragments.resource_piece(said.device_id, said.device_name, dict(by_name(said.resource)))[:-1]
    return keyed_piece(b'"resourceKey":"%b",', Dimension.of("resource", members)), 2 * len(piece)


def keyed_tail(piece: bytes) -> tuple[Keyed, int]:
    """What stands in place of a piece of attributes, for a PieceCache."""
    if len(piece) <= 2:  # noqa: PLR2004 - `}\n`, or nothing of a point that was not read
        return Keyed(piece), 0
    said = _POINT.decode(b"{" + piece[1:])
    members = fragments.tail_piece(said.instance, dict(by_name(said.attributes)))[1:-2]
    return keyed_piece(b',"attributesKey":"%b"}\n', Dimension.of("attributes", members)), 2 * len(piece)


def by_name(texts: dict[str, str]) -> list[tuple[str, str]]:
    """A map in the order of its names."""
    return sorted(texts.items())
