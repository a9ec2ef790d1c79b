"""Which members OTLP knows, by the published descriptors: names made canonical, and the unknown ones found."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

REQUEST = MetricsData.DESCRIPTOR
UNSEARCHED = {"metadata", "entityRefs", "dataPoints"}
"""Messages in which nobody looks for unknown members."""


def canonical(value: Any, descriptor: Any, *, snake: bool) -> Any:
    """The same tree with every known member under its OTLP/JSON name; of two names of one member the last in the text
    wins. Unknown members and wrong types stay as they are."""
    if isinstance(value, list):
        return [canonical(v, descriptor, snake=snake) for v in value]
    if not isinstance(value, dict):
        return value
    known = {field.json_name: field for field in descriptor.fields}
    if snake:
        known |= {field.name: field for field in descriptor.fields}
    made: dict[str, Any] = {}
    for key, inner in value.items():
        field = known.get(key)
        if field is None:
            made[key] = inner
        elif field.message_type is None:
            made[field.json_name] = inner
        else:
            made[field.json_name] = canonical(inner, field.message_type, snake=snake)
    return made


def unknown_keys(value: dict[str, Any], descriptor: Any) -> list[str]:
    """Keys of a canonical object that its message does not know."""
    known = {field.json_name for field in descriptor.fields}
    return [key for key in value if key not in known]


def unknown_numbers(message: Any) -> list[str]:
    """Field numbers of a message that it does not know, or that came with a wire type of another kind."""
    return [f"field {number}" for number in dict.fromkeys(f.field_number for f in UnknownFieldSet(message))]


def search_json(value: Any, descriptor: Any, path: str = "$") -> Iterator[str]:
    """Paths of all unknown members of a canonical tree without data points, an object's own before those inside."""
    if not isinstance(value, dict):
        return
    for key in unknown_keys(value, descriptor):
        yield f"{path}.{key}"
    for field in descriptor.fields:
        if field.message_type is None or field.json_name in UNSEARCHED:
            continue
        inner = value.get(field.json_name)
        for n, one in enumerate(inner if field.is_repeated and isinstance(inner, list) else [inner]):
            where = f"{path}.{field.json_name}" + (f"[{n}]" if field.is_repeated else "")
            yield from search_json(one, field.message_type, where)


def search_proto(message: Any, path: str = "$") -> Iterator[str]:
    """As search_json, of a parsed message."""
    for number in unknown_numbers(message):
        yield f"{path}.{number}"
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None or field.json_name in UNSEARCHED:
            continue
        if field.is_repeated:
            for n, one in enumerate(getattr(message, field.name)):
                yield from search_proto(one, f"{path}.{field.json_name}[{n}]")
        elif message.HasField(field.name):
            yield from search_proto(getattr(message, field.name), f"{path}.{field.json_name}")
