"""`verify` as a library: plain arguments in, a report out, and nothing is printed."""

import gzip
import json
import re
from itertools import islice
from types import SimpleNamespace

import msgspec
import pytest

from lmstream import Engine, Record, Settings
from lmstream.dead_letters.form import encode
from lmstream.delivery import Sums
from lmstream.engine import bundle_id
from lmstream.errors import ConfigError, DecodeError, SourceError
from lmstream.interfaces import PARTS, LostPart
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter
from lmstream.verification import Checker, Expected, expectation, log_entries, verify


@pytest.fixture
def scene(tmp_path):
    """Three bundles that must land, one record that is not a bundle, a log of them, and the rows."""
    engine = Engine(Settings(org_id="acme"))
    payloads = [*(each.payload for each in islice(Generator(instances=2).bundles(), 3)), b"no bundle"]
    records = [Record(topic="t", partition=0, offset=n, timestamp=5, value=each) for n, each in enumerate(payloads)]
    expected = [expectation(engine, each, "") for each in records]
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in expected))
    (tmp_path / "landed" / "errors").mkdir(parents=True)
    rows = []
    for number, each in enumerate(records[:-1]):
        for group in engine.fan_out(each).groups:
            folder = tmp_path / "landed" / group.path
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.gz").write_bytes(gzip.compress(group.data))
            rows.append(group.data)
    return tmp_path, expected, rows


def objects(folder):
    return sorted((folder / "landed").rglob("*.gz"))


def rewrite(path, change):
    """Change the first line of an object."""
    first, _, rest = gzip.decompress(path.read_bytes()).partition(b"\n")
    path.write_bytes(gzip.compress(change(first) + b"\n" + rest))


def test_a_report_comes_of_plain_arguments_and_nothing_is_printed(scene, capsys):
    folder, expected, rows = scene
    report = verify(log_entries(folder / "log.jsonl"), str(folder / "landed"))
    assert report.ok
    assert report.total.landed == b"".join(rows).count(b"\n")
    assert report.verdict.startswith("verified: lost=0 ")
    assert report.letters_checked is False
    assert verify(expected, folder / "landed") == report
    assert capsys.readouterr() == ("", "")


def test_a_missing_letter_is_named_and_what_is_no_letter_is_told(scene):
    folder, expected, _ = scene
    letters = folder / "letters"
    letters.mkdir()
    (letters / "junk.json").write_bytes(b"junk\n")
    said = []
    report = verify(expected, folder / "landed", letters, say=said.append)
    assert not report.ok
    assert report.verdict.startswith("NOT VERIFIED (LMS-5001 verify.failed): lost=0 ")
    assert report.letters_missing == ["t/0/3:0"]
    assert said == [f"{letters / 'junk.json'}: skipped a line that is not a dead letter"]
    letter = DeadLetter(topic="t", partition=0, offset=3, timestamp=5, value=b"no bundle", reason="decode.json")
    (letters / "3.json").write_bytes(encode(letter))
    assert verify(expected, folder / "landed", letters, say=said.append).ok


def test_landed_objects_pass_through_what_watches_them(scene):
    folder, expected, _ = scene
    seen = []

    def watch(objects):
        for name, lines in objects:
            seen.append(name)
            yield name, lines

    assert verify(expected, folder / "landed", watch=watch).ok
    assert sorted(seen) == [str(each) for each in objects(folder)]


def test_a_place_that_is_none_and_a_folder_that_is_missing_are_errors_of_ours(scene):
    folder, expected, _ = scene
    with pytest.raises(ConfigError, match="expected s3://BUCKET/PREFIX"):
        verify(expected, "s3://")
    with pytest.raises(SourceError, match="none"):
        verify(expected, folder / "none")


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"orgId":"acme"', b'"orgId":"evil"'),
        lambda line: re.sub(rb'"value":[-0-9.e+]+', b'"value":-1', line, count=1),
        lambda line: line.replace(b'"rowId"', b' "rowId"'),
        lambda line: line[:-1] + b',"more":1}',
    ],
    ids=["org", "value", "a space", "a member more"],
)
def test_a_row_with_one_other_byte_is_changed(scene, change):
    folder, expected, rows = scene
    rewrite(objects(folder)[0], change)
    report = verify(expected, folder / "landed")
    assert not report.ok
    t = report.total
    assert (t.changed, t.lost, t.misplaced, t.phantom) == (1, 0, 0, 0)
    assert t.landed == t.expected - 1 == b"".join(rows).count(b"\n") - 1
    assert report.changed[0].startswith("t/0/")
    assert report.changed[0].endswith(f" in {objects(folder)[0]}")


