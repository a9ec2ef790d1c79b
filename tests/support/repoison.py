"""Write tests/corpus/poison: payloads that are no bundle, and poison.json: file -> the reason they are refused for.

    python tests/support/repoison.py

The reasons are written here by hand; the tests hold both the oracle and the engine to them.
"""

import base64
import bz2
import gzip
import json
import lzma
import zlib
from pathlib import Path

from support.wire import varint

POISON = Path(__file__).parents[1] / "corpus" / "poison"
TIME = '"timeUnixNano":"1715263558360000000"'
POINT = f'{{{TIME},"asDouble":1}}'


def metrics(text: str) -> bytes:
    """A bundle with these metrics, as JSON text."""
    return f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{text}]}}]}}]}}'.encode()


def zstd(data: bytes) -> bytes:
    """A zstd frame of one raw block (RFC 8878 section 3.1.1), the same with every version of every library."""
    header = (
        b"\x28\xb5\x2f\xfd\x60" + (len(data) - 256).to_bytes(2, "little")
        if len(data) > 255
        else (b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]))
    )
    return header + (len(data) << 3 | 1).to_bytes(3, "little") + data


def gauge(points: str = POINT, more: str = '"name":"CpuUsage"') -> bytes:
    """A bundle with one gauge of these data points."""
    return metrics(f'{{{more},"gauge":{{"dataPoints":[{points}]}}}}')


def resource(attributes: str) -> bytes:
    """A bundle with a resource of these attributes."""
    return f'{{"resourceMetrics":[{{"resource":{{"attributes":{attributes}}},"scopeMetrics":[]}}]}}'.encode()


def nested(depth: int, opens: str = '{"arrayValue":{"values":[', closes: str = "]}}") -> str:
    """An AnyValue of so many containers."""
    return opens * depth + '{"stringValue":"x"}' + closes * depth


