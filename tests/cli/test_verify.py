"""The checker: what is lost, twice, from nowhere, dead-lettered or in the error prefix, and never anything else."""

import base64
import gzip
import json
import time

import msgspec
import pytest

from lmstream import Engine, Record, Settings
from lmstream.engine import bundle_id
from lmstream.errors import DecodeError
from lmstream.model import DeadLetter
from lmstream.verification import Checker, Expected, expectation
from support.file_records import file_record


def ident(offset, partition=0):
    return bundle_id("", "t", partition, offset, 5)


def expected(offset, points, partition=0, **more):
    return Expected(
        topic="t",
        partition=partition,
        offset=offset,
        timestamp=5,
        bundle_id=ident(offset, partition),
        points=points,
        **more,
    )


def row(offset, ordinal, partition=0):
    # rowId comes after other fields, one of which tries to pass for it.
    return json.dumps(
        {"attributes": {"rowId": f"{ident(9)}:7"}, "rowId": f"{ident(offset, partition)}:{ordinal}"}
    ).encode()


def letter(offset, *rejected, **more):
    return DeadLetter(
        topic="t",
        partition=0,
        offset=offset,
        timestamp=5,
        rejected=tuple((n, "value.missing") for n in rejected),
        **more,
    )


def checker(*records):
    made = Checker()
    for each in records:
        made.expect(each)
    return made


def test_all_is_well_when_every_row_landed_once():
    c = checker(expected(0, 3), expected(1, 2, partition=1))
    for n in range(3):
        c.found(row(0, n))
    for n in range(2):
        c.found(row(1, n, partition=1))
    report = c.report()
    assert report.ok
    assert (report.total.expected, report.total.landed, report.total.bundles) == (5, 5, 2)
    assert {name: tally.landed for name, tally in report.partitions.items()} == {"t/0": 3, "t/1": 2}


def test_a_row_that_did_not_land_is_lost_and_named():
    c = checker(expected(7, 3))
    c.found(row(7, 0))
    report = c.report()
    assert not report.ok
    assert report.total.lost == 2
    assert report.lost == [f"t/0/7:1 {ident(7)}:1", f"t/0/7:2 {ident(7)}:2"]


def test_copies_are_duplicates_and_no_failure():
    c = checker(expected(0, 1))
    for _ in range(300):
        c.found(row(0, 0))
    report = c.report()
    assert report.ok
    assert (report.total.landed, report.total.duplicate) == (1, 299)


@pytest.mark.parametrize(
    "line", [row(5, 0), row(0, 2), row(0, 1), b"{}", b"[]", b"no json", b'{"rowId":5}', b'{"rowId":"x:\xc2\xb2"}']
)
def test_a_row_that_nobody_expected_is_phantom(line):
    c = checker(expected(0, 2, absent=(1,)))
    c.found(row(0, 0))
    c.found(line)
    report = c.report()
    assert not report.ok
    assert (report.total.phantom, report.total.lost) == (1, 0)


def test_in_a_range_rows_of_other_bundles_are_not_judged():
    c = checker(expected(0, 1))
    c.found(row(0, 0))
    c.found(row(5, 0))
    report = c.report(ranged=True)
    assert report.ok
    assert report.total.outside == 1
    assert report.phantom == []


def test_rows_in_a_dead_letter_are_not_lost():
    c = checker(expected(0, 2), expected(1, 2))
    c.found(row(0, 0))
    c.dead(letter(0, 1), ident(0))
    c.dead(letter(1), ident(1))
    report = c.report()
    assert report.ok
    assert (report.total.landed, report.total.dead_lettered) == (1, 3)


def test_bad_points_and_bad_records_are_owed_a_dead_letter():
    records = expected(0, 2, absent=(1,), rejected=(1,)), expected(1, 0, poison="utf8")
    c = checker(*records)
    c.found(row(0, 0))
    report = c.report()
    assert not report.ok
    assert (report.total.letters_missing, report.letters_missing) == (2, ["t/0/0:1", "t/0/1:0"])
    assert c.report(letters_checked=False).ok
    c.dead(letter(0, 1), ident(0))
    c.dead(letter(1), ident(1))
    assert c.report().ok
    assert c.report().total.letters == 2


def test_rows_in_the_error_prefix_are_counted_apart():
    c = checker(expected(0, 2))
    c.found(row(0, 0))
    c.failed(row(0, 0))
    c.failed(row(0, 1))
    c.failed(b"not a row")
    report = c.report()
    assert not report.ok  # no query finds the second row
    assert (report.total.landed, report.total.in_error_prefix, report.total.lost) == (1, 1, 0)


def test_the_same_record_twice_in_the_log_is_expected_once():
    c = checker(expected(0, 1), expected(0, 1))
    c.found(row(0, 0))
    assert c.report().total.expected == 1


def test_a_fifth_of_a_million_rows_takes_under_five_seconds():
    c = checker(*(expected(n, 1000) for n in range(200)))
    began = time.process_time()
    for n in range(200):
        head = b'{"orgId":"acme","rowId":"' + ident(n).encode() + b":"
        for ordinal in range(1000):
            c.found(head + b'%d"}' % ordinal)
    assert c.report().ok
    assert time.process_time() - began < 5  # half a second is usual


