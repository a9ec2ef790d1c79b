"""Packs and requests: nothing is lost, broken, reordered or over a limit."""

from hypothesis import given
from hypothesis import strategies as st

from lmstream.delivery.packing import FRAME_BYTES, pack, request_size, requests, split
from lmstream.interfaces import Limits
from lmstream.model import Pack

LIMITS = st.builds(
    Limits,
    pack_bytes=st.integers(50, 200),
    pack_rows=st.integers(1, 8),
    request_packs=st.integers(1, 5),
    request_bytes=st.integers(60, 900),
    base64=st.booleans(),
)
LINES = st.lists(st.text("abc\r\u2028é", max_size=15).map(lambda t: t.encode() + b"\n"), max_size=60)


@given(LINES, st.integers(1, 9), st.integers(1, 80))
def test_split_keeps_every_line_whole_in_order_and_within_bounds(lines, max_rows, max_bytes):
    data = b"".join(lines)
    pieces = list(split(data, len(lines), max_rows, max_bytes))
    assert b"".join(piece for piece, _ in pieces) == data
    for piece, rows in pieces:
        assert piece.endswith(b"\n")
        assert piece.count(b"\n") == rows
        assert 1 <= rows <= max_rows
        assert len(piece) <= max_bytes or rows == 1


@given(st.lists(LINES, max_size=12), LIMITS)
def test_pack_loses_breaks_and_reorders_nothing(records, limits):
    chunks = [
        (number, piece, rows)
        for number, lines in enumerate(records)
        for piece, rows in split(b"".join(lines), len(lines), limits.pack_rows, limits.pack_bytes)
    ]
    packs = pack(chunks, limits)
    assert b"".join(each.data for each in packs) == b"".join(line for lines in records for line in lines)
    counted: dict[int, int] = {}
    for each in packs:
        assert each.rows == sum(rows for _, rows in each.spans) == each.data.count(b"\n")
        assert each.rows <= limits.pack_rows
        assert len(each.data) <= limits.pack_bytes
        # The spans say whose line is whose, in order.
        owners = [number for number, rows in each.spans for _ in range(rows)]
        assert owners == sorted(owners)
        for number, rows in each.spans:
            counted[number] = counted.get(number, 0) + rows
    assert counted == {number: len(lines) for number, lines in enumerate(records) if lines}
    # Greedy: the chunk that opens a pack would not have fitted into the one before.
    at = {sum(len(data) for _, data, _ in chunks[:i]): chunks[i] for i in range(len(chunks))}
    end = 0
    for before in packs[:-1]:
        end += len(before.data)
        _, data, rows = at[end]
        assert len(before.data) + len(data) > limits.pack_bytes or before.rows + rows > limits.pack_rows


@given(st.lists(st.binary(max_size=300).map(lambda data: Pack(data, 1)), max_size=40), LIMITS)
def test_requests_keep_order_and_stay_under_both_limits(packs, limits):
    cuts = requests(packs, limits)
    assert [each for cut in cuts for each in cut] == packs
    for cut in cuts:
        assert 1 <= len(cut) <= limits.request_packs
        assert len(cut) == 1 or sum(request_size(each, limits) for each in cut) <= limits.request_bytes


def test_consecutive_small_chunks_share_a_pack_and_spans_add_up():
    limits = Limits(pack_bytes=100, pack_rows=10, request_packs=9, request_bytes=999)
    assert pack([(0, b"a\n", 1), (0, b"b\n", 1), (1, b"c\nd\n", 2)], limits) == [
        Pack(b"a\nb\nc\nd\n", 4, "", ((0, 2), (1, 2)))
    ]


def test_a_request_is_counted_in_base64_with_its_frame():
    limits = Limits(pack_bytes=100, pack_rows=10, request_packs=9, request_bytes=2 * (4 + FRAME_BYTES), base64=True)
    three = [Pack(b"abc", 1)] * 3
    assert [len(cut) for cut in requests(three, limits)] == [2, 1]
    assert [len(cut) for cut in requests([Pack(b"abcd", 1), *three], limits)] == [1, 2, 1]


def test_firehose_sized_packs_fill_a_request_to_four_mebibytes_in_base64():
    limits = Limits(pack_bytes=1_024_000, pack_rows=500, request_packs=500, request_bytes=4 << 20, base64=True)
    assert [len(cut) for cut in requests([Pack(b"x" * 1_024_000, 500)] * 7, limits)] == [3, 3, 1]


def test_a_pack_over_the_limit_travels_alone_and_is_not_dropped():
    limits = Limits(pack_bytes=100, pack_rows=10, request_packs=9, request_bytes=50)
    packs = [Pack(b"a", 1), Pack(b"b" * 80, 1), Pack(b"c", 1)]
    assert requests(packs, limits) == [packs[:1], packs[1:2], packs[2:]]
