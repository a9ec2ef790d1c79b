"""Read a TOML file within bounds; whatever is wrong with it is one plain error."""

import tomllib
from pathlib import Path
from typing import Any, Final

from lmstream import bounded
from lmstream.bounded import BoundError
from lmstream.errors import ConfigError
from lmstream.settings import MIB

_MOST: Final = 1 * MIB


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
