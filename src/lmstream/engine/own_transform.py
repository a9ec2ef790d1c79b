"""Somebody else's transform, held to what transforms promise: what it raises and answers is checked, and blamed on it.

It gets all rows of a record, also where a dead letter wants some of them alone: what becomes of a row may depend on the
others, and must be the same in every replay.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from itertools import islice
from math import isfinite, isnan
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, structs

from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.dimensions import OWN, Dimensions
from lmstream.engine.fan_out import FanOut
from lmstream.engine.keyed_rows import keyed
from lmstream.engine.lines import PIECES, Pieced
from lmstream.engine.own_reasons import OwnReasons
from lmstream.engine.rewritten import Rewritten
from lmstream.engine.row_pieces import NUMBERS, Pieces, line_from, pieces_of
from lmstream.errors import ConfigError, DecodeError, PluginError
from lmstream.interfaces import MAY_CHANGE, Transform
from lmstream.model import Exemplar, Record, RowEvent
from lmstream.settings import Settings

PathOf = Callable[[str, str, bytes], str]
"""The path of an organization, a metricKey and an hour."""


class _Made(RowEvent, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A row of the engine's own, whose patterns are not looked at again: that took a quarter of all that this takes."""

    row_id: str
    org_id: str
    org_key: str
    metric_key: str
    ts: str
    ts_unix_ms: int

    def __post_init__(self) -> None:
        """Nothing is looked at again here either, nor in what a transform makes of it: `_identified` does."""


_ROWS: Final = msgspec.json.Decoder(_Made)
_EXEMPLARS: Final = msgspec.json.Decoder(list[Exemplar])
_REST: Final = [b""] * (PIECES - 1)
_HOUR: Final = 13  # characters of yyyy-MM-ddTHH
_INT64: Final = range(-(2**63), 2**63)
_NAMES: Final = {field.name: field.encode_name for field in structs.fields(RowEvent)}
_KEPT: Final = tuple(name for name, encoded in _NAMES.items() if encoded not in MAY_CHANGE)
_kept: Final = attrgetter(*_KEPT)


class _Free(Struct, kw_only=True, rename="camel"):
    """The types of what a transform may change, and of what equals another type."""

    device_name: str | None
    instance: str | None
    unit: str | None
    monotonic: bool | None
    attributes: dict[str, str]
    resource: dict[str, str]
    scope: dict[str, str]
    exemplars: list[Exemplar] | None


class _Number(_Free):
    value: int | float


class _Other(_Free):
    value: None


class _Answer(NamedTuple):
    """What became of the rows of a record, by row id."""

    rows: dict[str, tuple[RowEvent, Pieces, bytes]]
    """With their lines."""
    skipped: dict[str, str]
    """Reasons of those whose value is no longer finite."""
    rejected: dict[str, tuple[str, str]]
    """Reasons and words of those that cannot be rows any more."""


