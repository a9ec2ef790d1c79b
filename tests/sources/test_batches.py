"""Compressed batches of Kafka are measured before they are inflated, by whatever codec, and bombs stay closed."""

import struct
import zlib

import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from lmstream.sources._batches import compressed, detail_of, fits, guarded

CODECS = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
NAMES = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
LIMIT = 1 << 20


@pytest.fixture(params=CODECS, ids=NAMES.get)
def codec(request):
    return request.param


def batch(codec, values, base=0, **more):
    options = {"is_transactional": False, "producer_id": -1, "producer_epoch": -1, "base_sequence": -1} | more
    builder = DefaultRecordBatchBuilder(magic=2, compression_type=codec, batch_size=1 << 30, **options)
    for n, value in enumerate(values):
        builder.append(offset=n, timestamp=1_700_000_000_000 + n, key=b"k", value=value, headers=[])
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    return bytes(made)


def opened(data):
    records = MemoryRecords(data)
    found = []
    while records.has_next():
        each = records.next_batch()
        assert each.validate_crc()
        found += list(each)
    return found


@given(st.sampled_from(list(CODECS)), st.binary(max_size=3000), st.integers(0, 300), st.integers(-2, 2))
def test_the_bound_is_exact(codec, text, times, beside):
    data = text * times + text[:7]
    packed = memoryview(CODECS[codec](data))
    assert fits(codec, packed, max(0, len(data) + beside)) == (beside >= 0 or not data)


@given(st.sampled_from(list(CODECS)), st.binary(max_size=400), st.integers(0, 200))
def test_any_bytes_are_judged(codec, data, cut):
    fits(codec, memoryview(data), 1000)
    fits(codec, memoryview(CODECS[codec](b"x" * 5000)[:cut] + data), 1000)
    assert isinstance(guarded(data, 1000), bytes)
    assert isinstance(compressed(data), bool)


def test_a_bomb_is_replaced_and_its_neighbours_stay_as_they_are(codec):
    before, after = batch(codec, [b"a" * 500] * 3), batch(codec, [b"b"], base=8)
    bomb = batch(codec, [b"c", bytes(2 * LIMIT), b"d", b"e", b"f"], base=3)
    made = guarded(before + bomb + after, LIMIT)
    assert made.startswith(before)
    assert made.endswith(after)
    found = opened(made)
    assert [each.offset for each in found] == [0, 1, 2, 7, 8]
    assert found[3].value == bomb  # nothing of it is lost
    assert found[3].timestamp == 1_700_000_000_004
    assert detail_of(found[3].headers) == (
        f"5 records at offsets 3 to 7, one compressed batch of {len(bomb):,} bytes that would inflate to more than "
        "1,048,576"
    )


def test_a_healthy_batch_just_below_the_bound_passes_untouched(codec):
    data = batch(codec, [b"%06d" % n * 100 for n in range(1700)])
    assert guarded(data, LIMIT) is data
    assert len(opened(data)) == 1700


def test_many_frames_or_members_are_summed_up(codec):
    if codec == 2:
        pytest.skip("snappy has blocks, which are")
    packed = CODECS[codec](bytes(LIMIT // 2 + 1))
    assert fits(codec, memoryview(packed), LIMIT)
    assert not fits(codec, memoryview(packed * 2), LIMIT)


def test_raw_snappy_is_measured_by_what_it_says():
    packed = snappy_encode(bytes(2 * LIMIT), xerial_compatible=False)
    assert fits(2, memoryview(packed), 2 * LIMIT)
    assert not fits(2, memoryview(packed), 2 * LIMIT - 1)


def test_a_trailer_that_lies_does_not_help():
    packed = gzip_encode(bytes(LIMIT * 3))
    assert not fits(1, memoryview(packed[:-4] + struct.pack("<I", 10)), LIMIT)


def test_a_batch_that_was_damaged_on_the_way_is_left_to_the_client():
    bomb = bytearray(batch(1, [bytes(2 * LIMIT)]))
    bomb[-1] ^= 1
    assert guarded(bytes(bomb), LIMIT) == bytes(bomb)


def test_a_batch_that_cannot_be_inflated_although_it_arrived_whole_stays_closed():
    good = batch(4, [b"%07d" % n for n in range(400_000)])
    damaged = bytearray(good)
    damaged[70:80] = b"0123456789"
    from aiokafka.record.util import calc_crc32c

    struct.pack_into(">I", damaged, 17, calc_crc32c(bytes(damaged[21:])))
    (only,) = opened(guarded(bytes(damaged), LIMIT))
    assert only.offset == 399_999


def test_the_transaction_of_a_bomb_is_kept(codec):
    bomb = batch(codec, [bytes(2 * LIMIT)], is_transactional=True, producer_id=77, producer_epoch=3, base_sequence=9)
    made = MemoryRecords(guarded(bomb, LIMIT)).next_batch()
    assert (made.is_transactional, made.producer_id, made.next_offset) == (True, 77, 1)


@pytest.mark.parametrize("magic", [0, 1])
def test_wrapper_messages_of_old_formats_are_bounded_too(magic):
    def message(size):
        builder = LegacyRecordBatchBuilder(magic=magic, compression_type=1, batch_size=1 << 30)
        builder.append(0, timestamp=1_700_000_000_000, key=None, value=b"small")
        builder.append(1, timestamp=1_700_000_000_001, key=None, value=bytes(size))
        return bytes(builder.build())

    healthy, bomb = message(1000), message(2 * LIMIT)
    assert guarded(healthy, LIMIT) == healthy
    (only,) = opened(guarded(bomb, LIMIT))
    assert only.value == bomb
    assert only.offset == struct.unpack_from(">q", bomb)[0]


def test_a_batch_that_the_fetch_cut_off_is_left_as_it_is():
    bomb = batch(1, [bytes(2 * LIMIT)])
    assert guarded(bomb + bomb[: len(bomb) // 2], LIMIT).endswith(bomb[: len(bomb) // 2])
    assert zlib.crc32(guarded(bomb[:40], LIMIT)) == zlib.crc32(bomb[:40])


def test_no_producer_can_close_a_record():
    assert detail_of([("lmstream-closed-0", b"x")]) is None
    assert detail_of([]) is None
