"""See before a start which inputs hold no bundles, by their first bytes: a lock file, a table of Parquet, a log."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lmstream.codecs import FORMATS
from lmstream.dead_letters import firehose_failures, lambda_failures
from lmstream.dead_letters.form import decode_or_none
from lmstream.engine.codec_registry import CodecRegistry
from lmstream.errors import ConfigError, DecodeError
from lmstream.model import DeadLetter
from lmstream.settings import KIB, Settings
from lmstream.sources._framing import Named, Sniffing
from lmstream.sources._inflating import Inflating

LOOKED_AT: Final = 256 * KIB
"""Bytes of a file that are looked at, as it lies there."""
_FILES: Final = 1_000
"""Files of a folder that are looked at until one holds a bundle."""
_METRICS: Final = re.compile(rb"resource_?metrics", re.IGNORECASE)
"""In text: a bundle, however damaged. What is wrong with it a dead letter says."""
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f]")
COORDINATES: Final = (b'"topic"', b'"partition"', b'"offset"')
"""Keys of a dead letter."""
_LOG: Final = (
    "it holds coordinates of records without their values, as a log of `publish --verifiable` does: give that to "
    "`verify --expected`"
)


def unfit(named: str, files: Sequence[str], known: Callable[[str], Named | None], engine: Settings) -> str:
    """Why an input cannot be read as bundles: `named` is one file, or a folder that has `files`. Empty when it can.

    Of a folder one file with a bundle, a dead letter or a document of Lambda's or Firehose's is enough: the others may
    be damaged, and become dead letters.
    """
    if engine.format not in ("auto", *FORMATS):
        return ""  # somebody's own format may be anything
    codecs = CodecRegistry(engine)
    first = ""
    for name in files[:_FILES]:
        why = _unfit(name, known(name), codecs)
        if not why:
            return ""
        first = first or f"{name}: {why}"
    if [named] == list(files):
        return first
    return f"{named}: none of {len(files[:_FILES]):,} files holds a bundle; {first}" if files else ""


def says_nothing(letter: DeadLetter, line: bytes) -> bool:
    """Whether a line has the coordinates of a dead letter, and neither a value nor a reason for having none, but what
    no letter has: a line in a log of `publish --verifiable`, and no tombstone."""
    if letter.value is not None or letter.reason:
        return False
    return not msgspec.json.decode(line, type=dict[str, msgspec.Raw]).keys() <= {*DeadLetter.__struct_encode_fields__}


def _unfit(name: str, named: Named | None, codecs: CodecRegistry) -> str:
    inflating = Inflating()
    cutter = Sniffing(named, LOOKED_AT)
    try:
        with Path(name).open("rb") as file:
            head = file.read(LOOKED_AT)
            whole = not file.read(1)
        inflated = b"".join(inflating.feed(head))[: 4 * LOOKED_AT]
        values = list(cutter.feed(inflated))
        if whole:
            values += cutter.finish()
    except OSError as e:
        return str(e.strerror or e)
    except ConfigError as e:
        return e.detail
    if not head or not inflated.strip() or inflating.damage:
        return ""  # nothing in it, or damaged in a way that a dead letter tells
    # A bundle that is longer than what is looked at has not ended.
    whys = [_no_bundle(value, codecs) for value in values or [inflated]]
    return "" if "" in whys else whys[0]


def _no_bundle(value: bytes, codecs: CodecRegistry) -> str:
    """Why a value is nothing that a run reads; empty when it is, or may be, damaged as it is."""
    letter = decode_or_none(value) if all(key in value for key in COORDINATES) else None
    if letter is not None:
        return _LOG if says_nothing(letter, value) else ""
    if value.startswith(b'{"rowId":'):
        return "it holds rows that lmstream has made: these are for `query` and `verify --landed`"
    known = firehose_failures.read(value) or lambda_failures.read(value) or lambda_failures.begins(value)
    damaged = _METRICS.search(value.replace(b"\0", b"")) or (value[:1] == b"\n" and _CONTROL.search(value))
    return "" if known or damaged else _refused(value, codecs)


def _refused(value: bytes, codecs: CodecRegistry) -> str:
    try:
        codecs.decode(value)
    except ConfigError as e:
        return e.detail
    except DecodeError as e:
        return "" if e.reason.startswith("limits.") else f"not a bundle: {e.code} {e.detail}"
    except RecursionError:
        return ""
    return ""
