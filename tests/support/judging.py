"""Compare the engine with the oracle: one record, every field of every row, every count."""

import json
import re
import struct
from typing import Any

import msgspec

from lmstream import Engine, Record, RowEvent, Settings
from lmstream.errors import DecodeError
from support import oracle
from support.oracle_shapes import Refused, Verdict
from support.oracle_signs import GENERAL, NAMED

PLAIN = re.compile(r"[\w.$\[\] ]{1,90}")
"""Paths that are written without quotes or cuts."""
ACME = Settings(org_id="acme")
SKIPPED = {"flags.no_value", "value.nan", "value.infinite"}
"""Reasons of data points that make no row on purpose; the others reject."""


def record(payload: bytes | None, **changes: Any) -> Record:
    return Record(
        **{"topic": "lm.metrics.otlp", "partition": 0, "offset": 7, "timestamp": 1_715_263_558_360} | changes,
        value=payload,
    )


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key twice in {keys}"
    return dict(pairs)


def no_constant(name: str) -> None:
    raise AssertionError(f"a line holds a bare {name}")


def lines_of(data: bytes) -> list[dict[str, Any]]:
    """Parse lines strictly: no key twice, no bare NaN, each closed by a line feed, each a RowEvent."""
    assert data == b"" or data.endswith(b"\n")
    parsed = []
    for line in data.split(b"\n")[:-1]:
        parsed.append(json.loads(line, object_pairs_hook=no_duplicates, parse_constant=no_constant))
        msgspec.json.decode(line, type=RowEvent, strict=True)
    return parsed


def exact(value: Any) -> Any:
    """A form in which 7, 7.0, True and -0.0 all differ, and the order of keys does not matter."""
    if isinstance(value, dict):
        return {key: exact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [exact(inner) for inner in value]
    if isinstance(value, float):
        return ("float", struct.pack(">d", value))
    return (type(value).__name__, value)


def judged(rec: Record, settings: Settings = ACME) -> Verdict | str:
    """The oracle's verdict, or its reason for refusing the record."""
    try:
        return oracle.rows(rec, settings)
    except Refused as refused:
        return refused.reason


def engine_reason(engine: Engine, rec: Record) -> str | None:
    """Why the engine refuses the record; None when it does not."""
    try:
        engine.fan_out(rec)
    except DecodeError as e:
        return e.reason
    return None


def same_refusal(engine: str, judge: object) -> bool:
    """Whether both refuse for one reason. What bytes are instead may be said by the engine where the oracle sees nothing:
    the poison corpus says where it must be."""
    bare = engine == "decode.top_level" and judge == "decode.not_understood"  # a Metric without its bundle: named so
    return engine == judge or bare or (judge in GENERAL and engine in NAMED)


def summed(counts: dict[str, int]) -> int:
    return sum(counts.values())


def check_sums(out: Any, rec: Record) -> None:
    """Every data point became a row or has its reason."""
    if rec.value is not None and rec.only is None and not rec.below:
        assert out.points == out.rows + summed(out.skipped) + summed(out.dropped) + len(out.rejected)


def check_names(out: Any, verdict: Verdict) -> None:
    """The unknown members that are named: all of them, in any order, or ten of more."""
    assert len(out.unknown) == len(verdict.unknown)
    if verdict.noted.get("member.unknown", 0) <= len(verdict.unknown) and all(map(PLAIN.fullmatch, verdict.unknown)):
        assert sorted(map(camel, out.unknown)) == sorted(map(camel, verdict.unknown))


def camel(path: str) -> str:
    """The path with names as OTLP/JSON writes them: where both spellings are read, a member that belongs elsewhere is
    named in either."""
    return re.sub("_([a-z])", lambda found: found[1].upper(), path)


def agree(rec: Record, settings: Settings = ACME, engine: Engine | None = None) -> bytes | str:
    """Both must say the same of a record; gives the engine's lines, or the reason for refusing it."""
    engine = engine or Engine(settings)
    verdict = judged(rec, settings)
    try:
        out = engine.fan_out(rec)
    except DecodeError as e:
        refused = e
    else:
        refused = None
    if refused:
        assert isinstance(verdict, str), f"engine refuses with {refused}, oracle: {verdict}"
        assert same_refusal(refused.reason, verdict), f"engine refuses with {refused}, oracle: {verdict}"
        return refused.reason
    assert not isinstance(verdict, str), f"oracle refuses with {verdict}, engine gives {out.rows} rows"
    data = out.ndjson()
    got = lines_of(data)
    for n, (mine, theirs) in enumerate(zip(verdict.rows, got, strict=False)):
        assert exact(theirs) == exact(mine), f"row {n}\nengine: {theirs}\noracle: {mine}"
    assert len(got) == len(verdict.rows) == out.rows
    assert list(out.rejected) == verdict.rejected
    assert out.skipped == verdict.skipped
    assert out.noted == verdict.noted
    assert [(part.path, part.reason) for part in out.parts] == verdict.parts
    check_names(out, verdict)
    assert out.points == verdict.points
    check_sums(out, rec)
    by_path: dict[str, list[Any]] = {}
    for path, row in zip(verdict.paths, verdict.rows, strict=True):
        by_path.setdefault(path, []).append(exact(row))
    assert [(g.path, g.rows) for g in out.groups] == [(path, len(rows)) for path, rows in by_path.items()]
    for group in out.groups:
        assert [exact(row) for row in lines_of(group.data)] == by_path[group.path]
    return data
