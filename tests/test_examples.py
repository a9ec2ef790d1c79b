"""The examples do what their page says."""

import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from lmstream import Engine, Record
from lmstream.cli import main
from lmstream.config import load
from lmstream.lab.generator import Generator
from support.dimensions_reference import joined

EXAMPLES = Path(__file__).parents[1] / "examples"
BUNDLES = list(islice(Generator(devices=3).bundles(), 5))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with bundles, to run in."""
    (tmp_path / "bundles").mkdir()
    for number, bundle in enumerate(BUNDLES):
        (tmp_path / f"bundles/{number}.json").write_bytes(bundle.payload)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(script, *arguments, given=b""):
    command = [sys.executable, EXAMPLES / script, *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False, env=os.environ)


def test_the_page_names_every_example():
    named = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.name != "README.md"}


def test_rows_come_out_of_one_bundle():
    done = said("rows.py", given=BUNDLES[0].payload)
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, BUNDLES[0].rows, b"")
    refused = said("rows.py", given=b"junk")
    assert refused.returncode == 1
    assert b"no bundle: LMS-1002" in refused.stderr


def test_bundles_become_an_arrow_table(folder):
    done = said("arrow.py", *sorted(map(str, folder.glob("bundles/*"))))
    assert done.returncode == 0, done.stderr
    counted = re.findall(r"^(\w+): -?[\d.]+ of (\d+) rows$", done.stdout.decode(), re.MULTILINE)
    assert sum(int(rows) for _, rows in counted) == sum(bundle.rows for bundle in BUNDLES)


def test_files_land_in_a_folder_and_are_asked(folder, capsys):
    assert main(["run", "--config", str(EXAMPLES / "files.toml"), "--files", "bundles"]) == 0
    assert (folder / "landed").is_dir()
    capsys.readouterr()
    sql = (EXAMPLES / "busiest.sql").read_text("utf-8")
    assert main(["query", sql, "--landed", "landed", "--csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "deviceName,rows,metrics"
    assert 1 <= len(rows) <= 5


def test_the_lake_passes_validate_but_for_files_that_are_the_users(monkeypatch, capsys):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    main(["validate", "--config", str(EXAMPLES / "lake.toml")])
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert failed == ["failed   source: ca.pem: No such file or directory"]


TENS = sorted((EXAMPLES / "shaping").glob("[0-9]*.toml"))
SAID = {
    "01": lambda row: not row["datasource"].startswith(("Ping", "DNS_Latency")),
    "02": lambda row: row["metric"] in {"CpuUsage", "MemoryUsage", "DiskUsage", "InterfaceUsage", "QueueUsage"},
    "03": lambda row: not {"system.sysinfo", "system.ips"} & row["resource"].keys(),
    "04": lambda row: "host" in row["resource"] and "system.displayname" not in row["resource"],
    "05": lambda row: row["resource"].get("env") == "prod",
    "06": lambda row: "@" not in json.dumps(row) and row["attributes"]["api.token"] == "***",
    "07": lambda row: row["resource"]["hostId"] in {"1017001", "1017002", "1017003"} and "value" in row,
    "08": lambda row: row["unit"] != "By",
    "09": lambda row: "scope" not in row and row["datasource"],
    "10": lambda row: (
        row["orgId"] == "acme" if row["resource"]["location"].startswith("us-east/") else row["orgId"] == "x"
    ),
}
"""What holds for each row after each example."""


def bundle_for_rules():
    """A bundle in which each of the ten examples finds something to do, and something to leave alone."""

    def attributes(**texts):
        return [{"key": name.replace("__", "."), "value": {"stringValue": text}} for name, text in texts.items()]

    def metric(name, unit, value):
        more = attributes(api__token="s3cret", owner="me@example.org")
        point = {"timeUnixNano": "1715263558360000000", "asInt": value, "attributes": more}
        return {"name": name, "unit": unit, "gauge": {"dataPoints": [point]}}

    made = []
    for host, location in (("1017001", "us-east/iad"), ("1017009", "lab/1")):
        resource = attributes(
            hostId=host,
            location=location,
            system__displayname="h",
            system__sysinfo="Linux",
            system__ips="10.0.0.1",
            k="v",
        )
        metrics = [metric("CpuUsage", "%", "5"), metric("Sent", "By", str(3 << 20)), metric("Other", "s", "1")]
        scopes = [{"scope": {"name": name, "attributes": []}, "metrics": metrics} for name in ("Ping_v4", "CPU")]
        made.append({"resource": {"attributes": resource}, "scopeMetrics": scopes})
    return json.dumps({"resourceMetrics": made}).encode()


@pytest.mark.parametrize("path", TENS, ids=lambda path: path.stem)
def test_the_ten_cases_of_shaping_do_what_they_say(path):
    settings = load(path, env={}, overrides={"engine.org_id": "x"}).engine
    one = Record(topic="t", partition=0, offset=0, value=bundle_for_rules())
    before = Engine(msgspec.structs.replace(settings, rules=())).fan_out(one)
    engine = Engine(settings)
    out = engine.fan_out(one)
    said = SAID[path.stem[:2]]
    rows = [json.loads(line) for line in out.ndjson().splitlines()]
    assert rows
    assert all(map(said, rows))
    assert not all(said(json.loads(line)) for line in before.ndjson().splitlines())
    assert out.rows + sum(out.dropped.values()) == before.rows
    idle = {"distributions"} if path.stem.startswith("07") else set()
    assert set(engine.shaping.idle) == idle, "a rule of the example finds nothing to do"


def test_the_example_with_dimensions_says_in_dimension_rows_what_rows_leave_out():
    settings = load(EXAMPLES / "shaping" / "dimensions.toml", env={}, overrides={"engine.org_id": "x"}).engine
    one = Record(topic="t", partition=0, offset=0, value=bundle_for_rules())
    before = Engine(msgspec.structs.replace(settings, dimensions=False)).fan_out(one)
    out = Engine(settings).fan_out(one)
    rows = [json.loads(line) for line in out.ndjson().splitlines()]
    assert all({"resourceKey", "scopeKey", "attributesKey"} <= row.keys() for row in rows)
    assert joined(out.ndjson().splitlines(), [each.line for each in out.dimensions]) == [
        json.loads(line) for line in before.ndjson().splitlines()
    ]


def test_there_are_ten_cases():
    assert [path.stem[:2] for path in TENS] == list(SAID)
