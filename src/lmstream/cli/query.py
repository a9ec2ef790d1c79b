"""`lmstream query`: SQL over landed rows with DuckDB, locked into the landing folder."""

import contextlib
import csv
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.scratch import scratch
from lmstream.cli.selects import reading
from lmstream.errors import ConfigError, LmstreamError
from lmstream.model import RowEvent
from lmstream.settings import MIB
from lmstream.storage.line_files import is_gzip, landed_files
from lmstream.storage.objects import NO_S3, Folder, Place, Prefix, S3Access, place

SUMMARY: Final = """
select orgId as org, metric, substr(ts, 1, 13) || ':00Z' as hour, count(*) as rows,
       count(distinct deviceId) as devices, round(min(value), 3) as least, round(avg(value), 3) as mean,
       round(max(value), 3) as most
from rows group by all order by rows desc, org, metric, hour limit 40
"""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that spreadsheets run
_SHOWN: Final = 1000  # rows of a table for people; --json and --csv give all
_SCALARS: Final[dict[type, str]] = {
    msgspec.inspect.IntType: "BIGINT",
    msgspec.inspect.FloatType: "DOUBLE",
    msgspec.inspect.BoolType: "BOOLEAN",
    msgspec.inspect.DictType: "MAP(VARCHAR, VARCHAR)",
}


def query(
    sql: str | None = None,
    /,
    *,
    landed: str,
    errors: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    as_csv: Annotated[bool, Parameter(name="--csv")] = False,
    raw_csv: bool = False,
    s3: S3Access = NO_S3,
) -> None:
    """Query landed rows. Views: `landed` has every row, `rows` one row for each rowId.

    Parameters
    ----------
    sql
        One statement that reads: a select, or explain of one. Without it: rows by org, metric and hour.
    landed
        Folder of landed rows, or s3://BUCKET/PREFIX: a prefix that is small enough to be copied here first.
    errors
        Error prefix to leave out; LANDED/errors when that exists.
    as_json
        Print JSON, one object a line.
    as_csv
        Print CSV. Cells that a spreadsheet would run as formulas get a leading quote.
    raw_csv
        As --csv, but every cell as it is.
    """
    with _here(place(landed, s3), None if errors is None else place(errors, s3)) as (root, left_out):
        _print(root, left_out, sql or SUMMARY, as_json=as_json, as_csv=as_csv, raw_csv=raw_csv)


@contextlib.contextmanager
def _here(landed: Place, errors: Place | None) -> Iterator[tuple[Path, Path | None]]:
    """A folder of this machine with what landed: the very one, or a copy of the bucket's that goes away again."""
    if isinstance(landed, Folder):
        yield landed.path, errors.path if isinstance(errors, Folder) else None
        return
    assert isinstance(landed, Prefix)  # noqa: S101 - for the type checker
    with scratch("lmstream-query-") as made, terminal.Progress("objects copied") as progress:
        for number, key in enumerate(landed.keys(without=[errors or landed.below("errors")])):
            # By number: what senders named may be no name for a file of this machine.
            with (made / f"{number:08d}").open("wb") as copy:
                shutil.copyfileobj(landed.opened(key), copy, MIB)
            progress.advance()
        yield made, None


def _print(root: Path, errors: Path | None, sql: str, *, as_json: bool, as_csv: bool, raw_csv: bool) -> None:
    connection = connect(root, errors)
    headers, rows = run(connection, sql)
    if as_json:
        for row in rows:
            terminal.print_json(dict(zip(headers, row, strict=True)), indent=None)
    elif as_csv or raw_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(headers)
        shows = terminal.cell if sys.stdout.isatty() else _same  # what goes into a file stays as it is
        writer.writerows([v if raw_csv else _harmless(v) for v in map(shows, row)] for row in rows)
    else:
        shown = [row for row, _ in zip(rows, range(_SHOWN), strict=False)]
        terminal.table(headers, shown)
        if next(rows, None) is not None:
            terminal.say(f"the first {_SHOWN:,} rows; --json and --csv give all")


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
            "python_enable_replacements": "false",  # a name in SQL is no variable of ours
        },
    )
    plain: list[str] = []
    zipped: list[str] = []
    for path in landed_files(root.resolve(), without=[errors or root / "errors"]):
        (zipped if is_gzip(path) else plain).append(str(path))
    columns = {f.encode_name: _duckdb_type(f.type) for f in _fields(RowEvent)}
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


def _same(value: object) -> object:
    return value


def _harmless(value: object) -> object:
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value


def _fields(struct: type) -> tuple[msgspec.inspect.Field, ...]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - for the type checker
    return info.fields


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
