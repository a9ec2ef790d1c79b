"""Pass the bytes of a file through, inflated when they are gzip or zstd: all members, within bounded memory."""

import zlib
from collections.abc import Generator, Iterator
from typing import Any, Final

from lmstream.codecs.inflating import COMPRESSED, GZIP, PADDING, SLICE, zstandard, zstd_frame
from lmstream.settings import KIB, MIB

_STEP: Final = 64 * KIB  # inflated bytes of gzip held at a time
_MAGIC: Final = 4  # bytes that tell gzip and zstd from anything else
WINDOW: Final = 128 * MIB
"""Largest window of a zstd file: what the zstd command reads without a flag of its own (its manual, --memory). An
operator chose the file, where a value comes from anybody."""


class Inflating:
    """Looks at the first bytes, then inflates or does not. Never holds more than one step of output."""

    def __init__(self) -> None:
        self.damage = ""
        """What is wrong with the compressed data; empty when nothing is. No bytes come after damage."""
        self._pending = b""
        self._plain = False
        self._kind = ""
        self._member: Any = None

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        """Yield the bytes of the file that are in this chunk. Raises ConfigError config.extra for zstd without its
        library."""
        while chunk and not self.damage:
            if self._plain:
                yield chunk
                return
            if self._member is None:
                chunk, self._pending = self._pending + chunk, b""
                if self._kind:
                    chunk = chunk.lstrip(PADDING)
                if len(chunk) < _MAGIC:
                    self._pending = chunk
                    return
                if not self._begin(chunk):
                    continue
            chunk = yield from self._gzip(chunk) if self._kind == "gzip" else self._zstd(chunk)

    def finish(self) -> Iterator[bytes]:
        """Yield what was too short to be anything."""
        if self._member is not None and not self.damage:
            self.damage = f"ends inside its {self._kind} data"
        elif self._pending and self._kind and not self.damage:
            self.damage = f"bytes that are no {self._kind} follow its {self._kind} data"
        if self._pending and not self._kind:
            if self._pending.startswith(GZIP):
                self.damage = "ends inside its gzip data"
            else:
                yield self._pending

    def _begin(self, head: bytes) -> bool:
        """Whether a member begins here."""
        if not head.startswith(COMPRESSED):
            if self._kind:
                self.damage = f"bytes that are no {self._kind} follow its {self._kind} data"
            self._plain = not self._kind
            return False
        self._kind = "gzip" if head.startswith(GZIP) else "zstd"
        self._member = zlib.decompressobj(wbits=31) if self._kind == "gzip" else zstd_frame(WINDOW)
        return True

    def _gzip(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Yield the output of `data` and return what follows the member."""
        member, step = self._member, _STEP
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
        unused: bytes = member.unused_data
        return unused

    def _zstd(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Yield the output of `data` and return what follows the frame."""
        frame, at = self._member, 0
        while not frame.eof and at < len(data):
            try:
                out = frame.decompress(data[at : at + SLICE])
            except zstandard().ZstdError as error:
                self.damage = f"damaged zstd data: {error}"
                return b""
            at += SLICE
            if out:
                yield out
        if not frame.eof:
            return b""
        self._member = None
        return data[min(at, len(data)) - len(frame.unused_data) :]
