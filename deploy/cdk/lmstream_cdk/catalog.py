"""Glue: the table of landed rows with partition projection, and the view that leaves out duplicates."""

import base64
import json
import re

from aws_cdk import aws_glue as glue
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream.deployment.buckets import rows_prefix
from lmstream.spec import (
    dimension_columns,
    dimension_partitions,
    glue_columns,
    partition_columns,
    serde_properties,
    view_query,
)
from lmstream_cdk.base import KEEP, pin

TABLE, DIMENSIONS, VIEW = "landed", "dimensions", "rows"
_PRESTO = {"string": "varchar"}


def add_database(scope: Construct, deployment: Deployment) -> str:
    """The database of one deployment, by its name."""
    name = database_name(deployment)
    database = pin(
        glue.CfnDatabase(
            scope,
            "Database",
            catalog_id=scope.account,  # type: ignore[attr-defined]
            database_input=glue.CfnDatabase.DatabaseInputProperty(name=name, description="Rows of lmstream"),
        ),
        "Database",
    )
    database.apply_removal_policy(KEEP)
    return name


def database_name(deployment: Deployment) -> str:
    """As Glue takes it."""
    return deployment.name.replace("-", "_").lower()


def add_catalog(scope: Construct, deployment: Deployment, bucket_name: str) -> None:
    """Database, table and view of one deployment, from the engine's own contract."""
    catalog = scope.account  # type: ignore[attr-defined]
    name = add_database(scope, deployment)
    partitions, _, _ = partition_columns(deployment.engine)
    keys = deployment.engine.dimensions
    columns = [column(each) for each in glue_columns()]
    tables = [
        _add_table(
            scope,
            deployment,
            bucket_name,
            ("Table", "LandedTable", TABLE, "Rows as they landed, duplicates included; ask with p_org and p_metric"),
            glue_columns(keys=keys),
            partition_columns(deployment.engine),
        )
    ]
    if keys:
        said = "What the keys of rows stand for, copies included; ask with p_org"
        named = "Dimensions", "DimensionsTable", DIMENSIONS, said
        of = dimension_partitions(deployment.engine)
        tables.append(_add_table(scope, deployment, bucket_name, named, dimension_columns(), of))
    view = glue.CfnTable(
        scope,
        "View",
        catalog_id=catalog,
        database_name=name,
        table_input=glue.CfnTable.TableInputProperty(
            name=VIEW,
            description="One row for each rowId",
            table_type="VIRTUAL_VIEW",
            parameters={"presto_view": "true", "comment": "Presto View"},
            view_original_text=_presto_view(deployment, name),
            view_expanded_text="/* Presto View */",
            storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                columns=[*columns, *(column(each) for each in partitions)],
                serde_info=glue.CfnTable.SerdeInfoProperty(),
            ),
        ),
    )
    pin(view, "RowsView")
    for table in tables:
        view.add_resource_dependency(table)


def _add_table(
    scope: Construct,
    deployment: Deployment,
    bucket_name: str,
    named: tuple[str, str, str, str],
    columns: list[dict[str, str]],
    partitioned: tuple[list[dict[str, str]], dict[str, str], str],
) -> glue.CfnTable:
    """A table over lines that landed. `named` is its id, its pinned id, its name, and what it is."""
    construct_id, pinned, name, description = named
    partitions, properties, template = partitioned
    root = f"s3://{bucket_name}/"
    properties["storage.location.template"] = root + template
    serde = serde_properties(deployment.catalog.map_keys, keys=deployment.engine.dimensions)
    table = pin(
        glue.CfnTable(
            scope,
            construct_id,
            catalog_id=scope.account,  # type: ignore[attr-defined]
            database_name=database_name(deployment),
            table_input=glue.CfnTable.TableInputProperty(
                name=name,
                description=description,
                table_type="EXTERNAL_TABLE",
                parameters={"EXTERNAL": "TRUE", "classification": "json", **properties},
                partition_keys=[column(each) for each in partitions],
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=[column(each) for each in columns],
                    # Below the prefix of rows, when they have one: readers without projection then meet neither errors
                    # nor results.
                    location=root + rows_prefix(deployment.engine.path),
                    input_format="org.apache.hadoop.mapred.TextInputFormat",
                    output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
                    compressed=True,
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library="org.openx.data.jsonserde.JsonSerDe", parameters=serde
                    ),
                ),
            ),
        ),
        pinned,
    )
    table.add_resource_dependency(scope.node.find_child("Database"))  # type: ignore[arg-type]
    return table


def presto_type(glue_type: str) -> str:
    """A column type of Hive in the words of Athena's engine."""
    if inner := re.fullmatch(r"array<(.*)>", glue_type):
        return f"array({presto_type(inner[1])})"
    if inner := re.fullmatch(r"map<(.*)>", glue_type):
        return f"map({', '.join(presto_type(each) for each in _split(inner[1]))})"
    if inner := re.fullmatch(r"struct<(.*)>", glue_type):
        named = (each.partition(":") for each in _split(inner[1]))
        return f"row({', '.join(f'{name} {presto_type(kind)}' for name, _, kind in named)})"
    return _PRESTO.get(glue_type, glue_type)


def _split(text: str) -> list[str]:
    """Parts between commas outside of <>."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _presto_view(deployment: Deployment, database: str) -> str:
    """The form in which Athena keeps its views: JSON in base64 between marks."""
    partitions, _, _ = partition_columns(deployment.engine)
    view = {
        "originalSql": view_query(deployment.engine, database),
        "catalog": "awsdatacatalog",
        "schema": database,
        "columns": [
            {"name": each["Name"], "type": presto_type(each["Type"])} for each in [*glue_columns(), *partitions]
        ],
    }
    return f"/* Presto View: {base64.b64encode(json.dumps(view).encode()).decode()} */"


def column(each: dict[str, str]) -> glue.CfnTable.ColumnProperty:
    """A column of the contract."""
    return glue.CfnTable.ColumnProperty(name=each["Name"], type=each["Type"], comment=each.get("Comment") or None)
