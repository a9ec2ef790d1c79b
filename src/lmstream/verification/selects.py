"""Tell a statement that only reads by DuckDB's own parse of it: what is not known to read is refused."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from lmstream.errors import ConfigError

_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""What a SELECT is made of. Since DuckDB 2.0 `WITH x AS (COPY ... TO ...)` is a SELECT too, with a COPY_QUERY_NODE:
https://duckdb.org/docs/current/sql/query_syntax/with.html."""
_FUNCTIONS: Final = re.compile(
    # Table functions that read files (which enable_external_access bounds), make rows, or tell of tables. Others write
    # or switch (enable_logging, enable_profiling), or run SQL that is not in this parse (query, query_table,
    # json_execute_serialized_sql).
    r"read_\w+|parquet_\w+|sniff_csv|glob|range|generate_series|unnest|repeat|repeat_row|json_each|json_tree"
    r"|summary|histogram|histogram_values|duckdb_\w+|pragma_(?:table_info|show|version|database_size)"
)
_EXPLAIN: Final = re.compile(r"\s*explain\s+(?:analyze\s+)?", re.IGNORECASE)
_WANTED: Final = "query takes one statement that reads: select, describe, summarize, or explain of a select"


def reading(connection: Any, sql: str) -> Any:
    """Answer the one statement of `sql`, parsed. ConfigError unless it is a SELECT, or EXPLAIN of one, in which nothing
    writes; duckdb.Error when it cannot be parsed."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise ConfigError("query.sql", f"{_WANTED}; these are {len(statements)}")
    kind = statements[0].type.name
    if kind == "EXPLAIN":
        # EXPLAIN ANALYZE runs what it explains.
        found = _EXPLAIN.match(sql)
        inner = connection.extract_statements(sql[found.end() :]) if found else []
        if len(inner) != 1 or inner[0].type.name != "SELECT":
            raise ConfigError("query.sql", _WANTED)
        _check(connection, inner[0].query)
    elif kind == "SELECT":
        _check(connection, sql)
    else:
        raise ConfigError("query.sql", f"{_WANTED}; this one is {kind}")
    return statements[0]


def _check(connection: Any, sql: str) -> None:
    text = connection.execute("select json_serialize_sql(?)", [sql]).fetchone()[0]
    try:
        parsed = msgspec.json.decode(text)
    except RecursionError as e:
        raise ConfigError("query.sql", "the statement is nested too deeply") from e
    if parsed.get("error"):
        raise ConfigError("query.sql", f"{_WANTED}: {parsed.get('error_message', '')}")
    for each in _dicts(parsed):
        kind = each.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
            what = kind.removesuffix("_NODE").removesuffix("_QUERY")
            raise ConfigError("query.sql", f"{_WANTED}; this one has {what} in it")
        if kind == "TABLE_FUNCTION":
            name = str((each.get("function") or {}).get("function_name"))
            if not _FUNCTIONS.fullmatch(name.lower()):
                raise ConfigError("query.sql", f"{_WANTED}; {name}() is no table function that is known to read")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
