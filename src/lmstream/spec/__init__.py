"""The row contract as data: field table, JSON Schema, Glue columns and Athena DDL, all generated from RowEvent."""

from lmstream.spec.athena import athena_ddl, view_query
from lmstream.spec.contract import (
    TABLE_BEGIN,
    TABLE_END,
    VERSION,
    Field,
    dimension_table,
    field_table,
    fields,
    json_schema,
)
from lmstream.spec.loader import SpecLoader
from lmstream.spec.tables import (
    AS_WRITTEN,
    INTEGER,
    LOWER_CASE,
    Form,
    columns_of,
    dimension_columns,
    dimension_partitions,
    glue_columns,
    parquet_columns,
    partition_columns,
    serde_properties,
)

__all__ = [
    "AS_WRITTEN",
    "INTEGER",
    "LOWER_CASE",
    "TABLE_BEGIN",
    "TABLE_END",
    "VERSION",
    "Field",
    "Form",
    "SpecLoader",
    "athena_ddl",
    "columns_of",
    "dimension_columns",
    "dimension_partitions",
    "dimension_table",
    "field_table",
    "fields",
    "glue_columns",
    "json_schema",
    "parquet_columns",
    "partition_columns",
    "serde_properties",
    "view_query",
]
