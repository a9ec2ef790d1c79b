"""The file that `lmstream init` writes: only what differs from the defaults, and a comment for whatever matters."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from lmstream.cli.scaffold.facts import Facts
from lmstream.cli.terminal import clean
from lmstream.config import Config
from lmstream.config.config import FIELDS, TABLES
from lmstream.config.layers import steps
from lmstream.config.plugins import PARTS
from lmstream.config.schema import NAME
from lmstream.kafka.topic_facts import TopicFacts
from lmstream.partitioning import firehose_prefix, jq_query
from lmstream.settings import human

_ORDER: Final = ("engine", "engine.limits", "source", "sink", "dead_letters")
_TABLES: Final = {
    "engine": "what a bundle becomes: the same settings give the same rows in every host",
    "engine.limits": "past a bound a record is dead-lettered, never cut",
    "source": "where records come from",
    "sink": "where rows go",
    "dead_letters": "where records go that make no rows, with their bytes",
    "delivery": "how hard to try",
    "rolling": "when a file is closed",
    "run": "the process",
}
_NOTES: Final = {
    "engine.org_id": "organization of every row: LMDP sends none",
    "engine.path": "from the stream's prefix",
    "engine.limits.record_bytes": "the topic's max.message.bytes",
    "source.group": "a name for this deployment, whose processes divide the topics; its commits are all the state",
    "source.key_password": "where it is, never the password itself",
    "source.sasl_password": "where it is, never the password itself",
    "dead_letters.root": "a folder that outlives the process; as private as the topic",
    "dead_letters.bucket": "as private as the topic",
    "delivery.partition_seconds": "the stream's buffer interval",
}


def text(config: Config, keys: Sequence[str], facts: Facts, name: str, unchecked: Sequence[str]) -> str:
    """The whole file. `keys` are the settings that it has; `unchecked` says what nobody was asked about."""
    return "\n".join([*_head(name, unchecked), *_tables(config, keys, facts)]) + "\n"


def differing(config: Config, known: Iterable[str]) -> list[str]:
    """The settings of these key paths that say something: those that are not the default anyway, in the order of their
    struct, `type` first. What lies in a table of free names (source.client) is one setting."""
    found = {_field(config, steps(key)) for key in known}
    keys = [key for key in found if _value(config, key)[0] != _value(config, key)[1]]
    return sorted(keys, key=lambda key: _position(config, key))


def _field(config: Config, path: tuple[str, ...]) -> str:
    """The key path as far as it names fields of structs."""
    table, *names = path
    found: Any = _struct(config, table)
    taken = [table]
    for name in names:
        if name != "type" and not isinstance(found, Struct):
            break
        taken.append(name)
        found = getattr(found, name, None)
    return ".".join(taken)


def _position(config: Config, key: str) -> tuple[str, int]:
    table, _, name = key.rpartition(".")
    fields = _holder(config, key).__struct_fields__
    return table, fields.index(name) if name in fields else -1


def _holder(config: Config, key: str) -> Any:
    """The struct that has the setting as a field."""
    table, *names = key.split(".")
    struct = _struct(config, table)
    for name in names[:-1]:
        struct = getattr(struct, name)
    return struct


def _struct(config: Config, table: str) -> Any:
    return getattr(config, table).settings if table in PARTS else getattr(config, FIELDS.get(table, table))


def _value(config: Config, key: str) -> tuple[Any, Any]:
    """The value of a setting as TOML takes it, and its default; None when it must be set."""
    table, *names = key.split(".")
    if table in PARTS and names == ["type"]:
        return getattr(config, table).name, None
    struct = _holder(config, key)
    (field,) = [each for each in structs.fields(struct) if each.name == names[-1]]
    default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    value = msgspec.to_builtins(getattr(struct, field.name))
    return value, None if field.required else msgspec.to_builtins(default)


def _head(name: str, unchecked: Sequence[str]) -> Iterator[str]:
    yield f"#:schema ./{NAME}"
    yield "# What differs from the defaults. Every setting, with what a change of it costs: lmstream config reference"
    yield "# Paths are seen from the folder that a run is started in."
    yield "#"
    yield f"#   lmstream validate --config {clean(name)} --connect"
    yield f"#   lmstream run --config {clean(name)}"
    if unchecked:
        yield "#"
        yield f"# NOT CHECKED when this was written: {'; '.join(map(clean, unchecked))}."


def _tables(config: Config, keys: Sequence[str], facts: Facts) -> Iterator[str]:
    by_table: dict[str, list[str]] = {}
    for key in keys:
        by_table.setdefault(key.rpartition(".")[0], []).append(key)
    every = [*_ORDER, *(each for each in (*TABLES, *by_table) if each not in _ORDER)]
    for table in dict.fromkeys(every):
        if table not in by_table:
            continue
        yield ""
        about = f"  # {_TABLES[table]}" if table in _TABLES else ""
        yield f"[{table}]{about}"
        for key in by_table[table]:
            note = f"  # {_NOTES[key]}" if key in _NOTES else ""
            yield f"{key.rpartition('.')[2]} = {toml(_value(config, key)[0])}{note}"
        yield from (f"# {each}" for each in _told(table, config, facts))


def _told(table: str, config: Config, facts: Facts) -> Iterator[str]:
    """What there is to say of a table below its settings."""
    if table == "engine" and facts.stream is not None:
        fits = (facts.stream.prefix, facts.stream.query) == (firehose_prefix(config.engine), jq_query(config.engine))
        if fits:
            yield f"path = {toml(config.engine.path)} is what the stream's prefix and jq query have."
    if table == "source":
        yield from map(_topic, facts.topics)
        yield 'start_from = "earliest" reads a topic from its beginning where the group has no commit.'
    if table == "sink" and facts.stream is not None:
        stream = facts.stream
        bucket = f" into s3://{clean(stream.bucket)}" if stream.bucket else ""
        yield f"The stream writes{bucket} within {stream.seconds} s: rows are there so much later."


def _topic(topic: TopicFacts) -> str:
    said = [f"{topic.partitions:,} partitions, so at most {topic.partitions:,} busy processes"]
    if topic.retention is None:
        said.append("retention unknown: grant DESCRIBE_CONFIGS on the topic")
    elif topic.retention.seconds is None:
        said.append("records are kept without a limit of time")
    else:
        said.append(f"records are kept {human(topic.retention.seconds)}, which is how long an outage may last")
    if topic.message_bytes is not None:
        said.append(f"messages of {topic.message_bytes:,} bytes at most")
    return f"{clean(topic.name)}: {'; '.join(said)}."


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml(name)} = {toml(inner)}" for name, inner in value.items()) + " }"
    return "[" + ", ".join(map(toml, value)) + "]"
