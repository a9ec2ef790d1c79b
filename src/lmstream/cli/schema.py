"""`lmstream schema`: the row contract in the form that somebody else's tool reads."""

from pathlib import Path
from typing import Literal

from lmstream import spec
from lmstream.cli.terminal import print_json
from lmstream.config import load


def schema(
    form: Literal["json", "glue", "sql", "markdown"] = "json",
    /,
    *,
    config: Path | None = None,
    location: str = "s3://BUCKET/",
    database: str = "lmstream",
) -> None:
    """Print the row contract.

    Parameters
    ----------
    form
        json: JSON Schema of one row. glue: columns of a Glue table. sql: CREATE TABLE for Athena, with partition
        projection. markdown: the field table of the documentation.
    config
        TOML file with the path template that the DDL must fit.
    location
        For sql: where rows land, ending in a slash.
    database
        For sql: name of the Athena database.
    """
    if form == "json":
        print_json(spec.json_schema())
    elif form == "glue":
        print_json(spec.glue_columns())
    elif form == "sql":
        print(spec.athena_ddl(load(config).engine, location, database))
    else:
        print(spec.field_table())
