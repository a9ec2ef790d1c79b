"""A lake of row contract 1.0: what it skipped is no loss where it is seen to have written the record, and only there.

tests/corpus/older holds a bundle, and what the engine of 1.0 made of it: rows, and the reasons for what made none.
"""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Record, Settings
from lmstream.model import DeadLetter
from lmstream.verification import Checker, expectation
from lmstream.verification.older import newer, upgraded

CORPUS = Path(__file__).parents[1] / "corpus" / "older"
ENGINE = Engine(Settings(org_id="acme"))
RECORD = Record(topic="t", partition=0, offset=0, timestamp=5, value=(CORPUS / "bundle.json").read_bytes())
EXPECTED = expectation(ENGINE, RECORD, "")
VERDICT = json.loads((CORPUS / "verdict-of-1.0.json").read_bytes())
OLDER = (2, 3, 4, 5)  # two sums and a quantile that are not finite; no time


def rows_of(data):
    return {int(json.loads(line)["rowId"].partition(":")[2]): line for line in data.splitlines()}


OLD = rows_of((CORPUS / "rows-of-1.0.ndjson").read_bytes())
NEW = rows_of(ENGINE.fan_out(RECORD).ndjson())


def judged(rows, letters=VERDICT["rejected"], expected=EXPECTED, **more):
    checker = Checker()
    checker.expect(expected)
    for line in rows:
        checker.found(line)
    if letters:
        letter = DeadLetter(topic="t", partition=0, offset=0, rejected=tuple(map(tuple, letters)))
        checker.dead(letter, expected.bundle_id)
    return checker.report(**more)


def test_the_corpus_is_what_1_0_skipped():
    assert expectation(ENGINE, RECORD, "").older == EXPECTED.older == OLDER
    skipped = {*range(EXPECTED.points)} - {*OLD} - {n for n, _ in VERDICT["rejected"]}
    assert skipped - {8} == {*OLDER}  # a value of NaN is skipped today too
    assert len(skipped) == sum(VERDICT["skipped"].values())
    assert upgraded(OLD[1]) == NEW[1] != OLD[1]
    assert (newer(NEW[1]), newer(OLD[1]), newer(NEW[0])) == (True, False, False)


def test_what_1_0_skipped_of_a_record_that_it_wrote_is_counted_and_right():
    report = judged(OLD.values())
    total = report.total
    assert report.ok
    assert (total.lost, total.letters_missing, total.older_skipped, total.older_contract) == (0, 0, 4, 1)
    assert (total.landed, total.dead_lettered) == (len(OLD), 1)
    assert report.verdict.startswith("verified: lost=0 ")
    assert "older_contract=1 older_skipped=4" in report.verdict


def test_a_row_with_the_time_of_its_record_was_skipped_too():
    record = msgspec.structs.replace(RECORD, timestamp=1_715_263_558_360)
    entry = expectation(Engine(Settings(org_id="acme", time_fallback="record")), record, "")
    assert (entry.older, entry.rejected) == (OLDER, ())


