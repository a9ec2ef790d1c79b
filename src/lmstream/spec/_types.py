"""The types of the fields of a row, as the contract and tables need them."""

from typing import Any

from msgspec import Struct, inspect

from lmstream.model import RowEvent


def struct_fields(of: type[Struct] = RowEvent) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(of)
    assert isinstance(described, inspect.StructType)  # noqa: S101 - narrows the type
    return described.fields


def unwrap(of_type: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """The type without None, and its annotations."""
    meta: dict[str, Any] = {}
    if isinstance(of_type, inspect.Metadata):
        meta = of_type.extra_json_schema or {}
        of_type = of_type.type
    if isinstance(of_type, inspect.UnionType):
        rest = [item for item in of_type.types if not isinstance(item, inspect.NoneType)]
        of_type = inspect.FloatType() if len(rest) > 1 else rest[0]  # int or float: a number
    return of_type, meta


def name_of(of_type: inspect.Type) -> str:
    if isinstance(of_type, inspect.LiteralType):
        return f"enum({', '.join(map(str, of_type.values))})"
    for kind, name in (
        (inspect.StrType, "string"),
        (inspect.BoolType, "boolean"),
        (inspect.IntType, "integer"),
        (inspect.FloatType, "number"),
        (inspect.ListType, "array"),
        (inspect.DictType, "map"),
    ):
        if isinstance(of_type, kind):
            return name
    return "object"


def is_either(of_type: inspect.Type) -> bool:
    """Whether it is an integer or a double."""
    if isinstance(of_type, inspect.Metadata):
        of_type = of_type.type
    found = {type(item) for item in of_type.types} if isinstance(of_type, inspect.UnionType) else set()
    return {inspect.IntType, inspect.FloatType} <= found
