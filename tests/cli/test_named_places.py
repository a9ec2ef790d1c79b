"""What a person is shown of points and parts that made no row: metric, path, member and cause, wherever they look."""

import base64
import itertools
import json
import re
from pathlib import Path

import pytest

from lmstream.engine import FanOut
from support.otlp import bundle

# The engine says places since row contract 1.1; before that there is nothing to show.
pytestmark = pytest.mark.skipif(not hasattr(FanOut, "why"), reason="this engine does not say where points are")

T = "1715263558360000000"
AT = "$.resourceMetrics[0].scopeMetrics[0].metrics"
GOOD = {"name": "ok", "gauge": {"dataPoints": [{"timeUnixNano": T, "asDouble": 1}]}}
LANDED = (f"landed-{number}" for number in itertools.count())  # what has landed in a folder is not read again
TYPE = {"name": "http.duration", "gauge": {"dataPoints": [{"timeUnixNano": T, "asInt": "abc"}]}}
UNTIMED = {"name": "untimed", "gauge": {"dataPoints": [{"asInt": "4"}]}}
LOST = {"name": "broken", "sum": {"dataPoints": 5}}
HOLLOW = {"name": "old", "intGauge": {"dataPoints": [{"timeUnixNano": T, "asInt": "4"}]}}
NAN = {"name": "s", "summary": {"dataPoints": [{"timeUnixNano": T, "count": "1", "sum": "NaN"}]}}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def written(*bundles, name="in.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in bundles))
        return name

    return written


def run(cli, name, *more):
    return cli("run", "--files", name, "--org", "acme", "--landed", next(LANDED), *more)


def letters(tmp_path):
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "dead-letters").rglob("*.json"))]


def test_records_under_the_names_of_old_otlp_end_with_4_and_letters_that_name_them(cli, write, tmp_path):
    old = {"resourceMetrics": [{"instrumentationLibraryMetrics": [{"metrics": [GOOD]}]}]}
    said = run(cli, write(*[old] * 300), "--json")
    assert said.code == 4, said.err
    counts = json.loads(said.out)
    assert (counts["rows"], counts["undecodable"], counts["dead_letters"]) == (0, 100, 100)
    assert "LMS-4007" in said.err
    assert "$.resourceMetrics[0].instrumentationLibraryMetrics" in said.err
    found = letters(tmp_path)
    assert {each["code"] for each in found} == {"LMS-1018"}
    assert all("$.resourceMetrics[0].instrumentationLibraryMetrics" in each["detail"] for each in found)
    # Every one of them, when somebody wants that.
    said = run(cli, "in.jsonl", "--set", "breaker.records=0", "--json")
    assert (said.code, json.loads(said.out)["dead_letters"]) == (4, 300)


def test_a_letter_says_metric_path_and_member_of_its_first_point_and_names_its_parts(cli, write, tmp_path):
    said = run(cli, write(bundle(GOOD, TYPE, UNTIMED, LOST), bundle(GOOD, LOST)), "--json")
    assert said.code == 0, said.err
    counts = json.loads(said.out)
    assert (counts["rows"], counts["dead_letters"], counts["parts_undecodable"]) == (2, 2, 2)
    both, part = letters(tmp_path)
    assert both["rejected"] == [[1, "point.type"], [2, "time.missing"]]
    assert both["parts"] == [[f"{AT}[3].sum.dataPoints", "decode.type"]]
    for text in ("number 1", "'http.duration'", f"{AT}[1].gauge.dataPoints[0]", "asInt", "abc"):
        assert text in both["detail"]
    assert both["detail"].count(f"{AT}[3].sum.dataPoints") == 1
    assert (part["code"], part["parts"]) == ("LMS-1006", [[f"{AT}[1].sum.dataPoints", "decode.type"]])
    assert "rejected" not in part


def test_dlq_and_inspect_say_it_of_each_point(cli, write, tmp_path):
    run(cli, write(bundle(GOOD, TYPE, UNTIMED, LOST, HOLLOW)))
    assert (
        "number 1: metric 'http.duration' at" in json.loads(cli("dlq", "ls", "./dead-letters", "--json").out)["detail"]
    )
    shown = cli("dlq", "show", "./dead-letters").out
    looked = [cli("inspect", "in.jsonl", "--org", "acme", *more) for more in ([], ["--rows"], ["--view", "tree"])]
    (letter,) = (tmp_path / "dead-letters").rglob("*.json")
    looked.append(cli("inspect", letter, "--org", "acme"))
    assert [each.code for each in looked] == [0] * 4
    for text in (shown, *(each.err for each in looked)):
        assert re.search(rf"point 1: LMS-1101 point\.type: metric 'http\.duration' at {re.escape(AT)}\[1\].*abc", text)
        assert re.search(rf"point 2: LMS-1109 time\.missing: metric 'untimed' at {re.escape(AT)}\[2\]", text)
        assert f"part: LMS-1006 decode.type: {AT}[3].sum.dataPoints" in text
        assert f"unknown to OTLP metrics: {AT}[4].intGauge" in text


