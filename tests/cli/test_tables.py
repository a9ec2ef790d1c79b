"""Tables: at 80 columns no line is longer and no id is folded, whatever verb prints it; --wide and a pipe cut nothing."""

import asyncio
import inspect
import json
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import cli as package
from lmstream.behind import Behind
from lmstream.cli import acls, lag, lake, tables, terminal, top, trace, verdict
from lmstream.cli.tables import ASCII, Column, columns_of, elided, lay_out
from lmstream.config import build_letters, load
from lmstream.engine import Engine
from lmstream.kafka.acls import Grant
from lmstream.lab.generator import Generator
from lmstream.lake.repair import Repaired
from lmstream.model import DeadLetter
from lmstream.settings import Settings
from lmstream.verification import Checker, expectation
from support.file_records import file_record

ROOT = Path(__file__).parents[2]
TOPIC = "lm.metrics.otlp.europe-central.production"
PRINCIPAL = "User:CN=lmstream-consumer.metrics.platform.example.internal"
PATH = "acme/ThroughputBytesPerSecond/2026/11/28/09/"
EDGE = "Microsoft_SQLServer_GlobalPerformance"


@pytest.fixture
def letters(tmp_path):
    """A folder of letters of a topic with a long name."""
    config = load(env={}, overrides={"dead_letters.root": str(tmp_path / "dead")})
    made = [
        DeadLetter(
            topic=TOPIC,
            partition=11,
            offset=1_000_000_000 + n,
            timestamp=1_715_263_558_000,
            value=b"junk",
            reason="decode.json",
            code="LMS-1002",
            detail="JSON is malformed: trailing characters (byte 17) " * 4,
        )
        for n in range(3)
    ]
    asyncio.run(build_letters(config).write(made))
    return tmp_path / "dead"


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle.json"
    message = json.loads(next(Generator(instances=2).bundles()).payload)
    for resource in message["resourceMetrics"]:
        resource["scopeMetrics"][0]["scope"]["name"] = EDGE
        for attribute in resource["resource"]["attributes"]:
            if attribute["key"] == "hostName":
                attribute["value"]["stringValue"] = f"{EDGE}.platform.example.internal"
    path.write_text(json.dumps(message))
    return path


@pytest.fixture
def landed(tmp_path, bundle):
    folder = tmp_path / "landed"
    folder.mkdir()
    out = Engine(Settings(org_id="acme")).fan_out(file_record(bundle.read_bytes()))
    (folder / "part.ndjson").write_bytes(out.ndjson())
    return folder


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl"
    one = {"topic": TOPIC, "partition": 0, "offset": 0, "timestamp": 1, "bundleId": "0" * 32, "points": 2}
    path.write_text(json.dumps(one | {"tombstone": False}) + "\n")
    return path


def behind():
    common = {"begin": 0, "gone": 0, "retention": 259_200.0, "retention_bytes": None, "retention_known": True}
    return [
        Behind(
            topic=TOPIC, partition=n, committed=10**12, end=10**12 + 10**7, records=10**7, oldest=1.0, seconds=7_300.0,
            loss=250_000.0, **common,
        )
        for n in range(3)
    ]  # fmt: skip


def report():
    engine, checker = Engine(Settings(org_id="acme")), Checker()
    for n, made in enumerate(islice(Generator(instances=1).bundles(), 4)):
        record = file_record(made.payload)
        checker.expect(expectation(engine, record, ""))
        if n:
            for line in engine.fan_out(record).ndjson().splitlines():
                checker.found(line)
    return checker.report()


