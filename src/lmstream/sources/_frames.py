"""Cut a file of protobuf into bundles: frames with their length in front, or one bundle that is the whole file."""

from collections.abc import Iterator
from typing import Final, Protocol

_VARINT: Final = 5  # bytes of a length below 2**35: more is no length
_FIXED: Final = 4  # bytes of the File Exporter's length


class Cutter(Protocol):
    """Takes the bytes of a file as they come, gives its bundles.

    None is longer than its bound: a longer one is cut there, which the engine refuses for its size, and the rest of it
    is skipped.
    """

    damage: str
    """What is wrong with the framing; empty when nothing is."""

    def feed(self, piece: bytes, /) -> Iterator[bytes]: ...

    def finish(self) -> Iterator[bytes]: ...


class Frames:
    """One bundle a frame: its length as a varint, then its bytes, as protobuf writes delimited messages."""

    def __init__(self, bound: int) -> None:
        self.damage = ""
        self._bound = bound
        self._buffer = bytearray()
        self._skip = 0  # bytes of an over-long frame still to skip

    def feed(self, piece: bytes, /) -> Iterator[bytes]:
        if self.damage:  # framing cannot be found again: what is kept of the rest was kept
            self._buffer += piece[: max(0, self._bound - len(self._buffer))]
            return
        if self._skip:
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped:]
        self._buffer += piece
        at = 0
        while (frame := self._header(at)) is not None:
            start, length = frame
            have = len(self._buffer) - start
            if have < min(length, self._bound):
                break
            yield bytes(self._buffer[start : start + min(length, self._bound)])
            at = min(start + length, len(self._buffer))
            self._skip = start + length - at
        del self._buffer[:at]

    def finish(self) -> Iterator[bytes]:
        if self._skip:
            self.damage = f"ends {self._skip:,} bytes before its last frame does"
        elif self._buffer:
            self.damage = self.damage or "ends inside a frame"
            # With the length in front of it, so that half a bundle is not taken for a whole one.
            yield bytes(self._buffer[: self._bound])

    def _header(self, at: int) -> tuple[int, int] | None:
        """(where the frame begins, its length), or None when there is no whole header."""
        found = varint(self._buffer[at : at + _VARINT])
        if found is not None:
            return at + found[0], found[1]
        if len(self._buffer) - at >= _VARINT:
            self.damage = "bytes that are no length where a frame should begin"
        return None


class FixedFrames(Frames):
    """One bundle a frame: its length as four bytes, big-endian, then its bytes. So the OpenTelemetry Collector's File
    Exporter writes `format: proto`, and what it compresses message by message (its README, "File Format")."""

    def _header(self, at: int) -> tuple[int, int] | None:
        if len(self._buffer) - at < _FIXED:
            return None
        return at + _FIXED, int.from_bytes(self._buffer[at : at + _FIXED], "big")


class Whole:
    """One bundle, the whole file, an empty one too."""

    def __init__(self, bound: int) -> None:
        self.damage = ""
        self._bound = bound
        self._data = bytearray()

    def feed(self, piece: bytes, /) -> Iterator[bytes]:
        self._data += piece[: self._bound - len(self._data)]
        return iter(())

    def finish(self) -> Iterator[bytes]:
        yield bytes(self._data)


def varint(data: bytes | bytearray) -> tuple[int, int] | None:
    """(bytes of the length, the length) at the beginning of the data; None when there is no whole one."""
    length = 0
    for index, byte in enumerate(data[:_VARINT]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return index + 1, length
    return None
