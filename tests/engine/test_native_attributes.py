"""Attributes of points as the native part writes them are those that the codecs write, or it leaves them."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmstream.codecs import fragments
from lmstream.codecs.json_values import texts
from lmstream.codecs.proto_points import attributes
from lmstream.codecs.proto_schema import NumberPoint
from lmstream.native import native
from support.repoison import field, proto_attribute
from support.wire import varint

JSON, PROTO = native("tail"), native("tail_proto")
pytestmark = pytest.mark.skipif(JSON is None or PROTO is None, reason="the native part is not built here: make native")

TAG = 0x3A
KEYS = st.sampled_from(("", "a", "wildValue", "dataSourceInstanceName", "é", '"', "\\", "\x1f", "\x7f", "\u2028"))
PAIRS = st.lists(st.tuples(KEYS | st.text(max_size=3), KEYS | st.text()), max_size=5)


def of_json(raw):
    piece = JSON(raw, *fragments.TAIL)
    return None if piece is None else (piece, len(piece))


def of_proto(raw):
    piece = PROTO(raw, *fragments.TAIL, TAG)
    return None if piece is None else (piece, len(piece))


def plain(pairs):
    keys = [key for key, _ in pairs]
    return (
        pairs
        and len(set(keys)) == len(keys)
        and all(json.dumps(t, ensure_ascii=False) == f'"{t}"' for t in sum(pairs, ()))
    )


@example([("wildValue", ""), ("dataSourceInstanceName", "x")])
@example([("a", "\x7f\u2028é😀"), ("wildValue", "w"), ("dataSourceInstanceName", "")])
@example([("a", "1"), ("b", "2"), ("a", "3")])
@given(PAIRS)
def test_they_are_written_as_the_codecs_write_them(pairs):
    listed = [{"key": key, "value": {"stringValue": value}} for key, value in pairs]
    for raw in (json.dumps(listed, ensure_ascii=False).encode(), json.dumps(listed, indent=1).encode()):
        assert of_json(raw) in (None, fragments.tail(texts(raw)))
    compact = json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()
    encoded = b"".join(field(7, proto_attribute(field(1, value.encode()), key.encode())) for key, value in pairs)
    wanted = fragments.tail(attributes(NumberPoint.FromString(encoded).attributes))
    assert fragments.tail(texts(compact)) == wanted
    assert of_json(compact) == of_proto(encoded) == (wanted if plain(pairs) else None)


ONE = '{"key":"a","value":{"stringValue":"x"}}'


@pytest.mark.parametrize(
    "raw",
    [*("", "[]", "null", "[", f"[{ONE}", f"[{ONE},]", f"[{ONE}]x", f"[{ONE}]]", f"{ONE}", "[{}]", "[null]", '["a"]'),
     *('[{"key":"a"}]', '[{"key":"a","value":{}}]', '[{"key":"a","value":null}]', '[{"key":1,"value":{"stringValue":"x"}}]'),
     *('[{"value":{"stringValue":"x"},"key":"a"}]', '[{"key":"a","value":{"stringValue":"x","stringValue":"y"}}]'),
     *('[{"key":"a","value":{"intValue":"1"}}]', '[{"key":"a","value":{"stringValue":null}}]', '[{"key":"a","key":"b"}]'),
     *('[{"key":"a","value":{"stringValue":"x"},"z":1}]', '[{"k\\u0065y":"a","value":{"stringValue":"x"}}]'),
     *('[{"key":"a","value":{"stringValue":"\\n"}}]', '[{"key":"a","value":{"stringValue":"\n"}}]', f"[{','.join([ONE] * 2)}]")],
)  # fmt: skip
def test_json_that_is_no_list_of_texts_is_left(raw):
    assert of_json(raw.encode()) is None


def test_bytes_that_are_no_text_are_left():
    assert of_json(f"[{ONE}]".encode().replace(b"x", b"\xff")) is None
    assert of_proto(field(7, proto_attribute(field(1, b"\xed\xa0\x80")))) is None
    assert of_proto(field(7, proto_attribute(field(1, b"x"), b"\xff"))) is None


def test_long_lists_are_left():
    for count, taken in ((64, True), (65, False), (2000, False)):
        listed = [{"key": str(at), "value": {"stringValue": "x"}} for at in range(count)]
        encoded = b"".join(field(7, proto_attribute(field(1, b"x"), str(at).encode())) for at in range(count))
        raw = json.dumps(listed, separators=(",", ":")).encode()
        assert (of_json(raw) is not None) is taken
        assert of_json(raw[:-1] + b",") is None
        assert (of_proto(encoded) is not None) is taken


TEXT = field(1, b"x")


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        field(7, b""),
        field(7, field(1, b"a")),
        field(7, field(2, TEXT)),
        field(7, field(2, TEXT) + field(1, b"a")),
        field(7, proto_attribute(b"")),
        field(7, proto_attribute(b"\x10\x01")),
        field(7, proto_attribute(TEXT + TEXT)),
        field(7, proto_attribute(TEXT) + field(2, TEXT)),
        field(7, proto_attribute(TEXT) + b"\x78\x01"),
        field(6, proto_attribute(TEXT)),
        field(7, proto_attribute(TEXT))[:-1],
        field(7, proto_attribute(TEXT)) + b"\x40\x01",
        b"\x3a" + varint(len(proto_attribute(TEXT)))[:-1] + b"\x88\x00" + proto_attribute(TEXT),
        field(7, proto_attribute(field(1, b'"'))),
        field(7, proto_attribute(field(1, b"\x00"))),
    ],
)
def test_protobuf_that_is_no_list_of_texts_is_left(encoded):
    assert of_proto(encoded) is None
