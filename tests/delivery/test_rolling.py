"""Rolling: lines gathered by path come out once, in order, within bounds, and no later than their age."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from lmstream.delivery import RollPolicy
from lmstream.delivery.rolling import Roller
from lmstream.interfaces import Limits

LIMITS = Limits(pack_bytes=60, pack_rows=6, request_packs=1, request_bytes=60, by_path=True)
WIDE = Limits(pack_bytes=10**6, pack_rows=10**6, request_packs=1, request_bytes=10**6, by_path=True)

ADDS = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 30), min_size=1, max_size=12), st.floats(0, 5)),
    max_size=30,
)


@given(ADDS, st.integers(40, 200), st.integers(1, 20), st.floats(0, 10), st.integers(1, 300))
def test_every_line_comes_out_once_in_order_and_within_bounds(adds, size, rows, age, total):
    roller = Roller(RollPolicy(bytes=size, rows=rows, age=age, total_bytes=total), LIMITS)
    put, got = defaultdict(list), defaultdict(list)
    spans: dict[int, int] = {}
    packs = []
    now = 0.0
    opened: dict[str, float] = {}

    def take(ready):
        for each in ready:
            packs.append(each)
            got[each.path] += each.data.splitlines()
            opened.pop(each.path, None)

    for number, (path, sizes, wait) in enumerate(adds):
        now += wait
        lines = [b"%d.%d" % (number, n) + b"x" * pad for n, pad in enumerate(sizes)]
        put[path] += lines
        take(roller.due(now))
        opened.setdefault(path, now)
        roller.add(path, b"".join(line + b"\n" for line in lines), len(lines), number, now)
        assert roller.gathered <= total
        take(roller.due(now))
        assert roller.gathered == sum(map(len, put["a"] + put["b"] + put["c"])) - sum(
            map(len, got["a"] + got["b"] + got["c"])
        ) + sum(map(len, put.values())) - sum(map(len, got.values()))
        # Whatever is still gathered was opened less than `age` ago.
        assert all(now - since < age for path, since in opened.items() if len(put[path]) > len(got[path]))
    take(roller.flush_all())
    assert roller.flush_all() == []
    assert roller.gathered == 0
    assert got == put
    for each in packs:
        assert each.rows == each.data.count(b"\n") == sum(n for _, n in each.spans)
        assert each.rows <= min(rows, LIMITS.pack_rows)
        assert len(each.data) <= min(size, LIMITS.pack_bytes)
        for number, n in each.spans:
            spans[number] = spans.get(number, 0) + n
    assert spans == {number: len(sizes) for number, (_, sizes, _) in enumerate(adds)}


def test_a_quiet_path_is_rolled_by_age_and_a_busy_one_by_size():
    roller = Roller(RollPolicy(bytes=10, age=60), WIDE)
    roller.add("quiet/", b"a\n", 1, 0, 100.0)
    roller.add("busy/", b"bbbb\n" * 2, 2, 1, 100.0)
    assert [(each.path, each.rows) for each in roller.due(100.0)] == [("busy/", 2)]
    assert roller.due(159.9) == []
    assert [each.path for each in roller.due(160.0)] == ["quiet/"]


def test_past_the_total_the_largest_go_first_and_the_small_ones_keep_growing():
    roller = Roller(RollPolicy(total_bytes=100), WIDE)
    for path, size in (("small/", 10), ("large/", 60), ("middle/", 28), ("last/", 9)):
        roller.add(path, b"x" * (size - 1) + b"\n", 1, 0, 0.0)
    assert [each.path for each in roller.due(0.0)] == ["large/"]
    assert roller.gathered == 47


def test_lines_of_several_records_share_an_object_and_say_whose_they_are():
    roller = Roller(RollPolicy(), WIDE)
    roller.add("p/", b"a\n", 1, 7, 0.0)
    roller.add("p/", b"b\nc\n", 2, 9, 1.0)
    (each,) = roller.flush_all()
    assert (each.data, each.spans) == (b"a\nb\nc\n", ((7, 1), (9, 2)))
