"""Values in gzip or zstd: frames, padding and bounds, and a host without the library."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.codecs.inflating import SLICE, WINDOW, inflate
from lmstream.errors import DecodeError
from lmstream.settings import KIB, MIB, Limits
from support import repoison
from support.judging import ACME, agree, engine_reason, record

GOOD, GOOD_PROTO = repoison.GOOD, repoison.GOOD_PROTO
SKIPPABLE = b"\x53\x2a\x4d\x18\x03\x00\x00\x00abc"


def zstd(data, level=3, **options):
    return zstandard.ZstdCompressor(level=level, **options).compress(data)


def streamed(data, window_log=0):
    """Without its size in the header, as a streaming writer leaves it."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return writer.compress(data) + writer.flush()


@pytest.mark.parametrize("bundle", [GOOD, GOOD_PROTO])
@pytest.mark.parametrize(
    "compressed",
    [
        zstd,
        lambda data: zstd(data, 19, write_checksum=True),
        lambda data: zstd(data, write_content_size=False),
        streamed,
        lambda data: SKIPPABLE + zstd(data) + SKIPPABLE,
        lambda data: zstd(data[:40]) + SKIPPABLE + zstd(data[40:]) + zstd(b""),
        lambda data: zstd(data) + bytes(512),
        lambda data: zstd(data) + b"\r\n",
        lambda data: zstd(data[:9]) + bytes(7) + zstd(data[9:]),
        repoison.zstd,
        lambda data: gzip.compress(data) + b"\n",
        lambda data: gzip.compress(data) + bytes(512),
        lambda data: gzip.compress(data[:9]) + bytes(7) + gzip.compress(data[9:]) + b"\0\n",
    ],
)
def test_frames_members_and_padding_are_read_as_the_plain_value_is(bundle, compressed):
    assert agree(record(compressed(bundle))) == agree(record(bundle))


@pytest.mark.parametrize("compress", [zstd, gzip.compress])
def test_what_follows_whole_data_is_named_and_not_called_truncated(compress):
    with pytest.raises(DecodeError) as refused:
        Engine(ACME).fan_out(record(compress(GOOD) + b"junk"))
    assert refused.value.reason == "decode.gzip"
    assert "whole, but 4 bytes of something else follow" in refused.value.detail


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.data())
def test_zstd_comes_back_whole_and_a_cut_is_refused(frames, data):
    value = b"".join(map(zstd, frames))
    assert inflate(value, Limits()) == b"".join(frames)
    end = data.draw(st.integers(4, len(value) - 1))
    ends, at = set(), 0
    for frame in frames:
        at += len(zstd(frame))
        ends.add(at)
    cut = value[:end]
    if end in ends:
        assert b"".join(frames).startswith(inflate(cut, Limits()))
    else:
        with pytest.raises(DecodeError, match=r"truncated|follow"):  # a few bytes of the next frame are no frame yet
            inflate(cut, Limits())


@given(st.binary(max_size=200), st.sampled_from([b"\x28\xb5\x2f\xfd", SKIPPABLE, zstd(b"x" * 99)[:11]]))
def test_any_zstd_is_inflated_or_refused(data, head):
    try:
        inflate(head + data, Limits())
    except DecodeError as refused:
        assert refused.reason in {"decode.gzip", "limits.size", "decode.compression"}  # noqa: PT017 - or nothing at all


def test_zstd_is_bounded_in_output_ratio_frames_and_window():
    small = Settings(org_id="acme", limits=Limits(inflated_bytes=len(GOOD) - 1))
    assert agree(record(zstd(GOOD)), small) == "limits.size"
    assert agree(record(zstd(b"{" + b" " * 60 * MIB))) == "limits.ratio"
    assert agree(record(zstd(GOOD + b" " * 7 * MIB))).count(b"\n") == 1
    assert engine_reason(Engine(ACME), record(zstd(b"") * 2000)) == "decode.gzip"
    assert agree(record(streamed(GOOD, 23))).count(b"\n") == 1  # 8 MiB, the largest that RFC 8878 recommends
    with pytest.raises(DecodeError, match="window"):
        inflate(streamed(GOOD, 24), Limits())
    assert WINDOW == 1 << 23


def test_a_slice_of_zstd_cannot_outgrow_its_bound():
    # Blocks of one repeated byte: three bytes of header and the byte give 128 KiB each.
    block = ((128 * KIB) << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    bomb = b"\x28\xb5\x2f\xfd\x00\x70" + block * 4000 + b"\x01\x00\x00"
    with pytest.raises(DecodeError) as refused:
        inflate(bomb, Limits(inflated_bytes=17 * MIB, inflate_ratio=10**9))
    assert refused.value.reason == "limits.size"
    assert len(zstandard.ZstdDecompressor().decompressobj().decompress(bomb[:SLICE])) <= 16 * MIB


def test_zstd_with_a_dictionary_is_named():
    words = zstandard.ZstdCompressionDict(b"resourceMetrics scopeMetrics dataPoints timeUnixNano " * 20)
    value = zstandard.ZstdCompressor(dict_data=words).compress(GOOD)
    with pytest.raises(DecodeError):  # raw content as a dictionary has no id: only damage can be seen
        inflate(value, Limits())
    value = b"\x28\xb5\x2f\xfd\x23\x07\x00\x00\x00" + value[6:]
    with pytest.raises(DecodeError, match="dictionary") as refused:
        inflate(value, Limits())
    assert refused.value.reason == "decode.compression"


def test_without_the_library_the_run_stops_and_says_what_to_install():
    value = zstd(GOOD).hex()
    program = f"""
import sys
sys.modules["zstandard"] = None
from lmstream import Engine, Record, Settings
from lmstream.errors import ConfigError
def fan_out(value):
    return Engine(Settings(org_id="acme")).fan_out(Record(topic="t", partition=0, offset=0, value=value)).rows
assert fan_out({GOOD!r}) == 1
try:
    fan_out(bytes.fromhex({value!r}))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert "LMS-2002" in done.stdout
    assert "pip install '.[consumer]'" in done.stdout