def test_a_good_copy_does_not_hide_a_changed_one(scene):
    folder, expected, _ = scene
    (objects(folder)[0].parent / "again.gz").write_bytes(objects(folder)[0].read_bytes())
    rewrite(objects(folder)[0], lambda line: line.replace(b"acme", b"ACME"))
    t = verify(expected, folder / "landed").total
    assert (t.changed, t.lost) == (1, 0)
    assert t.landed == t.expected


@pytest.mark.parametrize("where", ["otherorg/x", "", "deeper/{}", "{}/deeper"])
def test_a_row_under_another_path_is_misplaced(scene, where):
    folder, expected, _ = scene
    path = objects(folder)[0]
    count = gzip.decompress(path.read_bytes()).count(b"\n")
    other = folder / "landed" / where.format(path.parent.relative_to(folder / "landed"))
    other.mkdir(parents=True, exist_ok=True)
    path.rename(other / "moved.gz")
    report = verify(expected, folder / "landed")
    assert not report.ok
    assert (report.total.misplaced, report.total.changed, report.total.lost) == (count, 0, 0)
    assert report.misplaced[0].endswith("moved.gz")


def test_another_organization_or_another_path_than_the_runs_cannot_pass(scene):
    folder, _, _ = scene
    log = list(log_entries(folder / "log.jsonl"))
    assert verify(log, folder / "landed").ok
    payloads = [each.payload for each in islice(Generator(instances=2).bundles(), 3)]
    for wrong in (
        Settings(org_id="other"),
        Settings(org_id="acme", path="rows/{orgKey}/{metricKey}/{yyyy}/{MM}/{dd}/{HH}/"),
    ):
        engine = Engine(wrong)
        again = [
            expectation(engine, Record(topic="t", partition=0, offset=n, timestamp=5, value=each), "")
            for n, each in enumerate(payloads)
        ]
        report = verify(again, folder / "landed")
        assert not report.ok
        assert report.total.lost == report.total.phantom == 0
        assert report.total.changed + report.total.misplaced == report.total.expected > 0


def test_a_log_without_digests_is_never_called_verified(scene):
    folder, expected, _ = scene
    bare = [msgspec.structs.replace(each, digests=b"") for each in expected]
    report = verify(bare, folder / "landed")
    assert report.ok
    assert report.ids_only
    assert report.verdict.startswith("ids only")
    assert "verified" not in report.verdict
    assert verify([bare[0], *expected[1:]], folder / "landed").ids_only


def test_a_row_of_an_older_contract_is_right_and_counted(tmp_path):
    exemplar = {"asDouble": 1, "filteredAttributes": []}
    point = {"timeUnixNano": "1700000000000000000", "asDouble": 1.5, "exemplars": [exemplar]}
    metric = {"name": "m", "gauge": {"dataPoints": [point]}}
    value = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    record = Record(topic="t", partition=0, offset=0, timestamp=5, value=value)
    engine = Engine(Settings(org_id="acme", exemplars=True))
    (group,) = engine.fan_out(record).groups
    assert b'"exemplars":[{' in group.data
    assert b'tsUnixMs":0' not in group.data
    older = group.data.replace(b'"exemplars":[{', b'"exemplars":[{"tsUnixMs":0,')
    (tmp_path / group.path).mkdir(parents=True)
    (tmp_path / group.path / "a").write_bytes(older)
    report = verify([expectation(engine, record, "")], tmp_path)
    assert report.ok
    assert (report.total.older_contract, report.total.landed, report.total.changed) == (1, 1, 0)
    assert report.verdict.startswith("verified: ")
    assert "older_contract=1" in report.verdict
    (tmp_path / group.path / "a").write_bytes(older.replace(b"1.5", b"1.6"))
    assert verify([expectation(engine, record, "")], tmp_path).total.changed == 1


