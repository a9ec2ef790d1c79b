"""How long a window lasts: the first of its bounds ends it, a budget stretches it, and nothing passes the greatest age."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.delivery.window_length import MONTH, Bounds, Flow, window

FLOW = Flow(rows=1_000.0, line_bytes=800.0, landed_bytes=40.0, held_bytes=50.0, paths=250)


@pytest.mark.parametrize(
    ("bounds", "seconds", "ended_by"),
    [
        (Bounds(), 60, "age"),
        (Bounds(rows=30_000), 30, "rows"),
        (Bounds(bytes=8_000_000), 10, "bytes"),
        (Bounds(memory=1_000_000), 20, "memory"),
        (Bounds(rows=30_000, bytes=8_000_000, memory=1_000_000), 10, "bytes"),
        (Bounds(seconds=300, max_seconds=120), 120, "age"),
        # 251 requests of $0.005 a thousand: $0.001255 a window. $10 a month are a window of 325.3 s.
        (Bounds(dollars=10.0), MONTH * 251 * 0.005 / 1000 / 10, "cost"),
        (Bounds(dollars=1.0), 900, "age"),
        (Bounds(dollars=1.0, memory=5_000_000), 100, "memory"),
        (Bounds(dollars=1e6), 60, "age"),
    ],
)
def test_the_first_bound_ends_it(bounds, seconds, ended_by):
    found = window(FLOW, bounds)
    assert found.seconds == pytest.approx(seconds, rel=1e-6)
    assert found.ended_by == ended_by


def test_requests_are_paths_and_a_claim_for_each_window():
    found = window(FLOW, Bounds())
    assert found.objects == 250
    assert found.puts_a_month == pytest.approx(251 * MONTH / 60)
    assert found.usd_a_month == pytest.approx(251 * MONTH / 60 * 0.005 / 1000)
    assert found.object_bytes == pytest.approx(1_000 * 60 * 40 / 250)


def test_a_path_without_rows_in_the_window_is_no_object():
    quiet = Flow(rows=0.5, line_bytes=800, landed_bytes=40, held_bytes=50, paths=250)
    assert window(quiet, Bounds()).objects == 30
    silent = window(
        Flow(rows=0.0, line_bytes=800, landed_bytes=40, held_bytes=50, paths=250), Bounds(memory=1, rows=1, bytes=1)
    )
    assert (silent.seconds, silent.ended_by, silent.objects, silent.object_bytes) == (60, "age", 0, 0)


def test_a_window_is_not_stretched_once_its_objects_are_cut_into_pieces():
    large = Flow(rows=1e6, line_bytes=800.0, landed_bytes=40.0, held_bytes=50.0, paths=2)
    found = window(large, Bounds(seconds=1, dollars=0.01))
    assert found.rows * 800 / found.objects == pytest.approx(64 << 20)
    assert found.object_bytes == pytest.approx((64 << 20) / 20)
    assert found.seconds < 900


flows = st.builds(
    Flow,
    rows=st.floats(0, 1e6),
    line_bytes=st.floats(100, 2_000),
    landed_bytes=st.floats(1, 200),
    held_bytes=st.floats(1, 400),
    paths=st.integers(1, 5_000),
)
bounds = st.builds(
    Bounds,
    seconds=st.floats(1, 900),
    max_seconds=st.floats(1, 3_600),
    rows=st.none() | st.integers(1, 10_000_000),
    bytes=st.none() | st.integers(1, 1 << 32),
    object_bytes=st.integers(1 << 20, 1 << 30),
    memory=st.none() | st.integers(1, 1 << 32),
    dollars=st.none() | st.floats(0.01, 1e5),
)


@given(flows, bounds)
def test_no_bound_is_passed(flow, limits):
    found = window(flow, limits)
    slack = 1 + 1e-9
    assert 0 < found.seconds <= limits.max_seconds * slack
    rows = flow.rows * found.seconds
    assert found.rows == pytest.approx(rows)
    for most, size in ((limits.rows, 1), (limits.bytes, flow.line_bytes), (limits.memory, flow.held_bytes)):
        assert most is None or rows * size <= most * slack
    assert found.objects >= rows * flow.line_bytes / limits.object_bytes / slack


@given(flows, bounds)
def test_money_is_spent_only_where_no_longer_window_is_allowed_or_would_help(flow, limits):
    found = window(flow, limits)
    if limits.dollars is not None and found.ended_by == "cost":
        single = found.objects <= min(flow.paths, found.rows) * (1 + 1e-6)
        full = found.rows * flow.line_bytes / found.objects >= limits.object_bytes * 0.99
        assert found.usd_a_month <= limits.dollars * (1 + 1e-6) or not single or full
    if limits.dollars is None:
        assert found.seconds <= limits.seconds * (1 + 1e-9)
        assert found.ended_by != "cost"
