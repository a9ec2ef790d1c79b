"""Ask DuckDB what landed in a folder, locked into it: views `landed` (every row) and `rows` (one row an id)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lmstream.errors import ConfigError, LmstreamError
from lmstream.model import RowEvent
from lmstream.settings import MIB
from lmstream.storage.line_files import is_gzip, landed_files
from lmstream.verification.selects import reading

_SCALARS: Final[dict[type, str]] = {
    msgspec.inspect.IntType: "BIGINT",
    msgspec.inspect.FloatType: "DOUBLE",
    msgspec.inspect.BoolType: "BOOLEAN",
    msgspec.inspect.DictType: "MAP(VARCHAR, VARCHAR)",
}


def connect(root: Path, errors: Path | None = None) -> Any:
    """Answer a DuckDB connection with the views, which can read below `root` and nothing else."""
    try:
        import duckdb
    except ImportError as e:
        raise ConfigError("config.extra", "query needs: pip install 'lmstream[query]'") from e
    if not root.is_dir():
        raise ConfigError("config.invalid", f"--landed {root}: no such folder")
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",  # a name in SQL is not a Python variable
        },
    )
    plain: list[str] = []
    zipped: list[str] = []
    for path in landed_files(root.resolve(), without=[errors or root / "errors"]):
        (zipped if is_gzip(path) else plain).append(str(path))
    columns = {f.encode_name: _duckdb_type(msgspec.inspect.type_info(f.type)) for f in msgspec.structs.fields(RowEvent)}
    parts = [_select(files, columns, kind) for files, kind in ((zipped, "gzip"), (plain, "none")) if files]
    empty = "select " + ", ".join(f'null::{kind} as "{name}"' for name, kind in columns.items()) + " where false"
    connection.execute(f"create view landed as {' union all '.join(parts) or empty}")
    connection.execute(
        "create view rows as select * from landed qualify row_number() over (partition by rowId order by rowId) = 1"
    )
    # allowed_directories lets writes through too: `run` takes only what `selects` knows to read.
    connection.execute(f"set allowed_directories=[{_quoted(str(root.resolve()) + '/')}]")
    connection.execute("set enable_external_access=false")
    connection.execute("set lock_configuration=true")
    return connection


def run(connection: Any, sql: str) -> tuple[list[str], Iterator[Sequence[Any]]]:
    """Answer column names and rows of one statement. What DuckDB says against it becomes one clear error."""
    import duckdb

    try:
        result = connection.execute(reading(connection, sql))
        headers = [column[0] for column in result.description]
    except duckdb.Error as e:
        raise _sql_error(e) from e
    return headers, _rows(result)


def _rows(result: Any) -> Iterator[Sequence[Any]]:
    import duckdb

    try:
        while chunk := result.fetchmany(1000):
            yield from chunk
    except duckdb.Error as e:
        raise _sql_error(e) from e


def _sql_error(e: Exception) -> LmstreamError:
    return ConfigError("config.invalid", f"query: {e}")


def _select(files: list[str], columns: dict[str, str], compression: str) -> str:
    typed = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in columns.items())
    return (
        f"select * from read_json([{', '.join(map(_quoted, files))}], format='newline_delimited', "  # noqa: S608 - file names are quoted, the rest is ours
        f"compression='{compression}', maximum_object_size={16 * MIB}, columns={{{typed}}})"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _duckdb_type(kind: msgspec.inspect.Type) -> str:
    """Answer the DuckDB type of a field of the row contract; a field may always be absent."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _duckdb_type(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        some = [_duckdb_type(t) for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)]
        return "DOUBLE" if "DOUBLE" in some else some[0]
    if isinstance(kind, msgspec.inspect.ListType):
        return f"{_duckdb_type(kind.item_type)}[]"
    if isinstance(kind, msgspec.inspect.StructType):
        return "STRUCT(" + ", ".join(f'"{f.encode_name}" {_duckdb_type(f.type)}' for f in kind.fields) + ")"
    return _SCALARS.get(type(kind), "VARCHAR")
