"""Landed rows in Athena: the DDL of their tables, and the view without duplicates, whose rows say all of themselves."""

from typing import Final

from lmstream.settings import Settings
from lmstream.spec.tables import (
    AS_WRITTEN,
    Form,
    columns_of,
    dimension_columns,
    dimension_partitions,
    partition_columns,
    serde_properties,
)

_PARTS: Final = {
    "resource": ("deviceid", "devicename", "resource"),
    "scope": ("datasource", "scope"),
    "attributes": ("instance", "attributes"),
}
"""By the dimension, the columns that its key stands for."""


def athena_ddl(
    settings: Settings | None = None,
    location: str = "s3://BUCKET/",
    database: str = "lmstream",
    map_keys: str = AS_WRITTEN,
    form: Form = "ndjson",
) -> str:
    """DDL of the landed table with partition projection, and of the view without duplicates. A query must name p_org
    and p_metric: they are injected columns. A table has one form; `ndjson` may be compressed as gzip or zstd, each
    object by its name's ending. With `settings.dimensions` there is a table of dimension rows too, for the view.
    """
    settings = settings or Settings()
    keys = _has_keys(settings, form)
    stored = "STORED AS PARQUET"
    if form == "ndjson":
        serde = ",\n".join(f"  '{key}' = '{value}'" for key, value in serde_properties(map_keys, keys=keys).items())
        stored = f"ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'\nWITH SERDEPROPERTIES (\n{serde}\n)"
    tables = [_table("landed", columns_of(form, keys=keys), partition_columns(settings), stored, location, database)]
    if keys:
        of_dimensions = dimension_partitions(settings)
        tables.append(_table("dimensions", dimension_columns(), of_dimensions, stored, location, database))
    return f"""\
{"".join(tables)}-- Firehose delivers at least once; a row's id is the same in every copy, and copies share a partition.
CREATE OR REPLACE VIEW {database}.rows AS
{view_query(settings, database, form)};
"""


def _table(
    name: str,
    columns: list[dict[str, str]],
    partitioned: tuple[list[dict[str, str]], dict[str, str], str],
    stored: str,
    location: str,
    database: str,
) -> str:
    partitions, properties, template = partitioned
    body = ",\n".join(f"  `{column['Name']}` {column['Type']}" for column in columns)
    keys = ", ".join(f"`{column['Name']}` string" for column in partitions)
    properties["storage.location.template"] = location + template
    table_properties = ",\n".join(f"  '{key}' = '{value}'" for key, value in properties.items())
    return f"""\
CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{name}` (
{body}
)
PARTITIONED BY ({keys})
{stored}
LOCATION '{location}'
TBLPROPERTIES (
{table_properties}
);

"""


def view_query(settings: Settings | None = None, database: str = "lmstream", form: Form = "ndjson") -> str:
    """The query of the view without duplicates. Its window names the partition columns, though copies share them: only
    then does Athena push a query's conditions on them below the window, and injected columns need a condition. With
    `settings.dimensions` rows are joined with the dimension rows of their partition and hour: it has the same columns.
    """
    settings = settings or Settings()
    partitions, _, _ = partition_columns(settings)
    names = [column["Name"] for column in partitions]
    columns = [*(column["Name"] for column in columns_of(form)), *names]
    once = f"""\
  SELECT *, row_number() OVER (PARTITION BY {", ".join(names)}, rowid ORDER BY tsunixms) AS copy
  FROM {database}.landed"""  # noqa: S608 - names of our own
    if not _has_keys(settings, form):
        shown = ", ".join(f'"{name}"' for name in columns)
        return f"SELECT {shown} FROM (\n{once}\n) WHERE copy = 1"  # noqa: S608 - as above
    shared = [column["Name"] for column in dimension_partitions(settings)[0]]
    values = {name: f'k."{name}"' for name in columns}
    joins = ""
    for kind, of in _PARTS.items():
        joins += _join(kind, of, shared, database)
        values |= {name: f'coalesce(k."{name}", d_{kind}."{name}")' for name in of}
    values["scope"] = _SCOPE
    shown = ",\n  ".join(value if value == f'k."{name}"' else f'{value} AS "{name}"' for name, value in values.items())
    return f"SELECT\n  {shown}\nFROM (\n{once}\n) k{joins}\nWHERE k.copy = 1"


def _has_keys(settings: Settings, form: Form) -> bool:
    return settings.dimensions and form != "parquet"


def _join(kind: str, columns: tuple[str, ...], partitions: list[str], database: str) -> str:
    """Dimension rows of a kind, each once, of the partition and hour of a row."""
    shared = ", ".join(partitions)
    said = ", ".join(f"arbitrary({name}) AS {name}" for name in columns)
    on = " AND ".join(f"d_{kind}.{name} = k.{name}" for name in partitions)
    return f"""
LEFT JOIN (
  SELECT {shared}, substr(ts, 1, 13) AS hour, key, {said}
  FROM {database}.dimensions WHERE dimension = '{kind}' GROUP BY {shared}, substr(ts, 1, 13), key
) d_{kind} ON {on} AND d_{kind}.hour = substr(k.ts, 1, 13) AND d_{kind}.key = k.{kind}key"""  # noqa: S608 - as above


_BY_TIME: Final = "map(ARRAY['epoch'], ARRAY[CAST(k.tsunixms AS varchar)])"
_SHARED: Final = (
    "CASE WHEN element_at(d_scope.scope, 'epoch') = '{tsUnixMs}' "
    f"THEN map_concat(d_scope.scope, {_BY_TIME}) ELSE d_scope.scope END"
)
_SCOPE: Final = (
    "CASE WHEN k.scopekey IS NULL OR d_scope.scope IS NULL THEN k.scope "
    f"WHEN k.scope IS NULL THEN {_SHARED} ELSE map_concat({_SHARED}, k.scope) END"
)
"""What the dimension row says, with the row's time for its epoch, and what stayed in the row."""
