"""Cut text into JSON documents: one a line, pretty-printed, one behind the other, in an array, or after RFC 7464."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

_BLANK: Final = b" \t\r\n\x0b\x0c"
_BETWEEN: Final = re.compile(rb"(?:[ \t\r\n\x0b\x0c,\x1e]|\xef\xbb\xbf)*+")
"""What may stand between documents: white space, an array's commas, RFC 7464's record separator, and the byte order
mark of a file that was appended."""
_MARK: Final = (b"\xef", b"\xef\xbb")
_OBJECT: Final = re.compile(rb'\{[ \t\r\n]*+(?:["}]|\Z)')
_ARRAY: Final = re.compile(rb"\[[ \t\r\n]*+([{\[]|\Z)")
_STRUCTURE: Final = re.compile(
    rb'(?:[^"{}\[\]\n\x1e]++|"(?:[^"\\\n\x1e]++|\\.)*+"|\n(?=[ \t\r\n]))*+([{\[]++|[}\]]++|"|\n|\x1e|\Z)', re.DOTALL
)
"""Up to the next brackets outside strings, the next line that is not indented, a record separator, or a string without
an end."""
_STRING_ENDS: Final = re.compile(rb"[\n\x1e]")
_BEGIN: Final = re.compile(rb'\{\s*+"(?:resource_?(?:[Mm]etrics|[Ss]pans|[Ll]ogs|[Pp]rofiles)|topic)"')
"""How a bundle or dead letter begins, and nothing inside one does."""
_GOES_ON: Final = re.compile(
    rb'["{}\[\],: \t\r\n]|-?\d[\d.eE+-]*+[ \t\r]*+,?[ \t\r]*+(?:\n|\Z)|(?:true|false|null)[ \t\r]*+,?[ \t\r]*+(?:\n|\Z)'
)
"""How a line may begin that belongs to the document of the line before."""
_AHEAD: Final = 64  # bytes of a line that say whether a document begins there


class Documents:
    """One bundle a JSON object. A line that is no JSON is one of its own, which the engine refuses.

    A document that never ends (cut on its way) ends where the next one begins. `{` at the first column followed by a
    bundle's or dead letter's first key is such a beginning.
    """

    def __init__(self, bound: int) -> None:
        self.damage = ""
        self._bound = bound
        self._data = b""
        self._pieces: list[bytes] = []  # of a line whose end has not come: joined once, not piece by piece
        self._size = 0  # of the pieces
        self._line_open = False
        self._at = 0  # of the data up to there everything was given
        self._position = 0  # inside a document: how far it was scanned
        self._depth = -1  # brackets open at that position; -1 between documents
        self._arrays = 0  # brackets open around documents
        self._cut = False  # the document is over its bound: the rest of it is skipped
        self._more = False  # documents follow each other on one line
        self._skipping = False  # the line is over its bound: the rest of it is skipped
        self._whole = msgspec.json.Decoder(msgspec.Raw).decode

    def feed(self, piece: bytes, /) -> Iterator[bytes]:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._line_open and b"\n" not in piece and len(self._data) + self._size <= self._bound:
            return iter(())
        return self._documents(last=False)

    def finish(self) -> Iterator[bytes]:
        return self._documents(last=True)

    def _documents(self, *, last: bool) -> Iterator[bytes]:
        self._data = b"".join((self._data, *self._pieces))
        self._pieces, self._size = [], 0
        self._line_open = False
        going = True
        while going:
            value, going = self._inside(last=last) if self._depth >= 0 else self._between(last=last)
            if value:
                yield value
        self._data = self._data[self._at :]
        self._position -= self._at
        self._at = 0

    def _between(self, *, last: bool) -> tuple[bytes, bool]:
        """(a document, if there was a whole one, whether to continue). False waits for more of the file."""
        data = self._data
        if self._skipping:
            end = data.find(b"\n", self._at)
            self._skipping, self._at = end < 0, len(data) if end < 0 else end
            return b"", end >= 0
        self._at = at = self._separated(data)
        if at == len(data) or (not last and data[at : at + 3] in _MARK):
            return b"", False
        if (array := _ARRAY.match(data, at)) and (array[1] or not last):
            self._arrays, self._at = (self._arrays + 1, at + 1) if array[1] else (self._arrays, at)
            return b"", bool(array[1])
        end = data.find(b"\n", at)
        found = _OBJECT.match(data, at)
        if found and (self._more or self._arrays):  # the line says nothing about the document
            return self._scan(at)
        if end < 0 and not last and len(data) - at <= self._bound:
            self._line_open = True
            return b"", False
        return self._object(at, end, last=last) if found else self._line(at, end)

    def _object(self, at: int, end: int, *, last: bool) -> tuple[bytes, bool]:
        """A document that begins a line, which ends at `end`; -1 when that is not known."""
        stop = end if end >= 0 else len(self._data)
        if stop - at <= self._bound and (end >= 0 or last):
            line = self._data[at:stop].rstrip(_BLANK)
            if self._is_whole(line):
                self._at = stop
                return line, True
        pretty = self._pretty(at, end, last=last) if end >= 0 else None
        return pretty or self._scan(at)

    def _scan(self, at: int) -> tuple[bytes, bool]:
        self._position, self._depth, self._cut = at, 0, False
        return b"", True

    def _separated(self, data: bytes) -> int:
        """Where the next document begins."""
        while True:
            found = _BETWEEN.match(data, self._at)
            at = found.end() if found else self._at
            if b"\n" in data[self._at : at]:
                self._more = False
            if not (self._arrays and data[at : at + 1] == b"]"):
                return at
            self._arrays -= 1
            self._at = at + 1

    def _line(self, at: int, end: int) -> tuple[bytes, bool]:
        """A line that is no JSON."""
        stop = end if end >= 0 else len(self._data)
        self._skipping = end < 0
        self._at = stop
        return self._data[at:stop].rstrip(_BLANK)[: self._bound], True

    def _is_whole(self, text: bytes) -> bool:
        try:
            self._whole(text)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True

    def _pretty(self, at: int, end: int, *, last: bool) -> tuple[bytes, bool] | None:
        """The usual pretty-printed document, quickly: indented, and closed at the first column. None when it is not."""
        data = self._data
        if end + 1 == len(data) and not last:
            return b"", False
        if data[end + 1 : end + 2] not in (b" ", b"\t"):
            return None
        close = data.find(b"\n}", end)
        if close < 0:
            return None if last or len(data) - at > self._bound else (b"", False)
        text = data[at : close + 2]
        if len(text) > self._bound or not self._is_whole(text):
            return None
        self._at = close + 2
        return text, True

    def _inside(self, *, last: bool) -> tuple[bytes, bool]:
        """(the document, if it ended, whether to continue). Scans brackets; strings are skipped."""
        data = self._data
        while found := _STRUCTURE.match(data, self._position):
            token, stop = found[1], found.end()
            if not token:
                self._position = stop
                break
            if token == b"\x1e":
                return self._ended(stop - 1)
            if token in b'"\n':
                end = self._line_ends(stop - 1, last=last)
                if end is not None:
                    return self._ended(end)
                if self._position < stop:
                    return self._waiting()
                continue
            self._position = stop
            if token[0] in b"{[":
                self._depth += len(token)
            elif len(token) < self._depth:
                self._depth -= len(token)
            else:
                return self._ended(stop - len(token) + self._depth)
        return self._ended(len(data)) if last else self._waiting()

    def _line_ends(self, at: int, *, last: bool) -> int | None:
        """Look closer at a string without an end, or a line that is followed by one that is not indented. Where the
        document ends, if it ends there; else the position is moved on, unless more of the file is needed."""
        data = self._data
        ends = _STRING_ENDS.search(data, at)
        end = ends.start() if ends else -1
        self._position = at
        if (end < 0 or len(data) - end < _AHEAD) and not last:
            return None
        end = end if end >= 0 else len(data)
        one_line = data.find(b"\n", self._at, end) < 0
        if data[at : at + 1] == b'"':  # cut by its line: so is a document of one line
            self._position = max(end, at + 1)
            return end if one_line else None
        begins = data[at + 1 : at + 2] == b"\x1e" or _BEGIN.match(data, at + 1)
        self._position = at + 1
        return at if begins or (one_line and not self._cut and not _GOES_ON.match(data, at + 1)) else None

    def _ended(self, stop: int) -> tuple[bytes, bool]:
        value = b"" if self._cut else self._data[self._at : stop][: self._bound].rstrip(_BLANK)
        self._at, self._depth, self._more = stop, -1, True
        return value, True

    def _waiting(self) -> tuple[bytes, bool]:
        """Wait for more of the document; of one over its bound only the beginning is given, at once."""
        value = b""
        size = len(self._data)
        if size - self._at > self._bound and not self._cut:
            value = self._data[self._at : self._at + self._bound]
            self._cut = True
        if self._cut:
            if size - self._position > self._bound:  # in a string without an end
                self._position = size
            self._at = self._position
        return value, False