class OwnTransform:
    """What an engine does with the rows of each record where `engine.transform` names a module."""

    def __init__(self, settings: Settings, path_of: PathOf, dimensions: Dimensions | None = None) -> None:
        """Raises ConfigError for a module that has no transform, PluginError for what it raises when it is made."""
        self._module: str = settings.transform
        self._transform = _loaded(settings)
        self._path_of = path_of
        self._dimensions = dimensions
        # A row is measured as it is without keys, and so that the dimension row of what it repeats fits too.
        self._row_bytes = settings.limits.row_bytes - (OWN if dimensions is not None else 0)
        self._reasons = OwnReasons()

    def fan_out(self, record: Record, fan_out: Callable[[Record], FanOut]) -> FanOut:
        """What a record becomes; `fan_out` answers that without the transform. Raises DecodeError as the transform
        does, PluginError for what it may not raise or answer."""
        out = whole = fan_out(record)
        if record.rows or not out.rows:  # rows that were made before went through it then
            return out
        wanted: Collection[str] | None = None
        if record.only is not None or record.below:
            wanted = {row.row_id for row in _ROWS.decode_lines(out.ndjson())}
            whole = fan_out(structs.replace(record, only=tuple(range(out.points))))
        given = _ROWS.decode_lines(whole.ndjson())
        answer = self._apply(given)
        return self._made(out, given if wanted is None else [row for row in given if row.row_id in wanted], answer)

    def clear(self) -> None:
        """Forget everything remembered."""
        if self._dimensions is not None:
            self._dimensions.clear()

    def _apply(self, given: Sequence[RowEvent]) -> _Answer:
        """Call the transform, and check what it answers."""
        before = {row.row_id: _fixed(row) for row in given}
        try:
            # A list of our own, and bounded: a transform may empty the one that it gets, or never end.
            answered = None if (rows := self._transform.apply([*given])) is None else [*islice(rows, len(given) + 1)]
        except DecodeError as error:
            raise self._reasons.refused(error) from error.__cause__
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            raise PluginError.raised(self._module, error) from error
        if answered is None:
            raise PluginError(self._module, "answered None, where the rows that stay were expected")
        if len(answered) > len(given):
            raise PluginError(self._module, f"answered more rows than the {len(given):,} that it was given")
        answer = _Answer({}, {}, {})
        seen: set[str] = set()
        for row in answered:
            name = self._identified(row, before)
            if name in seen:
                raise PluginError(self._module, f"answered the row {name} twice")
            seen.add(name)
            self._take(name, row, answer)
        return answer

    def _identified(self, row: object, before: Mapping[str, tuple[Any, ...] | bytes]) -> str:
        """The id of a row, of which nothing is changed that must stay."""
        if not isinstance(row, RowEvent):
            raise PluginError(self._module, f"answered {type(row).__name__}, where a RowEvent was expected")
        try:
            known, now = before.get(row.row_id), _fixed(row)
        except Exception as error:  # whatever stands in the place of a text
            raise PluginError(self._module, f"answered an invalid row: {error}") from error
        if known is None:
            raise PluginError(self._module, f"answered a row with the unknown id {row.row_id!r}")
        if now != known:
            one, two = (each if isinstance(each, tuple) else msgspec.msgpack.decode(each) for each in (known, now))
            field, was, became = next(each for each in zip(_KEPT, one, two, strict=True) if each[1] != each[2])
            said = f"changed {_NAMES[field]} of the row {row.row_id} from {was!r} to {became!r}"
            raise PluginError(self._module, f"{said}; it may change {', '.join(MAY_CHANGE)}")
        return row.row_id

    def _take(self, name: str, row: RowEvent, answer: _Answer) -> None:
        """Judge one row: what it is wrong in by its data costs the row; what never can be one is the module's fault."""
        try:
            msgspec.convert(row, _Number if row.type in NUMBERS else _Other, from_attributes=True)
            if isinstance(row.value, int) and row.value not in _INT64:
                answer.rejected[name] = "value.range", f"{row.value:,} is outside int64"
                return
            if isinstance(row.value, float) and not isfinite(row.value):
                answer.skipped[name] = "value.nan" if isnan(row.value) else "value.infinite"
                return
            pieces = pieces_of(row)
            line = line_from(row, pieces)
            if row.exemplars is not None:
                _check(row.exemplars)
        except Exception as error:
            said = f"answered the row {name} with what no row can have: {error}"
            raise PluginError(self._module, said) from error
        if len(line) > self._row_bytes:
            answer.rejected[name] = "row.too_large", f"{len(line):,} bytes, over the {self._row_bytes:,} of a row"
            return
        answer.rows[name] = row, pieces, line

    def _made(self, out: FanOut, wanted: Sequence[RowEvent], answer: _Answer) -> FanOut:
        """`out` with what was answered of the rows that are wanted, in the order of ordinals."""
        events: list[tuple[RowEvent, Pieces]] = []
        lines: list[bytes] = []
        runs: list[tuple[str, int]] = []
        dropped, skipped = dict(out.dropped), dict(out.skipped)
        rejected = list(out.rejected)
        words: dict[int, str] = {}
        for before in wanted:
            name = before.row_id
            if (found := answer.rows.get(name)) is not None:
                row, pieces, line = found
                events.append((row, pieces))
                lines += [line, *_REST]
                path = self._path_of(row.org_key, row.metric_key, row.ts[:_HOUR].encode())
                if runs and runs[-1][0] == path:
                    runs.pop()
                runs.append((path, len(events)))
            elif (reason := answer.skipped.get(name)) is not None:
                skipped[reason] = skipped.get(reason, 0) + 1
            elif (refused := answer.rejected.get(name)) is not None:
                ordinal = int(name.partition(":")[2])
                rejected.append((ordinal, refused[0]))
                words[ordinal] = f"{before.metric} as {self._module} made it: {refused[1]}"
            else:
                dropped[self._module] = dropped.get(self._module, 0) + 1
        keys, needed = None, list[DimensionLine]()
        if self._dimensions is not None:
            pieces_of_keyed, keys, times = keyed(self._dimensions, events)
            needed = keys.lines(times, {})
            lines[::PIECES] = [line_from(row, pieces) for (row, _), pieces in zip(events, pieces_of_keyed, strict=True)]
        return Rewritten(
            rows=len(events),
            noted=out.noted,
            _lines=Pieced(lines),
            _paths=_given,
            _of=(runs,),
            points=out.points,
            parts=out.parts,
            unknown=out.unknown,
            skipped=skipped,
            rejected=tuple(sorted(rejected)),
            _why=lambda ordinal: words.get(ordinal) or out.why(ordinal),
            _dropped=dropped,
            _keys=keys,
            _before=out,
            _events=events,
            _needed=needed,
        )


def _loaded(settings: Settings) -> Transform:
    name = settings.transform
    try:
        make = import_module(name).Transform
    except ModuleNotFoundError as error:
        raise ConfigError("config.plugin", f"transform {name!r}: {error}") from error
    except AttributeError as error:
        raise ConfigError("config.plugin", f"transform {name!r}: the module has no Transform(settings)") from error
    try:
        made: Any = make(settings)
    except ConfigError:
        raise
    except Exception as error:
        raise PluginError.raised(name, error) from error
    if not hasattr(made, "apply"):
        raise ConfigError("config.plugin", f"transform {name!r}: its Transform has no apply")
    transform: Transform = made
    return transform


def _fixed(row: RowEvent) -> tuple[Any, ...] | bytes:
    """What must stay of a row. As bytes where it has lists, which could be changed in place."""
    found: tuple[Any, ...] = _kept(row)
    return found if row.type in NUMBERS else msgspec.msgpack.encode(found)


def _check(exemplars: Sequence[Exemplar]) -> None:
    """Raises for exemplars that rows cannot have: what is in them was not looked at so far."""
    for each in _EXEMPLARS.decode(msgspec.json.encode(exemplars)):
        for number in (each.value, each.ts_unix_ms):
            if isinstance(number, int) and number not in _INT64:
                raise OverflowError(f"an exemplar has {number:,}, which is outside int64")


def _given(runs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return runs
