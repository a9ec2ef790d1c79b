"""A file, or standard input, in bounded reads."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from lmstream.settings import KIB
from lmstream.sources._listing import STDIN

_CHUNK: Final = 256 * KIB
_WAIT: Final = 0.2  # seconds one poll waits for standard input, so that a run can be stopped


@contextlib.contextmanager
def opened(name: str, stdin: BinaryIO | None) -> Iterator[Iterator[bytes | None]]:
    """Open the file of that name, to be had in bounded reads. Standard input stays open."""
    if name == STDIN:
        yield _waiting(stdin or sys.stdin.buffer)
        return
    with Path(name).open("rb", buffering=0) as file:
        yield iter(lambda: file.read(_CHUNK), b"")


def _waiting(file: BinaryIO) -> Iterator[bytes | None]:
    """Read standard input; None when nothing came for a while, so that no thread hangs in a read for ever."""
    try:
        number = file.fileno()
    except (OSError, ValueError):  # no real file
        yield from iter(lambda: file.read(_CHUNK), b"")
        return
    while True:
        ready, _, _ = select.select([number], [], [], _WAIT)
        if not ready:
            yield None
            continue
        chunk = os.read(number, _CHUNK)
        if not chunk:
            return
        yield chunk