WORKS = {
    "lag": lambda wide: lag._show(behind(), wide=wide, as_json=False),
    "acls": lambda wide: acls._show(
        "ACLs of lmstream", [Grant(PRINCIPAL, "DescribeConfigs", "topic", TOPIC)], set(), wide=wide, as_json=False
    ),
    "lake repair": lambda wide: lake.show_repaired(
        [Repaired(topic=TOPIC, lane=TOPIC, sequence=10**9, objects=99, made=9, rows=10**8)], wide=wide, as_json=False
    ),
    "lake compact": lambda wide: tables.table(
        lake._OF_PATHS,
        [[{"path": PATH * 2}.get(head.name, 10**9) for head in lake._OF_PATHS]],
        wide=wide,
    ),
    "top": lambda wide: top._show(
        [top._member(f"metrics-{n}.platform.example.internal:9464", "no answer: " + "x " * 60, None, 0.0) for n in range(3)],
        once=True, wide=wide, as_json=False,
    ),
    "trace": lambda wide: tables.table(
        trace._COLUMNS,
        [(f"{'0' * 32}:12", EDGE, "2026-11-29T10:00:00.000Z", 1.5, f"{TOPIC}/11/1000000001", "landed", f"s3://b/{PATH}x.gz line 3")],
        wide=wide,
    ),
    "verify": lambda wide: verdict.show(report(), wide=wide),
}  # fmt: skip
"""Verbs whose tables need a cluster or a bucket: what they print, of made answers."""
IN_FULL = {
    "config show": ("--origin", "--org", "acme"),
    "dlq ls": ("{letters}",),
    "dlq stats": ("{letters}",),
    "explain": (),
    "inspect": ("{bundle}",),
    "shape": ("{bundle}", "--set", 'engine.rules=[{"name":"no-scope","leave_out":["scope"]}]'),
    "query": ("select * exclude (attributes) from rows", "--landed", "{landed}"),
    "telemetry ls": (),
    "validate": ("--deployment", str(ROOT / "deploy/cdk/settings.toml")),
    "verify": ("--expected", "{log}", "--landed", "{landed}"),
}
IDS = {
    "dlq ls": f"{TOPIC}/11/1000000001",
    "lag": TOPIC,
    "acls": PRINCIPAL,
    "telemetry ls": "lmstream_bundles_consumed_total",
}


def test_every_verb_with_a_table_is_looked_at_here():
    wide = set()
    for name in package.verbs():
        group, _, below = name.partition(" ")
        verb = getattr(import_module(f"lmstream.cli.{group}"), below or group, None)
        if verb is not None and "wide" in inspect.signature(verb).parameters:
            wide.add(name)
    assert wide == {*IN_FULL, *WORKS}


@pytest.fixture
def drawn(monkeypatch):
    """What was laid out, a table each."""
    found = []

    def noted(*args):
        found.append(lay_out(*args))
        return found[-1]

    monkeypatch.setattr(tables, "lay_out", noted)
    monkeypatch.setattr(top, "lay_out", noted)
    return found


def narrow(drawn, out, err):
    assert drawn
    for table in drawn:
        assert len(table.lines) >= 3
        assert max(map(columns_of, table.lines)) <= 80
        assert "\n".join(table.lines) in out
        assert ("…" in table.lines[0]) == bool(table.left_out)
    assert "columns left out" in err or err == "" or not any(table.left_out for table in drawn)


@pytest.mark.parametrize("name", IN_FULL)
def test_a_table_fits_into_80_columns_and_wide_cuts_nothing(cli, monkeypatch, drawn, name, request):
    args = [request.getfixturevalue(arg[1:-1]) if arg.startswith("{") else arg for arg in IN_FULL[name]]
    monkeypatch.setenv("COLUMNS", "80")
    said = cli(*name.split(), *args)
    narrow(drawn, said.out, said.err)
    assert IDS.get(name, "") in said.out, "an id stays whole where the line has room for it"
    drawn.clear()
    full = cli(*name.split(), *args, "--wide")
    assert full.code == said.code
    assert "…" not in "".join(line for table in drawn for line in table.lines)
    assert "columns left out" not in full.err


@pytest.mark.parametrize("name", WORKS)
def test_a_table_of_a_cluster_or_a_bucket_fits_too(capsys, monkeypatch, drawn, name):
    monkeypatch.setenv("COLUMNS", "80")
    WORKS[name](wide=False)
    said = capsys.readouterr()
    narrow(drawn, said.out, said.err)
    assert IDS.get(name, "") in said.out
    WORKS[name](wide=True)
    assert "…" not in capsys.readouterr().out


def test_rows_of_a_bundle_show_device_metric_time_and_value_first(cli, monkeypatch, bundle):
    monkeypatch.setenv("COLUMNS", "80")
    said = cli("inspect", bundle, "--rows", "--org", "acme")
    head = said.out.splitlines()[0].split()
    assert {"metric", "ts", "value", "deviceId"} <= {*head}
    assert "rowId" in head or "rowId" in said.err
    assert all(columns_of(line) <= 80 for line in said.out.splitlines())


