"""What a setting takes, and a value of it, in the words and the form that a person would write in the file."""

from typing import Any, Final

import msgspec
from msgspec import inspect as kinds

_PLAIN: Final[dict[type, str]] = {
    kinds.StrType: "text",
    kinds.IntType: "integer",
    kinds.FloatType: "number",
    kinds.BoolType: "true or false",
    kinds.NoneType: "unset",
}


def type_in_words(info: Any) -> str:
    """What a setting takes: `info` is its type as msgspec.inspect has it."""
    if isinstance(info, kinds.UnionType):
        return " or ".join(type_in_words(each) for each in info.types)
    if isinstance(info, kinds.LiteralType):
        return " | ".join(map(json_of, info.values))
    if isinstance(info, kinds.TupleType):
        return f"list of {len(info.item_types)} numbers"
    if isinstance(info, kinds.VarTupleType | kinds.ListType):
        struct = isinstance(info.item_type, kinds.StructType)
        return "list of tables" if struct else f"list of {_plain(info.item_type)}s"
    if isinstance(info, kinds.DictType):
        return f"table of {_plain(info.value_type)}s"
    return _plain(info) + _bounds(info)


def _plain(info: Any) -> str:
    return _PLAIN.get(type(info), "value")


def _bounds(info: Any) -> str:
    said = {
        "at least {}": getattr(info, "ge", None),
        "above {}": getattr(info, "gt", None),
        "at most {}": getattr(info, "le", None),
        "{} characters at least": getattr(info, "min_length", None),
        "{} characters at most": getattr(info, "max_length", None),
    }
    return "".join(f", {text.format(shown(bound))}" for text, bound in said.items() if bound is not None)


def shown(number: float) -> str:
    """A number as people and TOML write it: 67_108_864."""
    return f"{number:_}" if isinstance(number, int) else f"{number:g}"


def json_of(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return shown(value)
    return msgspec.json.encode(value).decode()
