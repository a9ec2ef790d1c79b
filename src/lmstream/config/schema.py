"""JSON Schema of the configuration file, for editors: names, types, limits, and the docstrings as help.

Draft 7, which editors of TOML know. Nothing is required: what a file leaves out may come from variables or flags.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from lmstream.config.config import TABLES
from lmstream.config.plugins import PARTS, USUAL, known
from lmstream.config.reference import Section, Setting, sections

NAME: Final = "lmstream.schema.json"
"""What the file is called, in docs and beside a file that `lmstream init` writes."""
_OWN: Final = {"type": "string", "pattern": r"[._]"}
"""The name of somebody's own module. A run takes any name that can be imported; an editor had better take the others,
which are single words, for misspelled ones of lmstream's."""


def schema() -> dict[str, Any]:
    """The whole schema."""
    found = sections()
    tables: dict[str, Any] = {}
    for table, struct in TABLES.items():
        tables[table] = _table(table, struct, found)
    engine = tables["engine"]["properties"]["format"]
    engine.pop("type")
    engine["anyOf"] = [{"enum": known("format")}, _OWN]
    for part in PARTS:
        tables[part] = _part(part, [each for each in found if each.table == part])
    definitions: dict[str, Any] = {}
    _hoist(tables, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "lmstream",
        "description": "Configuration of a run of lmstream: lmstream run --config FILE",
        "type": "object",
        "properties": tables,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _hoist(schema: Any, into: dict[str, Any]) -> None:
    """Move definitions of types to where references look for them."""
    if isinstance(schema, dict):
        into |= msgspec.json.decode(msgspec.json.encode(schema.pop("$defs", {})))
        for inner in schema.values():
            _hoist(inner, into)
    elif isinstance(schema, list):
        for inner in schema:
            _hoist(inner, into)


def _part(part: str, of_part: list[Section]) -> dict[str, Any]:
    """A table whose settings depend on its `type`."""
    (kind,) = of_part[0].settings
    names = [name for section in of_part for name in section.of]
    of_type = {"description": kind.what, "anyOf": [{"enum": names}, _OWN]}
    every: dict[str, Any] = {"type": of_type}
    cases = []
    for section in of_part[1:]:
        settings = {each.key.rpartition(".")[2]: _setting(each) for each in section.settings}
        every = settings | every
        chosen: dict[str, Any] = {"properties": {"type": {"enum": list(section.of)}}}
        if USUAL.get(part) not in section.of:
            chosen["required"] = ["type"]
        only = {"properties": {"type": True, **settings}, "additionalProperties": False}
        cases.append({"if": chosen, "then": only})
    return {
        "description": kind.what,
        "type": "object",
        # For completion, whichever type it is: what is allowed is said below.
        "properties": {name: {"description": each["description"]} for name, each in every.items()} | {"type": of_type},
        "allOf": cases,
    }


def _table(table: str, struct: type[Struct], found: list[Section]) -> dict[str, Any]:
    """A table that is the same for every run, and those in it."""
    section = next(each for each in found if each.table == table)
    properties = {each.key.rpartition(".")[2]: _setting(each) for each in section.settings}
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            properties[field.encode_name] = _table(f"{table}.{field.encode_name}", field.type, found)
    return {
        "description": section.what,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _setting(setting: Setting) -> dict[str, Any]:
    """A setting, with its help."""
    costs = f"A change costs {', '.join(setting.costs)}{f': {setting.change}' if setting.change else ''}."
    unit = f" In {setting.unit}." if setting.unit else ""
    described: dict[str, Any] = {"description": f"{setting.what}{unit} {costs}"}
    if not setting.required and setting.default is not None:
        described["default"] = setting.default
    of_type = msgspec.json.schema(setting.annotation)
    if of_type.pop("prefixItems", None):
        del of_type["items"]  # a fixed length is told by minItems and maxItems; draft 7 reads these two otherwise
    return of_type | described