MAP = ('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}")


def attribute(value: str, key: str = "a") -> str:
    return f'[{{"key":"{key}","value":{value}}}]'


def field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def proto_metric(metric: bytes) -> bytes:
    """A protobuf bundle with one metric."""
    return field(1, field(2, field(2, metric)))


def proto_resource(body: bytes) -> bytes:
    """A protobuf bundle with one resource, its scope metrics missing."""
    return field(1, field(1, body))


def proto_point(*more: bytes) -> bytes:
    """A protobuf number point at a good time, with a value."""
    return b"\x19" + (1_715_263_558_360_000_000).to_bytes(8, "little") + b"\x21" + bytes(8) + b"".join(more)


def proto_gauge(point: bytes) -> bytes:
    return proto_metric(field(1, b"CpuUsage") + field(5, field(1, point)))


def proto_nested(depth: int, kind: int = 5) -> bytes:
    """A protobuf AnyValue of so many lists (5) or maps (6)."""
    value = field(1, b"x")
    for _ in range(depth):
        value = field(5, field(1, value)) if kind == 5 else field(6, field(1, field(1, b"k") + field(2, value)))
    return value


def proto_attribute(value: bytes, key: bytes = b"a") -> bytes:
    return field(1, key) + field(2, value)


HALF_PAIR = attribute('{"stringValue":"\\ud83d"}')
GOOD = gauge()
GOOD_PROTO = proto_gauge(proto_point())
ENTITY = field(3, field(1, b"https://example.com") + field(2, b"\xff"))
TRACES = bytes.fromhex(
    "0a27122512230a105b8efff798038103d269b633813fc60c1208eee19b7ec3c1b1742a05474554202f"
)  # one span, "GET /", as an exporter writes it
LOGS = bytes.fromhex(
    "0a2d122b122909006638541ed7cd1710112a1c321a0a180a036d736712110a0f6f72646572203137206661696c6564"
)  # one log record whose body is a map; as metrics it parses, too
SNAPPY_CHUNK = b"\x01\x08\x00\x00\x00\x00\x00\x00{}{}"
SPAN = field(1, b"\xff" * 16) + field(2, b"\xfe" * 8) + field(5, b"GET /")

FILES: dict[str, tuple[str, bytes]] = {
    # no text at all, or no text of ours
    "empty.bin": ("decode.empty", b""),
    "only_spaces.txt": ("decode.json", b" \r\n\t "),
    "not_json.txt": ("decode.json", b"hello, world"),
    "html.txt": ("decode.json", b"<html><body>502 Bad Gateway</body></html>"),
    "nuls.bin": ("decode.protobuf", bytes(64)),
    "bom.json": ("decode.encoding", b"\xef\xbb\xbf" + GOOD),
    "utf16_bom.json": ("decode.encoding", GOOD.decode().encode("utf-16")),
    "utf16_le.json": ("decode.encoding", GOOD.decode().encode("utf-16-le")),
    "utf16_be.json": ("decode.encoding", GOOD.decode().encode("utf-16-be")),
    "utf32_bom.json": ("decode.encoding", GOOD.decode().encode("utf-32")),
    "utf32_be.json": ("decode.encoding", GOOD.decode().encode("utf-32-be")),
    # JSON that is none
    "truncated.json": ("decode.json", GOOD[:-20]),
    "truncated_one_byte.json": ("decode.json", GOOD[:-1]),
    "one_brace.json": ("decode.json", b"{"),
    "two_documents.json": ("decode.framing", GOOD + GOOD),
    "ndjson.json": ("decode.framing", GOOD + b"\n" + GOOD + b"\n"),
    "trailing_nul.json": ("decode.json", GOOD + b"\x00"),
    "trailing_comma.json": ("decode.json", b'{"resourceMetrics":[],}'),
    "single_quotes.json": ("decode.json", b"{'resourceMetrics':[]}"),
    "comment.json": ("decode.json", b'{"resourceMetrics":[] /* none */}'),
    "nan_literal.json": ("decode.json", gauge(f'{{{TIME},"asDouble":NaN}}')),
    "infinity_literal.json": ("decode.json", gauge(f'{{{TIME},"asDouble":-Infinity}}')),
    "nan_in_unknown.json": ("decode.json", b'{"resourceMetrics":[],"x":NaN}'),
    "leading_zero.json": ("decode.json", gauge(f'{{{TIME},"asInt":007}}')),
    "bare_dot.json": ("decode.json", gauge(f'{{{TIME},"asDouble":1.}}')),
    "newline_in_name.json": ("decode.json", gauge(more='"name":"Cpu\nUsage"')),
    "bad_escape.json": ("decode.json", gauge(more='"name":"Cpu\\xUsage"')),
    "lone_surrogate_name.json": ("decode.json", gauge(more='"name":"\\ud800"')),
    "lone_surrogate_low.json": ("decode.json", gauge(more='"name":"\\udc00x"')),
    "lone_surrogate_attribute.json": ("decode.json", gauge(f'{{{TIME},"asInt":1,"attributes":{HALF_PAIR}}}')),
    "lone_surrogate_resource.json": ("decode.json", resource('[{"key":"\\ud800","value":{"stringValue":"x"}}]')),
    "lone_surrogate_unused.json": ("decode.json", gauge(more='"name":"x","description":"\\ud83ey"')),
    "lone_surrogate_unknown.json": ("decode.json", b'{"resourceMetrics":[{"later":{"\\udc00":1}}]}'),
    # UTF-8 that is none
    "utf8_name.json": ("decode.utf8", gauge().replace(b"CpuUsage", b"Cpu\xffUsage")),
    "utf8_unused.json": ("decode.utf8", gauge(more='"name":"x","description":"?"').replace(b"?", b"\xc3")),
    "utf8_unknown.json": ("decode.utf8", gauge(more='"name":"x","later":{"a":["?"]}').replace(b"?", b"\xe2\x82")),
    "utf8_key.json": ("decode.utf8", gauge(more='"name":"x","lat?er":1').replace(b"?", b"\xf0\x9f")),
    "utf8_attribute.json": ("decode.utf8", resource(attribute('{"stringValue":"?"}')).replace(b"?", b"\x80")),
    "utf8_overlong.json": ("decode.utf8", gauge().replace(b"CpuUsage", b"\xc0\xaf")),
    "utf8_surrogate.json": ("decode.utf8", gauge().replace(b"CpuUsage", b"\xed\xa0\x80")),
    "utf8_latin1.json": ("decode.utf8", gauge().replace(b"CpuUsage", "Größe".encode("latin-1"))),
    # another bundle
    "traces.json": ("decode.signal", b'{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}'),
    "logs.json": ("decode.signal", b'{"resourceLogs":[]}'),
    "snake_case.json": ("decode.top_level", b'{"resource_metrics":[]}'),
    "array.json": ("decode.framing", b"[" + GOOD + b"]"),
    "array_empty.json": ("decode.top_level", b"[]"),
    "string.json": ("decode.top_level", b'"resourceMetrics"'),
    "number.json": ("decode.top_level", b"12"),
    "null.json": ("decode.top_level", b"null"),
    "one_resource.json": ("decode.top_level", b'{"resource":{},"scopeMetrics":[]}'),
    "unknown_only.pb": ("decode.top_level", field(2, b"x")),
    # other signals
    "traces.pb": ("decode.signal", field(1, field(2, field(2, SPAN)))),
    "traces_of_an_exporter.pb": ("decode.signal", TRACES),
    "logs.pb": ("decode.signal", LOGS),
    # nothing understood
    "instrumentation_library.json": (
        "decode.not_understood",  # OTLP/JSON before 0.15
        f'{{"resourceMetrics":[{{"instrumentationLibraryMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{POINT}]}}}}]}}]}}]}}'.encode(),
    ),
    "instrumentation_library.pb": ("decode.not_understood", field(1, field(1000, b"x"))),
    "snake_case_scopes.json": ("decode.not_understood", b'{"resourceMetrics":[{"scope_metrics":[{"metrics":[]}]}]}'),
    "snake_case_points.json": ("decode.not_understood", metrics(f'{{"name":"g","gauge":{{"data_points":[{POINT}]}}}}')),
    "int_gauge.json": ("decode.not_understood", metrics(f'{{"name":"g","intGauge":{{"dataPoints":[{POINT}]}}}}')),
    "int_gauge.pb": ("decode.not_understood", proto_metric(field(1, b"g") + field(4, field(1, proto_point())))),
    "unknown_beside.json": ("decode.not_understood", b'{"resourceMetrics":[],"metrics":[]}'),
    "bare_metric.pb": ("decode.top_level", field(1, b"") + field(5, field(1, proto_point()))),
    "attribute_without_value.json": ("decode.not_understood", resource('[{"key":"host","stringValue":"a"}]')),
    # another compression than gzip and zstd
    "deflated.zlib": ("decode.compression", zlib.compress(GOOD)),
    "packed.bz2": ("decode.compression", bz2.compress(GOOD)),
    "packed.xz": ("decode.compression", lzma.compress(GOOD)),
    "snappy_framed.bin": ("decode.compression", b"\xff\x06\x00\x00sNaPpY" + SNAPPY_CHUNK),
    "snappy_java.bin": ("decode.compression", b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01" + SNAPPY_CHUNK),
    "lz4_frame.bin": ("decode.compression", b"\x04\x22\x4d\x18\x60\x40\x82" + bytes(4)),
    # a bundle inside something else
    "confluent.json": ("decode.framing", b"\x00\x00\x00\x00\x07" + GOOD),
    "confluent.pb": ("decode.framing", b"\x00\x00\x00\x00\x07\x00" + GOOD_PROTO),
    "apicurio.pb": ("decode.framing", bytes(8) + b"\x07" + GOOD_PROTO),
    "glue.json": ("decode.framing", b"\x03\x00" + bytes(range(16)) + GOOD),
    "grpc.pb": ("decode.framing", b"\x00" + len(GOOD_PROTO).to_bytes(4, "big") + GOOD_PROTO),
    "avro.bin": ("decode.framing", b"Obj\x01\x04\x16avro.schema\x04{}" + bytes(20)),
    "base64.txt": ("decode.framing", base64.b64encode(GOOD_PROTO)),
    "base64_of_json.txt": ("decode.framing", base64.b64encode(GOOD) + b"\n"),
    "hex.txt": ("decode.framing", GOOD_PROTO.hex().encode()),
    "json_in_a_string.json": ("decode.framing", json.dumps(GOOD.decode()).encode()),
    "base64_in_a_string.json": ("decode.framing", json.dumps(base64.b64encode(GOOD_PROTO).decode()).encode()),
    # another signal, or a bundle inside something else
    "traces_cut.json": ("decode.signal", b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"GET'),
    "profiles.json": ("decode.signal", b'{"resourceProfiles":[],"dictionary":{}}'),
    # The example trace of opentelemetry-proto in protobuf, shortened: contrib #31679, grafana/alloy #644.
    "traces_example.pb": (
        "decode.signal",
        bytes.fromhex("0a27122512230a105b8efff798038103d269b633813fc60c1208eee19b7ec3c1b1742a05474554202f"),
    ),
    "delimited.pb": ("decode.framing", varint(len(GOOD_PROTO)) + GOOD_PROTO),
    "file_exporter.pb": ("decode.framing", len(GOOD_PROTO).to_bytes(4, "big") + GOOD_PROTO),
    "java_string.bin": ("decode.framing", b"\xac\xed\x00\x05t" + len(GOOD).to_bytes(2, "big") + GOOD),
    "in_a_string.json": ("decode.framing", json.dumps(GOOD.decode()).encode()),
    "rfc7464.json": ("decode.framing", b"\x1e" + GOOD + b"\n"),
    "bare_resource.pb": ("decode.top_level", GOOD_PROTO[2:]),
    # wrong types above the data points
    "type_resource_metrics.json": ("decode.type", b'{"resourceMetrics":{}}'),
    "type_resource_metrics_number.json": ("decode.type", b'{"resourceMetrics":[7]}'),
    "type_resource.json": ("decode.type", b'{"resourceMetrics":[{"resource":[]}]}'),
    "type_attributes.json": ("decode.type", resource('{"a":"b"}')),
    "type_attribute_key.json": ("decode.type", resource('[{"key":7,"value":{"stringValue":"x"}}]')),
    "type_attribute_value.json": ("decode.type", resource(attribute('"x"'))),
    "type_attribute_two.json": ("decode.type", resource(attribute('{"stringValue":"x","intValue":1}'))),
    "type_attribute_string.json": ("decode.type", resource(attribute('{"stringValue":7}'))),
    "type_attribute_int.json": ("decode.type", resource(attribute('{"intValue":"seven"}'))),
    "type_attribute_int_2_63.json": ("decode.type", resource(attribute('{"intValue":"9223372036854775808"}'))),
    "type_attribute_bool.json": ("decode.type", resource(attribute('{"boolValue":"true"}'))),
    "type_attribute_bytes.json": ("decode.type", resource(attribute('{"bytesValue":"%%"}'))),
    "type_attribute_array.json": ("decode.type", resource(attribute('{"arrayValue":[]}'))),
    "type_attribute_kvlist.json": ("decode.type", resource(attribute('{"kvlistValue":{"values":[{"key":1}]}}'))),
    "type_scope.json": ("decode.type", b'{"resourceMetrics":[{"scopeMetrics":[{"scope":"x"}]}]}'),
    "type_scope_name.json": ("decode.type", b'{"resourceMetrics":[{"scopeMetrics":[{"scope":{"name":1}}]}]}'),
    "type_metrics.json": ("decode.type", b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":{}}]}]}'),
    "type_metric.json": ("decode.type", metrics('"x"')),
    "type_name.json": ("decode.type", metrics('{"name":7}')),
    "type_unit.json": ("decode.type", metrics('{"unit":{},"gauge":{}}')),
    "type_null_resource.json": ("decode.type", b'{"resourceMetrics":[null]}'),
    "type_points_number.json": ("decode.type", metrics('{"x":1,"gauge":{"dataPoints":5}}')),
    "type_two_kinds.json": ("decode.type", metrics('{"gauge":{},"sum":{}}')),
    "type_gauge.json": ("decode.type", metrics('{"gauge":[]}')),
    "type_points.json": ("decode.type", metrics('{"gauge":{"dataPoints":{}}}')),
    "type_temporality_name.json": ("decode.type", metrics('{"sum":{"aggregationTemporality":"DELTA"}}')),
    "type_temporality_bool.json": ("decode.type", metrics('{"sum":{"aggregationTemporality":true}}')),
    "type_monotonic.json": ("decode.type", metrics('{"sum":{"isMonotonic":"true"}}')),
    # too deep
    "depth_resource.json": ("limits.depth", resource(attribute(nested(48)))),
    "depth_resource_map.json": ("limits.depth", resource(attribute(nested(48, *MAP)))),
    "depth_scope.json": (
        "limits.depth",
        f'{{"resourceMetrics":[{{"scopeMetrics":[{{"scope":{{"attributes":{attribute(nested(60))}}}}}]}}]}}'.encode(),
    ),
    "depth_resource.pb": ("limits.depth", proto_resource(field(1, proto_attribute(proto_nested(48))))),
    "depth_resource_map.pb": ("limits.depth", proto_resource(field(1, proto_attribute(proto_nested(48, 6))))),
    # protobuf that is none
    "truncated.pb": ("decode.protobuf", GOOD_PROTO[:-5]),
    "length_past_end.pb": ("decode.protobuf", b"\x0a\x7f\x00"),
    "length_of_4_gib.pb": ("decode.protobuf", b"\x0a\xff\xff\xff\xff\x0f"),
    "length_negative.pb": ("decode.protobuf", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    "tag_zero.pb": ("decode.protobuf", GOOD_PROTO + b"\x02\x00"),
    "wire_type_six.pb": ("decode.protobuf", GOOD_PROTO + b"\x16\x00"),
    "wire_type_seven.pb": ("decode.protobuf", GOOD_PROTO + b"\x17\x00"),
    "wire_type_six_in_point.pb": ("decode.protobuf", proto_gauge(proto_point(b"\x4e\x00"))),
    "varint_eleven_bytes.pb": ("decode.protobuf", GOOD_PROTO + b"\x10" + b"\x80" * 10 + b"\x01"),
    "varint_unfinished.pb": ("decode.protobuf", GOOD_PROTO + b"\x10\x80"),
    "varint_in_point.pb": ("decode.protobuf", proto_gauge(proto_point(b"\x40" + b"\x80" * 10 + b"\x01"))),
    "group_open.pb": ("decode.protobuf", GOOD_PROTO + b"\x53\x08\x01"),
    "group_end_only.pb": ("decode.protobuf", GOOD_PROTO + b"\x54"),
    "group_other_end.pb": ("decode.protobuf", GOOD_PROTO + b"\x53\x5c"),
    "group_in_point_open.pb": ("decode.protobuf", proto_gauge(proto_point(b"\x53"))),
    "groups_200_deep.pb": ("decode.protobuf", GOOD_PROTO + b"\x53" * 200 + b"\x54" * 200),
    "packed_odd_length.pb": (
        "decode.protobuf",
        proto_metric(field(9, field(1, b"\x19" + bytes(8) + field(6, bytes(7))))),
    ),
    "fixed64_cut.pb": ("decode.protobuf", proto_gauge(b"\x19" + bytes(4))),
    "attribute_cut.pb": ("decode.protobuf", proto_gauge(proto_point(field(7, b"\x0a\x05ab")))),
    # UTF-8 in protobuf strings, used or not
    "utf8_name.pb": ("decode.utf8", proto_metric(field(1, b"Cpu\xff"))),
    "utf8_unit.pb": ("decode.utf8", proto_metric(field(3, b"\xff"))),
    "utf8_description.pb": ("decode.utf8", proto_metric(field(2, b"\xc3"))),
    "utf8_metadata.pb": ("decode.utf8", proto_metric(field(12, proto_attribute(field(1, b"\xff"))))),
    "utf8_schema_url.pb": ("decode.utf8", field(1, field(3, b"\xff"))),
    "utf8_scope_schema_url.pb": ("decode.utf8", field(1, field(2, field(3, b"\xff")))),
    "utf8_scope_version.pb": ("decode.utf8", field(1, field(2, field(1, field(2, b"\xff"))))),
    "utf8_entity_ref.pb": ("decode.utf8", proto_resource(ENTITY)),
    "utf8_key.pb": ("decode.utf8", proto_resource(field(1, proto_attribute(field(1, b"x"), b"\xff")))),
    "utf8_value.pb": ("decode.utf8", proto_resource(field(1, proto_attribute(field(1, b"\xed\xa0\x80"))))),
    "utf8_point_value.pb": ("decode.utf8", proto_gauge(proto_point(field(7, proto_attribute(field(1, b"\xff")))))),
    "utf8_map_key.pb": (
        "decode.utf8",
        proto_resource(field(1, proto_attribute(field(6, field(1, proto_attribute(field(1, b"x"), b"\xff")))))),
    ),
    "utf8_exemplar.pb": (
        "decode.utf8",
        proto_gauge(proto_point(field(5, field(7, proto_attribute(field(1, b"\xff")))))),
    ),
    # gzip
    "truncated.json.gz": ("decode.gzip", gzip.compress(GOOD, mtime=0)[:-9]),
    "header_only.gz": ("decode.gzip", b"\x1f\x8b"),
    "checksum.json.gz": ("decode.gzip", gzip.compress(GOOD, mtime=0)[:-8] + bytes(8)),
    "flipped.json.gz": ("decode.gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 40),
    "trailing.json.gz": ("decode.gzip", gzip.compress(GOOD, mtime=0) + b"garbage"),
    "trailing_behind_nuls.json.gz": ("decode.gzip", gzip.compress(GOOD, mtime=0) + bytes(9) + b"ab"),
    "of_traces.gz": ("decode.signal", gzip.compress(TRACES, mtime=0)),
    "nested.json.gz": ("decode.gzip", gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0)),
    "of_nothing.gz": ("decode.empty", gzip.compress(b"", mtime=0)),
    "of_truncated_json.gz": ("decode.json", gzip.compress(GOOD[:-3], mtime=0)),
    "of_truncated_proto.gz": ("decode.protobuf", gzip.compress(GOOD_PROTO[:-3], mtime=0)),
    # zstd: written out, for another version of the library may compress otherwise
    "truncated.zst": ("decode.gzip", zstd(GOOD)[:-1]),
    "header_only.zst": ("decode.gzip", b"\x28\xb5\x2f\xfd"),
    "flipped.zst": ("decode.gzip", b"\x28\xb5\x2f\xfd" + b"\xff" * 40),
    "trailing.zst": ("decode.gzip", zstd(GOOD) + b"garbage"),
    "nested.zst": ("decode.gzip", zstd(zstd(GOOD))),
    "gzip_in.zst": ("decode.gzip", zstd(gzip.compress(GOOD, mtime=0))),
    "of_nothing.zst": ("decode.empty", zstd(b"")),
    "skippable_only.zst": ("decode.empty", b"\x5f\x2a\x4d\x18\x04\x00\x00\x00skip"),
    "of_truncated_json.zst": ("decode.json", zstd(GOOD[:-3])),
    "of_utf16.gz": ("decode.encoding", gzip.compress(GOOD.decode().encode("utf-16"), mtime=0)),
}


def manifest() -> bytes:
    reasons = {name: reason for name, (reason, _) in FILES.items()}
    return (json.dumps(reasons, indent=1, sort_keys=True) + "\n").encode()


def main() -> None:
    POISON.mkdir(parents=True, exist_ok=True)
    for old in POISON.iterdir():
        old.unlink()
    for name, (_, payload) in FILES.items():
        (POISON / name).write_bytes(payload)
    (POISON / "poison.json").write_bytes(manifest())


if __name__ == "__main__":
    main()
