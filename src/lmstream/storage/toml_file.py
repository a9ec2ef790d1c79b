"""Read a TOML file within bounds; whatever is wrong with it is one plain error."""

import re
from pathlib import Path
from typing import Any, Final

from lmstream import bounded
from lmstream.bounded import BoundError
from lmstream.errors import ConfigError, Spot
from lmstream.settings import MIB

_MOST: Final = 1 * MIB
_FIX: Final = "name a file that is there and can be read"
_SYNTAX: Final = re.compile(r"\(at line (\d+), column (\d+)\)")
"""How tomllib says where it could not read on."""
_SYNTAX_FIX: Final = "write it as TOML: KEY = VALUE below a [TABLE], and text in quotes"


def text(what: str, path: Path | str) -> str:
    """The text of a file. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            data = bounded.read(file, _MOST, f"{what} {path}", seconds=None)
        return data.decode()
    except OSError as e:
        raise ConfigError("config.invalid", f"{what} {path}: {e.strerror or e}", _FIX) from e
    except BoundError as e:
        raise ConfigError("config.invalid", e.detail) from e
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        detail = f"{what} {path} is not UTF-8: byte 0x{data[e.start]:02x} in line {line}"
        raise ConfigError("config.invalid", detail, "save it as UTF-8") from e
    except ValueError as e:  # a path with NUL in it
        raise ConfigError("config.invalid", f"{what} {path} cannot be read as TOML: {e}") from e


def tables(what: str, path: Path | str, toml: str) -> dict[str, Any]:
    """The tables of the text of a file. Raises ConfigError, with the spot at which it is no TOML."""
    import tomllib

    try:
        return tomllib.loads(toml)
    except RecursionError as e:
        raise ConfigError("config.invalid", f"{what} {path} is nested too deeply") from e
    except ValueError as e:  # no TOML, a number of thousands of digits
        found = _SYNTAX.search(str(e))
        spot = None if found is None else Spot(str(path), int(found[1]), int(found[2]), 1)
        raise ConfigError("config.invalid", f"{what} {path} cannot be read as TOML: {e}", _SYNTAX_FIX, spot) from e
