"""One number that tells whether two sets of rows are the same, whatever the order of records and the format.

The digest of a set is the sum, modulo 2**128, of the digests of its runs. A run is the rows of one record in the set,
in the order of their ordinals; its digest is XXH3 with 128 bits over their lines, newlines included. One call hashes a
run, so that a row of a usual bundle costs a tenth of its compression. Rows that were read back are grouped by the
bundle in their ids and sorted by ordinal: `of_lines`; those of Parquet are written as lines first: row_pieces.line_of.

It finds accidents and faults of programs. It is no signature: somebody who wants to can make two sets of one digest.
Frozen, as row ids are: tests/corpus/digest holds vectors. Why so: docs/decisions/0025-digest-of-rows.md.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct, field

from lmstream.errors import ConfigError

MODULUS: Final = 2**128


def of_run(lines: bytes) -> int:
    """The digest of a run: lines of one record, in the order of ordinals. Raises ConfigError without the extra
    [lake]."""
    return hasher()(lines)


@cache
def hasher() -> Callable[[bytes], int]:
    """What `of_run` does, for who asks for many of them. Raises ConfigError without the extra [lake]."""
    try:
        import xxhash  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError.missing("a digest of rows", "lake") from error
    digest: Callable[[bytes], int] = xxhash.xxh3_128_intdigest
    return digest


def of_lines(lines: Iterable[bytes]) -> int:
    """The digest of rows in any order, each a line with its newline or without. Raises msgspec.DecodeError for one that
    has no row id."""
    runs: dict[str, list[tuple[int, bytes]]] = {}
    for line in lines:
        bundle, ordinal = _place(line)
        runs.setdefault(bundle, []).append((ordinal, line if line.endswith(b"\n") else line + b"\n"))
    digest, total = hasher(), 0
    for run in runs.values():
        run.sort()
        total += digest(b"".join([line for _, line in run]))
    return total % MODULUS


def text(digest: int) -> str:
    """32 hex digits."""
    return f"{digest % MODULUS:032x}"


class _Id(Struct):
    row_id: str = field(name="rowId")


_ID: Final = msgspec.json.Decoder(_Id)


def _place(line: bytes) -> tuple[str, int]:
    bundle, _, ordinal = _ID.decode(line).row_id.partition(":")
    try:
        return bundle, int(ordinal)
    except ValueError:
        raise msgspec.ValidationError(f"rowId {bundle}:{ordinal} has no ordinal") from None
