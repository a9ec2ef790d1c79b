"""The contract for who validates rows, from RowEvent or from a page."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmstream.errors import ConfigError
from lmstream.spec.contract import TABLE_BEGIN, TABLE_END, Field, fields


class SpecLoader:
    """The contract, for who validates rows: from RowEvent, which works from a wheel and the Lambda zip, or from a
    page."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Read the field table of a page such as docs/kafka_ingest_spec.md. Raises ConfigError when it has none."""
        self.fields: list[Field] = fields() if path is None else _read_table(Path(path))

    def get_required_fields(self) -> list[str]:
        """Names of the fields that every row has, itself or, with a key in its place, in a dimension row."""
        return [field.name for field in self.fields if field.required.split(",")[0] == "yes"]

    def get_field_types(self) -> dict[str, str]:
        """Types by name: string, integer, number, boolean, enum(…), map, object, array."""
        return {field.name: field.type for field in self.fields}

    def validate_row_event(self, row: dict[str, Any]) -> list[str]:
        """What is wrong with a row, a sentence each; empty when it keeps the contract."""
        known = self.get_field_types()
        keys = {field.name: field.required.removeprefix("yes, or ") for field in self.fields}
        missing = [name for name in self.get_required_fields() if name not in row and keys[name] not in row]
        problems = [f"{name}: required, but missing" for name in missing]
        for field in self.fields:
            if field.name not in row:
                if row.get("type") in field.required.split(", "):
                    problems.append(f"{field.name}: a row of type {row['type']} needs it")
            elif not _is_a(row[field.name], field.type):
                problems.append(f"{field.name}: expected {field.type}, got {row[field.name]!r:.100}")
        problems += [f"{name}: not in the contract" for name in row if name not in known]
        if not problems:
            milliseconds = row["tsUnixMs"]
            try:
                stamp = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            except (OverflowError, ValueError, OSError):
                problems.append(f"tsUnixMs: {milliseconds} is no time of the years 2000 to 2100")
                return problems
            if row["ts"] != f"{stamp}.{milliseconds % 1000:03d}Z":
                problems.append(f"ts: {row['ts']} is not tsUnixMs {milliseconds}")
        return problems


def _read_table(path: Path) -> list[Field]:
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError("config.invalid", f"{path}: {error.strerror}") from error
    table = page.partition(TABLE_BEGIN)[2].partition(TABLE_END)[0]
    rows = [line.strip().strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == len(Field.__struct_fields__)]
    if len(cells) < 2:  # noqa: PLR2004 - a head and one field
        raise ConfigError("config.invalid", f"{path}: no field table between its two marks")
    return [Field(*row) for row in cells[1:]]


def _is_a(value: Any, kind: str) -> bool:
    if kind.startswith("enum("):
        return value in kind[5:-1].split(", ")
    if kind == "map":
        return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
    if kind == "object":
        return isinstance(value, dict)
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float)
    return isinstance(value, {"string": str, "integer": int, "array": list}.get(kind, type(None)))
