"""Ask DuckDB what landed in a folder, locked into it: views `landed` (every row) and `rows` (one row an id).

Where rows have keys, these views have what the keys stand for in their place; `keyed` and `dimensions` are as landed.
Lines of JSON, plain or compressed, and Parquet may lie side by side: what a file is its first bytes say."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.inspect import StructType

from lmstream.errors import ConfigError, LmstreamError, Spot
from lmstream.model import DimensionRow, RowEvent
from lmstream.settings import MIB
from lmstream.storage.line_files import Form, form_of, landed_files, of_dimensions
from lmstream.verification.selects import reading
from lmstream.verification.sql_dimensions import PARTS, views

_AT: Final = re.compile(r"\s*LINE (\d+): (.*)\n( *)(\^+)")
"""Where DuckDB says that an error is: the line, and a mark below it."""
_SCALARS: Final[dict[type, str]] = {
    msgspec.inspect.IntType: "BIGINT",
    msgspec.inspect.FloatType: "DOUBLE",
    msgspec.inspect.BoolType: "BOOLEAN",
    msgspec.inspect.DictType: "MAP(VARCHAR, VARCHAR)",
}


_DIMENSION: Final = {field.encode_name: field for field in msgspec.structs.fields(DimensionRow)}
_COMPRESSIONS: Final[dict[Form, str]] = {"plain": "none", "gzip": "gzip", "zstd": "zstd"}


def connect(root: Path, errors: Path | None = None) -> Any:
    """Answer a DuckDB connection with the views, which can read below `root` and nothing else."""
    try:
        import duckdb
    except ImportError as e:
        raise ConfigError.missing("query", "query") from e
    if not root.is_dir():
        raise ConfigError("config.invalid", f"--landed {root}: no such folder", "name the folder that rows land in")
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",  # a name in SQL is not a Python variable
        },
    )
    found: dict[Form, list[str]] = {}
    for path in landed_files(root.resolve(), without=[errors or root / "errors"]):
        found.setdefault(form_of(path), []).append(str(path))
    fields = {f.encode_name: msgspec.inspect.type_info(f.type) for f in msgspec.structs.fields(RowEvent)}
    columns = {name: _duckdb_type(of) for name, of in fields.items() if name not in PARTS}
    keyed = {
        form: some
        for form, files in found.items()
        if (some := [each for each in files if of_dimensions(Path(each), form)])
    }
    try:
        for statement in _with_keys(found, keyed, fields) if keyed else [_landed(found, columns, fields)]:
            connection.execute(statement)
    except duckdb.Error as e:  # a file of Parquet that is damaged, or has other columns
        raise ConfigError("config.invalid", f"--landed {root}: {e}") from e
    connection.execute(
        "create view rows as select * from landed qualify row_number() over (partition by rowId order by rowId) = 1"
    )
    # allowed_directories lets writes through too: `run` takes only what `selects` knows to read.
    connection.execute(f"set allowed_directories=[{_quoted(str(root.resolve()) + '/')}]")
    connection.execute("set enable_external_access=false")
    connection.execute("set lock_configuration=true")
    return connection


def _landed(found: dict[Form, list[str]], columns: dict[str, str], fields: dict[str, msgspec.inspect.Type]) -> str:
    """The view of rows that say all of themselves."""
    parts = [_lines(files, columns, _COMPRESSIONS[form]) for form, files in found.items() if form != "parquet"]
    if "parquet" in found:
        parts.append(_parquet(found["parquet"], {name: of for name, of in fields.items() if name in columns}))
    empty = "select " + ", ".join(f'null::{kind} as "{name}"' for name, kind in columns.items()) + " where false"
    return f"create view landed as {' union all '.join(parts) or empty}"


def _with_keys(
    found: dict[Form, list[str]], keyed: dict[Form, list[str]], fields: dict[str, msgspec.inspect.Type]
) -> list[str]:
    """The views where some rows have keys."""
    columns = {name: _duckdb_type(of) for name, of in fields.items()}
    parts = [_lines(files, columns, _COMPRESSIONS[form]) for form, files in found.items() if form != "parquet"]
    if "parquet" in found:
        whole = _parquet(found["parquet"], {name: of for name, of in fields.items() if name not in PARTS})
        none = ", ".join(f'null::varchar as "{name}"' for name in PARTS)
        parts.append(f"select {', '.join(map(_named, fields))} from (select *, {none} from ({whole}))")  # noqa: S608 - as below
    of = {name: _duckdb_type(msgspec.inspect.type_info(f.type)) for name, f in _DIMENSION.items()}
    dimensions = [_lines(files, of, _COMPRESSIONS[form]) for form, files in keyed.items()]
    return views(columns, " union all ".join(parts), " union all ".join(dimensions))


def _named(name: str) -> str:
    return f'"{name}"'


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
    said = str(e)
    if (found := _AT.search(said)) is None:
        return ConfigError("query.sql", " ".join(said.split()))
    number, line, blank, mark = found.groups()
    lead = len(f"LINE {number}: ")
    spot = Spot("the statement", int(number), len(blank) - lead + 1, len(mark), line)
    return ConfigError("query.sql", " ".join(said[: found.start()].split()), spot=spot)


def _lines(files: list[str], columns: dict[str, str], compression: str) -> str:
    typed = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in columns.items())
    return (
        f"select * from read_json([{', '.join(map(_quoted, files))}], format='newline_delimited', "  # noqa: S608 - file names are quoted, the rest is ours
        f"compression='{compression}', maximum_object_size={16 * MIB}, columns={{{typed}}})"
    )


def _parquet(files: list[str], fields: dict[str, msgspec.inspect.Type]) -> str:
    """The same columns, of the same names and types."""
    columns = ", ".join(f'{_as_row(name.lower(), of)} as "{name}"' for name, of in fields.items())
    return f"select {columns} from read_parquet([{', '.join(map(_quoted, files))}])"  # noqa: S608 - as above


def _as_row(value: str, of: msgspec.inspect.Type) -> str:
    """An expression for a field of Parquet as a line has it: members of structs in its case, and no others."""
    of = _unwrapped(of)
    if isinstance(of, msgspec.inspect.ListType) and isinstance(inner := _unwrapped(of.item_type), StructType):
        return f"list_transform({value}, lambda x: {_as_row('x', inner)})"
    if isinstance(of, StructType):
        members = ", ".join(f'"{f.encode_name}" := {value}.{f.encode_name.lower()}' for f in of.fields)
        return f"case when {value} is null then null else struct_pack({members}) end"
    return value


def _unwrapped(of: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """A type without its annotations and None."""
    if isinstance(of, msgspec.inspect.Metadata):
        return _unwrapped(of.type)
    if isinstance(of, msgspec.inspect.UnionType):
        return _unwrapped(next(each for each in of.types if not isinstance(each, msgspec.inspect.NoneType)))
    return of


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
