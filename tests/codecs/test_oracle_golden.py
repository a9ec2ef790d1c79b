"""Golden bundles: what the oracle wrote once is what both it and the engine say today."""

import json
import re

import msgspec
import pytest

from lmstream import Engine, Record, RowEvent, Settings
from support import regolden
from support.judging import ACME, agree, exact, lines_of, record
from support.oracle_row import bundle_id
from support.oracle_text import token as token_of

FOLDERS = sorted(path.name for path in regolden.GOLDEN.iterdir() if path.is_dir())


def test_row_ids_are_frozen():
    vectors = {
        ("lm.metrics.otlp", 0, 7, 1_715_263_558_360, ""): "99964befc9756d1958a51fd4d4abf8a4",
        ("t", 0, 0, -1, ""): "7add4a7a6e4e772fed8470dae83aecfe",
        ("größe", 2**31 - 1, 2**63 - 1, 0, "msk-eu"): "b79629d3d732f317bfcad8a87f39e159",
    }
    point = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[7,{"timeUnixNano":"1715263558360000000","asInt":1}]}}]}]}]}'
    for (topic, partition, offset, timestamp, source), wanted in vectors.items():
        rec = Record(topic=topic, partition=partition, offset=offset, timestamp=timestamp, value=point)
        settings = Settings(org_id="acme", source_id=source)
        assert bundle_id(rec, settings) == wanted
        [row] = lines_of(Engine(settings).fan_out(rec).ndjson())
        assert row["rowId"] == f"{wanted}:1"


@pytest.mark.parametrize("text", ["", "a", "CpuUsage", "a.b-c_D9", "9" * 128])
def test_a_safe_text_is_its_own_token(text):
    assert token_of(text) == (text or "_empty")


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("../../etc", "_._.._etc-"),
        ("_other", "_other-"),
        ("a b", "a_b-"),
        ("é", "_-"),
        ("x" * 129, "x" * 111 + "-"),
    ],
)
def test_any_other_text_keeps_what_is_safe_and_a_hash(text, token):
    made = token_of(text)
    assert made.rpartition("-")[0] == token.rpartition("-")[0]
    assert len(made.rpartition("-")[2]) == 16
    assert len(made) <= 128


@pytest.mark.parametrize("name", FOLDERS)
def test_the_oracle_still_says_what_is_golden(name):
    for file, data in regolden.expected(regolden.GOLDEN / name).items():
        assert (regolden.GOLDEN / name / file).read_bytes() == data, f"{file} of {name} has changed"


@pytest.mark.parametrize("name", FOLDERS)
def test_the_engine_gives_the_golden_rows(name):
    folder = regolden.GOLDEN / name
    settings, coordinates = regolden.case_of(folder)
    golden = [json.loads(line) for line in (folder / "rows.ndjson").read_bytes().splitlines()]
    verdict = json.loads((folder / "verdict.json").read_bytes())
    engine = Engine(settings)
    said = []
    for bundle in regolden.bundles_of(folder):
        rec = Record(**coordinates, value=bundle.read_bytes())
        out = engine.fan_out(rec)
        said.append(out.ndjson())
        assert exact(lines_of(said[-1])) == exact(golden)
        assert [list(pair) for pair in out.rejected] == verdict["rejected"]
        assert (out.skipped, out.noted) == (verdict["skipped"], verdict["noted"])
        assert {group.path for group in out.groups} == set(verdict["paths"])
        assert agree(rec, settings) == said[0], "a cold engine gives other bytes, or protobuf other bytes than JSON"


def test_the_fixture_bundle_gives_exactly_the_fixture_rows():
    payload = (regolden.OTLP / "otlp_bundle_ok.json").read_bytes()
    rows = json.loads((regolden.OTLP / "row_event_ok.json").read_bytes())
    for file, data in regolden.expected_fixtures().items():
        assert (regolden.OTLP / file).read_bytes() == data
    assert exact(lines_of(Engine(ACME).fan_out(record(payload)).ndjson())) == exact(rows)
    missing = json.loads((regolden.OTLP / "row_event_missing_required.json").read_bytes())
    with pytest.raises(msgspec.ValidationError, match="orgId"):
        msgspec.convert(missing, RowEvent)
    for row in rows:
        assert msgspec.to_builtins(msgspec.convert(row, RowEvent)) == row


def test_the_fixture_rows_are_what_a_reader_expects():
    rows = json.loads((regolden.OTLP / "row_event_ok.json").read_bytes())
    assert [(row["deviceId"], row["metric"], row["type"], row["value"], row["ts"]) for row in rows] == [
        ("1017594", "CpuUsage", "sum", 42.5, "2024-05-09T14:05:58.360Z"),
        ("1017594", "ThreadCnt", "gauge", 8.0, "2024-05-09T14:05:58.360Z"),
        ("1017601", "ifInOctets", "sum", 9007199254740993, "2024-05-09T14:05:59.001Z"),
        ("1017601", "ifInOctets", "sum", 128, "2024-05-09T14:05:59.001Z"),
        ("1017601", "Temperature °C", "gauge", -3.25, "2024-05-09T15:00:00.000Z"),
    ]


@pytest.mark.parametrize("buckets", [1, 16, 1000])
def test_metric_buckets_are_few_safe_and_depend_on_the_metric_alone(buckets):
    engine = Engine(Settings(org_id="acme", metric_key="buckets", metric_buckets=buckets))
    names = [f"metric.{n}" for n in range(100)] + ["", "../x", "é"]
    keys = []
    for offset in (1, 2):
        points = ",".join(
            f'{{"name":"{name}","gauge":{{"dataPoints":[{{"timeUnixNano":"1715263558360000000","asInt":1}}]}}}}'
            for name in (names if offset == 1 else reversed(names))
        )
        payload = f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{points}]}}]}}]}}'.encode()
        keys.append(
            {
                row["metric"]: row["metricKey"]
                for row in lines_of(engine.fan_out(record(payload, offset=offset)).ndjson())
            }
        )
    assert keys[0] == keys[1]
    used = set(keys[0].values())
    assert len(used) <= buckets
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", key) for key in used)
    assert buckets < 16 or len(used) > buckets // 25
