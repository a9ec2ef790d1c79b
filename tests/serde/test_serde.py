"""The table as Athena's readers see it: every value of a row, keys of maps as they were written, no query that ends."""

import json
from pathlib import Path

import pytest

from lmstream import Engine, Record, Settings, spec
from serde.readers import OLDEST, OPENX, TRINO, MissingError, compiled, read
from support.regolden import case_of

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).resolve().parents[1] / "corpus" / "golden"
BUNDLE = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [{"key": "Location", "value": {"stringValue": "upper"}}]},
            "scopeMetrics": [
                {
                    "scope": {"name": "CPU"},
                    "metrics": [{"name": "Usage", "gauge": {"dataPoints": [{"timeUnixNano": "1715263558360000000"}]}}],
                }
            ],
        }
    ]
}


@pytest.fixture(params=[OPENX, TRINO], ids=lambda reader: reader.name)
def reader(request):
    return needed(request.param)


def needed(reader):
    try:
        compiled(reader)
    except MissingError as error:
        pytest.skip(f"the reader {reader.name} needs {error}")
    return reader


def spelled_twice():
    """One row with two keys of each map that differ in case only."""
    bundle = json.loads(json.dumps(BUNDLE))
    (resource,) = bundle["resourceMetrics"]
    (scoped,) = resource["scopeMetrics"]
    (point,) = scoped["metrics"][0]["gauge"]["dataPoints"]
    point["asDouble"] = 1.5
    pair = [{"key": key, "value": {"stringValue": key}} for key in ("location", "LOCATION")]
    for place in (resource["resource"], scoped["scope"], point):
        place["attributes"] = place.get("attributes", []) + pair
    value = json.dumps(bundle).encode()
    record = Record(topic="t", partition=0, offset=0, timestamp=1_715_263_558_360, value=value)
    return Engine(Settings(org_id="acme")).fan_out(record).ndjson().splitlines()


def golden():
    """Rows of every metric kind, with hostile names."""
    lines = []
    for bundle in sorted(GOLDEN.glob("*/bundle.json")):
        settings, coordinates = case_of(bundle.parent)
        lines += Engine(settings).fan_out(Record(**coordinates, value=bundle.read_bytes())).ndjson().splitlines()
    return lines


def folded(value, kind):
    """What a query should see of a value of a row: struct members by their folded names, numbers of a double column as
    such, keys of maps as written.
    """
    if value is None:
        return None
    if kind.startswith("array<"):
        return [folded(each, kind[6:-1]) for each in value]
    if kind.startswith("struct<"):
        members = dict(each.split(":", 1) for each in split(kind[7:-1]))
        given = {key.lower(): each for key, each in value.items()}
        return {name: folded(given.get(name), of) for name, of in members.items()}
    return float(value) if kind == "double" else value


def split(text):
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def expected(line):
    row = {key.lower(): value for key, value in json.loads(line).items()}
    return {column["Name"]: folded(row.get(column["Name"]), column["Type"]) for column in spec.glue_columns()}


def test_every_value_of_a_row_is_in_its_column_and_keys_are_as_written(reader, tmp_path):
    lines = golden() + spelled_twice()
    assert len(lines) > 60
    assert {b'"positive":' in line for line in lines} == {b'"exemplars":' in line for line in lines} == {True, False}
    for line, row in zip(lines, read(reader, lines, spec.serde_properties(), tmp_path), strict=True):
        assert row == expected(line), line


def test_two_spellings_of_a_key_are_two_entries(reader, tmp_path):
    (row,) = read(reader, spelled_twice(), spec.serde_properties(), tmp_path)
    assert row["resource"] == {"Location": "upper", "location": "location", "LOCATION": "LOCATION"}
    assert row["attributes"] == {"location": "location", "LOCATION": "LOCATION"}
    assert (row["scope"]["location"], row["scope"]["LOCATION"]) == ("location", "LOCATION")


def test_folded_keys_lose_a_value_or_end_the_query(tmp_path):
    """Why keys are not folded any more: what the tables of before do with the same row."""
    old = spec.serde_properties(spec.LOWER_CASE)
    (row,) = read(needed(OPENX), spelled_twice(), old, tmp_path)
    assert len(row["resource"]) == 1
    (said,) = read(needed(OLDEST), spelled_twice(), old, tmp_path)
    assert "Duplicate key" in said["error"]


def test_without_its_mapping_a_column_is_null(reader, tmp_path):
    """The test above would see it: case.insensitive alone is not enough."""
    (row,) = read(reader, spelled_twice(), {"case.insensitive": "false"}, tmp_path)
    assert (row["rowid"], row["tsunixms"], row["metric"]) == (None, None, "Usage")
