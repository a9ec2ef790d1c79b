"""The Arrow schema of landed rows, from the row contract."""

from functools import cache
from typing import Any

from lmstream import spec
from lmstream.errors import ConfigError


def pyarrow() -> Any:
    """The library. Raises ConfigError without the extra [parquet]."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError.missing("Parquet", "parquet") from error
    return pa


@cache
def schema() -> Any:
    """What a file of rows has, as pyarrow.Schema."""
    pa = pyarrow()
    return pa.schema([(column["Name"], arrow_type(column["Type"])) for column in spec.parquet_columns()])


def arrow_type(hive: str) -> Any:
    """The Arrow type of a Glue type."""
    pa = pyarrow()
    simple = {"string": pa.string, "bigint": pa.int64, "double": pa.float64, "boolean": pa.bool_}
    if hive in simple:
        return simple[hive]()
    kind, _, inside = hive.removesuffix(">").partition("<")
    if kind == "array":
        return pa.list_(arrow_type(inside))
    parts = _parts(inside)
    if kind == "map":
        return pa.map_(*map(arrow_type, parts))
    return pa.struct([(name, arrow_type(of)) for name, _, of in (part.partition(":") for part in parts)])


def _parts(text: str) -> list[str]:
    """Split at the commas that are not inside of a type."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
