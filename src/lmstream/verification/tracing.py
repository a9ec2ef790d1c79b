"""Follow one row: the point of its record, what the engine makes of it, and every copy of it that landed."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Literal

import msgspec
from msgspec import Struct

from lmstream.codecs.record_value import open_value
from lmstream.engine import Engine, FanOut
from lmstream.engine.codec_registry import CodecRegistry
from lmstream.errors import DecodeError
from lmstream.model import Record
from lmstream.storage.objects import Place
from lmstream.verification.landed import row_id
from lmstream.verification.older import upgraded

State = Literal["landed", "changed", "letter", "skipped", "not_read", "buffered", "lost", "unknown"]
"""What became of a row. `changed`: it landed, but not as the engine makes it; `buffered`: it is committed and may be on
its way; `unknown`: nobody said where rows land."""


class Made(Struct, kw_only=True):
    """What one data point of a record becomes."""

    ordinal: int
    points: int = 0
    """Data points in the record."""
    path: str = ""
    """Where the point is in the bundle: $.resourceMetrics[0]...; empty where the codec cannot say."""
    metric: str = ""
    row: bytes = b""
    """Its line; empty when it makes none."""
    below: str = ""
    """The partition path of the row."""
    why: str = ""
    """Why it makes none, in words."""
    reason: str = ""
    """The same, a key of errors.REASONS."""
    refused: bool = False
    """Whether it is owed a dead letter."""


class Copy(Struct, kw_only=True):
    """One copy of a row."""

    object: str
    line: int
    """From 1; of a Parquet file, the number of the row."""
    same: bool
    """Whether it is what the engine makes, byte for byte."""


def made_of(record: Record, ordinal: int, engine: Engine) -> Made:
    """What the point with this ordinal becomes, by this engine."""
    made = Made(ordinal=ordinal)
    if record.value is None:
        return _unmade(made, "record.tombstone", "the record has no value")
    only = msgspec.structs.replace(record, only=(ordinal,), names=engine.settings.field_names)
    try:
        out = engine.fan_out(only)
    except DecodeError as error:
        made.refused = True
        return _unmade(made, error.reason, str(error))
    made.points = out.points
    if ordinal >= out.points:
        return _unmade(made, "", f"the record has {out.points:,} data points: there is no ordinal {ordinal:,}")
    made.path, made.metric = _place(record, ordinal, engine)
    if out.rows:
        (group,) = out.groups
        made.row, made.below = group.data.rstrip(b"\n"), group.path
    elif out.rejected:
        made.refused, (_, reason) = True, out.rejected[0]
        return _unmade(made, reason, out.why(ordinal))
    else:
        return _unmade(made, next(iter(out.skipped), ""), _left_out(out, engine) or "the point makes no row on purpose")
    return made


def _left_out(out: FanOut, engine: Engine) -> str:
    """Who left a point out; empty when nobody did."""
    name = next(iter(out.dropped), "")
    if not name:
        return ""
    own = name == engine.settings.transform
    return f"engine.transform {name!r} leaves it out" if own else f"rule {name!r} of engine.rules drops it"


def _unmade(made: Made, reason: str, why: str) -> Made:
    made.reason, made.why = reason, why
    return made


def _place(record: Record, ordinal: int, engine: Engine) -> tuple[str, str]:
    """The path of a point in its bundle, and the name of its metric."""
    codec: Any = CodecRegistry(engine.settings).decode(record.value or b"")[1]
    if not hasattr(codec, "places"):
        return "", ""
    _, payload = open_value(record.value or b"", engine.settings.limits)
    place = next(islice(codec.places(payload), ordinal, None), None)
    return ("", "") if place is None else (place.path, place.metric)


def copies_of(rows: dict[str, bytes], below: Place) -> tuple[dict[str, list[Copy]], int]:
    """Every copy of these rows (id and line) at a place, and how many objects were read. Raises SourceError."""
    found: dict[str, list[Copy]] = {each: [] for each in rows}
    wanted = {each.encode(): each for each in rows}
    objects = 0
    for name, lines in below.objects():
        objects += 1
        for number, line in enumerate(lines, 1):
            if not any(each in line for each in wanted):
                continue
            key, ordinal = row_id(line)
            if (which := wanted.get(key + b":" + ordinal)) is not None:
                same = line == rows[which] or upgraded(line) == rows[which]
                found[which].append(Copy(object=name, line=number, same=same))
    return found, objects


def state_of(made: Made, copies: Iterable[Copy]) -> State | None:
    """What became of a row as far as the record and its copies say it; None when a letter, or the group, must tell."""
    some = list(copies)
    if any(each.same for each in some):
        return "landed"
    if some:
        return "changed"
    return "skipped" if not made.row and not made.refused else None
