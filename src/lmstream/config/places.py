"""Where settings were given: the line and columns of a TOML file, a variable of the environment, or flags."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from lmstream.errors import Spot
from lmstream.storage import toml_file

PREFIX: Final = "LMSTREAM_"
"""Environment variables that are settings: LMSTREAM_ENGINE__ORG_ID is engine.org_id."""
Steps = tuple[str, ...]
"""A key path: its names from the outermost table on. An entry of a list is its number, as text."""
_TOKEN: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}'''  # a text over several lines may end with quotes of its own
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|\n|[ \t\r]+|[\[\]{}=,]|[^\s\[\]{}=,#"']+""",
    re.DOTALL,
)
_NAME: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[^.\s]+""")


class Layer(NamedTuple):
    """Settings from one place."""

    origin: str
    tables: dict[str, Any]
    text: str = ""
    """The TOML text that they were read from, for the lines of its settings."""
    variables: Mapping[Steps, str] = {}
    """The variables of the environment that they were read from."""


class Stands(NamedTuple):
    """From where to where a key and its value stand in a text, as offsets. A table has no value."""

    key: tuple[int, int]
    value: tuple[int, int] | None


def layer_of_file(what: str, path: Path | str) -> Layer:
    """Read a TOML file. Raises ConfigError, with `what` it is in the message, and the spot of what is no TOML."""
    text = toml_file.text(what, path)
    return Layer(str(path), toml_file.tables(what, path, text), text)


def layer_of(path: Sequence[str], layers: Sequence[Layer]) -> Layer | None:
    """The layer that a setting comes from; None when it is a default."""

    def within(layer: Layer) -> bool:
        table: Any = layer.tables
        for name in path:
            if isinstance(table, list):
                table = table[int(name)] if name.isdigit() and int(name) < len(table) else None
            else:
                table = table.get(name) if isinstance(table, Mapping) else None
        return table is not None

    return next((layer for layer in reversed(layers) if within(layer)), None)


def origin_of(path: Sequence[str], layers: Sequence[Layer]) -> str:
    """Where a setting was given, for messages; empty for a default."""
    if (layer := layer_of(path, layers)) is None:
        return ""
    if (variable := layer.variables.get(tuple(path))) is not None:
        return f" (from {layer.origin}, {variable})"
    spot = spot_in(layer.origin, layer.text, path)
    if spot is None:
        return f" (from {layer.origin})"
    in_list = any(name.isdigit() for name in path)  # a number is no place for people
    column = f", column {spot.column}" if in_list else ""
    return f" (from {layer.origin}, line {spot.line}{column})"


def spot_of(path: Sequence[str], layers: Sequence[Layer], *, value: bool = False) -> Spot | None:
    """Where the key of a setting (or its `value`) stands in the file that it comes from; None if it comes from none."""
    layer = layer_of(path, layers)
    return None if layer is None else spot_in(layer.origin, layer.text, path, value=value)


def spot_in(file: str, text: str, path: Sequence[str], *, value: bool = False) -> Spot | None:
    """Where a key (or its `value`) stands in the TOML text of a file, or else the nearest table that it would be in;
    None when there is none."""
    found = stands(text)
    wanted = tuple(path)
    while wanted and wanted not in found:
        wanted, value = wanted[:-1], False
    if not wanted:
        return None
    place = found[wanted]
    start, end = place.value if value and place.value is not None else place.key
    line = text.count("\n", 0, start) + 1
    column = start - text.rfind("\n", 0, start)
    end = min(end, text.find("\n", start) if "\n" in text[start:end] else end)  # of several lines the first
    return Spot(file, line, column, max(1, end - start))


@lru_cache(maxsize=4)
def stands(text: str) -> Mapping[Steps, Stands]:
    """Where each key path stands in a text that is TOML, the first time that it is named; of any other text what could
    be made out."""
    scan = _Scan(text)
    with contextlib.suppress(IndexError, RecursionError, ValueError):  # no TOML: whoever parsed it has said so
        scan.document()
    return scan.found


class _Scan:
    """One walk over the tokens of a document. Nothing is checked: tomllib does that."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [found for found in _TOKEN.finditer(text) if not found[0].isspace() or found[0] == "\n"]
        self._at = 0
        self._lists: dict[Steps, int] = {}
        self.found: dict[Steps, Stands] = {}

    def document(self) -> None:
        """All tables, one after the other."""
        table: Steps = ()
        while self._at < len(self._tokens):
            if self._peek() == "\n" or self._peek()[0] == "#":
                self._at += 1
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Steps:
        """[table] or [[entry of a list of tables]]; answers its key path."""
        many = self._text.startswith("[[", self._tokens[self._at].start())
        self._at += 2 if many else 1
        names, span = self._names("]")
        self._at += 2 if many else 1
        table: Steps = ()
        for position, name in enumerate(names, 1):
            table = (*table, name)
            if position == len(names) and many:
                self._lists[table] = self._lists.get(table, -1) + 1
            self.found.setdefault(table, Stands(span, None))
            if table in self._lists:
                table = (*table, str(self._lists[table]))
                self.found.setdefault(table, Stands(span, None))
        return table

    def _pair(self, table: Steps) -> None:
        """`key = value` in a table."""
        names, span = self._names("=")
        self._at += 1
        key = (*table, *names)
        for length in range(len(table) + 1, len(key)):
            self.found.setdefault(key[:length], Stands(span, None))
        self.found[key] = Stands(span, None)  # what is below it is found first
        self.found[key] = Stands(span, self._value(key))

    def _names(self, end: str) -> tuple[list[str], tuple[int, int]]:
        """The names of a key up to the token `end`, and where they stand."""
        first = last = self._next()
        while self._peek() != end:
            last = self._next()
        span = first.start(), last.end()
        return [_unquoted(name) for name in _split(self._text[span[0] : span[1]])], span

    def _value(self, key: Steps) -> tuple[int, int]:
        """A value; answers where it stands."""
        first = last = self._next()
        if first[0] in ("[", "{"):
            self._inside(key, first[0])
            last = self._next()
        while self._at < len(self._tokens) and self._peek() not in ("\n", ",", "]", "}") and self._peek()[0] != "#":
            last = self._next()  # a date and its time are two
        return first.start(), last.end()

    def _inside(self, key: Steps, opening: str) -> None:
        """What a list or an inline table holds, up to its end."""
        number = 0
        while self._peek() not in ("]", "}"):
            if self._peek() in ("\n", ",") or self._peek()[0] == "#":
                self._at += 1
            elif opening == "{":
                self._pair(key)
            else:
                entry = (*key, str(number))
                span = self._value(entry)
                self.found[entry] = Stands(span, span)
                number += 1

    def _next(self) -> re.Match[str]:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _peek(self) -> str:
        return self._tokens[self._at][0]


def _split(names: str) -> Iterator[str]:
    """The names of a dotted key, quotes and all."""
    return (found[0] for found in _NAME.finditer(names))


def _unquoted(name: str) -> str:
    if name[0] == '"':
        import tomllib

        return next(iter(tomllib.loads(f"{name} = 0")))
    return name.strip("'")
