"""Dimension rows in the worlds of lakes: each row needs one of three, in the folder of its organization."""

import json
from typing import Any

from msgspec import structs

from lmstream.engine.dimension_line import DimensionLine
from lmstream.lake import Layout

FOLDER = "_dimensions/"
LINE = b'{"rowId":"%b.%b:0","metricKey":"_dimensions"}\n'


def keyed(layout: Layout) -> Layout:
    """The same with dimensions."""
    return structs.replace(layout, settings=structs.replace(layout.settings, dimensions=True))


def needed(line: bytes) -> str:
    """The key that a row needs."""
    return f"k{int(json.loads(line)['rowId'].rpartition(':')[2]) % 3}"


def of_rows(out: Any, org: str) -> list[DimensionLine]:
    """What the rows of a record need."""
    keys = dict.fromkeys(map(needed, out.lines))
    return [DimensionLine(f"{org}/{FOLDER}", "resource", key, LINE % (org.encode(), key.encode())) for key in keys]


def is_dimension(key: str) -> bool:
    """Whether an object has dimension rows, by its key."""
    return f"/{FOLDER}" in key


def orphans(objects: dict[str, tuple[bytes, Any]], key: str, *, together: bool) -> list[bytes]:
    """Rows of an object without their dimension row in an object of the same window; or, where verbs put objects
    `together`, in any of their organization."""
    data, _ = objects[key]
    org = key.partition("/")[0]
    window = key.rpartition("/")[2].rpartition("-")[0]
    landed = b"".join(
        of
        for at, (of, _) in objects.items()
        if at.startswith(f"{org}/{FOLDER}") and (together or at.rpartition("/")[2].startswith(f"{window}-"))
    )
    return [
        line
        for line in data.splitlines(keepends=True)
        if b'"%b.%b:0"' % (org.encode(), needed(line).encode()) not in landed
    ]
