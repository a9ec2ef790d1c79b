"""Scopes by their bytes, and by their bytes but for LMDP's time of the poll, so that a poll's scope is known again."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from lmstream.codecs.fragments import PieceCache
from lmstream.interfaces import Scope

_DIGITS: Final = 13
"""Of an epoch in milliseconds, from 2001 to 2286."""
_NO_EPOCH: Final = b"0" * _DIGITS


_At = Callable[[bytes], Scope | None]
"""From an epoch's digits to the scope that has them; None when it has to be read the general way."""


class _Polled(Struct, frozen=True):
    """A scope but for its epoch: the piece before and behind the epoch's digits."""

    before: bytes
    behind: bytes
    noted: dict[str, int]
    frame: bytes

    def at(self, epoch: bytes) -> Scope:
        """The scope with this epoch."""
        return Scope(b"".join((self.before, epoch, self.behind)), epoch, self.noted, self.frame)


def _general(_epoch: bytes) -> None:
    return None


class Scopes:
    """From a scope's bytes to its part of the row, bounded in bytes.

    LMDP writes the time of the poll into a scope, so that in every bundle it is new but for those digits.
    """

    def __init__(self, make: Callable[[bytes], tuple[Scope, int]], mark: bytes, budget: int) -> None:
        """`make` answers (scope, bytes of its piece); `mark` is what stands before an epoch's digits; `budget` in
        bytes."""
        self._make = make
        self._mark = mark
        self._length = len(mark)
        self._whole = PieceCache[Scope](make, budget // 2)
        self._polled = PieceCache[_At](self._make_polled, budget // 2)

    @property
    def largest(self) -> int:
        """Bytes of the largest piece seen."""
        return max(self._whole.largest, self._polled.largest)

    @property
    def state(self) -> tuple[int, int]:
        """As of a PieceCache."""
        (used, made), (more, others) = self._whole.state, self._polled.state
        return used + more, made + others

    @property
    def parts(self) -> tuple[Callable[[bytes], Scope], PieceCache[_At], bytes]:
        """What the native part looks for a scope in: `find`, the scopes of polls by their bytes with zeros for the
        digits, and the mark."""
        return self.find, self._polled, self._mark

    def empty(self) -> None:
        """Forget all entries."""
        self._whole.empty()
        self._polled.empty()

    def find(self, raw: bytes) -> Scope:
        """A scope from its bytes. Raises what `make` raises."""
        start = raw.find(self._mark)
        if start >= 0:
            start += self._length
            stop = start + _DIGITS
            epoch = raw[start:stop]
            if epoch.isdigit() and len(epoch) == _DIGITS:
                found = self._polled[b"".join((raw[:start], _NO_EPOCH, raw[stop:]))](epoch)
                if found is not None:
                    return found
        return self._whole[raw]

    def _make_polled(self, key: bytes) -> tuple[_At, int]:
        """Learn where the digits come out: by making the scope with an epoch that it has nowhere else."""
        start = key.find(self._mark) + self._length
        number = 10 ** (_DIGITS - 1)
        while str(number).encode() in key:
            number += 1
        probe = str(number)
        scope, size = self._make(key[:start] + probe.encode() + key[start + _DIGITS :])
        before, _, behind = scope.piece.partition(probe.encode())
        if scope.epoch != probe or probe.encode() in behind:
            return _general, 0
        return _Polled(before, behind, scope.noted, b"".join((before, _NO_EPOCH, behind))).at, 2 * size


class _Once(_Polled, frozen=True):
    """A scope that rules shaped and that says its epoch once, as nearly all do: with as little to fetch."""

    rules: int

    def at(self, epoch: bytes) -> Scope:
        """The scope with this epoch."""
        return Scope(b"".join((self.before, epoch, self.behind)), epoch, self.noted, self.frame, self.rules)


class _Shaped(Struct, frozen=True):
    """A scope that rules shaped, cut where its epoch stands: rules may leave it out, or say it twice."""

    piece: tuple[bytes, ...]
    sent: tuple[bytes, ...]
    noted: dict[str, int]
    frame: bytes
    rules: int

    def at(self, epoch: bytes) -> Scope:
        """The scope with this epoch."""
        sent = epoch.join(self.sent) if self.sent else b""
        return Scope(epoch.join(self.piece), epoch, self.noted, self.frame, self.rules, sent)


class ShapedScopes(Scopes):
    """As Scopes, where the engine has rules."""

    def _make_polled(self, key: bytes) -> tuple[_At, int]:
        """Make the scope with two epochs that it has nowhere else: all but them must be the same, which they are not
        where an epoch's digits decide about a rule."""
        start = key.find(self._mark) + self._length
        found: list[_Shaped] = []
        number, size = 10 ** (_DIGITS - 1), 0
        while len(found) < 2:  # noqa: PLR2004 - as the docstring says
            number += 1
            probe = str(number).encode()
            if probe in key:
                continue
            scope, size = self._make(key[:start] + probe + key[start + _DIGITS :])
            if scope.epoch != probe.decode():
                return _general, 0
            piece = tuple(scope.piece.split(probe))
            sent = tuple(scope.sent.split(probe)) if scope.sent else ()
            frame = _NO_EPOCH.join(piece) if len(piece) == 2 else b""  # noqa: PLR2004 - it is there once
            found.append(_Shaped(piece, sent, scope.noted, frame, scope.rules))
        one = found[0]
        if one != found[1]:
            return _general, 0
        if one.frame and not one.sent:
            before, behind = one.piece
            return _Once(before, behind, one.noted, one.frame, one.rules).at, 2 * size
        return one.at, 2 * size
