"""explain: the section of any code, reason or alarm, however somebody at night writes it."""

import json

import pytest

from lmstream.errors import REASONS
from lmstream.observability.runbook import alarms, codes, find


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("LMS-3005", "LMS-3005"),
        ("lms3005", "LMS-3005"),
        ("3005", "LMS-3005"),
        ("[source.offset].", "LMS-3005"),
        ("docs/runbook.md#lms-3005", "LMS-3005"),
        ("time-to-data-loss", "time-to-data-loss"),
        ("LmstreamTimeToDataLoss", "time-to-data-loss"),
        ("lmstream_time_to_data_loss", "time-to-data-loss"),
        ("acme-metrics-error-prefix", "error-prefix"),
    ],
)
def test_a_section_is_found_by_any_spelling(written, name):
    assert find(written).name == name


@pytest.mark.parametrize("written", ["LMS-1204", "1204", "lms_1204"])
def test_a_code_of_an_older_version_says_which_one_it_is_now(cli, written, monkeypatch):
    today = REASONS["time.missing"]._replace(code="LMS-1109")
    monkeypatch.setitem(REASONS, "time.missing", today)
    section = find(written)
    assert section.name == "LMS-1204"
    assert section.means.startswith("Now LMS-1109: since row contract 1.1 a point without a timestamp is refused")
    assert section.fix == find("time.missing").fix
    assert find("time.missing").name == find("LMS-1109").name == "LMS-1109"
    said = cli("explain", written)
    assert said.code == 0
    assert said.out.startswith("LMS-1204  time.missing, now LMS-1109 (one data point is refused")
    assert "LMS-1204" not in cli("explain").out


def test_what_is_none_is_refused_with_what_comes_near(cli):
    said = cli("explain", "source.ofset")
    assert said.code == 2
    assert "did you mean LMS-3005?" in said.err
    assert "`lmstream explain` lists all" in cli("explain", "xyzzy").err


def test_a_section_says_all_and_keeps_commands_on_one_line(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    said = cli("explain", "lms-4003", "certificate")
    assert said.code == 0
    section = find("LMS-4003")
    assert said.out.startswith("LMS-4003  sink.denied (sink and dead letters)\n")
    flat = " ".join(said.out.split())
    for part in (section.means, *section.look, *section.fix):
        assert " ".join(part.split()) in flat
    assert "`aws sts get-caller-identity`" in said.out
    assert "certificate  alarm of Prometheus\n" in said.out
    assert "\033" not in said.out
    assert "\x00" not in said.out


def test_without_a_name_all_are_listed(cli):
    said = cli("explain", "--json")
    listed = [json.loads(line)["name"] for line in said.out.splitlines()]
    assert listed == [each.name for each in [*alarms(), *codes()]]
    text = cli("explain").out
    assert all(name in text for name in listed)


def test_an_error_of_any_kind_says_where_to_read_on(cli, monkeypatch):
    assert cli("run", "--nonsense").err.rstrip().endswith("More: lmstream explain LMS-2004")
    assert cli("query", "--landed", "nowhere").err.rstrip().endswith("More: lmstream explain LMS-2001")
    monkeypatch.setattr("lmstream.cli.explain.codes", lambda: 1 / 0)
    said = cli("explain")
    assert said.code == 1
    assert said.err.startswith("lmstream: LMS-9001 unexpected ZeroDivisionError")
    assert said.err.rstrip().endswith("More: lmstream explain LMS-9001")
