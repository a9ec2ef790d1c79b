"""`lmstream schema`: the row contract in the form that somebody else's tool reads."""

import re
from typing import Annotated, Literal

from cyclopts import Parameter

from lmstream import spec
from lmstream.cli.flags import NO_FILE, FileFlags
from lmstream.cli.terminal import print_json
from lmstream.errors import ConfigError
from lmstream.storage.objects import SCHEME


def schema(
    form: Literal["json", "glue", "sql", "markdown"] = "json",
    /,
    *,
    location: str | None = None,
    database: str = "lmstream",
    map_keys: Literal["as-written", "lower-case"] = "as-written",
    rows_as: Annotated[Literal["ndjson", "parquet"] | None, Parameter(name="--format")] = None,
    file: FileFlags = NO_FILE,
) -> None:
    """Print the row contract.

    Parameters
    ----------
    form
        json: JSON Schema of a row. glue: columns of a Glue table; with engine.dimensions of two, by name. sql: DDL for
        Athena, by the path template of the configuration. markdown: the table of the docs.
    location
        For sql: where rows land. Default: the bucket of the configuration's s3 sink, else s3://BUCKET/.
    database
        For sql: name of the Athena database.
    map_keys
        For sql over ndjson: keys of attributes, resource and scope. lower-case is how former tables had them.
    rows_as
        For glue and sql: how rows lie in objects. ndjson: lines of JSON, also as gzip or zstd. Default: as the sink of
        the configuration writes them, else ndjson.
    """
    if form == "json":
        print_json(spec.json_schema())
        return
    if form == "markdown":
        print(spec.field_table())
        return
    config = file.load()
    lake = config.sink.settings if config.sink is not None and config.sink.traits.claims else None
    rows_as = rows_as or ("parquet" if getattr(lake, "format", "") == "parquet" else "ndjson")
    if form == "glue":
        columns = spec.columns_of(rows_as, keys=config.engine.dimensions)
        keyed = config.engine.dimensions and rows_as != "parquet"
        print_json({"landed": columns, "dimensions": spec.dimension_columns()} if keyed else columns)
    else:
        bucket = getattr(lake, "bucket", "")
        location = location or (f"{SCHEME}{bucket}/{lake.rows}" if lake is not None and bucket else f"{SCHEME}BUCKET/")
        # Both stand inside quotes of the DDL, so nothing that could end them is taken.
        if not re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9!_.*()/=-]*)?", location):
            raise ConfigError("config.invalid", f"--location {location}: expected s3://BUCKET/PREFIX/")
        if not re.fullmatch(r"[a-z0-9_]+", database):
            raise ConfigError("config.invalid", f"--database {database}: Athena takes a-z, 0-9 and _")
        print(spec.athena_ddl(config.engine, location.rstrip("/") + "/", database, map_keys, rows_as))
