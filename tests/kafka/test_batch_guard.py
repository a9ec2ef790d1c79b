"""Batches of Kafka: measured before they are inflated, opened lazily, and what is wrong with one held to it."""

import struct

import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from lmstream.kafka._batch_guard import HEADER, Raw, TooLargeError, UnreadableError, inflated
from lmstream.kafka._batch_opening import Opened
from lmstream.kafka._fetch_guard import SMALL, carried, guarded
from lmstream.model import CLOSED, UNREADABLE, TopicPartition
from support.record_batches import batch, signed

CODECS = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
NAMES = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
LIMIT = 1 << 20
TP = TopicPartition("lm", 3)


@pytest.fixture(params=CODECS, ids=NAMES.get)
def codec(request):
    return request.param


def taken(data):
    """What the client makes of it: (offset, value, whether it carries a whole batch, or None)."""
    records = MemoryRecords(data)
    found = []
    while records.has_next():
        each = records.next_batch()
        assert each.validate_crc()
        found += [(record.offset, record.value, carried(record.headers)) for record in each]
    return found


def opened(raw, limit=LIMIT, start=0):
    return list(Opened(TP, Raw(raw), limit, start=start))


@given(st.sampled_from(list(CODECS)), st.binary(max_size=3000), st.integers(0, 300), st.integers(-2, 2))
def test_the_bound_of_what_is_inflated_is_exact(codec, text, times, beside):
    data = text * times + text[:7]
    made = bytearray(batch(0, [b"x"])[: HEADER.size]) + CODECS[codec](data)
    made[22] = codec
    limit = len(data) + beside
    if limit < 0:
        return
    if beside < 0:
        with pytest.raises((TooLargeError, UnreadableError)):
            inflated(Raw(made), limit)
    else:
        assert bytes(inflated(Raw(made), limit)[HEADER.size :]) == data


@given(st.sampled_from([0, *CODECS, 7]), st.binary(max_size=400), st.integers(0, 400), st.booleans())
def test_any_bytes_are_judged_and_end_in_records(codec, data, cut, careful):
    healthy = batch(codec % 5, [b"x" * 300, b"y"])
    for made in (data, healthy[:cut] + data, signed(healthy[:cut] + data)):
        for _, value, whole in taken(guarded(made, 0, careful=careful)):
            if whole:
                for record in opened(value):
                    assert not record.closed or record.closed_for in (CLOSED, UNREADABLE)


def test_a_batch_that_may_be_large_is_carried_past_the_client_and_its_neighbours_are_not(codec):
    before, after = batch(codec, [b"a" * 50] * 3), batch(0, [b"b"], base=8)
    large = batch(codec, [b"c", bytes(2 * SMALL), b"d", b"e", b"f"], base=3)
    made = guarded(before + large + after, 0)
    assert made.startswith(before)
    assert made.endswith(after)
    found = taken(made)
    assert [(offset, whole) for offset, _, whole in found] == [(0, None), (1, None), (2, None), (7, True), (8, None)]
    assert found[3][1] == large
    records = opened(large, 3 * SMALL)
    assert [(r.offset, len(r.value), r.timestamp) for r in records] == [
        (3, 1, 1_700_000_000_000),
        (4, 2 * SMALL, 1_700_000_000_001),
        *((5 + n, 1, 1_700_000_000_002 + n) for n in range(3)),
    ]
    assert opened(large, 3 * SMALL, start=6) == records[3:]


def test_a_bomb_stays_closed_and_nothing_of_it_is_lost(codec):
    bomb = batch(codec, [b"c", bytes(2 * LIMIT), b"d", b"e", b"f"], base=3)
    (only,) = opened(bomb)
    assert (only.offset, only.value, only.closed_for) == (7, bomb, CLOSED)
    assert only.timestamp == 1_700_000_000_004
    assert only.closed == (
        f"5 records at offsets 3 to 7, one compressed batch of {len(bomb):,} bytes that would inflate to more than "
        "1,048,576"
    )


