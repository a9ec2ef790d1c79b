"""Prefix expressions of Firehose, and the keys of its jq queries: parsed once, checked, evaluated per object."""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from lmstream.errors import ConfigError

PREFIX_CHARS = 1024
"""Longest Prefix and ErrorOutputPrefix: docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html"""

PARTITION_KEY, TIMESTAMP, FIREHOSE = "partitionKeyFromQuery", "timestamp", "firehose"
ERROR_TYPE = "error-output-type"

_EXPRESSION = re.compile(r"!\{([^}:]*)(?::([^}]*))?\}")
_JAVA = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_JAVA_TOKEN = re.compile(r"'([^']*)'|([A-Za-z])\2*")
_QUERY_KEY = re.compile(r'\s*(?:"([^"\\]+)"|\.?([A-Za-z_]\w*))\s*(?::.*)?$', re.DOTALL)

_PLAIN = re.compile(
    r'\s*(?:(?:"[^"\\]+"|[A-Za-z_]\w*)\s*:\s*\.([A-Za-z_]\w*)(?:\[[0-9]*:[0-9]*\])?|([A-Za-z_]\w*))\s*$'
)


class Prefix(NamedTuple):
    """An expression cut into (namespace, argument); literal text stands under the empty namespace."""

    pieces: tuple[tuple[str, str], ...]

    def keys(self) -> set[str]:
        """The partition keys it names."""
        return {argument for space, argument in self.pieces if space == PARTITION_KEY}

    def uses(self, space: str, argument: str | None = None) -> bool:
        """Whether it has an expression of this namespace (and argument)."""
        return any(s == space and argument in (None, a) for s, a in self.pieces)

    def render(self, when: datetime, *, keys: Mapping[str, str] = {}, error_type: str = "") -> str:
        """The prefix of one object; `when` is the arrival of its oldest record, in UTC."""
        out = []
        for space, argument in self.pieces:
            if space == PARTITION_KEY:
                out.append(keys[argument])
            elif space == TIMESTAMP:
                out.append(when.strftime(argument))
            elif space == FIREHOSE:
                out.append(error_type if argument == ERROR_TYPE else secrets.token_hex(6)[:11])
            else:
                out.append(argument)
        return "".join(out)


def parse_prefix(name: str, text: str) -> Prefix:
    """Cut a prefix; ConfigError names what is wrong with it."""
    if len(text) > PREFIX_CHARS:
        raise ConfigError("config.invalid", f"{name} has {len(text)} characters; Firehose takes {PREFIX_CHARS}")
    pieces: list[tuple[str, str]] = []
    end = 0
    for match in _EXPRESSION.finditer(text):
        pieces.append(("", text[end : match.start()]))
        space, argument = match[1], match[2] or ""
        known = {TIMESTAMP: bool(argument), PARTITION_KEY: bool(argument)}
        known[FIREHOSE] = argument in {ERROR_TYPE, "random-string"}
        if not known.get(space):
            raise ConfigError("config.invalid", f"{name} has the expression {match[0]}, which Firehose does not know")
        pieces.append((space, _strftime(name, argument) if space == TIMESTAMP else argument))
        end = match.end()
    rest = text[end:]
    if "!{" in rest:
        raise ConfigError("config.invalid", f"{name} has an expression that does not end: {rest!r}")
    pieces.append(("", rest))
    return Prefix(tuple(piece for piece in pieces if piece != ("", "")))


def _strftime(name: str, pattern: str) -> str:
    """Turn a Java date pattern into strftime's; letters outside quotes are fields, all else stands for itself."""

    def one(match: re.Match[str]) -> str:
        if match[2] is None:
            return match[1].replace("%", "%%")
        if match[0] not in _JAVA:
            raise ConfigError(
                "config.invalid", f"{name}: the lab knows {', '.join(_JAVA)} in timestamps, not {match[0]}"
            )
        return _JAVA[match[0]]

    return _JAVA_TOKEN.sub(one, pattern.replace("%", "%%"))


def query_keys(query: str) -> tuple[str, ...]:
    """The keys of a jq object construction, `{a: .x, "b": .y[0:4], c}`. Read, not run: a query can fail on a sample."""
    text = query.strip()
    parts = _split(text[1:-1]) if text.startswith("{") and text.endswith("}") else []
    keys = []
    for part in parts:
        match = _QUERY_KEY.match(part)
        if match is None:
            raise ConfigError("config.invalid", f"the jq query has a part that names no key: {part.strip()!r}")
        keys.append(match[1] or match[2])
    if not keys:
        raise ConfigError("config.invalid", f"the jq query must be one object, {{key: .path, ...}}, not {query!r}")
    return tuple(keys)


def query_fields(query: str) -> tuple[str, ...] | None:
    """The fields of the row that decide the answer, when each value is `.field` or a slice of it; else None."""
    fields = []
    for part in _split(query.strip()[1:-1]):
        match = _PLAIN.match(part)
        if match is None:
            return None
        fields.append(match[1] or match[2])
    return tuple(dict.fromkeys(fields))


def _split(text: str) -> list[str]:
    """Cut at the commas outside brackets and strings."""
    parts, depth, quoted, escaped = [""], 0, False, False
    for c in text:
        if quoted:
            quoted = escaped or c != '"'
            escaped = c == "\\" and not escaped
        elif c == '"':
            quoted = True
        else:
            depth += (c in "([{") - (c in ")]}")
            if depth < 0:
                return []  # `{a: .x} | {b: .y}`: more than one object
            if c == "," and depth == 0:
                parts.append("")
                continue
        parts[-1] += c
    return [part for part in parts if part.strip()]
