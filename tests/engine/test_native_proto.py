"""The native part says what the plain engine says of protobuf too; where it is not built, these are skipped."""

import random
import struct

import pytest

from lmstream.native import native
from lmstream.settings import MIB
from support.judging import record
from support.native_twins import Twins, four_agree, other_values, settings_of
from support.repoison import field, proto_attribute, proto_nested
from support.wire import varint
from support.wire_damage import DOUBLES, INTEGERS

pytestmark = pytest.mark.skipif(native("scan_proto") is None, reason="the native part is not built here: make native")

NANOS = 1_715_263_577_241_000_000
NAME = field(1, b"CpuUsage")
TAIL = field(7, proto_attribute(field(1, b"a"), b"i"))
RESOURCE = field(1, field(1, proto_attribute(field(1, b"7"), b"hostId")))
SCOPE = field(1, field(1, b"s"))
GROUP = b"\x53\x08\x01\x54"


@pytest.fixture(scope="module")
def twins():
    """Two engines that stay warm over the tests."""
    return Twins(settings_of("otlp"))


def point(value=1.5, tail=TAIL, *, start=NANOS - 10**9, time=NANOS):
    """A number point as serializers write it: start, time, value, attributes."""
    began = b"" if start is None else b"\x11" + struct.pack("<Q", start)
    number = b"\x21" + struct.pack("<d", value) if isinstance(value, float) else b"\x31" + struct.pack("<q", value)
    return began + b"\x19" + struct.pack("<Q", time) + number + tail


def gauge(*points, more=b""):
    return NAME + field(5, b"".join(field(1, each) for each in points) + more)


def bundle(*metrics, resource=RESOURCE, scope=SCOPE, behind=b""):
    return field(1, resource + field(2, scope + b"".join(field(2, each) for each in metrics)) + behind)


ONE = point()


def test_points_with_and_without_a_start_or_attributes_are_plain(twins):
    assert twins.agree(bundle(gauge(ONE, point(7), point(-1.25, start=None), point(0, b""))))
    assert twins.agree(bundle(gauge(ONE), behind=field(3, b"https://example.com/\xc3\xa4")))
    assert twins.agree(
        2 * bundle(gauge(ONE, ONE), NAME + field(3, b"%") + field(7, field(1, ONE) + b"\x10\x02\x18\x01"))
    )


@pytest.mark.parametrize("seed", range(8))
def test_json_and_protobuf_are_the_same_with_the_native_part_and_without(twins, seed):
    rng = random.Random(seed)
    for _ in range(10):
        four_agree(other_values(rng), twins)


@pytest.mark.parametrize("number", [*DOUBLES, *INTEGERS])
def test_numbers_are_written_as_the_engine_writes_them(twins, number):
    assert twins.agree(bundle(gauge(point(number), ONE))) is (number - number == 0)


def test_doubles_are_written_as_the_engine_writes_them(twins):
    rng = random.Random(0)
    for _ in range(40):
        found = [round(rng.uniform(-1, 1) * 10 ** rng.randint(-3, 16), rng.randint(0, 9)) + 0.0 for _ in range(200)]
        near = [
            struct.unpack("<d", struct.pack("<q", struct.unpack("<q", struct.pack("<d", x))[0] ^ 1))[0] for x in found
        ]
        assert twins.agree(bundle(gauge(*map(point, found), *map(point, near))))


