"""Records that somebody points at, in a file of bundles or dead letters or on standard input."""

import asyncio
import gzip
import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec

from lmstream.cli import terminal
from lmstream.cli.refusals import NAMED
from lmstream.dead_letters.form import NotALetterError, decode
from lmstream.errors import SourceError
from lmstream.model import Record
from lmstream.settings import MIB, Settings
from lmstream.sources.files import STDIN, Files
from lmstream.sources.files import Settings as FilesSettings

_MOST: Final = 64 * MIB  # bytes looked at, inflated: what the engine takes of one record by default
_LETTER: Final = {"topic", "partition", "offset"}


def read(target: str) -> bytes:
    """Bytes of a file or of standard input, inflated; bounded."""
    try:
        if target == "-":
            data = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(target).open("rb") as file:
                data = file.read(_MOST + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError("source.file", f"{target}: {getattr(e, 'strerror', None) or e}") from e
    if len(data) > _MOST:
        raise SourceError("source.file", f"{target}: no more than {_MOST // MIB} MiB are looked at")
    return data


def first_object(data: bytes) -> dict[str, Any]:
    """The object on the first line; empty when there is none."""
    try:
        value = json.loads(data.lstrip().split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def records(target: str, data: bytes, settings: Settings, most: int) -> list[Record]:
    """The first records in the bytes of a file, as a run reads them, or dead letters."""
    if first_object(data).keys() >= _LETTER:
        return _letters(target, data, most)
    files = FilesSettings(paths=(STDIN if target == "-" else target,))
    return asyncio.run(_taken(Files(files, limits=settings.limits, stdin=io.BytesIO(data)), most))


def _letters(target: str, data: bytes, most: int) -> list[Record]:
    """Say why each letter was written; answer the records, whole, so that the siblings of bad points show too."""
    found = []
    for number, line in enumerate(filter(None, map(bytes.strip, data.splitlines())), 1):
        if number > most:
            break
        try:
            letter = decode(line)
        except NotALetterError as e:
            raise SourceError("source.file", f"{target}: line {number} is not a dead letter: {e}") from e
        why = f"{letter.code} {letter.detail} [{letter.reason}]" if letter.reason else "no reason given"
        names = [f"point {n}: {reason}" for n, reason in letter.rejected[:NAMED]]
        names += [f"{path}: {reason}" for path, reason in letter.parts[:NAMED]]
        text = "; ".join([f"dead letter of {letter.record().coordinates}: {why}", *names])
        terminal.say(terminal.clean(text, limit=1000))
        found.append(msgspec.structs.replace(letter.record(), only=None, below=()))
    return found


async def _taken(source: Files, most: int) -> list[Record]:
    taken: list[Record] = []
    end = False
    try:
        while not end and len(taken) < most:
            batch = await source.poll(_MOST)
            taken += batch.records
            end = batch.end
    finally:
        await source.close()
    return taken[:most]
