"""A lake whose rows have keys: proved with its dimension rows; broken in any way, the verdict says how."""

import gzip
import json
import logging

import pytest

from lmstream.lake import dimension_rows
from lmstream.settings import HIVE_PATH, Settings
from lmstream.storage.by_key import keyed
from lmstream.storage.objects import Folder
from lmstream.verification import verify_lake
from lmstream.verification.lake.remade import Bounds, Remade
from support.dimensions_reference import joined
from support.lakes import Landed, records

KEYED = Settings(org_id="acme", dimensions=True)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(folder, topic=None, **more):
    return verify_lake(keyed(Folder(folder)), keyed(Folder(folder / "_lmstream")), topic, **more)


def of_dimensions(folder):
    return [path for path in sorted(folder.rglob("*.gz")) if "_dimensions" in str(path.relative_to(folder))]


def lines_of(paths):
    return [line for path in paths for line in gzip.decompress(path.read_bytes()).splitlines(keepends=True)]


@pytest.fixture(params=[KEYED.path, HIVE_PATH, "{orgKey}/{yyyy}/{MM}/{dd}/"])
def lake(tmp_path, request):
    settings = Settings(org_id="acme", dimensions=True, path=request.param)
    return Landed().land(records(24, bad=[3]), settings).write(tmp_path / "lake")


def test_a_lake_with_dimensions_is_proved_and_holds_what_one_without_has(lake, tmp_path):
    report = check(lake, settle=0.1, wait=lambda _: None)
    assert report.ok
    sums = report.lake
    assert (sums.orphans, sums.dimensions_wrong, report.total.duplicate) == (0, 0, 0)
    dimensions = of_dimensions(lake)
    assert sums.dimensions == len(lines_of(dimensions)) > 0
    rows = [path for path in sorted(lake.rglob("*.gz")) if path not in dimensions]
    plain = Landed().land(records(24, bad=[3]), Settings(org_id="acme")).write(tmp_path / "plain")
    expected = [json.loads(line) for line in lines_of(sorted(plain.rglob("*.gz")))]
    found = joined(lines_of(rows), lines_of(dimensions))
    assert sorted(found, key=str_of) == sorted(expected, key=str_of)
    assert report.total.landed == report.total.expected == len(expected)
    assert f"dimensions={sums.dimensions} dimensions_wrong=0 orphans=0" in report.verdict


def str_of(row):
    return row["rowId"]


def test_dimension_rows_that_were_deleted_are_named_and_so_are_the_rows_that_need_them(lake):
    for path in of_dimensions(lake):
        path.unlink()
    report = check(lake, settle=0.1, wait=lambda _: None)
    assert not report.ok
    assert report.lake.orphans == report.total.landed == report.total.expected
    assert report.lake.dimensions == 0
    assert report.lake.dimensions_wrong > 0
    assert any("no dimension row says what key" in text for text in report.lake.orphan_rows)
    assert "_dimensions" in report.lost[0]


def test_a_dimension_row_that_was_changed_is_told(lake):
    path = of_dimensions(lake)[0]
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data.replace(b'"hostName":"', b'"hostName":"x', 1)))
    report = check(lake, settle=0.1, wait=lambda _: None)
    assert not report.ok
    assert report.lake.dimensions_wrong > 0
    assert path.name in report.changed[0]


def test_rows_of_an_engine_that_leaves_out_dimension_rows_are_orphans(tmp_path, monkeypatch):
    before = dimension_rows.DimensionRows.add
    monkeypatch.setattr(
        dimension_rows.DimensionRows,
        "add",
        lambda self, lines: before(self, [each for each in lines if each.kind != "scope"]),
    )
    lake = Landed().land(records(6), KEYED).write(tmp_path)
    report = check(lake, settle=0.1, wait=lambda _: None)
    assert not report.ok
    assert (report.lake.orphans, report.lake.dimensions_wrong) == (report.total.expected, 0)


def topic(log, today):
    """The topic that a lake was landed from."""

    async def read(_, partition, start, end):
        for each in log:
            if each.partition == partition and start <= each.offset < end:
                yield each

    return Remade({("lm", 0): Bounds(0, None, len(log))}, read, today)


def test_a_lake_whose_rows_got_keys_half_way_is_what_the_topic_owes(tmp_path):
    log = records(20, bad=[3])
    lake = Landed().land(log[:9], Settings(org_id="acme")).land(log, KEYED).write(tmp_path)
    report = check(lake, topic=topic(log, KEYED), settle=0.1, wait=lambda _: None)
    assert report.ok, report.verdict
    assert report.lake.compared == report.lake.windows > 3
    assert (report.lake.orphans, report.lake.dimensions_wrong) == (0, 0)
    assert report.lake.dimensions > 0


def test_the_topic_tells_dimension_rows_that_no_claim_names(tmp_path, monkeypatch):
    log = records(6)
    nothing = dimension_rows.DimensionRows.add
    with monkeypatch.context() as planted:
        planted.setattr(dimension_rows.DimensionRows, "add", lambda self, _lines: nothing(self, []))
        lake = Landed().land(log, KEYED).write(tmp_path)
    report = check(lake, topic=topic(log, KEYED), settle=0.1, wait=lambda _: None)
    assert not report.ok
    assert any("_dimensions" in text and "is not in its manifest" in text for text in report.lost)


def test_the_topic_tells_a_dimension_row_that_is_another_one(tmp_path, monkeypatch):
    log = records(6)
    before = dimension_rows.DimensionRows.add
    with monkeypatch.context() as planted:
        planted.setattr(
            dimension_rows.DimensionRows,
            "add",
            lambda self, lines: before(
                self, [each._replace(line=each.line.replace(b'"hostName"', b'"host"')) for each in lines]
            ),
        )
        lake = Landed().land(log, KEYED).write(tmp_path)
    report = check(lake, topic=topic(log, KEYED), settle=0.1, wait=lambda _: None)
    assert not report.ok
    assert report.lake.dimensions_wrong > 0
    assert "not those that the topic owes" in report.changed[0]


def test_an_hour_whose_dimension_rows_lie_in_another_windows_object_is_whole(lake):
    *_, last = of_dimensions(lake)
    hour = last.parent
    together = sorted(hour.glob("*.gz"))
    if len(together) == 1:
        pytest.skip("one window landed this hour")
    last.unlink()
    report = check(lake, settle=0.1, wait=lambda _: None)
    assert report.lake.orphans in range(report.total.expected)
    assert report.lake.dimensions_wrong > 0
