"""`lmstream config`: every setting as a run would have it and where it comes from; the reference, and the schema."""

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


def reference(key: str = "", /, *, as_json: Json = False) -> int:
    """Print every setting: what it is, its type, unit and default, what a change costs, where its limit comes from.

    Parameters
    ----------
    key
        Only this setting, or those of this table: source.group, or sink.
    as_json
        Print one JSON object per setting and line.
    """
    from lmstream.config import reference as settings
    from lmstream.config.reference_page import entries, page

    absent: list[str] = []
    found = settings.sections(absent)
    for each in absent:
        terminal.say(f"left out: {each}")
    chosen = settings.below(found, key) if key else settings.settings(found)
    if as_json:
        terminal.print_lines(each.told() for each in chosen)
    else:
        print(entries(chosen) if key else page(found), end="")
    return 0


def schema() -> int:
    """Print the JSON Schema of the configuration file, for editors: `#:schema FILE` in the first line of a file."""
    from lmstream.config.schema import schema as made

    terminal.print_json(made())
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
