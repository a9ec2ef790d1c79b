"""What refused bytes are is said: every case of the field by its reason and words, and no metrics under another name."""

import base64
import bz2
import gzip
import json
import lzma
import random
import zlib

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.codecs.diagnosis import GENERAL, diagnose, wire
from lmstream.errors import DecodeError
from support import repoison, strategies
from support.judging import ACME, NAMED, record
from support.repoison import GOOD, GOOD_PROTO, TIME, field, gauge
from support.wire import varint

BIG = GOOD[:-1] + b',"x":"' + b"abc " * 300 + b'"}'
BARE = GOOD_PROTO[2:]
SPAN = field(1, bytes(range(16))) + field(2, bytes(range(8))) + field(5, b"GET /") + b"\x39" + bytes(8)
# A log record with a body that is a map: taken for a metric, it is one without data.
LOG = bytes.fromhex("0a2d122b122909006638541ed7cd1710112a1c321a0a180a036d736712110a0f6f72646572203137206661696c6564")
PROFILES = field(1, field(2, field(2, b"\x19" + bytes(8)))) + field(2, field(5, b"") + field(5, b"cpu"))


def block(data):
    return bytes(cramjam.lz4.compress_block(data, store_size=False))


def refusal(value, settings=ACME):
    with pytest.raises(DecodeError) as refused:
        Engine(settings).fan_out(record(value))
    return refused.value.reason, refused.value.detail


