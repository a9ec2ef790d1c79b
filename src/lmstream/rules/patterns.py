"""Texts with `*` and `?`, and regular expressions: compiled once, each in time linear in the text it looks at."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from lmstream.errors import ConfigError
from lmstream.rules.form import PATTERNS_MAX, Regex, Texts

Holds = Callable[[str], bool]
_NAMES: Final = 1024
_NAME: Final = 256
"""Names of attributes that are remembered, and characters of one."""
_SIGN: Final = re.compile(r"\\.|[*?]|[^\\*?]+|\\", re.DOTALL)


def is_glob(text: str) -> bool:
    """Whether a text is more than itself: it has `*` or `?` without a backslash in front."""
    return any(sign in "*?" for sign in _SIGN.findall(text))


def literal(text: str) -> str:
    """The one text that a text without `*` and `?` stands for."""
    return "".join(sign[1:] if len(sign) > 1 and sign[0] == "\\" else sign for sign in _SIGN.findall(text))


def longest_part(glob: str) -> str:
    """What every text that matches has in it, as far as the glob says it in one piece; else empty."""
    parts = [""]
    for sign in _SIGN.findall(glob):
        if sign in ("*", "?"):
            parts.append("")
        else:
            parts[-1] += literal(sign)
    return max(parts, key=len)


def expression(glob: str) -> str:
    """A glob as an expression of Python's `re`.

    Each star takes the nearest place at which what follows it matches, and never another one (atomic groups): that is
    enough for globs, and so there is nothing to try again.
    """
    parts: list[str] = [""]
    for sign in _SIGN.findall(glob):
        if sign != "*":
            parts[-1] += "." if sign == "?" else re.escape(literal(sign))
        elif parts[-1] or len(parts) == 1:  # stars in a row are one
            parts.append("")
    if len(parts) == 1:
        return parts[0]
    first, *middle, last = parts
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last


def holds(texts: Texts, where: str = "") -> Holds:
    """Whether a text is one of these. Raises ConfigError about the setting `where`, for a regular expression that RE2
    does not take, or without the extra [rules]; for too many globs."""
    if isinstance(texts, Regex):
        match = compiled(texts, where).fullmatch
        return lambda text: match(text) is not None
    each = (texts,) if isinstance(texts, str) else texts
    exact = frozenset(literal(text) for text in each if not is_glob(text))
    globs = [text for text in each if is_glob(text)]
    if len(globs) > PATTERNS_MAX:
        raise ConfigError("config.invalid", f"{where}: {len(globs):,} texts with * or ?, of {PATTERNS_MAX} at most")
    if not globs:
        return exact.__contains__
    if "*" in globs:
        return lambda _: True
    matches = [re.compile(expression(glob), re.DOTALL).fullmatch for glob in globs]
    return lambda text: text in exact or any(match(text) is not None for match in matches)


class _Names(dict[str, bool]):
    """Names that were asked about."""

    def __init__(self, found: Holds) -> None:
        super().__init__()
        self._found = found

    def __missing__(self, name: str) -> bool:
        found = self._found(name)
        if len(name) <= _NAME:
            if len(self) >= _NAMES:
                self.clear()
            self[name] = found
        return found


def names(globs: Sequence[str]) -> Holds:
    """Whether a name is one of these. Names of attributes are few, and come with every value."""
    return _Names(holds(tuple(globs))).__getitem__


def compiled(regex: Regex, where: str) -> Any:
    """An expression of RE2, which means the same in every host. Raises ConfigError."""
    try:
        import re2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError.missing(f"{where}, a regular expression,", "rules") from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex.regex, options=options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        fix = "RE2 has no backreferences and no lookaround"
        raise ConfigError("config.invalid", f"{where}: no regular expression of RE2: {text}", fix) from error


_EMAIL: Final = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]++@[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,63}", re.ASCII
)


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Where e-mail addresses stand in a text. Tried where a name begins, so that long names are read once."""
    if "@" in text:
        yield from (found.span() for found in _EMAIL.finditer(text))
