"""Settings of a TOML file, of the environment and of flags, one over the other."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lmstream.config.convert import Text
from lmstream.config.places import PREFIX, Layer, Steps, layer_of_file
from lmstream.config.plugins import PARTS, USUAL
from lmstream.errors import ConfigError
from lmstream.native import SWITCH

_NO_SETTINGS: Final = frozenset({"LMSTREAM_DEBUG", "LMSTREAM_LOG", "LMSTREAM_CONFIG", SWITCH})
_STEP: Final = re.compile(r""""[^"]*"|'[^']*'|[^.]+""")
_TESTS: Final = "LMSTREAM_TEST_"  # what our own test runs are told


def layers_of(
    path: Path | str | None, env: Mapping[str, str] | None, overrides: Mapping[str, Any] | None
) -> list[Layer]:
    """The settings of each place, the strongest last. Raises ConfigError for a file that cannot be read."""
    return [
        layer_of_file("configuration file", path) if path is not None else Layer("", {}),
        _environment(os.environ if env is None else env),
        Layer("the flags", _nested({steps(k): v for k, v in (overrides or {}).items()})),
    ]


def _environment(env: Mapping[str, str]) -> Layer:
    keys = (k for k in env if k.startswith(PREFIX) and k not in _NO_SETTINGS and not k.startswith(_TESTS))
    names = {tuple(key.removeprefix(PREFIX).lower().split("__")): key for key in keys}
    return Layer("the environment", _nested({path: Text(env[key]) for path, key in names.items()}), variables=names)


def steps(key: str) -> Steps:
    """The steps of a key as TOML has it: a name with dots in it stands in quotes, source.client."group.protocol"."""
    return tuple(step.strip("\"'") for step in _STEP.findall(key))


def _nested(settings: Mapping[Steps, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for path, value in settings.items():
        table = tables
        for name in path[:-1]:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError("config.invalid", f"{'.'.join(path)} is below a setting that is not a table")
        table[path[-1]] = value
    return tables


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """All settings in one table; those of later layers win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer.tables)
    return merged


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        below = under.get(name)
        if isinstance(below, dict) and isinstance(value, Mapping):
            decided = {key: _decided(inner, below.get(key)) for key, inner in value.items()}
            # Another kind of source or sink has other settings: those of the first say nothing any more.
            kind = below.get("type", USUAL.get(name))
            if name in PARTS and kind is not None and decided.get("type", kind) != kind:
                under[name] = dict(decided)
            else:
                _merge(below, decided)
        else:
            under[name] = _copied(_decided(value, below))


def _decided(value: Any, below: Any) -> Any:
    """A flag may be a function of what the layers below say, so that it overrides no more of it than it means."""
    return value(below) if callable(value) else value


def _copied(value: Any) -> Any:
    return {k: _copied(_decided(v, None)) for k, v in value.items()} if isinstance(value, Mapping) else value
