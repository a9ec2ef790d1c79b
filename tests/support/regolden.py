"""Write what the oracle says of tests/corpus/golden and tests/fixtures/otlp. Read the difference before you commit it.

    python tests/support/regolden.py

A golden folder holds bundle.json, bundle.pb or both (the same bundle twice), and may hold case.json with the settings
and the record's coordinates. Written are rows.ndjson and verdict.json: partition paths, skipped, rejected and noted.
The engine has no part in this.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from lmstream.model import Record
from lmstream.settings import Settings
from support import oracle

HERE = Path(__file__).parents[1]
GOLDEN = HERE / "corpus" / "golden"
OTLP = HERE / "fixtures" / "otlp"
RECORD = {"topic": "lm.metrics.otlp", "partition": 0, "offset": 7, "timestamp": 1_715_263_558_360}
"""Coordinates of a golden bundle whose case.json names no others; also those of the fixture."""


def case_of(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The settings of a golden case, and its record without the value. `source` in case.json says who reported the like."""
    file = folder / "case.json"
    case = json.loads(file.read_bytes()) if file.exists() else {}
    settings = msgspec.convert({"org_id": "acme"} | case.get("settings", {}), Settings)
    coordinates = RECORD | case.get("record", {})
    for name in ("only", "below"):
        if name in coordinates:
            coordinates[name] = tuple(coordinates[name])
    return settings, coordinates


def bundles_of(folder: Path) -> list[Path]:
    return [path for name in ("bundle.json", "bundle.pb") if (path := folder / name).exists()]


def line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def expected(folder: Path) -> dict[str, bytes]:
    """The files that a golden folder must hold."""
    settings, coordinates = case_of(folder)
    said = []
    for bundle in bundles_of(folder):
        verdict = oracle.rows(Record(**coordinates, value=bundle.read_bytes()), settings)
        summary = {
            "paths": verdict.paths,
            "skipped": verdict.skipped,
            "rejected": verdict.rejected,
            "noted": verdict.noted,
            "points": verdict.points,
            "parts": verdict.parts,
            "unknown": verdict.unknown,
        }
        said.append(
            {
                "rows.ndjson": "".join(map(line, verdict.rows)).encode(),
                "verdict.json": (json.dumps(summary, indent=1) + "\n").encode(),
            }
        )
    assert said.count(said[0]) == len(said), f"{folder.name}: the bundles differ"
    return said[0]


def expected_fixtures() -> dict[str, bytes]:
    """The rows of the LMDP-shaped bundle, and one of them without a required field."""
    payload = (OTLP / "otlp_bundle_ok.json").read_bytes()
    rows = oracle.rows(Record(**RECORD, value=payload), Settings(org_id="acme")).rows
    missing = {key: value for key, value in rows[0].items() if key != "orgId"}
    return {
        "row_event_ok.json": (json.dumps(rows, indent=2, ensure_ascii=False) + "\n").encode(),
        "row_event_missing_required.json": (json.dumps(missing, indent=2, ensure_ascii=False) + "\n").encode(),
    }


def main() -> None:
    for folder in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
        for name, data in expected(folder).items():
            (folder / name).write_bytes(data)
    for name, data in expected_fixtures().items():
        (OTLP / name).write_bytes(data)


if __name__ == "__main__":
    main()
