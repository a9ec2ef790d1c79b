"""What changed for people who look twice: lag --watch, letters in order, the last records of a partition."""

import asyncio
import json
import os
import re
import time

import pytest
import yaml

from lmstream import spec
from lmstream.behind import Behind
from lmstream.cli import lag as module
from lmstream.cli import main, tables, terminal
from lmstream.config import build_letters, load
from lmstream.lab import KafkaLab
from lmstream.model import DeadLetter
from lmstream.observability.runbook import alarms
from support.kafka_scenarios import produce

CLUSTER = ("--bootstrap", "b:1", "--topic", "lm", "--group", "acme-rows")


def behind(partition, committed, records):
    return Behind(
        topic="lm", partition=partition, committed=committed, begin=0, end=committed + records, records=records, gone=0,
        oldest=time.time() - 60, seconds=60.0, loss=7_000.0, retention=7_200.0, retention_bytes=None,
        retention_known=True,
    )  # fmt: skip


@pytest.fixture
def two_looks(monkeypatch):
    """A cluster that settles 100 records in partition 0 between two looks, ten seconds apart; then Ctrl-C."""
    looks = [[behind(0, 1000, 500), behind(1, 70, 0)], [behind(0, 1100, 450), behind(1, 70, 0)]]
    now = [1_700_000_000.0]

    async def ask(*_, **_more):
        return looks.pop(0)

    async def sleep(seconds):
        now[0] += seconds
        if not looks:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(module.time, "time", lambda: now[0])


@pytest.mark.usefixtures("two_looks")
def test_watching_shows_time_change_and_rate_and_ctrl_c_is_how_it_ends(cli):
    said = cli("lag", *CLUSTER, "--watch", "10s")
    assert (said.code, said.err) == (0, "")
    first, second = re.split(r"(?m)^(?=2023)", said.out)[1:]
    assert first.startswith("2023-11-14T22:13:20Z  group acme-rows  lag 500\n")
    assert second.startswith("2023-11-14T22:13:30Z  group acme-rows  lag 450 (-50 in 10 s)\n")
    row = next(line for line in second.splitlines() if line.startswith("lm "))
    assert row.endswith("  10.0")
    assert "\x1b" not in said.out


