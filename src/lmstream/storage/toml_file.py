"""Read a TOML file within bounds; whatever is wrong with it is one plain error."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lmstream import bounded
from lmstream.bounded import BoundError
from lmstream.errors import ConfigError
from lmstream.settings import MIB

_MOST: Final = 1 * MIB
_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_NAMES: Final = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_LINE: Final = re.compile(rf"[ \t]*(?:\[{{1,2}}[ \t]*({_NAMES})[ \t]*\]|({_NAMES})[ \t]*=)")
"""The name of a table, or of a key."""


def read(what: str, path: Path | str) -> dict[str, Any]:
    """The tables of a file. Raises ConfigError, with `what` it is in the message."""
    try:
        with Path(path).open("rb") as file:
            data = bounded.read(file, _MOST, f"{what} {path}", seconds=None)
        return tomllib.loads(data.decode())
    except OSError as e:
        raise ConfigError("config.invalid", f"{what} {path}: {e.strerror or e}") from e
    except BoundError as e:
        raise ConfigError("config.invalid", e.detail) from e
    except RecursionError as e:
        raise ConfigError("config.invalid", f"{what} {path} is nested too deeply") from e
    except ValueError as e:  # no TOML, no UTF-8, a number of thousands of digits, a path with NUL in it
        raise ConfigError("config.invalid", f"{what} {path} cannot be read as TOML: {e}") from e


def line_of(path: Path | str, key: Sequence[str]) -> int | None:
    """The line of a file at which a key stands, or the value or table that it is in; None when it cannot be told."""
    try:
        with Path(path).open("rb") as file:
            lines = bounded.read(file, _MOST, str(path), seconds=None).decode().split("\n")
    except (OSError, BoundError, ValueError):
        return None
    wanted, table = tuple(key), ()
    best: tuple[int, int | None] = (0, None)
    quoted = False
    for number, line in enumerate(lines, 1):
        found = None if quoted else _LINE.match(line)
        quoted ^= (line.count('"""') + line.count("'''")) % 2 == 1
        if found is None:
            continue
        names = tuple(name.strip("\"'") for name in re.findall(_NAME, found[1] or found[2]))
        table, full = (names, names) if found[1] else (table, (*table, *names))
        if len(full) > best[0] and wanted[: len(full)] == full:
            best = (len(full), number)
    return best[1]