def test_many_frames_or_members_are_summed_up(codec):
    if codec == 2:
        pytest.skip("snappy has blocks, which are")
    packed = CODECS[codec](bytes(LIMIT // 2 + 1))
    head = bytearray(batch(0, [b"x"])[: HEADER.size])
    head[22] = codec
    assert len(inflated(Raw(head + packed), LIMIT)) == HEADER.size + LIMIT // 2 + 1
    with pytest.raises(TooLargeError):
        inflated(Raw(head + packed * 2), LIMIT)


def test_raw_snappy_is_measured_by_what_it_says():
    head = bytearray(batch(0, [b"x"])[: HEADER.size])
    head[22] = 2
    packed = snappy_encode(bytes(2 * LIMIT), xerial_compatible=False)
    assert len(inflated(Raw(head + packed), 2 * LIMIT)) == HEADER.size + 2 * LIMIT
    with pytest.raises(TooLargeError):
        inflated(Raw(head + packed), 2 * LIMIT - 1)


def test_a_trailer_that_lies_does_not_help():
    lying = bytearray(batch(1, [bytes(LIMIT * 3)]))
    lying[-4:] = struct.pack("<I", 10)
    (only,) = opened(signed(lying))
    assert only.closed_for == CLOSED


def test_pages_are_given_back_as_their_records_are_taken(codec):
    raw = Raw(batch(codec, [bytes([n]) * SMALL for n in range(8)]))
    opening = Opened(TP, raw, 64 << 20, start=0)
    held = []
    for n, record in enumerate(opening):
        assert record.value == bytes([n]) * SMALL
        held.append(opening.held)
    assert held[0] >= 7 * SMALL
    assert held[-1] <= SMALL
    assert held == sorted(held, reverse=True)


def test_a_header_key_that_is_no_utf8_keeps_its_bytes_and_costs_no_other_record(codec):
    headers = [(b"\xff\xfeAA", b"1"), (b"k", None), (b"k", b"2")]
    raw = batch(codec, [b"a", b"b" * 5000, b"c"], base=4, headers={1: headers})
    records = opened(raw)
    assert [(r.offset, r.value[:1]) for r in records] == [(4, b"a"), (5, b"b"), (6, b"c")]
    kept = [(name.encode(errors="surrogateescape"), text) for name, text in records[1].headers]
    assert kept == headers
    assert not any(record.closed for record in records)


def test_a_record_that_is_none_is_held_closed_and_those_beside_it_are_read():
    whole = batch(0, [b"a" * 20, b"b" * 20, b"c" * 20], base=4)
    at = whole.index(b"b" * 20) - 1
    broken = signed(whole[:at] + b"\x7e" + whole[at + 1 :])  # its value says 63 bytes
    records = opened(broken)
    assert [(r.offset, r.closed_for if r.closed else r.value) for r in records] == [
        (4, b"a" * 20),
        (5, UNREADABLE),
        (6, b"c" * 20),
    ]
    assert b"b" * 20 in records[1].value


def test_a_batch_that_ends_inside_a_record_holds_its_rest_closed():
    whole = batch(0, [b"a" * 20, b"b" * 20], base=4)
    cut = signed(struct.pack(">qi", 4, len(whole) - 12 - 10) + whole[12:-10])
    records = opened(cut)
    assert [(r.offset, bool(r.closed)) for r in records] == [(4, False), (5, True)]
    assert records[1].value == cut


def test_a_codec_that_nobody_knows_is_held_closed():
    odd = bytearray(batch(0, [b"a"]))
    odd[22] = 6
    made = taken(guarded(signed(odd), 0))
    assert [(whole, len(value)) for _, value, whole in made] == [(True, len(odd))]
    (only,) = opened(made[0][1])
    assert only.closed_for == UNREADABLE


def test_a_batch_that_was_damaged_is_carried_as_that_and_ends_before_the_next_one(codec):
    damaged = bytearray(batch(codec, [b"a"] * 3, base=5))
    damaged[-1] ^= 1
    after = batch(codec, [b"b"], base=9)
    assert taken(guarded(bytes(damaged) + after, 5)) == [(8, bytes(damaged), False), *taken(after)]
    alone = taken(guarded(bytes(damaged), 5))
    assert alone == [(7, bytes(damaged), False)]


@pytest.mark.parametrize("at", range(16, HEADER.size))
def test_no_flipped_bit_of_a_header_gets_a_batch_past_the_client_unseen(at):
    flipped = bytearray(batch(0, [b"a"] * 3, base=5))
    flipped[at] ^= 0x80
    ((offset, value, whole),) = taken(guarded(bytes(flipped), 6))
    assert (offset >= 6, value, whole) == (True, bytes(flipped), False)


def test_a_batch_that_cannot_be_inflated_although_it_arrived_whole_stays_closed():
    good = bytearray(batch(4, [b"%07d" % n for n in range(400_000)]))
    good[70:80] = b"0123456789"
    (only,) = opened(signed(good), 64 << 20)
    assert (only.offset, only.closed_for) == (399_999, UNREADABLE)


def test_the_transaction_of_what_is_carried_is_kept(codec):
    large = batch(codec, [bytes(2 * SMALL)], is_transactional=True, producer_id=77, producer_epoch=3, base_sequence=9)
    made = MemoryRecords(guarded(large, 0)).next_batch()
    assert (made.is_transactional, made.producer_id, made.next_offset) == (True, 77, 1)


@pytest.mark.parametrize("magic", [0, 1])
def test_wrapper_messages_of_old_formats_are_bounded_too(magic):
    def message(size):
        builder = LegacyRecordBatchBuilder(magic=magic, compression_type=1, batch_size=1 << 30)
        builder.append(0, timestamp=1_700_000_000_000, key=None, value=b"small")
        builder.append(1, timestamp=1_700_000_000_001, key=None, value=bytes(size))
        return bytes(builder.build())

    healthy, bomb = message(1000), message(2 * LIMIT)
    assert guarded(healthy, 0) == healthy
    ((_, raw, whole),) = taken(guarded(bomb, 0))
    assert (raw, whole) == (bomb, True)
    assert [len(record.value) for record in opened(bomb, 3 * LIMIT)] == [5, 2 * LIMIT]
    (only,) = opened(bomb)
    assert (only.value, only.offset, only.closed_for) == (bomb, struct.unpack_from(">q", bomb)[0], CLOSED)
    broken = bytearray(healthy)
    broken[-1] ^= 1
    ((_, raw, whole),) = taken(guarded(bytes(broken), 0))
    assert (raw, whole) == (bytes(broken), False)


def test_a_batch_that_the_fetch_cut_off_is_left_for_the_next_one():
    whole = batch(1, [b"a"])
    assert guarded(whole + whole[: len(whole) // 2], 0) == whole
    assert guarded(whole + bytes(50), 0) == whole


@pytest.mark.parametrize("length", [-1, 0, 4, 1 << 30])
def test_a_length_that_is_wrong_is_no_end_of_a_fetch(length):
    made = bytearray(batch(0, [b"a"] * 3, base=5))
    struct.pack_into(">i", made, 8, length)
    assert taken(guarded(bytes(made), 6)) == [(6, bytes(made), False)]
    assert guarded(b"", 6) == b""


def test_no_producer_can_make_a_carrier():
    assert carried([("lmstream-carrier-0", b"whole")]) is None
    assert carried([]) is None