@pytest.mark.parametrize("wrong", [{"timeUnixNano": "5"}, {"bucketCounts": ["1", "0", "1"], "explicitBounds": [5]}])
def test_a_point_that_is_rejected_for_another_reason_was_rejected_by_1_0_too(wrong):
    point = {"timeUnixNano": "1715263558360000000", "count": "2", "sum": "NaN", "bucketCounts": ["2"]} | wrong
    metrics = [{"name": "m", "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}]
    value = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()
    record = msgspec.structs.replace(RECORD, value=value)
    assert ENGINE.fan_out(record).left_out == {0: ["part.nan"]}
    entry = expectation(ENGINE, record, "")
    assert (entry.rejected, entry.older) == ((0,), ())


def test_every_reason_of_1_0_at_once_is_one_skipped_point():
    point = {"count": "2", "sum": "NaN", "max": "Infinity", "bucketCounts": ["2"]}
    metrics = [{"name": "m", "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}]
    value = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()
    engine = Engine(Settings(org_id="acme", time_fallback="record"))
    record = msgspec.structs.replace(RECORD, value=value, timestamp=1_715_263_558_360)
    assert {*engine.fan_out(record).left_out[0]} == {"part.nan", "part.infinite", "time.record"}
    assert expectation(engine, record, "").older == (0,)


@pytest.mark.parametrize(
    ("point", "older"),
    [
        ({"asInt": 1}, (0,)),  # no time
        ({"timeUnixNano": "1715263558360000000", "asInt": 1}, ()),
        ({"timeUnixNano": "5", "asInt": 1}, ()),  # a time out of range: 1.0 rejected it, too
        ({"timeUnixNano": "1715263558360000000", "asDouble": "NaN"}, ()),  # skipped by both
        ({"asInt": 1, "exemplars": [{"asInt": 1}]}, (0,)),
        ({"asInt": 1, "exemplars": [{"asDouble": "NaN"}]}, ()),  # for its exemplar 1.0 rejected it
    ],
)
def test_only_what_1_0_skipped_is_older(point, older):
    metrics = [{"name": "m", "gauge": {"dataPoints": [point]}}]
    value = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()
    for exemplars in (True, False):
        engine = Engine(Settings(org_id="acme", exemplars=exemplars))
        record = msgspec.structs.replace(RECORD, value=value, timestamp=-1)
        assert expectation(engine, record, "").older == older


@pytest.mark.parametrize(
    ("rows", "letters", "what"),
    [
        ([OLD[n] for n in OLD if n != 1], VERDICT["rejected"], "nothing shows that 1.0 wrote it"),
        ([*OLD.values(), NEW[1]], VERDICT["rejected"], "1.1 wrote it too"),
        ([NEW[n] for n in OLD], VERDICT["rejected"], "1.1 wrote it"),
        ([*OLD.values(), NEW[2]], VERDICT["rejected"], "1.1 made a row that 1.0 did not"),
        (OLD.values(), [], "the letter that 1.0 owed is missing"),
        (OLD.values(), [*VERDICT["rejected"], [5, "time.missing"]], "a letter as 1.1 writes it"),
        ([*OLD.values(), NEW[2].replace(b"sum NaN", b"other")], VERDICT["rejected"], "a row of 1.1, changed"),
        ([OLD[0].replace(b"acme", b"evil"), OLD[1], OLD[6]], VERDICT["rejected"], "another row is changed"),
    ],
)
def test_without_the_signs_of_1_0_alone_what_is_missing_is_lost(rows, letters, what):
    report = judged(rows, letters)
    assert not report.ok, what
    assert report.total.older_skipped == 0
    assert report.total.lost >= 2


def test_a_row_in_the_error_prefix_shows_that_1_0_did_not_write_the_record_whole():
    checker = Checker()
    checker.expect(EXPECTED)
    for n, line in OLD.items():
        checker.failed(line) if n == 0 else checker.found(line)
    rejected = tuple(map(tuple, VERDICT["rejected"]))
    checker.dead(DeadLetter(topic="t", partition=0, offset=0, rejected=rejected), EXPECTED.bundle_id)
    total = checker.report().total
    assert (total.in_error_prefix, total.older_skipped) == (1, 0)


def test_by_ids_alone_nothing_shows_who_wrote_a_record():
    report = judged(OLD.values(), expected=msgspec.structs.replace(EXPECTED, digests=b""))
    assert (report.total.lost, report.total.older_skipped) == (3, 0)


@given(st.sets(st.sampled_from(sorted(OLD))), st.sets(st.sampled_from(sorted(NEW))))
def test_a_row_that_1_0_made_is_never_hidden_when_it_is_gone(gone, added):
    """Whatever else landed: the verdict is good only when each row is there that both contracts make."""
    report = judged([*(OLD[n] for n in OLD if n not in gone), *(NEW[n] for n in added)])
    there = ({*OLD} - gone) | added
    assert report.total.landed == len(there & {*NEW})
    if not {*OLD} <= there:
        assert not report.ok
        assert report.total.older_skipped == 0
    if added & {1, *OLDER}:  # 1.1 was here
        assert report.total.older_skipped == 0