def test_without_columns_and_without_a_terminal_nothing_is_cut(cli, monkeypatch, letters):
    monkeypatch.delenv("COLUMNS")
    said = cli("dlq", "ls", letters)
    assert "…" not in said.out
    assert "trailing characters (byte 17) JSON" in said.out


@pytest.mark.parametrize("columns", ["0", "-5", "wide", ""])
def test_columns_that_make_no_sense_bound_nothing(cli, monkeypatch, letters, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "…" not in cli("dlq", "ls", letters).out


def test_an_empty_list_says_none(cli, letters):
    said = cli("dlq", "ls", letters, "--reason", "value.*")
    assert said.out.splitlines()[-1] == "none"


def test_what_cannot_show_other_characters_gets_plain_ones(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(tables, "marks", lambda: ASCII)
    tables.table(("name", "value"), [("a" * 40, "b" * 40)])
    out = capsys.readouterr().out
    assert out.isascii()
    assert "..." in out


def test_prose_is_wrapped_between_words_and_names_are_not_folded():
    found = lay_out((Column("name", 1, "id"), Column("means", 2, "prose")), [("LMS-1002", "one two three " * 5)], 40)
    assert len(found.lines) > 3
    assert all(line == line.rstrip() and columns_of(line) <= 40 for line in found.lines)
    assert " ".join(" ".join(found.lines[2:]).split()).count("three") == 5


def test_the_least_important_columns_are_left_out_first_and_named():
    heads = (Column("a", 3), Column("b", 1), Column("c", 2))
    found = lay_out(heads, [("x" * 12, "y" * 12, "z" * 12)], 30)
    assert found.left_out == ["a"]
    assert found.lines[0].split() == ["b", "c", "…"]


def test_a_time_is_not_cut_whatever_query_made_it():
    hours = [["a" * 60, "2026-11-24T10:00:00Z"], ["b" * 60, "2026-11-24T11:00:00.123Z"], ["c" * 60, None]]
    found = lay_out(["metric", "hour"], hours, 50)
    assert "2026-11-24T11:00:00.123Z" in found.lines[3]
    assert "…" in found.lines[2]


def test_what_says_nothing_when_it_is_short_is_left_out_instead():
    heads = [Column("record", 1, "id"), Column("detail", 2, least=24), Column("points", 3)]
    wide, narrow = (lay_out(heads, [["t/0/1", "JSON is malformed: " * 4, 7]], width) for width in (50, 30))
    assert wide.left_out == []
    assert narrow.left_out == ["detail"]
    assert "7" in narrow.lines[2]


def test_numbers_are_never_cut_and_counts_have_commas():
    found = lay_out(("name", "n", Column("count", 1, "count")), [("x" * 60, 25719060041398.54, 1234567)], 50)
    assert "25719060041398.54" in found.lines[2]
    assert "1,234,567" in found.lines[2]


def test_wide_characters_take_two_columns():
    assert columns_of("日本") == 4
    assert columns_of("e\u0301") == 1
    assert elided("日本語日本語", 7) == "日…語"
    assert elided("abcdefghij", 5) == "ab…ij"


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=4),
    st.integers(12, 120),
    st.permutations(["text", "id", "prose"]),
)
def test_no_line_is_longer_than_asked_and_none_is_folded(rows, width, kinds):
    heads = [Column(name, kind=kind) for name, kind in zip("abc", kinds, strict=True)]
    found = lay_out(heads, rows, width)
    assert max(map(columns_of, found.lines)) <= width
    if "prose" not in kinds[: 3 - len(found.left_out)]:
        assert len(found.lines) == 2 + max(len(rows), 1)


def test_a_terminal_bounds_a_table(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda _: type("Size", (), {"columns": 70})())
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1, raising=False)
    assert terminal.columns() == 70


def test_the_page_shows_what_the_verb_prints(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "bundle.json"
    path.write_bytes(next(Generator(instances=1).bundles()).payload)
    said = cli("inspect", path, "--rows", "--org", "acme")
    assert f"```text\n{said.out}```" in (ROOT / "docs/terminal.md").read_text("utf-8")
