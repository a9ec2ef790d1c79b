"""Glue: the table of landed rows with partition projection, and the view that leaves out duplicates."""

import base64
import json
import re

from aws_cdk import aws_glue as glue
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream.deployment.buckets import rows_prefix
from lmstream.spec import glue_columns, partition_columns, serde_properties, view_query
from lmstream_cdk.base import KEEP, pin

TABLE, VIEW = "landed", "rows"
_PRESTO = {"string": "varchar"}


def add_database(scope: Construct, deployment: Deployment) -> str:
    """The database of one deployment, by its name."""
    name = deployment.name.replace("-", "_").lower()
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


def add_catalog(scope: Construct, deployment: Deployment, bucket_name: str) -> None:
    """Database, table and view of one deployment, from the engine's own contract."""
    catalog = scope.account  # type: ignore[attr-defined]
    name = add_database(scope, deployment)
    partitions, properties, template = partition_columns(deployment.engine)
    root = f"s3://{bucket_name}/"
    properties["storage.location.template"] = root + template
    # Below the prefix of rows, when they have one: readers without projection then meet neither errors nor results.
    location = root + rows_prefix(deployment.engine.path)
    columns = [column(each) for each in glue_columns()]
    table = pin(
        glue.CfnTable(
            scope,
            "Table",
            catalog_id=catalog,
            database_name=name,
            table_input=glue.CfnTable.TableInputProperty(
                name=TABLE,
                description="Rows as they landed, duplicates included; ask with p_org and p_metric",
                table_type="EXTERNAL_TABLE",
                parameters={"EXTERNAL": "TRUE", "classification": "json", **properties},
                partition_keys=[column(each) for each in partitions],
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=columns,
                    location=location,
                    input_format="org.apache.hadoop.mapred.TextInputFormat",
                    output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
                    compressed=True,
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library="org.openx.data.jsonserde.JsonSerDe",
                        parameters=serde_properties(deployment.catalog.map_keys),
                    ),
                ),
            ),
        ),
        "LandedTable",
    )
    table.add_resource_dependency(scope.node.find_child("Database"))  # type: ignore[arg-type]
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
    view.add_resource_dependency(table)


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
