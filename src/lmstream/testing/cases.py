"""Cases beside a configuration: a record, and what it has to become. `lmstream test` runs them, and so can pytest.

A case NAME is three files of a folder: NAME.toml says what it is and which record it was, NAME.input.json (or .pb,
.txt, .bin) has the record's value, NAME.expected.json what it becomes, a member a line: a diff shows what changed.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from lmstream.engine import Engine
from lmstream.errors import ConfigError, DecodeError
from lmstream.model import Identity, Record
from lmstream.settings import MIB

FOLDER: Final = "cases"
_MOST: Final = 64 * MIB  # bytes of one file: what the engine takes of one record by default
_INPUT: Final = ".input"
_EXPECTED: Final = ".expected.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_ABSENT: Final = "absent"


class About(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What NAME.toml says."""

    input: str
    """File of the record's value, beside it."""
    about: str = ""
    """What happened, for whoever reads it next."""
    topic: str
    partition: int = 0
    offset: int = 0
    """Coordinates of the record: they are in the ids of its rows."""
    timestamp: int = -1
    """Kafka's, in milliseconds."""
    identity: Identity | None = None
    """What names the record in row ids where its coordinates do not, as [topic, partition, offset, stamp]."""


class Difference(Struct, frozen=True, kw_only=True):
    """One thing that is not as expected."""

    where: str
    """`row 3`, `rejected`, `skipped`: what it is about."""
    member: str = ""
    """Member of a row, as `attributes.host`; empty for all of it."""
    expected: Any
    """What the case says; `absent` for nothing."""
    got: Any
    """What the record became."""


class Case(Struct, frozen=True, kw_only=True):
    """One case."""

    folder: Path
    name: str
    about: About
    value: bytes
    expected: Mapping[str, Any] | None
    """As `outcome` answers it; None while nobody said."""

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """The case of this name. Raises ConfigError, which says what is wrong with which file."""
        path = folder / f"{name}.toml"
        try:
            about = msgspec.convert(tomllib.loads(_bytes(path).decode()), About)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as e:
            raise ConfigError("config.invalid", f"{path}: {e}", "correct the file, or record the case again") from e
        if Path(about.input).name != about.input:
            raise ConfigError("config.invalid", f"{path}: input {about.input!r} is not a file beside it", "name one")
        at = folder / f"{name}{_EXPECTED}"
        try:
            expected = json.loads(_bytes(at)) if at.exists() else None
        except (ValueError, RecursionError) as e:
            raise ConfigError("config.invalid", f"{at}: {e}", "correct the file, or run with --update") from e
        if expected is not None and not isinstance(expected, dict):
            raise ConfigError("config.invalid", f"{at}: expected an object with rows", "run with --update")
        return cls(folder=folder, name=name, about=about, value=_bytes(folder / about.input), expected=expected)

    @property
    def record(self) -> Record:
        """The record that it is about."""
        at = self.about
        return Record(
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            timestamp=at.timestamp,
            value=self.value,
            identity=at.identity,
        )

    def differences(self, engine: Engine) -> list[Difference]:
        """What is not as expected; nothing when all is. Without an expectation, all of it is not."""
        if self.expected is None:
            return [Difference(where="case", expected=_ABSENT, got="run with --update to expect what comes out today")]
        return compared(self.expected, outcome(engine, self.record))

    def update(self, engine: Engine) -> bool:
        """Expect what comes out today. Answers whether that is something else than before."""
        got = outcome(engine, self.record)
        if self.expected is not None and not compared(self.expected, got):
            return False
        (self.folder / f"{self.name}{_EXPECTED}").write_bytes(_pretty(got))
        return True


def cases(folder: Path) -> list[Case]:
    """All cases of a folder, by name. Raises ConfigError for a folder without any."""
    names = sorted(path.stem for path in folder.glob("*.toml")) if folder.is_dir() else []
    if not names:
        fix = "record one: lmstream test --record FILE, or TOPIC/PARTITION/OFFSET of a record or dead letter"
        raise ConfigError("config.invalid", f"{folder}: no cases there", fix)
    return [Case.read(folder, name) for name in names]