def test_digests_that_do_not_fit_their_points_are_refused():
    with pytest.raises(ValueError, match="11 bytes of digests of 1 rows"):
        Expected(topic="t", partition=0, offset=0, timestamp=1, bundle_id="b", points=1, digests=b"x" * 11)


def test_each_record_and_each_point_is_in_exactly_one_term_of_a_sum():
    engine = Engine(Settings(org_id="acme"))
    stale = {"timeUnixNano": "1700000000000000000", "flags": 1}
    last = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [stale]}}]}]}]}
    made = [each.payload for each in islice(Generator(instances=3, chaos=0.3, poison=0.1, seed=3).bundles(), 60)]
    values = [*made, None, None, b"{}", json.dumps(last).encode()]
    checker, points = Checker(), {"rows": 0, "skipped": 0, "rejected": 0}
    records = dict.fromkeys(("understood", "empty", "tombstones", "undecodable"), 0)
    for n, value in enumerate(values):
        record = Record(topic="t", partition=0, offset=n, timestamp=5, value=value)
        checker.expect(expectation(engine, record, ""))
        try:
            out = engine.fan_out(record)
        except DecodeError:
            records["undecodable"] += 1
            continue
        records["tombstones" if value is None else "understood" if out.points else "empty"] += 1
        points["rows"] += out.rows
        points["rejected"] += len(out.rejected)
        points["skipped"] += sum(n for why, n in out.skipped.items() if why != "record.tombstone")
    t = checker.report().total
    assert records == {name: getattr(t, name) for name in records}
    assert min(records.values()) > 0
    assert points == {"rows": t.expected, "skipped": t.skipped, "rejected": t.rejected}
    assert min(points.values()) > 0
    assert t.bundles == sum(records.values()) == len(values)
    assert t.points == sum(points.values())


@pytest.mark.parametrize("odd", [{"absent": (0, 0)}, {"rejected": (1,)}, {"absent": (0,), "rejected": (0, 1)}])
def test_ordinals_that_contradict_each_other_are_refused(odd):
    with pytest.raises(ValueError, match="absent twice, or rejected and not absent"):
        Expected(topic="t", partition=0, offset=0, timestamp=1, bundle_id="b", points=2, **odd)


def test_each_record_is_in_one_place_of_the_sum_and_a_dead_letter_is_one_record():
    common = {"topic": "t", "partition": 0, "timestamp": 5}
    made = Checker()
    made.expect(Expected(**common, offset=0, bundle_id="a", points=4, absent=(0, 1, 2), rejected=(0, 1)))
    made.expect(Expected(**common, offset=1, bundle_id="b", points=0, parts=("$.x",)))
    made.expect(Expected(**common, offset=2, bundle_id="c", points=0))
    made.expect(Expected(**common, offset=3, bundle_id="d", points=0, poison="decode.json"))
    made.expect(Expected(**common, offset=4, bundle_id="e", points=0, tombstone=True))
    made.found(b'{"rowId":"a:3"}')
    letter = DeadLetter(topic="t", partition=0, offset=0)
    made.dead(msgspec.structs.replace(letter, rejected=((0, "value.two"), (1, "value.two"))), "a")
    made.dead(msgspec.structs.replace(letter, parts=(("$.x", "decode.type"),)), "b")
    made.dead(letter, "d")
    report = made.report()
    assert report.sums == Sums(
        records=5, understood=1, empty=1, tombstones=1, undecodable=2, points=4, rows=1, skipped=1, rejected=2
    )
    assert report.sums.right
    assert (report.ok, report.total.dead_letters, report.total.letters) == (True, 3, 4)
    assert "dead_letters=3 letters_missing=0" in report.verdict


