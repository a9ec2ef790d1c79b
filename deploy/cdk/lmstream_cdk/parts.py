"""What a template says: values at a place, what they refer to, exports and imports."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Template = Mapping[str, Any]


def resolved(value: Any, known: Mapping[str, str]) -> Any:
    """A value with what is known filled in, and texts joined."""
    if isinstance(value, list):
        return [resolved(each, known) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"} and value["Ref"] in known:
        return known[value["Ref"]]
    made = {key: resolved(inner, known) for key, inner in value.items()}
    if made.keys() == {"Fn::Join"}:
        separator, parts = made["Fn::Join"]
        if all(isinstance(each, str) for each in parts):
            return separator.join(parts)
    return made


def references(value: Any) -> Iterator[tuple[str, str]]:
    """What a value refers to: ("Ref", logical id) or ("Import", name of an export)."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                yield "Ref", inner
            elif key == "Fn::GetAtt":
                yield "Ref", inner[0] if isinstance(inner, list) else inner.partition(".")[0]
            elif key == "Fn::ImportValue":
                yield "Import", inner if isinstance(inner, str) else json.dumps(inner)
            else:
                yield from references(inner)


def exports(template: Template) -> dict[str, Any]:
    """Values by the name of their export."""
    return {each["Export"]["Name"]: each["Value"] for each in template.get("Outputs", {}).values() if "Export" in each}


def imports(template: Template) -> set[str]:
    """Names of exports that a template imports."""
    return {name for how, name in references([template.get("Resources"), template.get("Outputs")]) if how == "Import"}


def at(properties: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of names; None when there is none."""
    for each in path:
        properties = properties.get(each) if isinstance(properties, dict) else None
    return properties
