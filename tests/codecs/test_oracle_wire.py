"""Protobuf that is odd and still a bundle means what google.protobuf says it means."""

import pytest

from support.judging import agree, record
from support.repoison import (
    GOOD,
    GOOD_PROTO,
    field,
    proto_attribute,
    proto_gauge,
    proto_metric,
    proto_nested,
    proto_point,
    proto_resource,
)

ODD = {
    "unknown fields": GOOD_PROTO + b"\x98\x06\x01" + field(100, b"x") + b"\x9d\x06abcd" + b"\x99\x06abcdefgh",
    "an unknown group": GOOD_PROTO + b"\x53\x08\x01\x12\x01x\x53\x54\x54",
    "a group in a point": proto_gauge(proto_point(b"\x53\x08\x01\x54")),
    "unknown fields in a point": proto_gauge(proto_point(b"\x78\x01", field(14, b"x"))),
    "unknown fields before": proto_gauge(b"\x78\x01" + proto_point()),
    "unknown attribute members": proto_gauge(
        proto_point(field(7, proto_attribute(field(1, b"x") + b"\x78\x01") + b"\x78\x01"))
    ),
    "a time as varint": proto_gauge(b"\x18\x07\x21" + bytes(8)),
    "a value as varint": proto_gauge(proto_point()[:9] + b"\x20\x07"),
    "a value as fixed32": proto_gauge(proto_point()[:9] + b"\x25abcd"),
    "an int as varint beside a double": proto_gauge(proto_point(b"\x30\x07")),
    "a name as varint": proto_metric(b"\x08\x07" + field(5, field(1, proto_point()))),
    "flags as bytes": proto_gauge(proto_point(field(8, b"\x01"))),
    "flags above 32 bits": proto_gauge(proto_point(b"\x40\x82\x80\x80\x80\x80\x80\x80\x80\x80\x01")),
    "flags of ten bytes": proto_gauge(proto_point(b"\x40\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00")),
    "flags twice": proto_gauge(proto_point(b"\x40\x01\x40\x00")),
    "two values, int last": proto_gauge(proto_point(b"\x31" + b"\x07" + bytes(7))),
    "two values, double last": proto_gauge(b"\x31" + bytes(8) + proto_point()),
    "a time twice": proto_gauge(b"\x19" + bytes(8) + proto_point()),
    "a tag of five bytes": GOOD_PROTO + b"\x8a\x80\x80\x80\x00" + b"\x00",
    "a tag of five bytes in a point": proto_gauge(proto_point(b"\xc0\x80\x80\x80\x00\x02")),
    "a length of five bytes": b"\x0a" + b"\x82\x80\x80\x80\x00" + field(2, b""),
    "a point said in an odd order": proto_gauge(
        field(7, proto_attribute(field(1, b"x"))) + b"\x40\x02" + proto_point() + b"\x11" + bytes(8)
    ),
    "an empty point": proto_gauge(b""),
    "an empty metric": proto_metric(b""),
    "an empty gauge": proto_metric(field(5, b"")),
    "a value that is a string and then a list": proto_gauge(
        proto_point(field(7, proto_attribute(field(1, b"x") + field(5, b""))))
    ),
    "an attribute value sent twice": proto_gauge(
        proto_point(field(7, proto_attribute(proto_nested(1)) + field(2, proto_nested(1))))
    ),
    "an attribute value sent twice, string last": proto_gauge(
        proto_point(field(7, proto_attribute(proto_nested(1)) + field(2, field(1, b"y"))))
    ),
    "an attribute key sent twice": proto_gauge(
        proto_point(field(7, field(1, b"first") + proto_attribute(field(1, b"x"))))
    ),
    "a bool of 2": proto_resource(field(1, proto_attribute(b"\x10\x02"))),
    "an enum of -1": proto_metric(field(7, field(1, proto_point()) + b"\x10" + b"\xff" * 9 + b"\x01")),
    "an enum of two bytes": proto_metric(field(7, field(1, proto_point()) + b"\x10\x82\x00")),
    "monotonic of 2": proto_metric(field(7, field(1, proto_point()) + b"\x18\x02")),
    "a gauge and then a sum": proto_metric(field(5, field(1, proto_point())) + field(7, field(1, proto_point()) * 2)),
    "a resource sent twice": field(
        1,
        field(1, field(1, proto_attribute(field(1, b"h"), b"hostId")))
        + field(2, field(2, field(5, field(1, proto_point()))))
        + field(1, field(1, proto_attribute(field(1, b"n"), b"hostName"))),
    ),
    "an empty resource first": b"\x0a\x00" + GOOD_PROTO,
    "nothing but an empty resource": b"\x0a\x00",
    "nothing but empty resources": b"\x0a\x00\x0a\x00",
    "two bundles in a row": GOOD_PROTO + GOOD_PROTO,
    "a string value that is an index": proto_resource(field(1, proto_attribute(b"\x40\x07"))),
}


def sized(size: int) -> bytes:
    """A protobuf bundle whose first resource metrics has so many bytes."""
    return field(1, field(3, b"u" * (size - 2)))


@pytest.mark.parametrize("size", [0x09, 0x0A, 0x0D, 0x20, 0x22, 0x2D, 0x30, 0x5B, 0x66, 0x6E, 0x74, 0x7B])
def test_a_line_feed_and_a_length_that_look_like_json_are_protobuf(size):
    """The tag of resource_metrics is a line feed; lengths of 34, 91 and 123 then look like the begin of a JSON text."""
    unknown = b"\x98\x06\x01"
    for payload in (
        sized(size),
        sized(size) + GOOD_PROTO,
        sized(size) + GOOD_PROTO + unknown,
        b"\x0a\x00" + sized(size),
    ):
        assert isinstance(agree(record(payload)), bytes)
    for payload in (sized(size) + unknown, b"\x0a\x00\x0a\x00" + sized(size) + unknown):
        assert agree(record(payload)) == "decode.not_understood"


def test_json_may_begin_with_a_line_feed():
    for space in (b"\n", b"\n\n", b" \n", b"\r\n\t "):
        assert agree(record(space + GOOD)) == agree(record(GOOD))
        assert agree(record(space + b"{\n" + GOOD[1:])) == agree(record(GOOD))
        assert agree(record(space + GOOD[:-1])) == "decode.json"
        assert agree(record(space + b"[]")) == "decode.top_level"


@pytest.mark.parametrize("name", ODD)
def test_odd_protobuf_means_what_google_protobuf_says(name):
    assert isinstance(agree(record(ODD[name])), bytes)


@pytest.mark.parametrize("place", ["resource", "scope", "point", "attribute value"])
def test_a_few_bytes_in_any_place_are_judged_and_never_more(place):
    """Every byte, alone and behind the beginning of a text: what cuts bytes by hand must not run past their end."""
    for byte in range(256):
        for some in (
            bytes([byte]),
            bytes([0x0A, byte]),
            bytes([0x0A, 1, byte]),
            bytes([0x3A, byte]),
            bytes([0x0A, 0, byte]),
        ):
            payload = {
                "resource": field(1, field(1, some) + field(2, field(2, field(1, b"m")))),
                "scope": field(1, field(2, field(1, some))),
                "point": proto_gauge(some),
                "attribute value": field(1, field(1, field(1, field(1, b"k") + field(2, some)))),
            }[place]
            agree(record(payload))
