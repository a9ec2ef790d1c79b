"""Windows of lanes that have several partitions: rows lie in the order of records, however these arrive."""

import gzip
from random import Random
from types import SimpleNamespace

import pytest

from lmstream.lake.claims import Claim, Span, mark
from lmstream.lake.formats import Lines
from lmstream.lake.window import Window
from support.doubles import record

FORM = Lines("ndjson.gz", lambda data: gzip.compress(data, 1))
PATHS = ("a/", "b/", "c/")


def arrivals(seed):
    """Records of three partitions, each in its order, the partitions in any."""
    draw = Random(seed)
    left = {partition: list(range(draw.randint(0, 30))) for partition in range(3)}
    while any(left.values()):
        partition = draw.choice([each for each, some in left.items() if some])
        yield partition, left[partition].pop(0)


def lines(partition, offset, path):
    return [b"%s %d %d %d\n" % (path.encode(), partition, offset, n) for n in range(1 + (offset + partition) % 3)]


def gathered(order, claim=None, object_bytes=200):
    window = Window(FORM, 0.0, dict.fromkeys(range(3), 0), object_bytes, claim)
    for partition, offset in order:
        one = record(offset, b"", partition=partition)
        window.saw(one)
        cuts = [(path, b"".join(some), len(some)) for path in PATHS if (some := lines(partition, offset, path))]
        out = SimpleNamespace(points=9, columns=list, dimensions=())
        window.add(SimpleNamespace(tp=one.tp, record=one, offset=one.offset), out, cuts)
    return window


@pytest.mark.parametrize("seed", range(20))
def test_rows_lie_by_partition_and_offset_and_a_window_made_again_is_cut_the_same(seed):
    order = list(arrivals(seed))
    window = gathered(order)
    made = [(each.entry, gzip.decompress(each.gather.finish())) for each in window.objects()]
    for path in PATHS:
        rows = b"".join(data for entry, data in made if entry.path == path)
        assert rows == b"".join(line for at in sorted(order) for line in lines(*at, path))
        assert [entry.piece for entry, _ in made if entry.path == path] == list(
            range(sum(entry.path == path for entry, _ in made))
        )
    assert all(len(data) <= 400 for _, data in made), "a piece and one record at most"
    claim = Claim(
        topic="t",
        lane="0of1",
        sequence=1,
        kind="window",
        spans={partition: Span(start=0, end=window.position[partition]) for partition in range(3)},
        done=1,
        layout="0" * 32,
        objects=tuple(entry for entry, _ in made),
        writer="w",
    )
    other = sorted(order, key=lambda at: (at[1], at[0]))  # another member gets them in another order
    again = [(each.entry, gzip.decompress(each.gather.finish())) for each in gathered(other, claim).objects()]
    assert again == made


def test_a_piece_is_as_large_as_objects_may_be_before_the_next_begins():
    order = [(partition, offset) for partition in range(3) for offset in range(9)]
    made = [each.entry for each in gathered(order, object_bytes=10**6).objects()]
    assert [(entry.path, entry.piece, entry.until) for entry in made] == [(path, 0, None) for path in PATHS]


def test_large_records_are_not_kept_for_their_marks_and_small_ones_are_counted():
    window = Window(FORM, 0.0, {0: 0, 1: 0}, 200)
    large = record(0, b"x" * (1 << 20))
    window.saw(large)
    assert window.kept == 0
    assert window.lasts() == {0: mark(large)}
    for offset, size in ((1, 10), (2, 70_000), (3, 30)):
        small = record(offset, b"x" * size)
        window.saw(small)
        assert window.kept == size
    other = record(0, b"y" * 9, partition=1)
    window.saw(other)
    assert window.kept == 39
    window.saw(record(4, b"x" * (1 << 20)))
    assert window.kept == 9
    assert window.spans()[0].first == mark(large)
    assert window.lasts()[1] == window.spans()[1].first == mark(other)
