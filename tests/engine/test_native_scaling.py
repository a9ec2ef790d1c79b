"""Values in another unit: the native part writes what the code in Python writes, and answers nothing where that looks
at values one by one. Where it is not built, these are skipped."""

import math
from itertools import accumulate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.codecs.fragments import encode
from lmstream.engine.shaping.plan import Scaled, packed, runs_of
from lmstream.engine.shaping.values import scale_each
from lmstream.interfaces import Bundle, Metric
from lmstream.native import native

scale = native("scale")
pytestmark = pytest.mark.skipif(scale is None, reason="the native part is not built here: make native")

INT64 = 1 << 63
EDGES = [0.0, -0.0, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308, 1e16, 2.0**53, 0.1]
integers = st.one_of(
    st.integers(-INT64, INT64 - 1),
    st.integers(0, 1 << 44),
    st.sampled_from([INT64 - 1, -INT64, 1 << 62, (1 << 53) + 1, -(1 << 53) - 1, 1 << 53, 0]),
)
doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(EDGES),
    st.decimals(-10_000, 1_000_000, places=3).map(float),
    st.builds(math.ldexp, st.integers(0, (1 << 53) - 1), st.integers(-90, 10)),
    st.builds(math.ldexp, st.sampled_from([1.0, 1 + 2.0**-52, 2 - 2.0**-52]), st.integers(-60, 60)),
)
POWERS = [-20, -20, -20, -10, 0, 1, 10, 20, 60, -60, -999, 999, 1000, -1080, 6000]
SPELLED = [
    *("0", "-0", "-0.0", "0.000", "1.50", "1e5", "1E+5", "1.5e-7", "123456789012345.5", "0.1234567890123456", "-7"),
    *("12345678901234567890", "999999999999999", "9999999999999999", "0.0000000000001", "1234567.12345678", "1e308"),
]
NO_NUMBERS = ["", "01", "1.", ".5", "+1", "-", "1e", "1e+", "1.e5", "nan", "null", '"1"', " 1", "1 ", "1.2.3", "--1"]
texts = st.one_of(integers.map(encode), doubles.map(encode), st.sampled_from(SPELLED).map(str.encode))


def packed_of(scaled):
    return packed(runs_of(scaled))


def bundle_of(values, sizes):
    """Metrics with so many values each."""
    n = len(values)
    return Bundle([], [], list(accumulate(sizes)), [], [0] * n, [0] * n, [], [b""] * n, texts=b",".join(values))


def by_native(bundle, scaled):
    return scale(bundle.texts, bundle.stops, packed_of(scaled), encode)


def same(values, sizes, powers):
    """Native and Python agree; answers whether the native part did it."""
    bundle, metric = bundle_of(values, sizes), Metric(b"", "")
    scaled = [Scaled(at, power, metric) for at, power in powers]
    made = by_native(bundle, scaled)
    left = scale_each(bundle, scaled)
    assert made is None or (made, left) == (bundle.texts, {})
    return made is not None


@st.composite
def columns(draw):
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    values = draw(st.lists(texts, min_size=sum(sizes), max_size=sum(sizes)))
    metrics = draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))
    powers = st.sampled_from(POWERS)
    one = draw(powers)
    return values, sizes, [(at, one if draw(st.booleans()) else draw(powers)) for at in sorted(metrics)]


@given(columns())
def test_the_native_part_scales_as_python_does(made):
    same(*made)


ALL_LENGTHS = [
    *(
        f"{whole}.{decimals}"
        for whole in ("0", "7", "1234567", "12345678")
        for decimals in ("1", "1234567", "12345678")
    ),
    *("123456789012345"[:digits] for digits in range(1, 16)),
]


@pytest.mark.parametrize("text", [*SPELLED, *ALL_LENGTHS])
@pytest.mark.parametrize("power", [-20, -1, 0, 10])
def test_numbers_of_all_lengths_are_scaled_as_python_does(text, power):
    same([text.encode(), b"1.5", text.encode(), b"2.5"], [4], [(0, power)])
    assert same([b"1.5"] * 20, [20], [(0, power)]), "a usual one is scaled"


@pytest.mark.parametrize("exponent", range(-40, 60))
@pytest.mark.parametrize("times", [1.0, 1 + 2.0**-52, 2 - 2.0**-52, 3.0, 5.0])
def test_doubles_beside_powers_of_two_are_written_as_the_encoder_writes_them(exponent, times):
    value = math.ldexp(times, exponent)
    written = encode([value, -value])[1:-1]
    assert scale(written, [2], packed_of([Scaled(0, 0, Metric(b"", ""))]), encode) == written


@given(st.lists(doubles, min_size=1, max_size=50))
def test_doubles_are_written_as_the_encoder_writes_them(values):
    written = encode(values)[1:-1]
    assert scale(written, [len(values)], packed_of([Scaled(0, 0, Metric(b"", ""))]), encode) == written


@given(st.lists(st.integers(0, 1 << 53), min_size=1, max_size=50), st.sampled_from([-10, -20, -30]))
def test_usual_values_are_scaled_natively(values, power):
    assert same([encode(value) for value in values], [len(values)], [(0, power)])


@pytest.mark.parametrize(
    ("value", "power"),
    [("5e-324", -1), ("1.7976931348623157e308", 1), (str((1 << 53) + 1), -1), (str(1 << 62), 1), ("1", 63), ("1.5", -1000)],
)  # fmt: skip
def test_what_cannot_be_scaled_exactly_is_left_to_python(value, power):
    assert not same([value.encode()], [1], [(0, power)])


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("around", [(b"", b""), (b"1,", b""), (b"", b",2"), (b"1,", b",2")])
def test_what_is_no_number_is_left_to_python(text, around):
    before, behind = around
    every = before + text.encode() + behind + b",7" * 20  # so that it is looked at in a block, too
    for some in (every, every[: len(every) - 40]):
        stops = [some.count(b",") + 1]
        assert scale(some, stops, packed_of([Scaled(0, -1, Metric(b"", ""))]), encode) is None


def test_more_values_than_there_are_is_left_to_python():
    run = packed_of([Scaled(1, -1, Metric(b"", ""))])
    for texts_of, stops in ((b"1,2", [1, 3]), (b"1,2", [2, 3]), (b"1,2", [4, 5]), (b"", [0, 1])):
        assert scale(texts_of, stops, run, encode) is None


def test_metrics_that_follow_one_another_are_one_run():
    metric = Metric(b"", "")
    scaled = [Scaled(at, power, metric) for at, power in ((0, -1), (1, -1), (2, -2), (4, -2))]
    assert len(packed_of(scaled)) == 3 * 12
    assert same([b"8"] * 5, [1] * 5, [(at, power) for at, power, _ in scaled])


def test_python_says_what_a_text_is_that_is_no_number():
    bundle = bundle_of([b"nan"], [1])
    with pytest.raises(msgspec.DecodeError):
        scale_each(bundle, [Scaled(0, -1, Metric(b"", ""))])
