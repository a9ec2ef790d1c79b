"""verify of a place without claims, where rows have keys: dimension rows are no rows, and no row may lack its own."""

import itertools

import pytest
from msgspec.structs import replace

from lmstream import Engine, Settings
from lmstream.lab.generator import Generator
from lmstream.model import Record
from lmstream.verification import verify
from lmstream.verification.checker import Checker
from lmstream.verification.expected import expectation
from lmstream.verification.keys import Keys
from lmstream.verification.wanting import RepairingChecker

KEYED = Settings(org_id="acme", dimensions=True)
RECORDS = [
    Record(topic="lm", partition=0, offset=at, timestamp=5, value=one.payload)
    for at, one in enumerate(itertools.islice(Generator(instances=2).bundles(), 6))
]


def expected():
    engine = Engine(KEYED)
    return [expectation(engine, each, "") for each in RECORDS]


def land(folder, *, without=(), twice=False):
    """Rows and dimension rows as Firehose lands them, but for dimension rows of these keys. Answers all of the keys."""
    engine, keys = Engine(KEYED), {}
    for number, each in enumerate(RECORDS):
        out = engine.fan_out(each)
        for needed in out.dimensions:
            if needed.key not in without and (twice or needed.key not in keys):
                put(folder / needed.path / f"stream-{number}-{needed.key}", needed.line)
            keys[needed.key] = needed
        for group in out.groups:
            put(folder / group.path / f"stream-{number}", group.data)
    return keys


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("twice", [False, True])
def test_dimension_rows_are_neither_unexpected_nor_copies(tmp_path, twice):
    keys = land(tmp_path, twice=twice)
    report = verify(expected(), tmp_path)
    assert report.ok, report
    assert (report.total.phantom, report.total.duplicate, report.orphans, report.malformed) == (0, 0, 0, 0)
    assert report.dimensions >= len(keys)
    assert f"dimensions={report.dimensions} orphans=0" in report.verdict


@pytest.mark.parametrize("kind", ["resource", "scope", "attributes"])
def test_a_row_without_its_dimension_row_is_an_orphan_and_is_named(tmp_path, kind):
    keys = land(tmp_path / "whole")
    gone = next(key for key, needed in keys.items() if needed.kind == kind)
    land(tmp_path / "some", without={gone})
    report = verify(expected(), tmp_path / "some")
    lines = b"".join(Engine(KEYED).fan_out(each).ndjson() for each in RECORDS).splitlines()
    assert report.orphans == sum(f'{kind}Key":"{gone}"'.encode() in line for line in lines) > 0
    assert not report.ok
    assert f"no dimension row says what key {gone} is, of acme in the hour " in report.orphan_rows[0]
    assert report.orphan_rows[0].startswith("lm/0/")


def test_a_dimension_row_of_another_hour_or_organization_explains_nothing(tmp_path):
    keys = land(tmp_path)
    for path in tmp_path.rglob("stream-*"):
        if "_dimensions" in path.parts:
            text = path.read_bytes()
            path.write_bytes(text.replace(b'T14:00:00.000Z"', b'T15:00:00.000Z"') if b"T14:" in text else b"")
    report = verify(expected(), tmp_path)
    assert report.orphans == report.total.landed > len(keys) // 10


def test_dimension_rows_may_be_buffered_longer_than_rows(tmp_path):
    keys = land(tmp_path / "whole")
    gone = next(iter(keys))
    land(tmp_path / "some", without={gone})
    early = verify(expected(), tmp_path / "some", settle=60, wait=None)
    assert (early.ok, early.settled) == (True, False)
    assert early.orphans > 0

    def wait(_):
        put(tmp_path / "some" / keys[gone].path / "stream-late", keys[gone].line)

    late = verify(expected(), tmp_path / "some", settle=60, wait=wait)
    assert (late.ok, late.orphans) == (True, 0)


def test_rows_that_are_not_committed_may_wait_for_theirs():
    checker = Checker()
    for each in expected():
        checker.expect(each, closed=False)
    for each in RECORDS:
        for line in Engine(KEYED).fan_out(each).ndjson().splitlines():
            checker.found(line)
    report = checker.report()
    assert (report.ok, report.orphans) == (True, 0)


def test_a_text_that_looks_like_a_key_is_none():
    keys = Keys()
    hostile = (
        b'{"rowId":"%032d:0","metricKey":"m","attributes":{"metricKey":"_dimensions","ts":"x","resourceKey":"k"}}' % 1
    )
    assert not keys.is_dimension(hostile)
    keys.needs(hostile, "a", 0)
    keys.needs(b'"resourceKey":"not json', "b", 1)
    assert (keys.orphans(), keys.dimensions) == ((0, []), 0)


def test_a_repair_sends_again_what_lacks_its_dimension_row_and_nothing_else(tmp_path):
    keys = land(tmp_path / "whole")
    gone = next(key for key, needed in keys.items() if needed.kind == "attributes")
    land(tmp_path / "some", without={gone})
    checker = RepairingChecker()
    report = verify(expected(), tmp_path / "some", checker=checker)
    wanted = {each.offset: each.only for each in checker.wanted(letters_checked=False)}
    assert sum(map(len, wanted.values())) == report.orphans > 0
    engine = Engine(KEYED)
    for offset, only in wanted.items():
        out = engine.fan_out(replace(RECORDS[offset], only=only))
        assert out.rows == len(only)
        assert gone in {needed.key for needed in out.dimensions}
        assert all(f'attributesKey":"{gone}"'.encode() in line for line in out.ndjson().splitlines())
    put(tmp_path / "some" / keys[gone].path / "repaired", keys[gone].line)
    again = RepairingChecker()
    assert verify(expected(), tmp_path / "some", checker=again).ok
    assert list(again.wanted(letters_checked=False)) == []
