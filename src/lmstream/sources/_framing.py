"""See from the first bytes of a file how it holds its bundles, whatever its name says, and cut it so."""

import re
from collections.abc import Iterator
from typing import Final, Literal

from lmstream.codecs.inflating import COMPRESSED
from lmstream.sources._documents import Documents
from lmstream.sources._frames import Cutter, FixedFrames, Frames, Whole, varint

Framing = Literal["text", "whole", "frames", "fixed"]
Named = Literal["json", "lines", "frames"]
"""What the name of a file says: a hint, for bytes that say nothing."""

_SNIFF: Final = 64 * 1024  # bytes that are looked at: many frames, or the first line of any text
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1d\x1f]")
_MARK: Final = b"\xef\xbb\xbf"
_JSON: Final = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n\x1e]*+[{\[][ \t\r\n]*+["{}\[\]]')
_JSON_LINE: Final = re.compile(rb'^[ \t\x1e]*+[{\[][ \t\r]*+(?:["{}\[\]]|$)', re.MULTILINE)
_WIDE: Final = re.compile(
    rb"(?:\xff\xfe|\xfe\xff).?\0|\xff\xfe\0|[{\[]\0.\0|\0[{\[]\0|[{\[]\0\0\0|\0\0\0[{\[]\0", re.DOTALL
)
"""UTF-16 or UTF-32, with or without its mark."""
_BUNDLE: Final = (b"\n", *COMPRESSED)
"""How the bundle in a frame begins: the tag of its field 1, or compressed."""
_FIXED: Final = 4


class Sniffing:
    """Looks at the first bytes of a file, then cuts it accordingly."""

    def __init__(self, named: Named | None, bound: int) -> None:
        """`named` is what the name of the file says; None when it says nothing."""
        self._named = named
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
        if len(self._head) >= _SNIFF or (_JSON.match(self._head) and not self._head.startswith(b"\n")):
            return self._choose(complete=False)
        return iter(())

    def finish(self) -> Iterator[bytes]:
        if self._cutter is None and (self._head or self._named == "json"):
            yield from self._choose(complete=True)
        if self._cutter is not None:
            yield from self._cutter.finish()

    def _choose(self, *, complete: bool) -> Iterator[bytes]:
        framing = sniff(self._head, self._named, complete=complete)
        kinds: dict[Framing, type[Documents | Frames | Whole]] = {
            "text": Documents,
            "whole": Whole,
            "frames": Frames,
            "fixed": FixedFrames,
        }
        self._cutter = kinds[framing](self._bound)
        head, self._head = self._head, b""
        return self._cutter.feed(head)


def sniff(head: bytes, named: Named | None = None, *, complete: bool = True) -> Framing:
    """Find the framing of a file that begins with `head`, which is all of it if `complete`."""
    if _WIDE.match(head):
        return "whole"  # text in an encoding that is not read: one piece, and the engine says what it is
    control = _CONTROL.search(head) is not None
    if _JSON.match(head) and not (control and head.startswith(b"\n")):
        return "text"
    binary = _binary(head, complete=complete, control=control) if control or head.startswith(b"\n") else None
    if binary or (control and named == "frames"):
        return binary or "frames"
    # Of something else one letter, and not one a line, unless there is a bundle in it, or its name speaks of lines.
    return "whole" if (control or named == "json") and not _JSON_LINE.search(head) else "text"


def _binary(head: bytes, *, complete: bool, control: bool) -> Framing | None:
    fixed, frames = _fixed(head, complete=complete), _frames(head, complete=complete)
    if fixed and fixed >= frames:
        return "fixed"
    # The tag of a bundle's field 1, or a frame of ten bytes.
    if control and head[:1] == b"\n" and (head[1:2] != b"\n" or not frames or (complete and _is_bare(head))):
        return "whole"
    return "frames" if frames else None


def _is_bare(data: bytes) -> bool:
    """Whether these are fields 1, and nothing else, to the last byte."""
    at = 0
    while at < len(data) and data[at : at + 1] == b"\n" and (header := varint(data[at + 1 : at + 6])):
        at += 1 + header[0] + header[1]
    return at == len(data)


def _fixed(head: bytes, *, complete: bool) -> int:
    """How many bundles are found with lengths of four bytes in front."""
    at = found = 0
    while at + _FIXED < len(head):
        length = int.from_bytes(head[at : at + _FIXED], "big")
        at += _FIXED
        if length:
            if not head.startswith((*_BUNDLE, b'{"'), at) or (complete and at + length > len(head)):
                break
            found += 1
        at += length
    return found


def _frames(head: bytes, *, complete: bool) -> int:
    """How many bundles are found with varints as lengths in front."""
    at = found = 0
    while at < len(head):
        header = varint(head[at : at + 5])
        if header is None:
            break
        at, length = at + header[0], header[1]
        if length:
            if at < len(head) and not head.startswith(_BUNDLE, at):
                break
            if at + length > len(head) and (complete or at >= len(head)):
                break
            found += 1
        at += length
    return found
