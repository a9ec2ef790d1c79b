"""`lmstream config show`: every setting as a run would have it, and where it comes from."""

from collections.abc import Iterator
from typing import Any

import msgspec

from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json
from lmstream.cli.run import NO_SINK, NO_SOURCE, SinkFlags, SourceFlags, overrides_of
from lmstream.cli.tables import Column, Wide, table
from lmstream.config import Config
from lmstream.config.config import FIELDS, TABLES
from lmstream.config.convert import is_ours, masked
from lmstream.config.layers import layers_of
from lmstream.config.places import Layer, layer_of
from lmstream.config.plugins import PARTS


def show(
    *,
    origin: bool = False,
    wide: Wide = False,
    as_json: Json = False,
    workers: int | None = None,
    source: SourceFlags = NO_SOURCE,
    broker: BrokerFlags = NO_BROKER,
    sink: SinkFlags = NO_SINK,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Print the settings; secrets are masked.

    Parameters
    ----------
    origin
        Show where each value comes from: a file, the environment, the flags, or the default.
    wide
        Show values in full, however wide the terminal is.
    as_json
        Print one JSON object per setting and line.
    workers
        Number of processes that the run would have.
    """
    overrides = overrides_of(source, broker, sink, workers)
    config = engine.load(overrides)
    layers = layers_of(engine.config, None, engine.over(overrides))
    rows = [(key, value, _origin(key, layers)) for key, value in shown_of(config)]
    if as_json:
        terminal.print_lines({"key": key, "value": value, "origin": where} for key, value, where in rows)
        return 0
    heads = (Column("setting", 1, "id"), Column("value", 2), Column("origin", 3))[: 3 if origin else 2]
    table(heads, [(key, terminal.cell(value), where)[: len(heads)] for key, value, where in rows], wide=wide)
    return 0


def settings_of(config: Config) -> Iterator[tuple[str, Any]]:
    """Every setting by its key path, in the order of the tables."""
    for name in TABLES:
        yield from _flat(name, msgspec.to_builtins(getattr(config, FIELDS.get(name, name))))
    for name in PARTS:
        part = getattr(config, name)
        if part is not None:
            yield f"{name}.type", part.name
            yield from _flat(name, msgspec.to_builtins(part.settings))


def shown_of(config: Config) -> Iterator[tuple[str, Any]]:
    """The same, masked. Of somebody else's module what stands in its code is shown too: its defaults."""
    theirs: dict[str, Any] = {}
    for name in PARTS:
        part = getattr(config, name)
        if part is not None and not is_ours(part.settings.__class__):
            theirs |= {f"{name}.type": part.name, **dict(_flat(name, _defaults(type(part.settings))))}
    foreign = tuple(f"{name}." for name in PARTS if f"{name}.type" in theirs)
    for key, value in settings_of(config):
        ours = not key.startswith(foreign) or (key in theirs and theirs[key] == value)
        yield key, masked(key, value, ours=ours)


def _defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        if field.default is not msgspec.NODEFAULT:
            found[field.encode_name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.encode_name] = msgspec.to_builtins(field.default_factory())
    return found


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", inner)
    else:
        yield path, value


def _origin(key: str, layers: list[Layer]) -> str:
    layer = layer_of(tuple(key.split(".")), layers)
    return "default" if layer is None else layer.origin
