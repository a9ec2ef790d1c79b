"""Landed rows as tables: Glue columns, partition projection, columns of Parquet."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import inspect, structs

from lmstream.model import DimensionRow, RowEvent, dimension_path
from lmstream.settings import Settings
from lmstream.spec._types import is_either, name_of, struct_fields, unwrap

AS_WRITTEN: Final = "as-written"
LOWER_CASE: Final = "lower-case"
_KEYS: Final = {"resourceKey", "scopeKey", "attributesKey"}
"""Fields of rows with dimensions alone."""
_TIME_FIELDS: Final = {"yyyy": ("2000,2100", 4), "MM": ("1,12", 2), "dd": ("1,31", 2), "HH": ("0,23", 2)}


def glue_columns(*, keys: bool = False) -> list[dict[str, str]]:
    """Columns for a Glue table with the OpenX JSON SerDe. Lower case: Glue folds names. `serde_properties` says which
    keys of a row they are. With `keys` those of rows with dimensions too."""
    return _columns(struct_fields() if keys else _without_keys())


def dimension_columns() -> list[dict[str, str]]:
    """The same of dimension rows."""
    return _columns(struct_fields(DimensionRow))


def _columns(fields: Iterable[inspect.Field]) -> list[dict[str, str]]:
    columns = []
    for field in fields:
        of_type, meta = unwrap(field.type)
        comment = meta.get("description", "").replace("`", "")
        columns.append({"Name": field.encode_name.lower(), "Type": _glue_type(of_type), "Comment": comment[:255]})
    return columns


INTEGER: Final = "valueint"
"""Column of Parquet beside a value that is a double or an integer: the integer, exactly; null for doubles."""


Form = Literal["ndjson", "parquet"]
"""How rows lie in the objects of a table."""


def columns_of(form: Form, *, keys: bool = False) -> list[dict[str, str]]:
    """Columns of a Glue table over objects of this form; with `keys` those of rows with dimensions too, which Parquet
    does not have."""
    return parquet_columns() if form == "parquet" else glue_columns(keys=keys)


def parquet_columns() -> list[dict[str, str]]:
    """Columns of a Parquet file, and of a Glue table over such files. Lower case, in structs too: Glue folds names, and
    some readers look for names as they are. Beside each value that may be an integer, in structs too, stands
    `valueint`: a double holds integers up to 2^53 only."""
    columns = []
    for field in _without_keys():
        _, meta = unwrap(field.type)
        comment = meta.get("description", "").replace("`", "")
        columns.append({"Name": field.encode_name.lower(), "Type": _parquet_type(field.type), "Comment": comment[:255]})
        if is_either(field.type):
            said = "asInt exactly; absent for asDouble"
            columns.append({"Name": INTEGER, "Type": "bigint", "Comment": said})
    return columns


def serde_properties(map_keys: str = AS_WRITTEN, *, keys: bool = False) -> dict[str, str]:
    """Properties of the OpenX JSON SerDe (docs.aws.amazon.com/athena/latest/ug/openx-json-serde.html). With
    case.insensitive it folds keys of maps too: two that differ in case end the query, or one of them is lost. Without,
    each column with upper case in its key needs a mapping, which holds in structs as well. With `keys` of rows with
    dimensions too.
    """
    if map_keys == LOWER_CASE:
        return {"case.insensitive": "true"}
    names = sorted(_keys_of(inspect.type_info(RowEvent)) - (set() if keys else _KEYS))
    return {"case.insensitive": "false"} | {f"mapping.{name.lower()}": name for name in names if name != name.lower()}


def partition_columns(settings: Settings) -> tuple[list[dict[str, str]], dict[str, str], str]:
    """For the path template: partition columns, their projection properties, and the location below the landing root
    as a template with `${column}`. Names begin with `p_`, so that none is a column of the row.
    """
    columns: dict[str, dict[str, str]] = {}
    properties = {"projection.enabled": "true"}

    def column(name: str, kind: str, **more: str) -> str:
        columns[name] = {"Name": name, "Type": "string"}
        properties[f"projection.{name}.type"] = kind
        properties.update({f"projection.{name}.{key.replace('_', '.')}": value for key, value in more.items()})
        return f"${{{name}}}"

    def time(match: re.Match[str]) -> str:
        run = match[0]
        names = re.findall(r"\{(\w+)\}", run)
        if names[:3] == ["yyyy", "MM", "dd"]:
            pattern = run.replace("{", "").replace("}", "")
            begin = datetime(2024, 1, 1, tzinfo=UTC)
            first = run.format(yyyy=f"{begin:%Y}", MM=f"{begin:%m}", dd=f"{begin:%d}", HH=f"{begin:%H}")
            unit = "HOURS" if "HH" in names else "DAYS"
            return column("p_dt", "date", format=pattern, range=f"{first},NOW", interval="1", interval_unit=unit)
        for name in names:
            limits, digits = _TIME_FIELDS[name]
            placed = column(
                f"p_{'hour' if name == 'HH' else name.lower()}", "integer", range=limits, digits=str(digits)
            )
            run = run.replace(f"{{{name}}}", placed)
        return run

    location = settings.path.replace("{orgKey}", column("p_org", "injected"))
    if "{metricKey}" in location:
        location = location.replace("{metricKey}", column("p_metric", "injected"))
    location = re.sub(r"\{(?:yyyy|MM|dd|HH)\}(?:[-/_.]?\{(?:yyyy|MM|dd|HH)\})*", time, location)
    location = location.replace("$$", "$")
    return list(columns.values()), properties, location


def dimension_partitions(settings: Settings) -> tuple[list[dict[str, str]], dict[str, str], str]:
    """The same for dimension rows: see model.dimension_path."""
    return partition_columns(structs.replace(settings, path=dimension_path(settings.path)))


def _without_keys() -> list[inspect.Field]:
    """The fields of rows that say all of themselves."""
    return [field for field in struct_fields() if field.encode_name not in _KEYS]


def _keys_of(of_type: inspect.Type) -> set[str]:
    """Keys of a struct and of the structs within."""
    of_type, _ = unwrap(of_type)
    if isinstance(of_type, inspect.ListType):
        return _keys_of(of_type.item_type)
    if isinstance(of_type, inspect.StructType):
        return {f.encode_name for f in of_type.fields}.union(*(_keys_of(f.type) for f in of_type.fields))
    return set()


def _glue_type(of_type: inspect.Type) -> str:
    of_type, _ = unwrap(of_type)
    if isinstance(of_type, inspect.ListType):
        return f"array<{_glue_type(of_type.item_type)}>"
    if isinstance(of_type, inspect.DictType):
        return f"map<{_glue_type(of_type.key_type)},{_glue_type(of_type.value_type)}>"
    if isinstance(of_type, inspect.StructType):
        return f"struct<{','.join(f'{f.encode_name.lower()}:{_glue_type(f.type)}' for f in of_type.fields)}>"
    return {"integer": "bigint", "number": "double", "boolean": "boolean"}.get(name_of(of_type), "string")


def _parquet_type(of_type: inspect.Type) -> str:
    of_type, _ = unwrap(of_type)
    if isinstance(of_type, inspect.ListType):
        return f"array<{_parquet_type(of_type.item_type)}>"
    if isinstance(of_type, inspect.StructType):
        members = []
        for field in of_type.fields:
            members.append(f"{field.encode_name.lower()}:{_parquet_type(field.type)}")
            if is_either(field.type):
                members.append(f"{INTEGER}:bigint")
        return f"struct<{','.join(members)}>"
    return _glue_type(of_type)