CASES = {
    "traces": ("decode.signal", "traces (OTLP in protobuf)", field(1, field(2, field(2, SPAN)))),
    "traces in gzip": ("decode.signal", "traces (OTLP in protobuf)", gzip.compress(field(1, field(2, field(2, SPAN))))),
    "traces, cut": ("decode.signal", "traces", field(1, field(2, field(2, SPAN) * 2))[:-3]),
    "traces, JSON": ("decode.signal", "traces (OTLP/JSON)", b' {"resourceSpans":[]}'),
    "traces, snake_case": ("decode.signal", "traces (OTLP/JSON)", b'{"resource_spans":[]}'),
    "traces, JSON cut": ("decode.signal", "traces (OTLP/JSON)", b'{"resourceSpans":[{"resource'),
    "traces, array": ("decode.signal", "traces (OTLP/JSON)", b'[{"resourceSpans":[]}]'),
    "logs, JSON": ("decode.signal", "logs (OTLP/JSON)", b'{"resourceLogs":[]}'),
    "profiles, JSON": ("decode.signal", "profiles (OTLP/JSON)", b'{"resourceProfiles":[],"dictionary":{}}'),
    "snappy raw": ("decode.compression", "snappy (raw block)", bytes(cramjam.snappy.compress_raw(BIG))),
    "snappy raw of protobuf": ("decode.compression", "snappy (raw", bytes(cramjam.snappy.compress_raw(GOOD_PROTO))),
    "snappy framed": ("decode.compression", "snappy (framing format)", bytes(cramjam.snappy.compress(BIG))),
    "snappy-java": ("decode.compression", "snappy-java", b"\x82SNAPPY\x00" + bytes(12)),
    "lz4 frame": ("decode.compression", "lz4 (frame)", bytes(cramjam.lz4.compress(BIG))),
    "lz4 block": ("decode.compression", "lz4 (raw block)", block(BIG)),
    "lz4 block with its size": ("decode.compression", "lz4 (raw block)", bytes(cramjam.lz4.compress_block(BIG))),
    "zlib": ("decode.compression", "zlib", zlib.compress(BIG)),
    "zlib, level 1": ("decode.compression", "zlib", zlib.compress(GOOD_PROTO, 1)),
    "deflate": ("decode.compression", "deflate", zlib.compress(BIG)[2:-4]),
    "bzip2": ("decode.compression", "bzip2", bz2.compress(BIG)),
    "xz": ("decode.compression", "xz", lzma.compress(BIG)),
    "zip": ("decode.compression", "zip", b"PK\x03\x04" + bytes(30)),
    "Confluent, JSON": ("decode.framing", "Confluent schema-registry prefix (5 bytes: 00, id 7) around a bundle as JSON", b"\0\0\0\0\7" + GOOD),
    "Confluent, protobuf": ("decode.framing", "Confluent schema-registry prefix (5 bytes: 00, id 7) around a bundle in", b"\0\0\0\0\7\0" + GOOD_PROTO),
    "Confluent, Avro": ("decode.framing", "Confluent schema-registry prefix (5 bytes: 00, id 100001)", b"\0\0\1\x86\xa1\6abc"),
    "Confluent, GUID": ("decode.framing", "Confluent schema-registry prefix (17 bytes", b"\1" + bytes(range(16)) + GOOD),
    "Apicurio": ("decode.framing", "Apicurio schema-registry prefix (9 bytes: 00, id 7)", b"\0" + bytes(7) + b"\7" + GOOD_PROTO),
    "Glue": ("decode.framing", "Glue schema-registry prefix", b"\3\0" + bytes(range(16)) + GOOD),
    "Glue and zlib": ("decode.framing", "around zlib of a bundle as JSON", b"\3\5" + bytes(range(16)) + zlib.compress(GOOD)),
    "gRPC": ("decode.framing", "gRPC frame", b"\0" + len(GOOD_PROTO).to_bytes(4, "big") + GOOD_PROTO),
    "gRPC of traces": ("decode.framing", "around traces in protobuf", b"\0\0\0\0\x3b" + field(1, field(2, field(2, SPAN))).ljust(59, b"\0")[:59]),
    "delimited": ("decode.framing", "length as varint", varint(len(GOOD_PROTO)) + GOOD_PROTO),
    "File Exporter": ("decode.framing", "four bytes (File Exporter)", len(GOOD_PROTO).to_bytes(4, "big") + GOOD_PROTO),
    "Avro file": ("decode.framing", "Avro object container file", b"Obj\x01\x04\x14avro.codec"),
    "Avro object": ("decode.framing", "Avro's single-object encoding", b"\xc3\x01" + bytes(8) + b"\x06abc"),
    "Avro string": ("decode.framing", "Avro string or bytes around a bundle", varint(2 * len(GOOD)) + GOOD),
    "Java string": ("decode.framing", "Java-serialized string around a bundle", b"\xac\xed\0\5t" + len(GOOD).to_bytes(2, "big") + GOOD),
    "Java object": ("decode.framing", "Java-serialized object", b"\xac\xed\0\5sr\0\x10java.util.HashMap"),
    "RFC 7464": ("decode.framing", "RFC 7464's record separator (1e) around a bundle as JSON", b"\x1e" + GOOD + b"\n"),
    "base64": ("decode.framing", "base64 of a bundle as JSON", base64.b64encode(GOOD)),
    "base64, lines": ("decode.framing", "base64 of a bundle in protobuf", base64.encodebytes(GOOD_PROTO)),
    "base64, URL": ("decode.framing", "base64 of a bundle in protobuf", base64.urlsafe_b64encode(GOOD_PROTO).rstrip(b"=")),
    "base64 of gzip": ("decode.framing", "base64 of gzip data", base64.b64encode(gzip.compress(GOOD))),
    "hex": ("decode.framing", "hexadecimal digits of a bundle in protobuf", GOOD_PROTO.hex().encode()),
    "hex, upper case": ("decode.framing", "hexadecimal digits of a bundle as JSON", GOOD.hex().upper().encode()),
    "JSON in a string": ("decode.framing", "a bundle as JSON inside a JSON string", json.dumps(GOOD.decode()).encode()),
    "twice in a string": ("decode.framing", "inside a JSON string inside a JSON string", json.dumps(json.dumps(GOOD.decode())).encode()),
    "base64 in a string": ("decode.framing", "base64 of a bundle in protobuf", json.dumps(base64.b64encode(GOOD_PROTO).decode()).encode()),
    "array": ("decode.framing", "an array of 2 bundles", b"[" + GOOD + b"," + GOOD + b"]"),
    "documents": ("decode.framing", f"the second from byte {len(GOOD) + 1} on", GOOD + b"\n" + GOOD),
    "text format": ("decode.framing", "protobuf's text format", b"resource_metrics {\n}\n"),
    "one resource, JSON": ("decode.top_level", "a bare ResourceMetrics", b'{"resource":{},"scopeMetrics":[]}'),
    "array of resources": ("decode.top_level", "an array of 1, the first of them a bare ResourceMetrics", b'[{"resource":{},"scopeMetrics":[]}]'),
    "one resource": ("decode.top_level", "a bare ResourceMetrics in protobuf", BARE),
    "one scope": ("decode.top_level", "a bare ScopeMetrics in protobuf", BARE[2:]),
    "one metric": ("decode.top_level", "a bare Metric in protobuf", BARE[4:]),
    "console-consumer": ("decode.top_level", "'topic', 'value'", b'{"topic":"a","value":"x"}'),
    "NaN": ("decode.json", "NaN at byte 140 is no JSON", gauge(f'{{{TIME},"asDouble":NaN}}')),
    "-Infinity": ("decode.json", "-Infinity at byte 140 is no JSON", gauge(f'{{{TIME},"asDouble":-Infinity}}')),
    "nan": ("decode.json", "nan at byte 140 is no JSON", gauge(f'{{{TIME},"asDouble":nan}}')),
    "None": ("decode.json", "None at byte 140 is no JSON", gauge(f'{{{TIME},"asDouble":None}}')),
    "Python's dict": ("decode.json", "in single quotes", b"{'resourceMetrics':[]}"),
    "HTML": ("decode.json", "HTML", b"<html><body>502</body></html>"),
    "Prometheus": ("decode.json", "Prometheus' text format", b"# HELP a b\n# TYPE a gauge\na 1\n"),
    "a log line behind": ("decode.json", "something else follows from byte", GOOD + b"\n2024-05-01 INFO"),
    "protobuf, cut": ("decode.protobuf", "resourceMetrics[0] has", GOOD_PROTO[:-3]),
    "zeros": ("decode.protobuf", "neither JSON nor a bundle in protobuf; it begins with 00 00", bytes(64)),
    "UTF-8": ("decode.utf8", "$.resourceMetrics[0].scopeMetrics[0].metrics[0].name is no UTF-8 at byte 11", GOOD_PROTO.replace(b"CpuUsage", b"Cpu\xffsage")),
    "UTF-16": ("decode.encoding", "UTF-16: it begins with ff fe 7b 00", GOOD.decode().encode("utf-16")),
    "UTF-32": ("decode.encoding", "UTF-32: it begins with 00 00 00 7b", GOOD.decode().encode("utf-32-be")),
    "byte order mark": ("decode.encoding", "a byte order mark", b"\xef\xbb\xbf" + GOOD),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_the_bytes_are_is_said(name):
    reason, words, value = CASES[name]
    said = refusal(value)
    assert said[0] == reason, said
    assert words in said[1]
    assert len(said[1]) < 300


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (LOG, "logs"),
        (field(1, field(2, field(2, field(5, b"\x18\x07")))), "logs"),
        (field(1, field(2, field(2, SPAN))), "traces"),
        (PROFILES, "profiles"),
    ],
)
def test_another_signal_that_parses_as_metrics_is_named_too(value, wanted):
    """Such bytes are whole as protobuf, and give no data point."""
    said = diagnose(value, DecodeError("decode.not_understood", "no data point"))
    assert said.reason == "decode.signal"
    assert said.detail.startswith(wanted)