NOT_PLAIN = {
    "a tag of two bytes": b"\x8a\x00" + bundle(gauge(ONE))[1:],
    "a length of two bytes that needs one": bundle(gauge(ONE), scope=b"\x0a" + b"\x83\x00" + SCOPE[2:]),
    "a length of five bytes": bundle(gauge(ONE), scope=b"\x0a" + b"\x83\x80\x80\x80\x00" + SCOPE[2:]),
    "a point's length of two bytes": bundle(NAME + field(5, b"\x0a" + bytes([len(ONE) | 0x80, 0]) + ONE)),
    "a temporality of two bytes": bundle(NAME + field(7, field(1, ONE) + b"\x10\x82\x00")),
    "monotonic of two bytes": bundle(NAME + field(7, field(1, ONE) + b"\x18\x81\x00")),
    "an attribute's length of two bytes": bundle(gauge(point(tail=b"\x3a" + bytes([TAIL[1] | 0x80, 0]) + TAIL[2:]))),
    "a resource twice": bundle(gauge(ONE), behind=RESOURCE),
    "a scope twice": bundle(gauge(ONE), scope=SCOPE * 2),
    "a schema's address twice": bundle(gauge(ONE), behind=2 * field(3, b"u")),
    "a name twice": bundle(NAME + gauge(ONE)),
    "a gauge twice": bundle(gauge(ONE) + field(5, field(1, ONE))),
    "a gauge and a sum": bundle(gauge(ONE) + field(7, field(1, ONE))),
    "a sum and a histogram": bundle(NAME + field(7, field(1, ONE)) + field(9, b"")),
    "a temporality twice": bundle(NAME + field(7, field(1, ONE) + b"\x10\x01\x10\x02")),
    "a time twice": bundle(gauge(ONE + b"\x19" + bytes(8))),
    "a value twice": bundle(gauge(point(tail=b"\x21" + bytes(8) + TAIL))),
    "two values": bundle(gauge(point(tail=b"\x31" + bytes(8) + TAIL))),
    "a start of zero behind the value": bundle(gauge(point(tail=b"\x11" + bytes(8), start=None))),
    "an unknown field of a request": bundle(gauge(ONE)) + b"\x78\x01",
    "an unknown field of a resource": bundle(gauge(ONE), behind=b"\x78\x01"),
    "an unknown field of a scope": bundle(gauge(ONE), scope=SCOPE + b"\x78\x01"),
    "an unknown field of a metric": bundle(gauge(ONE) + b"\x78\x01"),
    "an unknown field of a gauge": bundle(gauge(ONE, more=b"\x78\x01")),
    "a temporality of a gauge": bundle(gauge(ONE, more=b"\x10\x02")),
    "a name that is a number": bundle(b"\x08\x07" + field(5, field(1, ONE))),
    "a time that is a varint": bundle(gauge(b"\x18\x07\x21" + bytes(8))),
    "a value that is fixed32": bundle(gauge(ONE[:18] + b"\x25abcd" + TAIL)),
    "a resource that is a group": bundle(gauge(ONE), resource=b"\x0b\x0c"),
    "a group in a request": GROUP + bundle(gauge(ONE)),
    "a group in a metric": bundle(gauge(ONE) + GROUP),
    "a group without an end": bundle(gauge(ONE) + b"\x53"),
    "a name that is not UTF-8": bundle(field(1, b"\xff") + field(5, field(1, ONE))),
    "a description that is not UTF-8": bundle(gauge(ONE) + field(2, b"\xed\xa0\x80")),
    "a schema's address that is not UTF-8": bundle(gauge(ONE), behind=field(3, b"\xc3")),
    "an attribute that is not UTF-8": bundle(gauge(point(tail=field(7, proto_attribute(field(1, b"\xff")))))),
    "a resource that is not UTF-8": bundle(gauge(ONE), resource=field(1, field(1, proto_attribute(field(1, b"\xff"))))),
    "a scope that is not UTF-8": bundle(gauge(ONE), scope=field(1, field(1, b"\xff"))),
    "metadata that is not UTF-8": bundle(gauge(ONE) + field(12, proto_attribute(field(1, b"\xff")))),
    "a value too deep": bundle(gauge(point(tail=field(7, proto_attribute(proto_nested(48)))))),
    "a resource too deep": bundle(gauge(ONE), resource=field(1, field(1, proto_attribute(proto_nested(48))))),
    "too many attributes": bundle(gauge(point(tail=TAIL * 1025), ONE)),
    "a temporality that OTLP has not": bundle(NAME + field(7, field(1, ONE) + b"\x10\x03")),
    "flags": bundle(gauge(ONE + b"\x40\x01")),
    "an exemplar": bundle(gauge(ONE + field(5, b""))),
    "a histogram": bundle(NAME + field(9, field(1, b""))),
    "no time": bundle(gauge(ONE[18:])),
    "no value": bundle(gauge(ONE[:18])),
    "no point": bundle(gauge()),
    "no metric": bundle(),
    "no resource": field(1, field(2, SCOPE + field(2, gauge(ONE)))),
    "a metric of nothing beside others": bundle(gauge(ONE), b""),
    "a resource of nothing beside others": bundle(gauge(ONE)) + b"\x0a\x00",
    "a leaf of more than a MiB": bundle(gauge(point(tail=field(7, proto_attribute(field(1, b"x" * MIB)))), ONE)),
    "a length past the end": bundle(gauge(ONE))[:-1],
    "a length past all ends": bundle(gauge(ONE)) + b"\x0a\xff\xff\xff\x7f",
    "a length of 64 bits": bundle(gauge(ONE)) + b"\x0a" + b"\xff" * 9 + b"\x01",
}  # fmt: skip


