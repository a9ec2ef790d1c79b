"""The engine's settings as variables of an environment: what makes the rows is the same in function and container."""

import json
from typing import Any

import msgspec

from lmstream.settings import Settings

_ALWAYS = ("path", "metric_key")
_OF_A_KEY = {"metric_allow": "allow", "metric_buckets": "buckets"}
"""Settings that only one kind of `metric_key` reads."""


def engine_variables(engine: Settings) -> dict[str, str]:
    """Variables by name; what has its default is left out, but for what decides where rows land."""
    unset, found = msgspec.to_builtins(Settings()), {}
    for name, value in msgspec.to_builtins(engine).items():
        if name == "limits":
            changed = {key: limit for key, limit in value.items() if limit != unset[name][key]}
            found |= {f"LIMITS__{key.upper()}": str(limit) for key, limit in changed.items()}
        elif (
            name in _ALWAYS
            or engine.metric_key == _OF_A_KEY.get(name)
            or (value != unset[name] and name not in _OF_A_KEY)
        ):
            found[name.upper()] = _text(value)
    return {f"LMSTREAM_ENGINE__{name}": text for name, text in found.items() if text}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, list | tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
