"""Runs that read and deliver nothing, and what accompanies that: exit codes, last line, letters, names of places."""

import io
import itertools
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from lmstream.cli.refusals import NAMED, refusals
from lmstream.cli.standing import Standing
from lmstream.cli.status import Reporter
from lmstream.engine.lines import Pieced
from lmstream.engine.output import Output
from lmstream.interfaces import LostPart
from lmstream.model import DeadLetter
from lmstream.runtime import Progress
from lmstream.verification import Checker, Expected
from support import otlp

T = "1715263558360000000"
ENV = {k: v for k, v in os.environ.items() if not k.startswith("LMSTREAM_")}


def bundle(*points, **more):
    return otlp.bundle(otlp.metric(*points, **more))


GOOD = bundle({"timeUnixNano": T, "asDouble": 1.5})
STALE = bundle({"timeUnixNano": T, "flags": 1})
NAN = bundle({"timeUnixNano": T, "asDouble": "NaN"})
REJECTED = bundle({"timeUnixNano": T, "asInt": "1", "asDouble": 1})
EMPTY = {"resourceMetrics": []}
LANDED = (f"landed-{number}" for number in itertools.count())  # what has landed in a folder is not read again


@pytest.fixture
def lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(*bundles, name="in.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in bundles))
        return name

    return write


def run(cli, name, *more):
    return cli("run", "--files", name, "--org", "acme", "--landed", next(LANDED), *more)


def letters_in(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


@pytest.mark.parametrize("value", [STALE, NAN, EMPTY], ids=["no recorded value", "NaN", "empty"])
def test_records_that_hold_nothing_trip_no_breaker_and_end_with_4_without_a_letter(cli, lines, tmp_path, value):
    said = run(cli, lines(*[value] * 300), "--json")
    assert said.code == 4, said.err
    counts = json.loads(said.out)
    assert (counts["records"], counts["rows"], counts["dead_letters"]) == (300, 0, 0)
    assert (counts["empty"], counts["all_skipped"]) == ((300, 0) if value is EMPTY else (0, 300))
    assert counts["understood"] == 300 - counts["empty"]
    assert "nothing was delivered: no row from 300 records" in said.err
    what = "300 records empty" if value is EMPTY else "300 records without a row (all points skipped)"
    assert what in said.err
    assert not letters_in(tmp_path / "dead-letters")


def test_records_of_which_every_point_is_rejected_end_with_4_and_letters_that_say_why(cli, lines, tmp_path):
    said = run(cli, lines(*[REJECTED] * 300), "--json")
    assert said.code == 4, said.err
    error = json.loads(said.out)["error"]
    assert error["code"] == "LMS-4007"
    assert (
        "no row could be made from 100 of the last 100 records, the last is in.jsonl/0/99: value.two" in error["detail"]
    )
    assert "why, and which: lmstream dlq ls ./dead-letters" in said.err
    letters = letters_in(tmp_path / "dead-letters")
    assert {each["code"] for each in letters} == {"LMS-1104"}
    assert len(letters) == 100


def test_one_row_among_300_stale_records_is_a_run_that_delivered(cli, lines):
    name = lines(*[STALE] * 150, GOOD, *[EMPTY] * 149)
    assert run(cli, name).code == 0
    assert run(cli, name, "--strict").code == 4


@pytest.mark.parametrize(
    ("values", "strict"),
    [([GOOD], 0), ([GOOD, EMPTY], 4), ([GOOD, STALE], 4), ([GOOD, REJECTED], 4)],
    ids=["all well", "one empty", "one stale", "one rejected"],
)
def test_strict_fails_on_any_record_without_a_row(cli, lines, values, strict):
    name = lines(*values)
    assert run(cli, name).code == 0
    assert run(cli, name, "--strict").code == strict


def test_a_point_without_a_row_in_a_record_with_rows_is_no_failure_even_when_strict(cli, lines):
    both = bundle({"timeUnixNano": T, "asDouble": 1.5}, {"timeUnixNano": T, "flags": 1})
    assert run(cli, lines(both), "--strict").code == 0


def test_nothing_read_is_nothing_lost_and_tombstones_are_records_without_a_value(cli, tmp_path, lines):
    assert run(cli, lines()).code == 0
    (tmp_path / "in").mkdir()
    letter = {"topic": "t", "partition": 0, "offset": 3, "reason": "record.kills", "code": "LMS-1014"}
    (tmp_path / "in/letter.json").write_text(json.dumps(letter))
    said = run(cli, "in", "--strict")
    assert (said.code, "1 tombstones" in said.err) == (0, True)


def test_what_is_printed_as_json_is_refused_where_rows_are_printed(cli, lines):
    said = cli("run", "--files", lines(GOOD), "--org", "a", "--sink", "stdout", "--json")
    assert (said.code, said.out) == (2, "")
    assert "rows go to standard output already" in said.err


def workers(*args):
    command = [
        sys.executable,
        "-m",
        "lmstream",
        "run",
        "--workers",
        "2",
        "--org",
        "acme",
        "--landed",
        next(LANDED),
        *args,
    ]
    return subprocess.run(command, env=ENV, capture_output=True, timeout=90, check=False, text=True)


@pytest.mark.slow
def test_several_workers_are_judged_together_and_none_stops_the_others_for_a_share_without_rows(lines):
    files = [lines(*[STALE] * 3, name="a.jsonl"), lines(GOOD, name="b.jsonl")]
    both = [flag for name in files for flag in ("--files", name)]
    done = workers(*both, "--json")
    assert done.returncode == 0, done.stderr
    assert "stopping the others" not in done.stderr
    *each, total = (json.loads(line) for line in done.stdout.splitlines())
    assert (total["workers"], total["records"], total["rows"]) == (2, 4, 1)
    counts = sorted(each, key=lambda one: one["worker"])
    assert [(each["worker"], each["records"], each["rows"]) for each in counts] == [(1, 3, 0), (2, 1, 1)]
    done = workers(*both, "--strict")
    assert done.returncode == 4, done.stderr
    assert "stopping the others" not in done.stderr
    lines(EMPTY, name="b.jsonl")
    done = workers(*both)
    assert done.returncode == 4, done.stderr
    assert "nothing was delivered: no row from 4 records" in done.stderr


def test_the_live_view_shows_records_without_a_row_and_what_was_tolerated():
    told = io.StringIO()
    progress = Progress(records=9, understood=4, empty=3, all_skipped=2, noted={"part.nan": 5, "metric.empty": 1})
    Console(file=told, width=100).print(Reporter(1.0).view(Standing(progress=progress)))
    assert "3 empty   2 all points skipped" in told.getvalue()
    assert "5 part.nan   1 metric.empty" in told.getvalue()


# --- places ------------------------------------------------------------------------------------------------------


def out_of(rejected=(), parts=(), unknown=()):
    named = {"rejected": tuple(rejected), "parts": tuple(parts), "unknown": tuple(unknown)}
    return Output(0, {}, Pieced([]), tuple, (), points=99, **named)


def test_refusals_name_at_most_ten_points_and_parts_and_say_how_many_more():
    parts = [LostPart(f"$.resourceMetrics[{n}]", "decode.type", "expected object, got 5") for n in range(12)]
    out = out_of([(n, "value.two") for n in range(13)], parts, ["$.resourceMetrics[0].scope_metrics"])
    lines = refusals(out)
    assert sum(line.startswith("point ") for line in lines) == NAMED
    assert lines[0].startswith("point 0: LMS-1104 value.two")
    assert "and 3 more rejected points" in lines
    assert "part: LMS-1006 decode.type: $.resourceMetrics[0]: expected object, got 5" in lines
    assert "and 2 more parts" in lines
    assert lines[-1] == "unknown to OTLP metrics: $.resourceMetrics[0].scope_metrics"


def expecting(parts=("$.a", "$.b"), **more):
    checker = Checker()
    record = {"topic": "t", "partition": 0, "offset": 7, "timestamp": 1, "bundle_id": "ab" * 16, "points": 2}
    checker.expect(Expected(**record | {"parts": parts} | more))
    for n in range(2):
        if n not in more.get("absent", ()):
            checker.found(f'{{"rowId":"{"ab" * 16}:{n}"}}'.encode())
    return checker


def letter(**more):
    return DeadLetter(topic="t", partition=0, offset=7, **more)


@pytest.mark.parametrize(
    ("letters", "named", "missing"),
    [
        ([], 0, ["t/0/7 $.a", "t/0/7 $.b"]),
        ([letter(parts=(("$.a", "decode.type"),))], 1, ["t/0/7 $.b"]),
        ([letter(parts=(("$.a", "decode.type"), ("$.b", "decode.type")))], 2, []),
        ([letter(parts=(("$.b", "x"),)), letter(parts=(("$.a", "x"), ("$.never", "x")))], 2, []),
        ([letter()], 2, []),  # the whole record
        ([letter(rejected=((0, "value.two"),))], 0, ["t/0/7 $.a", "t/0/7 $.b"]),
    ],
)
def test_verify_wants_each_lost_part_in_a_letter(letters, named, missing):
    checker = expecting()
    for each in letters:
        checker.dead(each, "ab" * 16)
    report = checker.report()
    assert (report.total.letters, report.total.letters_missing) == (named, len(missing))
    assert report.letters_missing == missing
    assert report.ok == (not missing)
    assert (report.total.landed, report.total.dead_lettered) == (2, 0)


def test_a_letter_of_parts_alone_excuses_no_row_that_is_lost():
    checker = Checker()
    record = {"topic": "t", "partition": 0, "offset": 7, "timestamp": 1, "bundle_id": "ab" * 16, "points": 2}
    checker.expect(Expected(**record, parts=("$.a",)))
    checker.dead(letter(parts=(("$.a", "decode.type"),)), "ab" * 16)
    report = checker.report()
    assert (report.total.lost, report.total.dead_lettered, report.ok) == (2, 0, False)
    checker.dead(letter(), "ab" * 16)
    assert checker.report().total.lost == 0


def test_letters_that_are_not_looked_at_are_not_missed():
    report = expecting().report(letters_checked=False)
    assert (report.ok, report.total.letters_missing) == (True, 0)