def test_more_parts_than_a_letter_names_make_the_record_undecodable_as_in_a_run():
    part = b'{"name":"x","gauge":{"dataPoints":5}}'
    good = b'{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1715263558360000000","asInt":1}]}}'
    for count, poison in ((0, ""), (1, ""), (PARTS, ""), (PARTS + 1, "decode.type")):
        value = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%b]}]}]}' % b",".join([good, *[part] * count])
        entry = expectation(Engine(Settings(org_id="acme")), Record(topic="t", partition=0, offset=0, value=value), "")
        assert (entry.poison, entry.points) == (poison, 0 if poison else 1)
        assert entry.bundle_id == bundle_id("", "t", 0, 0, -1)
        assert len(entry.parts) == (0 if poison else count)


def test_a_point_that_is_rejected_behind_all_rows_is_owed_and_counted():
    bad = {"timeUnixNano": "1715263558360000000", "asInt": 1, "asDouble": 2}
    good = {"timeUnixNano": "1715263558360000000", "asInt": 1}
    for points, rejected in (([good, bad], (1,)), ([bad], (0,)), ([bad, good, bad], (0, 2))):
        metrics = [{"name": "m", "gauge": {"dataPoints": points}}]
        value = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()
        entry = expectation(Engine(Settings(org_id="acme")), Record(topic="t", partition=0, offset=0, value=value), "")
        assert (entry.points, entry.absent, entry.rejected) == (len(points), rejected, rejected)


@pytest.mark.parametrize(
    ("odd", "match"),
    [
        ({"points": 1, "absent": (1,)}, "ordinal 1 of 1 points"),
        ({"points": 0, "older": (1,)}, "ordinal 1 of 0 points"),
        ({"points": 2, "absent": (0, 0)}, "^an ordinal is absent twice, or rejected and not absent$"),
    ],
)
def test_ordinals_that_no_point_has_are_refused(odd, match):
    common = {"topic": "t", "partition": 0, "offset": 0, "timestamp": 1, "bundle_id": "b"}
    with pytest.raises(ValueError, match=match):
        Expected(**common, **odd)
    Expected(**common, points=2, absent=(0, 1), rejected=(1,), older=(1,))
    Expected(**common, points=0, older=(0,))


ENTRY = b'{"topic":"t","partition":0,"offset":%d,"timestamp":5,"bundleId":"b%d","points":1}\n'


def test_a_log_is_read_to_its_end_and_a_last_line_that_was_cut_is_told(tmp_path):
    log, said = tmp_path / "log", []
    log.write_bytes(ENTRY % (0, 0) + ENTRY % (1, 1) + (ENTRY % (2, 2))[:30])
    assert [each.offset for each in log_entries(log, said.append)] == [0, 1]
    assert said == [f"{log}: the last line is cut and was left out"]
    log.write_bytes(ENTRY % (0, 0) + b"{}\n" + ENTRY % (1, 1))
    with pytest.raises(
        ConfigError, match=rf"{re.escape(str(log))} line 2 is no entry of `publish --verifiable`: "
    ) as e:
        list(log_entries(log, said.append))
    assert e.value.reason == "source.file"
    log.write_bytes(b"{}\n")  # nothing but a broken line is no log
    with pytest.raises(
        ConfigError, match=rf"{re.escape(str(log))} line 1 is no entry of `publish --verifiable`: "
    ) as e:
        list(log_entries(log, said.append))
    assert e.value.reason == "source.file"
    for nothing in (b"", ENTRY % (0, 0)):
        log.write_bytes(nothing)
        assert len(list(log_entries(log, said.append))) == bool(nothing)
    assert len(said) == 1


def test_more_parts_of_a_codec_of_somebody_elses_make_the_record_undecodable_too():
    parts = tuple(LostPart(f"$.x[{n}]", f"reason.{n}", "why") for n in range(PARTS + 1))
    engine = SimpleNamespace(fan_out=lambda _: SimpleNamespace(parts=parts))
    entry = expectation(engine, Record(topic="t", partition=0, offset=0, value=b"x"), "")
    assert (entry.poison, entry.points, entry.topic) == ("reason.0", 0, "t")