@pytest.fixture
def landed(tmp_path, cli, bundles):
    folder, made = bundles(12, chaos=0.1, poison=0.2, seed=3)
    said = cli(
        "run",
        "--topic",
        "files",
        "--files",
        folder,
        "--org",
        "acme",
        "--landed",
        tmp_path / "landed",
        "--dead-letters",
        tmp_path / "dead",
    )
    assert said.code == 0, said.err
    engine = Engine(Settings(org_id="acme"))
    log = tmp_path / "log.jsonl"
    with log.open("wb") as out:
        for number, bundle in enumerate(made):
            expected = expectation(engine, file_record(bundle.payload, number), "")
            assert (expected.points - len(expected.absent)) == bundle.rows
            assert expected.rejected == bundle.rejected
            out.write(msgspec.json.encode(expected) + b"\n")
    return ["verify", "--expected", log, "--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead"]


def test_a_run_is_verified_and_a_missing_object_is_lost(cli, landed, tmp_path):
    said = cli(*landed)
    assert said.code == 0, said.out
    assert "verified: lost=0 phantom=0" in said.out
    gone = next((tmp_path / "landed").rglob("*.gz"))
    rows = [json.loads(line)["rowId"] for line in gzip.decompress(gone.read_bytes()).splitlines()]
    gone.unlink()
    said = cli(*landed)
    assert said.code == 3
    assert f"lost={len(rows)} " in said.out
    assert rows[0] in said.out
    report = json.loads(cli(*landed, "--json").out)
    assert (report["ok"], report["total"]["lost"]) == (False, len(rows))


def test_a_missing_dead_letter_fails_and_without_the_folder_is_only_said(cli, landed, tmp_path):
    next((tmp_path / "dead").rglob("*.json")).unlink()
    assert cli(*landed).code == 3
    said = cli(*landed[:-2])
    assert said.code == 0
    assert "--dead-letters" in said.err


def test_rows_in_firehoses_error_prefix_are_read_back_from_raw_data(cli, landed, tmp_path):
    path = next((tmp_path / "landed").rglob("*.gz"))
    lines = gzip.decompress(path.read_bytes())
    errors = tmp_path / "landed" / "errors" / "metadata-extraction-failed"
    errors.mkdir(parents=True)
    raw = {"errorCode": "x", "rawData": base64.b64encode(lines).decode()}
    (errors / "object").write_text(json.dumps(raw) + "\n")
    path.unlink()
    said = cli(*landed)
    assert said.code == 3
    assert f"error_prefix={len(lines.splitlines())} " in said.out
    assert "error prefix" in said.err


def test_a_foreign_row_is_phantom(cli, landed, tmp_path):
    (tmp_path / "landed" / "foreign.json").write_bytes(row(5, 0) + b"\n")
    said = cli(*landed)
    assert said.code == 3
    assert "phantom=1 " in said.out


def test_a_log_with_a_cut_last_line_counts_up_to_it(cli, landed):
    log = landed[2]
    log.write_bytes(log.read_bytes() + b'{"topic":"fil')
    said = cli(*landed)
    assert said.code == 0
    assert "last line is cut" in said.err
    log.write_bytes(b"{}\n" + log.read_bytes())
    assert cli(*landed).code == 2


@pytest.mark.parametrize(
    "args",
    [
        ["verify", "--landed", "."],
        [
            "verify",
            "--landed",
            ".",
            "--topic",
            "t",
            "--bootstrap",
            "b:1",
            "--org",
            "o",
            "--set",
            "source.group=g",
            "--expected",
            __file__,
        ],
        ["verify", "--landed", "./none", "--expected", "x"],
        [
            "verify",
            "--landed",
            ".",
            "--topic",
            "t",
            "--group",
            "g",
            "--org",
            "o",
            "--bootstrap",
            "b:1",
            "--from",
            "zero",
        ],
    ],
)
def test_wrong_use_is_one_message_and_exit_2(cli, args):
    said = cli(*args)
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1


def test_the_expectation_of_poison_is_a_letter():
    engine = Engine(Settings(org_id="acme"))
    poison = Record(topic="t", partition=0, offset=1, timestamp=5, value=b"no bundle")
    with pytest.raises(DecodeError):
        engine.fan_out(poison)
    expected = expectation(engine, poison, "")
    assert (expected.points, expected.bundle_id) == (0, ident(1))
    assert expected.poison.startswith("decode.")


def test_a_log_that_is_none_is_refused_before_anything_is_read(cli, tmp_path):
    (tmp_path / "landed").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "other").write_text("no log\n")
    for name, what in (
        ("landed", "is a folder"),
        ("none", "no such file"),
        ("empty", "it is empty, so nothing can be verified by it"),
        ("other", "line 1 is no entry of `publish --verifiable`"),
    ):
        said = cli("verify", "--expected", tmp_path / name, "--landed", tmp_path / "landed")
        assert (said.code, what in said.err, said.out) == (2, True, ""), said.err
