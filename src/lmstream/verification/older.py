"""What row contract 1.0 did otherwise than 1.1: rows that it wrote in another form, and points that it skipped."""

import re
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Struct, structs

from lmstream.engine import Engine, FanOut
from lmstream.model import Record

_NO_TIME: Final = re.compile(rb',"tsUnixMs":0(?=[,}])|"tsUnixMs":0,')
"""As contract 1.0 wrote the time of an exemplar without one; the row's own time is never 0."""
_SKIPPED: Final = {"part.nan", "part.infinite", "time.record"}
"""Why 1.0 skipped a point. For every other part it rejected the point, and wrote a letter; for `part.bound` it rejected
some points and skipped others, which cannot be told apart."""


class _Exemplar(Struct, rename="camel"):
    ts_unix_ms: int | None = None


class _Exemplars(Struct):
    exemplars: tuple[_Exemplar, ...] = ()


_DECODER: Final = msgspec.json.Decoder(_Exemplars)


def upgraded(line: bytes) -> bytes:
    """A row of contract 1.0 as 1.1 writes it; a row that both write alike is answered as it is."""
    return _NO_TIME.sub(b"", line)


def newer(line: bytes) -> bool:
    """Whether a row, as 1.1 writes it, is one that 1.0 wrote otherwise."""
    return b'"exemplars"' in line and any(each.ts_unix_ms is None for each in _DECODER.decode(line).exemplars)


@lru_cache(maxsize=8)
def _other(engine: Engine) -> Engine:
    """The same engine, that reads exemplars if this one does not, and the other way round."""
    return Engine(structs.replace(engine.settings, exemplars=not engine.settings.exemplars))


def skipped(engine: Engine, record: Record, out: FanOut) -> tuple[int, ...]:
    """Ordinals of the points of a record that 1.0 skipped, without a letter, and that are a row or rejected today."""
    untimed = {n for n, reason in out.rejected if reason == "time.missing"}
    faults = {n for n, _ in out.rejected}
    odd = {n for n, why in out.left_out.items() if n not in faults and _SKIPPED & {*why}}
    if not untimed and not odd:
        return ()
    # 1.0 left out some exemplars and rejected points for others: only a point whose exemplars are sound was skipped.
    other = _other(engine).fan_out(record).left_out
    left = ((n, out.left_out.get(n, ()), other.get(n, ())) for n in sorted(untimed | odd))
    return tuple(n for n, why, same in left if why == same and {*why} <= _SKIPPED)
