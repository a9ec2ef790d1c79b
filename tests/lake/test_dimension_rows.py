"""Dimension rows of a lake: in each window before its rows, whoever dies, repairs, compacts and replays."""

import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.row_digest import of_lines, text
from lmstream.errors import LmstreamError
from lmstream.lake import dimension_rows, objects, replaying
from lmstream.lake.formats import Lines
from lmstream.lake.window import Window
from support import lake_tools_world, lake_world
from support.lake_dimensions import is_dimension
from support.lake_world import BrokenError

FIRST = tuple(range(1, 25))
TOOLS = (44, *range(1, 9))
"""Seeds for every run; 44 repairs a window that lost rows and a part of its dimension rows. `make test-faults` plays
more."""


@pytest.fixture(autouse=True)
def quiet():
    """What is logged in a storm is no news here, and formatting it is half of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_row_is_ever_there_without_its_dimension_row():
    seed = os.environ.get("LMSTREAM_SEED")
    landed = halves = 0
    for each in [int(seed)] if seed else FIRST:
        world = lake_world.play(each, dimensions=True)
        landed += any(map(is_dimension, world.store.created))
        halves += world.halves
    assert seed or (landed > len(FIRST) // 2 and halves)  # else the schedules prove little


def line_of(key):
    return DimensionLine(f"p{key % 2}/", "resource", f"k{key}", b'{"rowId":"k%d:0"}\n' % key)


@given(st.lists(st.integers(0, 9)), st.randoms(use_true_random=False))
def test_the_order_and_number_of_records_do_not_matter_to_a_windows_dimension_rows(keys, chance):
    made = []
    for _ in range(2):
        rows = dimension_rows.DimensionRows()
        for key in keys:
            rows.add([line_of(key)])
        made.append([(entry, gather.finish()) for entry, gather in rows.put(Lines("ndjson", bytes))])
        chance.shuffle(keys)
    assert made[0] == made[1]
    assert sum(entry.rows for entry, _ in made[0]) == len(set(keys))
    assert all(entry.digest == text(of_lines(data.splitlines())) for entry, data in made[0])


def test_so_it_is_while_verbs_repair_compact_and_replay():
    seed = os.environ.get("LMSTREAM_SEED")
    for each in [int(seed)] if seed else TOOLS:
        lake_tools_world.play(each, dimensions=True)


@pytest.mark.slow
def test_so_it_is_with_many_more_seeds():
    for each in range(1, 151):
        lake_world.play(each, dimensions=True)
    for each in range(1, 61):
        lake_tools_world.play(each, dimensions=True)


def rows_first(monkeypatch):
    before = objects._put_some

    async def some(claims, claim, those, layout):
        if not any(each.dimensions for each in those):
            await before(claims, claim, those, layout)

    async def every(claims, claim, those, layout):
        await some(claims, claim, [each for each in those if not each.dimensions], layout)
        await before(claims, claim, [each for each in those if each.dimensions], layout)

    from lmstream.lake import finishing, landing

    for module in (landing, finishing):
        monkeypatch.setattr(module, "put_all", every)


def side_by_side(monkeypatch):
    from lmstream.lake import finishing, landing

    for module in (landing, finishing):
        monkeypatch.setattr(module, "put_all", objects._put_some)


def left_out_of_windows_made_again(monkeypatch):
    before = Window.add

    def add(self, each, out, cuts):
        if self.claim is not None:
            out.dimensions = []
        before(self, each, out, cuts)

    monkeypatch.setattr(Window, "add", add)


def once_a_process(monkeypatch):
    before = dimension_rows.DimensionRows.add
    known = set()

    def add(self, lines):
        new = [line for line in lines if (line.path, line.key) not in known]
        known.update((line.path, line.key) for line in new)
        return before(self, new)

    monkeypatch.setattr(dimension_rows.DimensionRows, "add", add)


def left_out_of_replays(monkeypatch):
    class Without(dimension_rows.DimensionRows):
        def add(self, _lines):
            return super().add([])

    monkeypatch.setattr(replaying, "DimensionRows", Without)


WINDOWS = [rows_first, side_by_side, left_out_of_windows_made_again, once_a_process]


@pytest.mark.parametrize("bug", WINDOWS, ids=lambda f: f.__name__)
def test_a_planted_bug_is_found(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises((BrokenError, LmstreamError, TimeoutError, ValueError, LookupError, RuntimeError)):  # noqa: PT012 - the first seeds may not meet it
        for seed in range(1, 500):
            lake_world.play(seed, dimensions=True)


def test_a_replay_without_its_dimension_rows_is_found(monkeypatch):
    left_out_of_replays(monkeypatch)
    with pytest.raises((BrokenError, LmstreamError, TimeoutError, ValueError, RuntimeError)):  # noqa: PT012 - as above
        for seed in range(1, 200):
            lake_tools_world.play(seed, dimensions=True)