def outcome(engine: Engine, record: Record) -> dict[str, Any]:
    """What a record becomes, as an expectation has it: rows, and what made none and why."""
    try:
        out = engine.fan_out(record)
    except DecodeError as e:
        return {"refused": {"reason": e.reason, "detail": e.detail}}
    found: dict[str, Any] = {"rows": [json.loads(line) for line in out.ndjson().splitlines()]}
    if out.rejected:
        found["rejected"] = {str(ordinal): reason for ordinal, reason in out.rejected}
    if out.parts:
        found["parts"] = {part.path: part.reason for part in out.parts}
    if out.skipped:
        found["skipped"] = dict(sorted(out.skipped.items()))
    if out.dropped:
        found["dropped"] = dict(sorted(out.dropped.items()))
    if out.noted:
        found["noted"] = dict(sorted(out.noted.items()))
    return found


def compared(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[Difference]:
    """What differs between two outcomes, row by row and member by member."""
    found: list[Difference] = []
    for what in ("refused", "rejected", "parts", "skipped", "dropped", "noted"):
        found += _members(what, expected.get(what, {}), got.get(what, {}))
    ours, theirs = _by_number(expected.get("rows", ())), _by_number(got.get("rows", ()))
    for number in sorted(ours.keys() | theirs.keys(), key=lambda each: (len(each), each)):
        one, two = ours.get(number), theirs.get(number)
        if one is None or two is None:
            said = (_ABSENT if one is None else one), (_ABSENT if two is None else two)
            found.append(Difference(where=f"row {number}", expected=said[0], got=said[1]))
        else:
            found += _members(f"row {number}", one, two)
    unknown = sorted(expected.keys() - {"rows", "refused", "rejected", "parts", "skipped", "dropped", "noted"})
    return found + [Difference(where=name, expected=expected[name], got="not a part of an outcome") for name in unknown]


def write(folder: Path, name: str, record: Record, about: str, engine: Engine) -> Case:
    """Make a case of a record: it expects what comes out today. Raises ConfigError when there is one of this name."""
    if not _NAME.fullmatch(name):
        raise ConfigError("config.invalid", f"{name!r} is not a name of a case", "give letters, digits, ., _ and -")
    path = folder / f"{name}.toml"
    if path.exists():
        raise ConfigError("config.invalid", f"{path} is there already", "give another --name")
    value = record.value or b""
    entry = About(
        input=f"{name}{_INPUT}{_suffix(value)}",
        about=about,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        identity=record.identity,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / entry.input).write_bytes(value)
        path.write_text(_toml(entry), encoding="utf-8")
        case = Case.read(folder, name)
        case.update(engine)
    except OSError as e:
        raise ConfigError("config.invalid", f"{folder}: {e.strerror or e}", "give a folder that can be written") from e
    return Case.read(folder, name)


def _by_number(rows: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
    """Rows by the number in their id; the n-th without one by its place."""
    found: dict[str, Mapping[str, Any]] = {}
    for at, row in enumerate(rows):
        name = str(row.get("rowId", "")).rpartition(":")[2] if isinstance(row, dict) else ""
        found[name if name and name not in found else f"#{at}"] = row
    return found


def _members(where: str, one: Any, two: Any, path: str = "") -> list[Difference]:
    if isinstance(one, dict) and isinstance(two, dict):
        found: list[Difference] = []
        for key in [*one, *(key for key in two if key not in one)]:
            inner = f"{path}.{key}" if path else key
            found += _members(where, one.get(key, _ABSENT), two.get(key, _ABSENT), inner)
        return found
    return (
        [] if one == two and type(one) is type(two) else [Difference(where=where, member=path, expected=one, got=two)]
    )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as e:
        raise ConfigError("config.invalid", f"{path}: {e.strerror or e}", "restore the file, or record it again") from e
    if len(data) > _MOST:
        raise ConfigError("config.invalid", f"{path}: more than {_MOST // MIB} MiB", "make the case smaller")
    return data


def _suffix(value: bytes) -> str:
    if value.lstrip()[:1] in (b"{", b"["):
        return ".json"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return ".pb" if value[:1] == b"\n" else ".bin"
    return ".txt" if text.isprintable() or "\0" not in text else ".bin"


def _pretty(outcome: Mapping[str, Any]) -> bytes:
    return json.dumps(outcome, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _toml(about: About) -> str:
    """Strings of JSON are strings of TOML, but for what JSON leaves unescaped."""
    lines = []
    for key, value in msgspec.to_builtins(about).items():
        if value is not None and value != "":
            text = json.dumps(value, ensure_ascii=True)
            lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n"
