"""A window lands the same rows in every format, under the digest that its claim has of them."""

import io
import itertools

import pytest

from lmstream import Engine, Settings
from lmstream.config.lake import formats_of
from lmstream.delivery.in_flight import OVERHEAD
from lmstream.delivery.window_length import Bounds, Flow, window, windows_hold
from lmstream.engine.row_digest import of_lines, text
from lmstream.lab.generator import Generator
from lmstream.lake.window import Window
from lmstream.settings import MIB
from lmstream.sinks import s3
from lmstream.storage.line_files import lines
from support.judging import record

ENGINE = Engine(Settings(org_id="acme"))


class Each:
    def __init__(self, one):
        self.record, self.tp, self.offset = one, one.tp, one.offset


def gathered(form, records):
    window = Window(form, 0.0, {one.partition: 0 for one in records}, 64 << 20)
    rows = {}
    for one in records:
        out = ENGINE.fan_out(one)
        window.saw(one)
        window.add(Each(one), out, [(group.path, group.data, group.rows) for group in out.groups])
        for group in out.groups:
            rows.setdefault(group.path, []).extend(group.data.splitlines())
    return window, rows


def in_order(records, path):
    """The rows of a path by partition and offset."""
    some = sorted(records, key=lambda one: (one.partition, one.offset))
    groups = [group for one in some for group in ENGINE.fan_out(one).groups if group.path == path]
    return [line for group in groups for line in group.data.splitlines()]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("name", ["gzip", "zstd", "parquet"])
def test_objects_hold_the_rows_of_their_digest(name, partitions):
    bundles = itertools.islice(Generator(devices=3, instances=2, chaos=0.2).bundles(), 30)
    records = [
        record(each.payload, offset=offset, partition=offset % partitions) for offset, each in enumerate(bundles)
    ]
    window, rows = gathered(formats_of()[name], records)
    assert window.rows == sum(map(len, rows.values()))
    assert window.held > 0
    made = {each.entry.path: each for each in window.objects()}
    assert made.keys() == rows.keys()
    for path, each in made.items():
        found = list(lines(io.BufferedReader(io.BytesIO(each.gather.finish())), 1 << 20, path))
        assert sorted(found) == sorted(rows[path])
        if name != "parquet":
            assert found == in_order(records, path)
        assert text(of_lines(found)) == each.entry.digest
        assert len(found) == each.entry.rows


def test_columns_are_counted_while_they_are_held():
    form = formats_of()["parquet"]
    bundles = itertools.islice(Generator(devices=10).bundles(), 160)
    records = [record(each.payload, offset=offset) for offset, each in enumerate(bundles)]
    once, _ = gathered(form, records[:80])
    twice, _ = gathered(form, records)
    assert 0 < once.held < twice.held
    assert twice.held - once.held < (twice.lines - once.lines) / 4, "a second poll repeats all but numbers"


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_a_million_rows_a_minute_fit_into_windows_of_five_minutes(lanes):
    bundles = itertools.islice(Generator(devices=20).bundles(), 400)
    records = [record(each.payload, offset=offset) for offset, each in enumerate(bundles)]
    made, _ = gathered(formats_of()["gzip"], records)
    made.squeeze()
    minute, settings = 1_000_000, s3.Settings(bucket="b")
    row = made.held / made.rows
    flow = Flow(
        rows=minute / 60 / lanes,
        line_bytes=made.lines / made.rows,
        landed_bytes=row,
        held_bytes=row + OVERHEAD * len(records) / made.rows,
        paths=made.paths,
    )
    budget = 512 * MIB
    bounds = Bounds(
        seconds=300, rows=settings.window_rows, bytes=settings.window_bytes, memory=windows_hold(budget) // lanes
    )
    found = window(flow, bounds)
    assert (found.seconds, found.ended_by) == (300, "age")
    assert found.rows * lanes == pytest.approx(5 * minute)
    half = window(flow, Bounds(seconds=300, memory=windows_hold(budget // 8) // lanes))
    assert half.ended_by == "memory"
    assert half.seconds == pytest.approx(windows_hold(budget // 8) / (flow.held_bytes * minute / 60))