@pytest.mark.usefixtures("two_looks")
def test_watching_as_json_has_time_and_rate_in_each_line(cli):
    said = cli("lag", *CLUSTER, "--watch", 10, "--json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["settled_per_second"] for line in lines] == [None, None, 10.0, 0.0]
    assert lines[2]["at"] - lines[0]["at"] == 10


@pytest.mark.parametrize(
    ("tty", "term", "drawn"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_a_terminal_is_drawn_over_and_nothing_else(monkeypatch, capsys, tty, term, drawn):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(terminal, "is_terminal", lambda _: tty)
    tables.redraw(["one", "two"])
    out = capsys.readouterr().out
    assert out.endswith("one\ntwo\n")
    assert out.startswith("\x1b[H") == drawn


def letter(offset, **more):
    given = {"topic": "lm.a", "partition": 0, "timestamp": 1_000, "value": b"junk", "reason": "decode.json"}
    return DeadLetter(offset=offset, code="LMS-1002", **given | more)


@pytest.fixture
def letters(tmp_path):
    made = [letter(1007), letter(102), letter(1012), letter(5, topic="lm.b"), letter(6, topic="other")]
    config = load(env={}, overrides={"dead_letters.root": str(tmp_path / "dead")})
    asyncio.run(build_letters(config).write(made))
    (old,) = (path for path in (tmp_path / "dead").rglob("102.json"))
    os.utime(old, (time.time() - 86_400,) * 2)
    return tmp_path / "dead"


def listed(said):
    return re.findall(r"^(\S+/\d+/\d+)", said.out, re.MULTILINE)


def test_letters_are_listed_by_number_with_how_many_there_are(cli, letters):
    said = cli("dlq", "ls", letters, "--topic", "lm.a")
    assert listed(said) == ["lm.a/0/102", "lm.a/0/1007", "lm.a/0/1012"]
    assert said.err == "3 letters\n"
    assert "`lmstream dlq stats` counts all" in cli("dlq", "ls", letters, "--limit", "2").err


def test_topics_may_be_a_pattern_and_letters_chosen_by_when_they_were_written(cli, letters):
    assert len(listed(cli("dlq", "ls", letters, "--topic", "lm.*"))) == 4
    assert listed(cli("dlq", "ls", letters, "--written-until", "1h")) == ["lm.a/0/102"]
    assert len(listed(cli("dlq", "ls", letters, "--written-since", "1h"))) == 4
    said = cli("dlq", "ls", letters, "--written-since", "soon")
    assert said.code == 2
    assert "--written-since soon" in said.err


def test_a_reason_that_does_not_exist_is_noticed(cli, letters):
    said = cli("dlq", "ls", letters, "--reason", "decode.jsn")
    assert said.out.splitlines()[-1] == "none"
    assert "lmstream has no reason decode.jsn; a module of your own may; did you mean decode.json?" in said.err
    assert "did you mean decode.json?" in said.err
    assert "is not a reason" not in cli("dlq", "ls", letters, "--reason", "time.*").err


def test_a_file_of_something_else_is_told_in_a_few_lines(cli, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n' * 40)
    said = cli("inspect", path)
    assert said.code == 1
    assert len(said.err.splitlines()) < 12
    assert "and 37 more that are not bundles" in said.err


async def test_records_of_a_range_and_the_last_ones_are_shown_with_what_kafka_says_of_them(monkeypatch, capsys):
    monkeypatch.setenv("LMSTREAM_ENDPOINTS__ADDRESS", "off")
    bundle = b'{"resourceMetrics": []}'
    async with KafkaLab() as kafka:
        await kafka.create_topic("lm", 1)
        await produce(kafka, "lm", [bundle] * 6, key=b"k\x1b1", headers=[("h\n", b"\x1bv")])

        async def look(target, *more):
            code = await asyncio.to_thread(main, ["inspect", target, "--bootstrap", kafka.bootstrap, *more])
            said = capsys.readouterr().err
            return code, re.findall(r"^lm/0/(\d+): ", said, re.MULTILINE), said

        assert (await look("lm/0/2..4"))[:2] == (0, ["2", "3"])
        code, offsets, said = await look("lm/0", "--last", "2")
        assert (code, offsets) == (0, ["4", "5"])
        assert "of 2023-11-14T22:13:20.005Z" in said
        assert "key b'k\\x1b1'" in said
        assert "header h\\n=b'\\x1bv'" in said
        code, offsets, said = await look("lm/0/9")
        assert (code, offsets) == (1, [])
        assert "on_offset_lost" not in said
        for target, *more in (("lm/0/4..2",), ("lm/0/4", "--last", "2")):
            assert (await look(target, *more))[0] == 2


def test_alarms_without_an_address_of_the_runbook_name_the_command_that_explains_them(cli):
    (group,) = yaml.safe_load(cli("telemetry", "prometheus").out)["groups"]
    named = [rule["annotations"]["explain"] for rule in group["rules"]]
    assert {each.removeprefix("lmstream explain ") for each in named} <= {each.name for each in alarms()}
    assert not any("runbook_url" in rule["annotations"] for rule in group["rules"])


def test_the_schema_of_a_row_has_descriptions_in_one_line():
    found = [struct["description"] for struct in spec.json_schema()["$defs"].values() if "description" in struct]
    assert found
    assert not any("\n" in each or "  " in each for each in found)


def test_sql_in_a_locale_without_utf_8_is_read_as_it_was_typed(cli, tmp_path):
    (tmp_path / "landed").mkdir()
    typed = "select 'é' as x".encode().decode("ascii", "surrogateescape")
    said = cli("query", typed, "--landed", tmp_path / "landed", "--json")
    assert (said.code, json.loads(said.out)) == (0, {"x": "é"})