@pytest.mark.parametrize("payload", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_codec(twins, payload):
    assert not twins.agree(payload)
    assert twins.agree(bundle(gauge(ONE))), "and the caches are as they were"


@pytest.mark.parametrize("tag", [b"\x08", b"\x0b", b"\x0c", b"\x0d", b"\x12", b"\x0f", b"\x00"])
def test_a_bundle_begins_with_a_resource(tag):
    scan, codec = native("scan_proto"), Twins(settings_of("otlp")).native.codecs["otlp_proto"]._plain
    assert scan(tag + bundle(gauge(ONE))[1:], {}, (None, {}, b"mark"), {}, {}, None, 10) is None
    assert codec.read(bundle(gauge(ONE))) is not None


@pytest.mark.parametrize("cut", range(1, 110, 3))
def test_a_cut_bundle_is_left_to_the_codec(twins, cut):
    assert not twins.agree(bundle(gauge(ONE), gauge(ONE))[:-cut])


def test_more_points_than_the_limit_are_left_to_the_codec():
    twins = Twins(settings_of("otlp", points=3))
    assert twins.agree(bundle(gauge(ONE, ONE, ONE)))
    assert not twins.agree(bundle(gauge(ONE, ONE, ONE, ONE)))


def test_points_of_the_same_number_keep_their_own_attributes(twins):
    """The scanner takes the attributes of the point before it in the metric before only where they are equal."""
    lists = [field(7, proto_attribute(field(1, name), b"i")) for name in (b"a", b"b", b"ab", b"")]
    rng = random.Random(0)
    for _ in range(50):
        metrics = [gauge(*(point(tail=rng.choice(lists)) for _ in range(rng.randint(1, 4)))) for _ in range(3)]
        assert twins.agree(bundle(*metrics))


class Kept(dict):
    """Makes of bytes what they are."""

    def __missing__(self, key):
        return key


class Failing(dict):
    """Makes nothing."""

    def __missing__(self, key):
        raise MemoryError


@pytest.mark.parametrize("at", range(4))
def test_what_making_raises_is_raised(at):
    """The codec's own errors mean that a bundle is not plain, and plain_bundles catches them; others are no such thing."""
    caches = [Kept(), Kept(), Kept(), Kept()]
    caches[at] = Failing()
    caches[1] = caches[1].__missing__, Kept(), b"mark"  # scopes are called
    with pytest.raises(MemoryError):
        native("scan_proto")(bundle(gauge(ONE)), *caches, None, 10)


def test_what_stands_beside_attributes_is_judged_by_the_codec(twins):
    for more in (b"\x78\x01", GROUP, field(99, b"x")):
        assert twins.agree(bundle(gauge(ONE + more, ONE)))


@pytest.mark.parametrize("time", [0, 1, 2**64 - 1, NANOS * 10])
def test_points_without_a_row_are_taken_out_of_woven_lines(twins, time):
    """Faults are found when the columns are made already: lines are then joined without these points."""
    assert twins.agree(bundle(gauge(ONE, point(2.5, time=time), point(7)), gauge(point(3.5, start=time or 1), ONE)))
    assert twins.agree(bundle(gauge(point(time=time))))


def test_a_replay_numbers_points_as_they_were(twins):
    payload = bundle(gauge(ONE, point(2.5), point(7)), gauge(point(3.5), point(time=1)))
    for only in ((0,), (1, 3), (4,), ()):
        outs = [each.fan_out(record(payload, only=only)) for each in (twins.native, twins.plain)]
        assert outs[0].ndjson() == outs[1].ndjson()
        assert outs[0].rejected == outs[1].rejected
        assert [each.data for each in outs[0].groups] == [each.data for each in outs[1].groups]


def test_rows_that_are_too_long_are_taken_out_of_woven_lines(twins):
    long = field(7, proto_attribute(field(1, b"\x01" * 170_000), b"i"))
    assert twins.agree(bundle(gauge(ONE, point(2.5, tail=long), point(7))))


def test_lengths_are_read_as_they_are_written(twins):
    for size in (0, 1, 100, 127, 128, 129, 16_383, 16_384, 100_000):
        tail = field(7, proto_attribute(field(1, b"x" * size), b"i"))
        assert varint(size) in tail
        assert twins.agree(bundle(gauge(point(tail=tail), ONE)))
