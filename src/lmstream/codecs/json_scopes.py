"""Scopes of OTLP/JSON bundles: remembered by their bytes, and by their bytes but for LMDP's time of the poll."""

from typing import Final

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs import pieces
from lmstream.codecs.json_values import NOTHING, texts
from lmstream.errors import DecodeError
from lmstream.interfaces import Scope

_EPOCH: Final = b'"key":"epoch","value":{"stringValue":"'
_EPOCH_DIGITS: Final = 16
_NUL: Final = b"\0"
"""Between the two halves of a key: JSON has none."""


class _Scope(Struct, gc=False):
    name: str | None = ""
    version: str | None = ""
    attributes: Raw = NOTHING


class _Polled(Struct, frozen=True):
    """A scope but for its epoch: the piece before and behind the epoch's digits. Empty when the epoch has to be read
    the general way."""

    before: bytes
    behind: bytes
    known: bool


class Scopes:
    """From a scope's bytes to its part of the row, bounded in bytes.

    LMDP writes the time of the poll into a scope, so that in every bundle it is new but for those digits.
    """

    def __init__(self, budget: int) -> None:
        """`budget` in bytes."""
        self._decode = msgspec.json.Decoder(_Scope | None, strict=False).decode
        self._whole = pieces.PieceCache[Scope](self._make_scope, budget // 2)
        self._polled = pieces.PieceCache[_Polled](self._make_polled, budget // 2)

    @property
    def largest(self) -> int:
        """Bytes of the largest piece seen."""
        return max(self._whole.largest, self._polled.largest)

    @property
    def state(self) -> tuple[int, int]:
        """As of a PieceCache."""
        (used, made), (more, others) = self._whole.state, self._polled.state
        return used + more, made + others

    def empty(self) -> None:
        """Forget all entries."""
        self._whole.empty()
        self._polled.empty()

    def find(self, raw: bytes) -> Scope:
        """A scope from its bytes. Raises DecodeError decode.type."""
        before, _, rest = raw.partition(_EPOCH)
        epoch, _, behind = rest.partition(b'"')
        if epoch.isdigit() and len(epoch) <= _EPOCH_DIGITS:
            polled = self._polled[before + _NUL + behind]
            if polled.before:
                return Scope(polled.before + epoch + polled.behind, int(epoch) * 1_000_000, polled.known)
        return self._whole[raw]

    def _make_polled(self, key: bytes) -> tuple[_Polled, int]:
        """Learn where the digits come out: by decoding the scope with an epoch that it has nowhere else."""
        before, _, behind = key.partition(_NUL)
        number = 10 ** (_EPOCH_DIGITS - 1)
        while str(number).encode() in key:
            number += 1
        probe = str(number).encode()
        scope, size = self._make_scope(before + _EPOCH + probe + b'"' + behind)
        start, _, end = scope.piece.partition(probe)
        if scope.epoch != number * 1_000_000 or probe in end:
            return _Polled(b"", b"", known=False), 0
        return _Polled(start, end, known=scope.known), size

    def _make_scope(self, raw: bytes) -> tuple[Scope, int]:
        try:
            found = (self._decode(raw) if raw else None) or _Scope()
            return pieces.scope(found.name or "", found.version or "", texts(bytes(found.attributes)))
        except ValidationError as error:
            raise DecodeError("decode.type", f"in a scope: {error}") from error
