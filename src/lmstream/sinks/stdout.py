"""Write rows to standard output, or to any other binary stream."""

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import BinaryIO, Final

from msgspec import Struct

from lmstream.abilities import Traits
from lmstream.interfaces import Limits
from lmstream.model import NOT_TRIED, Failure, Kind, Pack
from lmstream.settings import MIB
from lmstream.storage import durable_files

LIMITS: Final = Limits(
    uncut=True,
    # A pipe has no limits of its own: these let rows appear in pieces that `head` and a person can follow.
    pack_bytes=1 * MIB,
    pack_rows=100_000,
    request_packs=64,
    request_bytes=8 * MIB,
)
_GONE: Final = Failure(Kind.FATAL_CONFIG, "sink.pipe", "the reader of standard output has gone")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stdout sink has nothing to set."""


TRAITS: Final = Traits(prints=True, dimensions=True)


class Stdout:
    """Sink of one binary stream; a pack is its lines. Delivered means flushed to the operating system.

    When the reader goes away (`| head`) the verdict is fatal-config with the code `sink.pipe`: the runtime ends with
    that SinkError, at once when its `fatal_patience` is 0.
    """

    limits = LIMITS

    def __init__(self, settings: Settings | None = None, *, stream: BinaryIO | None = None) -> None:
        """`stream` is standard output unless given."""
        del settings
        self._stream = sys.stdout.buffer if stream is None else stream
        self._turn = asyncio.Lock()
        self._gone = False

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Write and flush the packs in order, in a thread: a slow reader of the pipe must not stop the loop."""
        async with self._turn:
            if self._gone:  # /dev/null stands in its place now and would take everything
                return [_GONE] * len(packs)
            return await asyncio.to_thread(self._write, packs)

    async def close(self) -> None:
        """Flush. The stream stays open: the caller owns it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def _write(self, packs: Sequence[Pack]) -> list[Failure | None]:
        verdicts: list[Failure | None] = [NOT_TRIED] * len(packs)
        try:
            for index, pack in enumerate(packs):
                self._stream.write(pack.data)
                self._stream.flush()
                verdicts[index] = None
        except OSError as error:
            if error.errno in {errno.EPIPE, errno.EBADF}:  # the reader has gone, or there never was one (`>&-`)
                self._silence()
                return [_GONE if verdict is NOT_TRIED else verdict for verdict in verdicts]
            # A full disk behind a redirection: what is left goes again.
            verdicts = [durable_files.failure(error) if verdict is NOT_TRIED else verdict for verdict in verdicts]
        return verdicts

    def _silence(self) -> None:
        # What is still buffered would raise once more when the interpreter flushes at exit.
        self._gone = True
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


make = Stdout
