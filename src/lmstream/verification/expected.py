"""Say what must land of a record: by the engine, or by the log of `publish --verifiable`."""

import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from lmstream.engine import Engine, bundle_id
from lmstream.errors import ConfigError, DecodeError
from lmstream.interfaces import PARTS
from lmstream.model import Record
from lmstream.storage.line_files import lines_of
from lmstream.verification.landed import digest, path_digest, row_id
from lmstream.verification.older import skipped

log: Final = logging.getLogger("lmstream.verification")
_POINTS: Final = 10_000_000
"""Data points of one record; the engine takes 100,000 unless engine.limits says so, and each takes two bytes in the
checker."""

DIGEST: Final = struct.Struct(">QI")
"""What a row is compared by: digests of its line and of its path."""


class Expected(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one record must become: one line of the log that `publish --verifiable` writes."""

    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    timestamp: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    bundle_id: str
    points: Annotated[int, Meta(ge=0, le=_POINTS)]
    """Data points in the record; 0 when it is not a bundle and must be dead-lettered as a whole."""
    absent: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    """Ordinals that make no row."""
    rejected: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    """Those of them that a dead letter must name."""
    dropped: Annotated[int, Meta(ge=0)] = 0
    """How many of them rules drop."""
    parts: tuple[str, ...] = ()
    """Paths of parts in which points could not be counted: a dead letter must name each."""
    older: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    """Ordinals that row contract 1.0 skipped, without a letter: see older.py."""
    poison: str = ""
    """Why the record is not a bundle."""
    tombstone: bool = False
    """Whether the record has no value."""
    digests: bytes = b""
    """DIGEST bytes for each row in the order of ordinals: of its line, and of its path. Empty: rows are judged by their
    ids alone."""

    def __post_init__(self) -> None:
        """Raises ValueError for ordinals that no point of the record has."""
        last = max((*self.absent, *self.rejected, *self.older), default=-1)
        if last >= max(self.points, 1):
            raise ValueError(f"ordinal {last} of {self.points} points")
        if len({*self.absent}) != len(self.absent) or not {*self.rejected} <= {*self.absent}:
            raise ValueError("an ordinal is absent twice, or rejected and not absent")
        if self.dropped > len(self.absent) - len(self.rejected):
            raise ValueError(f"{self.dropped} points dropped of {len(self.absent)} that are absent")
        rows = self.points - len(self.absent)
        if self.digests and len(self.digests) != DIGEST.size * rows:
            raise ValueError(f"{len(self.digests)} bytes of digests of {rows} rows")


def expectation(
    engine: Engine, record: Record, source_id: str, lands: Callable[[str], object] = lambda _: None
) -> Expected:
    """Answer what `record` must become, by the engine itself; `lands` gets each path below which it has rows."""
    whole = Expected(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        bundle_id=bundle_id(source_id, *record.identified),
        points=0,
    )
    try:
        out = engine.fan_out(record)
    except DecodeError as e:
        return msgspec.structs.replace(whole, poison=e.reason)
    if len(out.parts) > PARTS:  # as a run does: its letter is of the whole record
        return msgspec.structs.replace(whole, poison=out.parts[0].reason)
    groups = out.groups
    rows = {
        int(row_id(line)[1]): DIGEST.pack(digest(line), placed)
        for group, placed in ((group, path_digest(group.path)) for group in groups)
        for line in group.data.splitlines()
    }
    for group in groups:
        lands(group.path)
    rejected = tuple(n for n, _ in out.rejected)
    points = max(out.points, *(n + 1 for n in rejected), 0)
    absent = tuple(n for n in range(points) if n not in rows)
    parts = tuple(part.path for part in out.parts)
    digests = b"".join(rows[n] for n in sorted(rows))
    return msgspec.structs.replace(
        whole,
        points=points,
        absent=absent,
        rejected=rejected,
        dropped=sum(out.dropped.values()),
        parts=parts,
        older=skipped(engine, record, out),
        digests=digests,
        tombstone=record.value is None,
    )


def log_entries(path: Path, say: Callable[[str], None] = log.warning) -> Iterator[Expected]:
    """Entries of a log of `publish --verifiable`. A last line that was cut by a crash is left out, and said
    to `say`. Raises ConfigError for what is no such log, SourceError for what cannot be read."""
    decoder = msgspec.json.Decoder(Expected)
    broken: str | None = None
    for number, line in enumerate(lines_of(path), 1):
        if broken is not None:
            raise ConfigError("source.file", broken)
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            broken = f"{path} line {number} is no entry of `publish --verifiable`: {e}"
    if broken is not None and number == 1:
        raise ConfigError("source.file", broken)
    if broken is not None:
        say(f"{path}: the last line is cut and was left out")