def test_metrics_with_members_of_another_signals_sizes_stay_metrics():
    name, text = b"0123456789abcdef", b"01234567"  # as many bytes as ids have
    metric = field(1, name) + field(2, text) + field(5, field(1, repoison.proto_point()))
    assert wire.signal(field(1, field(2, field(2, metric)))) == ""
    assert wire.signal(field(1, field(2, field(2, field(1, name) + field(2, text))))) == ""
    assert wire.is_bundle(field(1, field(2, field(2, metric))))
    both = b'{"resourceSpans":[],"resourceMetrics":{}}'
    assert refusal(both)[0] == "decode.type"
    assert refusal(b'{"resourceSpans":[],"resourceMetrics":[{"')[0] == "decode.json"


@pytest.mark.parametrize(
    ("format_", "value", "words"),
    [("otlp_json", GOOD_PROTO, "engine.format demands JSON"), ("otlp_proto", GOOD, "engine.format demands protobuf")],
)
def test_a_fixed_format_is_said_to_be_the_reason(format_, value, words):
    said = refusal(value, Settings(org_id="acme", format=format_))
    assert said[0] == "decode.utf8" or words in said[1]


@given(st.binary(max_size=300), st.sampled_from(sorted(CASES)), st.sampled_from(sorted(GENERAL)), st.data())
def test_any_bytes_and_any_refusal_are_diagnosed_without_an_error(data, name, reason, draw):
    known = CASES[name][2]
    cut = draw.draw(st.integers(0, len(known)))
    detail = draw.draw(
        st.sampled_from(["", "(byte 3)", "JSON is malformed: trailing characters (byte 12)", "(byte 99999)"])
    )
    for value in (data, known[:cut] + data, known[cut:], known[: min(cut, 24)] + data):
        said = diagnose(value, DecodeError(reason, detail))
        assert said.reason in GENERAL | NAMED
        assert len(said.detail) < 300


@given(strategies.bundles(), st.integers(0, 2**32))
def test_metrics_that_are_cut_keep_their_name(bundle, seed):
    rng = random.Random(seed)
    for whole in (bundle.SerializeToString(), strategies.to_otlp_json(bundle, rng)):
        cut = whole[: rng.randrange(len(whole) + 1)]
        try:
            Engine(ACME).fan_out(record(cut))
        except DecodeError as refused:
            assert refused.reason not in NAMED, (refused, cut)  # noqa: PT017 - many are no error at all


def test_a_large_value_is_diagnosed_in_bounded_time():
    import time

    for value in (
        b"\n" + bytes(8_000_000),
        b"\x0a\x00" * 4_000_000,
        b'"' + b"A" * 8_000_000 + b'"',
        b"{" * 8_000_000,
        b"78" * 4_000_000,
        field(1, field(2, field(2, b"\x0a\x01x") * 1_000_000)),
    ):
        for reason in ("decode.json", "decode.utf8", "decode.protobuf"):
            began = time.process_time()
            diagnose(value, DecodeError(reason, "JSON is malformed (byte 7)"))
            assert time.process_time() - began < 2