COUNTED = {"timeUnixNano": T, "count": "2", "sum": 3}
WRONG = {
    "point.type": {"gauge": {"asInt": [1]}},
    "point.shape": {"histogram": {**COUNTED, "bucketCounts": ["1", "1"], "explicitBounds": [1, 2]}},
    "point.labels": {"gauge": {"asInt": "1", "labels": [{"key": "host", "value": "a"}]}},
    "value.missing": {"gauge": {}},
    "value.two": {"gauge": {"asInt": "1", "asDouble": 1}},
    "value.range": {"gauge": {"asInt": str(2**63)}},
    "time.range": {"gauge": {"timeUnixNano": "1", "asInt": "1"}},
    "time.missing": {"gauge": {"timeUnixNano": "0", "asInt": "1"}},
    "limits.attributes": {"gauge": {"asInt": "1", "attributes": [{"key": str(n)} for n in range(1025)]}},
}
WRONG |= {
    f"{reason} of a {kind}": {kind: {**COUNTED, **point}}
    for reason, point in (("value.range", {"count": str(2**64)}), ("point.type", {"count": "x"}))
    for kind in ("histogram", "exponentialHistogram", "summary")
}


@pytest.mark.parametrize("case", WRONG)
def test_every_reason_says_metric_and_path(cli, write, case):
    ((kind, point),) = WRONG[case].items()
    name = write(bundle(GOOD, {"name": "odd.one", kind: {"dataPoints": [{"timeUnixNano": T} | point]}}))
    said = cli("inspect", name, "--org", "acme").err
    reason = case.partition(" ")[0]
    assert re.search(rf"point 1: LMS-\d+ {re.escape(reason)}: .*'odd\.one'", said), said
    assert f"{AT}[1].{kind}.dataPoints[0]" in said
    assert "is unknown" not in said


def test_unknown_members_are_in_the_last_line_and_fail_a_strict_run(cli, write):
    name = write(bundle(GOOD, HOLLOW), bundle(GOOD, HOLLOW), bundle(GOOD))
    said = run(cli, name)
    assert said.code == 0
    assert f"fields that OTLP metrics do not define: {AT}[1].intGauge" in said.err
    assert run(cli, name, "--strict").code == 4


def test_parts_left_out_of_a_row_are_noted_wherever_counts_are_shown(cli, write):
    name = write(bundle(NAN))
    said = run(cli, name, "--json", "--strict")
    assert said.code == 0, said.err
    assert json.loads(said.out)["noted"]["part.nan"] == 1
    assert "noted 1 part.nan" in said.err
    assert "noted 1 part.nan" in cli("inspect", name, "--org", "acme", "--rows").err


def test_a_replay_makes_of_a_letter_with_parts_what_was_refused_and_nothing_else(cli, write, tmp_path):
    run(cli, write(bundle(GOOD, TYPE, LOST)))
    said = cli("dlq", "replay", "./dead-letters", "--org", "acme", "--landed", "again")
    assert "1 letters would give 0 rows" in said.err
    (path,) = (tmp_path / "dead-letters").rglob("*.json")
    letter = json.loads(path.read_text())
    # As when the reader has learned the part since: its points are there now.
    repaired = {**LOST, "sum": {"dataPoints": GOOD["gauge"]["dataPoints"], "aggregationTemporality": 2}}
    letter["value"] = base64.b64encode(json.dumps(bundle(GOOD, TYPE, repaired)).encode()).decode()
    path.write_text(json.dumps(letter))
    said = cli("dlq", "replay", "./dead-letters", "--org", "acme", "--landed", "again")
    assert "1 letters would give 1 rows" in said.err
    assert "1 would be refused again: point.type" in said.err


def test_a_bundle_with_wrong_types_anywhere_is_shown_and_not_a_bug(cli, write):
    odd = bundle(
        GOOD,
        LOST,
        {"name": 7, "unit": {}, "gauge": {"dataPoints": [5, None, {"attributes": 3, "timeUnixNano": T, "asInt": []}]}},
        {"name": "big", "gauge": {"dataPoints": [{"timeUnixNano": T, "asInt": "@"}]}},
    )
    odd["resourceMetrics"] += [5, None, {"scopeMetrics": [{"scope": 4, "metrics": {}}, []], "resource": []}]
    name = write(odd)
    text = json.dumps(odd).replace('"@"', "9" * 5000)
    Path(name).write_text(text + "\n")
    for more in ([], ["--view", "tree"], ["--rows"], ["--json"]):
        said = cli("inspect", name, "--org", "acme", *more)
        assert said.code == 0, said.err
        assert "parts undecodable" in said.err
