"""`lmstream schema`: the row contract in the form that somebody else's tool reads."""

import re
from typing import Annotated, Literal

from cyclopts import Parameter

from lmstream import spec
from lmstream.cli.flags import NO_FILE, FileFlags
from lmstream.cli.terminal import print_json
from lmstream.errors import ConfigError


def schema(
    form: Literal["json", "glue", "sql", "markdown"] = "json",
    /,
    *,
    location: str = "s3://BUCKET/",
    database: str = "lmstream",
    map_keys: Literal["as-written", "lower-case"] = "as-written",
    rows_as: Annotated[Literal["ndjson", "parquet"], Parameter(name="--format")] = "ndjson",
    file: FileFlags = NO_FILE,
) -> None:
    """Print the row contract.

    Parameters
    ----------
    form
        json: JSON Schema of a row. glue: columns of a Glue table. sql: DDL for Athena, by the path template of the
        configuration. markdown: the table of the docs.
    location
        For sql: where rows land.
    database
        For sql: name of the Athena database.
    map_keys
        For sql over ndjson: keys of attributes, resource and scope. lower-case is how former tables had them.
    rows_as
        For glue and sql: how rows lie in objects. ndjson: lines of JSON, also as gzip or zstd.
    """
    if form == "json":
        print_json(spec.json_schema())
    elif form == "glue":
        print_json(spec.columns_of(rows_as))
    elif form == "sql":
        # Both stand inside quotes of the DDL, so nothing that could end them is taken.
        if not re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9!_.*()/=-]*)?", location):
            raise ConfigError("config.invalid", f"--location {location}: expected s3://BUCKET/PREFIX/")
        if not re.fullmatch(r"[a-z0-9_]+", database):
            raise ConfigError("config.invalid", f"--database {database}: Athena takes a-z, 0-9 and _")
        print(spec.athena_ddl(file.load().engine, location.rstrip("/") + "/", database, map_keys, rows_as))
    else:
        print(spec.field_table())
