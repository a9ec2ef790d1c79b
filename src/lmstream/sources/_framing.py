"""Cut the bytes of a file into bundles: one a file, one a line, or one a length-prefixed frame; gzip as it goes."""

import re
import zlib
from collections.abc import Generator, Iterator
from typing import Final, Literal, Protocol

Framing = Literal["json", "lines", "frames"]

_STEP: Final = 64 * 1024  # inflated bytes held at a time
_GZIP: Final = b"\x1f\x8b"
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_BLANK: Final = b" \t\r\n"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SNIFF: Final = 64 * 1024  # enough to see the first two lines of a pretty-printed bundle
_VARINT: Final = 5  # bytes of a length below 2**35: more is no length


class Cutter(Protocol):
    """Takes the bytes of a file as they come, gives its bundles.

    None is longer than its bound: a longer one is cut there, which the engine refuses for its size, and the rest of it
    is passed over.
    """

    damage: str
    """What is wrong with the framing; empty when nothing is."""

    def feed(self, piece: bytes, /) -> Iterator[bytes]: ...

    def finish(self) -> Iterator[bytes]: ...


class Lines:
    """One bundle a line. Empty lines are no bundles."""

    def __init__(self, bound: int) -> None:
        self.damage = ""
        self._bound = bound
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, piece: bytes, /) -> Iterator[bytes]:
        if self._skipping:
            _, newline, piece = piece.partition(b"\n")
            self._skipping = not newline
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield from self._close(line)
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > self._bound:
                yield from self._close(b"")
                self._skipping = True

    def finish(self) -> Iterator[bytes]:
        yield from self._close(b"")

    def _close(self, last: bytes) -> Iterator[bytes]:
        line = b"".join((*self._parts, last)) if self._parts else last
        self._parts, self._size = [], 0
        line = line.removesuffix(b"\r")
        if line and not line.isspace():
            yield line[: self._bound]


class Frames:
    """One bundle a frame: its length as a varint, then its bytes, as protobuf writes delimited messages."""

    def __init__(self, bound: int) -> None:
        self.damage = ""
        self._bound = bound
        self._buffer = bytearray()
        self._skip = 0  # bytes of an over-long frame still to pass over

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
        length = 0
        for index, byte in enumerate(self._buffer[at : at + _VARINT]):
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
                return at + index + 1, length
        if len(self._buffer) - at >= _VARINT:
            self.damage = "bytes that are no length where a frame should begin"
        return None


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


class Sniffing:
    """Looks at the first bytes of a file, then cuts it accordingly."""

    def __init__(self, framing: Framing | None, bound: int) -> None:
        """`framing` as the name of the file has it; None when the name says nothing."""
        self._named = framing
        self._bound = bound
        self._head = b""
        self._cutter: Cutter | None = None

    @property
    def damage(self) -> str:
        return self._cutter.damage if self._cutter else ""

    def feed(self, piece: bytes, /) -> Iterator[bytes]:
        if self._cutter is not None:
            return self._cutter.feed(piece)
        self._head += piece
        return self._choose() if self._enough() else iter(())

    def finish(self) -> Iterator[bytes]:
        if self._cutter is None and (self._head or self._named == "json"):
            yield from self._choose()
        if self._cutter is not None:
            yield from self._cutter.finish()

    def _enough(self) -> bool:
        if self._named in ("json", "lines") or len(self._head) >= _SNIFF:
            return True
        if self._named == "frames":
            return len(self._head) > 1
        first, _, rest = self._head.lstrip(_BLANK).partition(b"\n")
        return bool(rest) or first.rstrip().endswith((b"}", b"]"))

    def _choose(self) -> Iterator[bytes]:
        framing = self._named or sniff(self._head)
        if framing == "frames" and self._head[:1] == b"\n" and self._head[1:2] != b"\n":
            # The tag of a bundle's field 1 and not a length of ten: a bare message without a length before it.
            framing = "json"
        kinds: dict[Framing, type[Lines | Frames | Whole]] = {"json": Whole, "lines": Lines, "frames": Frames}
        self._cutter = kinds[framing](self._bound)
        head, self._head = self._head, b""
        return self._cutter.feed(head)


def sniff(head: bytes) -> Framing:
    """Find the framing of a file without a telling name that begins with `head`."""
    if head.startswith(_MARKS) or b"\0" in head[:2]:
        return "json"  # text in no encoding of ours: one piece, and the engine says what it is
    text = head.lstrip(_BLANK)
    if text[:1] not in (b"{", b"[") or head[:1] == b"\n":
        # A newline is also the tag of a bundle's field 1; JSON has no control characters, protobuf nearly always.
        if _CONTROL.search(head):
            return "frames"
        if text[:1] not in (b"{", b"["):
            return "lines"
    first, _, rest = text.partition(b"\n")
    # A pretty-printed bundle goes on with an indented line; in JSON lines each line closes what it opened.
    if rest and not first.rstrip().endswith((b"}", b"]")) and not rest.startswith((b"{", b"[")):
        return "json"
    return "lines"


class Inflating:
    """Passes bytes through, inflated when they are gzip. Never holds more than one step of output."""

    def __init__(self) -> None:
        self.damage = ""
        self._pending = b""
        self._plain = False
        self._members = 0
        self._member: zlib._Decompress | None = None

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        """Yield the bytes of the file that are in this chunk; none after damage."""
        while chunk and not self.damage:
            if self._plain:
                yield chunk
                return
            if self._member is None:
                chunk = self._pending + chunk
                self._pending = b""
                if self._members:  # some writers pad what follows a member with zeros
                    chunk = chunk.lstrip(b"\0")
                if len(chunk) < len(_GZIP):
                    self._pending = chunk
                    return
                if chunk.startswith(_GZIP):
                    self._member = zlib.decompressobj(wbits=31)
                    self._members += 1
                elif self._members:
                    self.damage = "bytes that are no gzip follow its gzip data"
                    return
                else:
                    self._plain = True
                    continue
            chunk = yield from self._inflate(self._member, chunk)

    def finish(self) -> Iterator[bytes]:
        """Yield what was too short to be anything."""
        if self._member is not None and not self.damage:
            self.damage = "ends inside its gzip data"
        if self._pending and not self._members:
            yield self._pending

    def _inflate(self, member: "zlib._Decompress", data: bytes) -> Generator[bytes, None, bytes]:
        """Yield the output of `data` and return what follows the member."""
        step = _STEP
        while not member.eof:
            # zlib throws away the output of a call that fails. With a copy from before the call everything up to the
            # damage can be had in smaller steps: a wrong checksum at the end must not cost the last lines.
            before = member.copy()
            try:
                out = member.decompress(data, step)
            except zlib.error as error:
                member, step = before, step // 4
                if not step:
                    self.damage = f"damaged gzip data: {error}"
                    return b""
                continue
            data = member.unconsumed_tail
            if out:
                yield out
            elif not data:
                break
        self._member = None if member.eof else member
        return member.unused_data
