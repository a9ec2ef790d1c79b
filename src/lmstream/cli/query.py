"""`lmstream query`: SQL over landed rows with DuckDB, locked into the landing folder."""

import contextlib
import csv
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from lmstream.aws import credentials
from lmstream.cli import terminal
from lmstream.cli.flags import NO_FILE, NO_S3, FileFlags, Json, S3Flags
from lmstream.cli.landed import landed_of
from lmstream.cli.scratch import scratch
from lmstream.cli.tables import Column, Wide, table
from lmstream.settings import MIB
from lmstream.storage.objects import Folder, Place, Prefix, place
from lmstream.verification.sql import connect, run

SUMMARY: Final = """
select orgId as org, metric, substr(ts, 1, 13) || ':00Z' as hour, count(*) as rows,
       count(distinct deviceId) as devices, round(min(value), 3) as least, round(avg(value), 3) as mean,
       round(max(value), 3) as most
from rows group by all order by rows desc, org, metric, hour limit 40
"""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that spreadsheets run
_SHOWN: Final = 1000  # rows of a table for people; --json and --csv give all


def query(
    sql: str | None = None,
    /,
    *,
    landed: str | None = None,
    errors: str | None = None,
    as_json: Json = False,
    as_csv: Annotated[bool, Parameter(name="--csv")] = False,
    raw_csv: bool = False,
    wide: Wide = False,
    s3: S3Flags = NO_S3,
    file: FileFlags = NO_FILE,
) -> None:
    """Query landed rows: lines of JSON, plain, gzip or zstd, and Parquet, also mixed.

    Views: `landed` has every copy, `rows` one row per rowId; both join rows with keys to their dimension rows. `keyed`
    and `dimensions` are as landed.

    Parameters
    ----------
    sql
        One read-only statement: a select, or explain of one. Without it: rows by org, metric and hour.
    landed
        Folder of landed rows, or s3://BUCKET/PREFIX: a prefix small enough to be copied to this machine first.
        Default: where the sink of the configuration puts them.
    errors
        Error prefix to leave out; LANDED/errors when that exists.
    as_json
        Print JSON, one object a line.
    as_csv
        Print CSV. Cells that a spreadsheet would run as formulas get a leading quote.
    raw_csv
        As --csv, but every cell unchanged.
    wide
        Show all columns in full, however wide the terminal is.
    """
    where, access = landed_of(landed, s3.access, file)
    for text, reached in ((where, access), (errors, s3.access)):
        if text is not None and isinstance(place(text, reached), Prefix):
            credentials.need(text)
    with _here(place(where, access), None if errors is None else place(errors, s3.access)) as (root, left_out):
        _print(root, left_out, sql or SUMMARY, as_json=as_json, as_csv=as_csv, raw_csv=raw_csv, wide=wide)


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


def _print(
    root: Path, errors: Path | None, sql: str, *, as_json: bool, as_csv: bool, raw_csv: bool, wide: bool
) -> None:
    # Without UTF-8 in the locale Python leaves the bytes of an argument as they are.
    sql = os.fsencode(sql).decode("utf-8", "replace") if any("\udc80" <= each <= "\udcff" for each in sql) else sql
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
        # The middle ones go first: a select begins with what it groups by, and ends with what it counts.
        last = len(headers) - 1
        heads = [Column(name, 1 + 2 * min(n, last - n) + (n > last - n)) for n, name in enumerate(headers)]
        table(heads, shown, wide=wide)
        if next(rows, None) is not None:
            terminal.say(f"the first {_SHOWN:,} rows; --json and --csv give all")


def _same(value: object) -> object:
    return value


def _harmless(value: object) -> object:
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value
