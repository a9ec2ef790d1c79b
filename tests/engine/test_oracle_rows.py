"""Rows of every kind and what stands around the points: histograms, epochs, nulls, attribute values, device, organization."""

import json

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from lmstream import Engine, Settings
from lmstream.errors import DecodeError
from support import repoison
from support.judging import ACME, SKIPPED, agree, judged, lines_of, record
from support.repoison import GOOD, TIME, gauge, metrics, resource

DIGITS = "9" * 1000

HISTOGRAM = {
    "good": ('"count":"6","sum":9,"min":1,"max":4,"bucketCounts":["1",5],"explicitBounds":[2]', None),
    "no buckets": ('"count":6', None),
    "one bucket": ('"count":6,"bucketCounts":[6]', None),
    "nothing": ("", None),
    "too few counts": ('"count":6,"bucketCounts":[6],"explicitBounds":[1]', "point.shape"),
    "counts without bounds": ('"count":6,"bucketCounts":[3,3]', "point.shape"),
    "bounds without counts": ('"count":6,"explicitBounds":[1]', "point.shape"),
    "count above int64": ('"count":"9223372036854775808"', "value.range"),
    "count below nought": ('"count":-1', "value.range"),
    "bucket above int64": ('"bucketCounts":["18446744073709551615"]', "value.range"),
    "count of 1000 digits": (f'"count":{DIGITS}', "value.range"),
    "last bound infinite, a count too many": ('"bucketCounts":[1,2,3],"explicitBounds":["Infinity"]', "point.shape"),
    "last bound infinite, no counts": ('"explicitBounds":["Infinity"]', "point.shape"),
    "two bounds infinite": ('"bucketCounts":[1,2,3],"explicitBounds":["Infinity","Infinity"]', "point.shape"),
    "last bound minus infinity": ('"bucketCounts":[1,2],"explicitBounds":["-Infinity"]', "point.shape"),
    "first of two bounds infinite": ('"bucketCounts":[1,2,3],"explicitBounds":["Infinity",9]', "point.shape"),
    "bound NaN": ('"bucketCounts":[1,2],"explicitBounds":["NaN"]', "point.shape"),
    "bound NaN before an infinite one": ('"bucketCounts":[1,2,3],"explicitBounds":["NaN","Infinity"]', "point.shape"),
    "bound 1e400": ('"bucketCounts":[1,2],"explicitBounds":[1e400]', "value.range"),
    "the last two counts above int64": (
        '"bucketCounts":["9223372036854775807","1"],"explicitBounds":["Infinity"]',
        "value.range",
    ),
    "no recorded value": ('"flags":1,"count":-1', "flags.no_value"),
    "count of a wrong type": ('"count":"six"', "point.type"),
    "bounds of a wrong type": ('"explicitBounds":{}', "point.type"),
    "bound of a wrong type": ('"explicitBounds":["one"]', "point.type"),
    "sum of minus nought": ('"count":1,"sum":-0.0', None),
}

EXPONENTIAL = {
    "good": (
        '"count":9,"scale":-3,"zeroCount":"2","zeroThreshold":0.5,"positive":{"offset":1,"bucketCounts":["7"]}',
        None,
    ),
    "nothing": ("", None),
    "empty sides": ('"positive":{},"negative":{"offset":-7}', None),
    "null sides": ('"positive":null,"negative":null', None),
    "zero count above int64": ('"zeroCount":"9223372036854775808"', "value.range"),
    "side above int64": ('"positive":{"bucketCounts":["9223372036854775808"]}', "value.range"),
    "scale above int32": ('"scale":2147483648', "value.range"),
    "threshold of minus nought": ('"zeroThreshold":-0.0', None),
    "side of a wrong type": ('"positive":[]', "point.type"),
    "offset of a wrong type": ('"positive":{"offset":"x"}', "point.type"),
}

SUMMARY = {
    "good": ('"count":"2","sum":3,"quantileValues":[{"quantile":0.5,"value":1},{"quantile":1,"value":2}]', None),
    "nothing": ("", None),
    "empty quantile": ('"quantileValues":[{}]', None),
    "sum of minus nought": ('"sum":-0.0', None),
    "quantile value of minus nought": ('"quantileValues":[{"value":-0.0}]', None),
    "count above int64": ('"count":"9223372036854775808"', "value.range"),
}

TABLES = {"histogram": HISTOGRAM, "exponentialHistogram": EXPONENTIAL, "summary": SUMMARY}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table])
def test_a_point_of_another_kind_becomes_a_row_or_its_reason(kind, name):
    members, wanted = TABLES[kind][name]
    point = f"{{{TIME}{',' if members else ''}{members}}}"
    payload = metrics(f'{{"name":"m","{kind}":{{"dataPoints":[{point}]}}}}')
    out = Engine(ACME).fan_out(record(payload))
    if wanted is None:
        assert (out.rows, out.skipped, out.rejected) == (1, {}, ())
    elif wanted in SKIPPED:
        assert (out.rows, out.skipped, out.rejected) == (0, {wanted: 1}, ())
    else:
        assert (out.rows, out.skipped, out.rejected) == (0, {}, ((0, wanted),))
    agree(record(payload))


EPOCHS = {
    '{"stringValue":"1715263558360"}': 1_715_263_558_360,
    '{"intValue":"1715263558360"}': 1_715_263_558_360,
    '{"intValue":1715263558360}': 1_715_263_558_360,
    '{"stringValue":"1715263558"}': "time.range",
    '{"stringValue":"-5"}': "time.range",
    '{"stringValue":"1715263558360000000000000"}': "time.range",
    '{"doubleValue":1715263558360}': "time.missing",
    '{"stringValue":"1715263558360.0"}': "time.missing",
    '{"stringValue":" 1715263558360"}': "time.missing",
    '{"stringValue":"1_715_263_558_360"}': "time.missing",
    '{"stringValue":"١٧١٥٢٦٣٥٥٨٣٦٠"}': "time.missing",
    '{"stringValue":"soon"}': "time.missing",
    '{"stringValue":""}': "time.missing",
    '{"boolValue":true}': "time.missing",
    "{}": "time.missing",
}


@pytest.mark.parametrize("value", EPOCHS)
def test_the_scope_attribute_epoch_stands_in_for_a_missing_time(value):
    wanted = EPOCHS[value]
    scope = f'{{"name":"s","attributes":[{{"key":"epoch","value":{{"stringValue":"x"}}}},{{"key":"epoch","value":{value}}}]}}'
    points = f'{{"asInt":1}},{{{TIME.replace("360", "361")},"asInt":2}}'
    payload = (
        f'{{"resourceMetrics":[{{"scopeMetrics":[{{"scope":{scope},"metrics":'
        f'[{{"name":"m","gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}'
    ).encode()
    out = Engine(ACME).fan_out(record(payload))
    times = [row["tsUnixMs"] for row in lines_of(out.ndjson())]
    assert times == ([wanted] if isinstance(wanted, int) else []) + [1_715_263_558_361]
    assert out.skipped == {}
    assert out.rejected == (((0, wanted),) if isinstance(wanted, str) else ())
    agree(record(payload))


@pytest.mark.parametrize(
    ("members", "temporality", "noted"),
    [
        ('"aggregationTemporality":1', "delta", ""),
        ('"aggregationTemporality":2', "cumulative", ""),
        ('"aggregationTemporality":0', "unspecified", ""),
        ('"aggregationTemporality":9', "unspecified", "enum.unknown"),
        ('"aggregationTemporality":-1', "unspecified", "enum.unknown"),
        ('"aggregationTemporality":9223372036854775808', "unspecified", "enum.unknown"),
        ('"aggregationTemporality":1e30', "unspecified", "enum.unknown"),
        ('"aggregationTemporality":2.0', "cumulative", ""),
        ('"aggregationTemporality":null', "unspecified", ""),
        ('"x":1', "unspecified", ""),
        ('"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA"', "delta", "enum.name"),
        ('"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE"', "cumulative", "enum.name"),
        ('"aggregationTemporality":"AGGREGATION_TEMPORALITY_UNSPECIFIED"', "unspecified", "enum.name"),
    ],
)
@pytest.mark.parametrize("kind", ["sum", "histogram", "exponentialHistogram"])
def test_temporality_is_always_said_and_names_are_counted(kind, members, temporality, noted):
    payload = metrics(f'{{"name":"m","{kind}":{{{members},"dataPoints":[{{{TIME},"asInt":1}},{{{TIME},"asInt":1}}]}}}}')
    out = Engine(ACME).fan_out(record(payload))
    assert [row["temporality"] for row in lines_of(out.ndjson())] == [temporality] * 2
    assert [(reason, times) for reason, times in out.noted.items() if "enum" in reason] == (
        [(noted, 1)] if noted else []
    )
    agree(record(payload))


ANY = [
    '{"stringValue":""}',
    '{"stringValue":"7"}',
    '{"stringValue":null}',
    '{"boolValue":false}',
    '{"intValue":"-9223372036854775808"}',
    '{"intValue":1e3}',
    '{"doubleValue":1e16}',
    '{"doubleValue":7}',
    '{"doubleValue":-0.0}',
    '{"doubleValue":"NaN"}',
    '{"doubleValue":"-Infinity"}',
    '{"bytesValue":"AP8"}',
    '{"bytesValue":"-_8="}',
    '{"bytesValue":""}',
    '{"arrayValue":{}}',
    '{"arrayValue":null}',
    '{"arrayValue":{"values":[{},{"stringValue":"a\\"\\u00e9\\n"},{"doubleValue":"NaN"},{"bytesValue":"AP8="},{"boolValue":true}]}}',
    '{"kvlistValue":{"values":[{"key":"b"},{"key":"a","value":{"intValue":1}},{"key":"b","value":{"doubleValue":2}}]}}',
    '{"laterValue":1}',
    "{}",
    "null",
]
TEXTS = [
    "",
    "7",
    "",
    "false",
    "-9223372036854775808",
    "1000",
    "1e16",
    "7.0",
    "-0.0",
    "NaN",
    "-Infinity",
    "AP8=",
    "+/8=",
    "",
    "[]",
    "",
    '[null,"a\\"é\\n","NaN","AP8=",true]',
    '{"b":2.0,"a":1}',
    "",
    "",
    "",
]


def test_attribute_values_are_written_as_text_everywhere():
    pairs = ",".join(f'{{"key":"k{n}","value":{value}}}' for n, value in enumerate(ANY))
    exemplar = f'{{"asInt":1,"filteredAttributes":[{pairs}]}}'
    point = f'{{{TIME},"asInt":1,"attributes":[{pairs}],"exemplars":[{exemplar}]}}'
    payload = (
        f'{{"resourceMetrics":[{{"resource":{{"attributes":[{pairs}]}},"scopeMetrics":[{{"scope":{{"attributes":[{pairs}]}},'
        f'"metrics":[{{"name":"m","gauge":{{"dataPoints":[{point}]}}}}]}}]}}]}}'
    ).encode()
    [row] = lines_of(Engine(ACME).fan_out(record(payload)).ndjson())
    texts = {f"k{n}": text for n, text in enumerate(TEXTS)}
    assert row["attributes"] == row["resource"] == row["scope"] == row["exemplars"][0]["attributes"] == texts
    agree(record(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"resourceMetrics":null}',
        b'{"resourceMetrics":[{"resource":null,"scopeMetrics":null}]}',
        b'{"resourceMetrics":[{"resource":{"attributes":null},"scopeMetrics":[{"scope":null,"metrics":null}]}]}',
        metrics('{"name":null,"unit":null,"gauge":null,"sum":{"dataPoints":null,"isMonotonic":null}}'),
        metrics('{"gauge":{"dataPoints":[{"timeUnixNano":null,"startTimeUnixNano":null,"asInt":null,"flags":null}]}}'),
        metrics(
            f'{{"histogram":{{"dataPoints":[{{{TIME},"bucketCounts":null,"explicitBounds":null,"count":null}}]}}}}'
        ),
        metrics(f'{{"summary":{{"dataPoints":[{{{TIME},"quantileValues":null,"attributes":null,"sum":null}}]}}}}'),
        metrics(f'{{"exponentialHistogram":{{"dataPoints":[{{{TIME},"scale":null,"zeroThreshold":null}}]}}}}'),
        metrics(
            f'{{"exponentialHistogram":{{"dataPoints":[{{{TIME},"positive":{{"bucketCounts":null,"offset":null}}}}]}}}}'
        ),
        resource('[{"key":null,"value":null}]'),
        resource(
            '[{"key":"a","value":{"arrayValue":{"values":null}}},{"key":"b","value":{"kvlistValue":{"values":null}}}]'
        ),
        gauge(f'{{{TIME},"asInt":1,"exemplars":[{{"asInt":1,"timeUnixNano":null,"traceId":null,"spanId":null}}]}}'),
    ],
)
def test_a_null_stands_for_the_default_of_a_field(payload):
    assert isinstance(agree(record(payload)), bytes)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"resourceMetrics":[null]}',
        b'{"resourceMetrics":[{"scopeMetrics":[null]}]}',
        metrics("null"),
        resource("[null]"),
        resource('[{"key":"a","value":{"arrayValue":{"values":[null]}}}]'),
        resource('[{"key":"a","value":{"kvlistValue":{"values":[null]}}}]'),
    ],
)
def test_a_null_is_no_element_of_an_array_and_refuses_a_bundle_without_points(payload):
    assert agree(record(payload)) == "decode.type"


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("histogram", '"bucketCounts":[null]'),
        ("histogram", '"explicitBounds":[null]'),
        ("exponentialHistogram", '"positive":{"bucketCounts":[null]}'),
    ],
)
def test_a_null_is_no_element_of_an_array_of_numbers(kind, members):
    payload = metrics(f'{{"name":"m","{kind}":{{"dataPoints":[{{{TIME},{members}}}]}}}}')
    assert Engine(ACME).fan_out(record(payload)).rejected == ((0, "point.type"),)
    agree(record(payload))


def test_an_empty_bundle_has_no_rows_and_a_tombstone_is_counted():
    for payload in (b"{}", b" {\n} ", b'{"resourceMetrics":[]}', b'{"resourceMetrics":null}'):
        assert agree(record(payload)) == b""
    out = Engine(ACME).fan_out(record(None))
    assert (out.rows, out.skipped, out.rejected, out.ndjson()) == (0, {"record.tombstone": 1}, (), b"")
    agree(record(None))


DEVICES = [
    ({"hostId": "1", "host.id": "2", "hostName": "n"}, "1", "n"),
    ({"host.id": "2", "service.instance.id": "3"}, "2", None),
    ({"hostId": "", "service.instance.id": "3", "hostName": "n"}, "3", "n"),
    ({"hostName": "n", "host.name": "m"}, "n", "n"),
    ({"hostName": "", "host.name": "m"}, "m", "m"),
    ({"service.name": "s"}, "s", None),
    ({"hostid": "1"}, "unknown", None),
]


@pytest.mark.parametrize(("attributes", "device", "name"), DEVICES)
def test_the_device_is_the_first_attribute_that_is_set(attributes, device, name):
    pairs = json.dumps([{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()])
    payload = GOOD.replace(b'"scopeMetrics"', b'"resource":{"attributes":' + pairs.encode() + b'},"scopeMetrics"')
    out = Engine(ACME).fan_out(record(payload))
    [row] = lines_of(out.ndjson())
    assert (row["deviceId"], row.get("deviceName")) == (device, name)
    assert ("device.unknown" in out.noted) == (device == "unknown")
    agree(record(payload))


ORGS = [
    (Settings(org_id="a"), "a"),
    (Settings(org_id="a", org_by_topic={"lm.metrics.otlp": "b"}), "b"),
    (Settings(org_id="a", org_by_topic={"other": "b"}), "a"),
    (Settings(org_attributes=("none", "empty", "tenant", "hostId")), "7"),
    (Settings(org_id="a", org_attributes=("tenant",)), "a"),
    (Settings(org_attributes=("none", "empty")), None),
    (Settings(), None),
    (Settings(org_id="../../etc"), "../../etc"),
]


@pytest.mark.parametrize(("settings", "org"), ORGS)
def test_the_organization_comes_from_topic_setting_or_resource(settings, org):
    pairs = (
        b'[{"key":"empty","value":{"stringValue":""}},{"key":"tenant","value":{"intValue":7}},'
        b'{"key":"hostId","value":{"stringValue":"h"}}]'
    )
    payload = GOOD.replace(b'"scopeMetrics"', b'"resource":{"attributes":' + pairs + b'},"scopeMetrics"')
    out = Engine(settings).fan_out(record(payload))
    assert [row["orgId"] for row in lines_of(out.ndjson())] == ([org] if org else [])
    assert out.rejected == (() if org else ((0, "org.unresolved"),))
    agree(record(payload), settings)


EXEMPLARS = {
    "without a value": ("{}", repoison.field(5, b"")),
    "NaN": ('{"asDouble":"NaN"}', repoison.field(5, b"\x19" + bytes(6) + b"\xf8\x7f")),
    "good": ('{"asInt":1}', repoison.field(5, b"\x31\x01" + bytes(7))),
    "of a wrong type": ('{"asInt":"x"}', None),
    "that is none": ("7", None),
}


@pytest.mark.parametrize("name", EXEMPLARS)
@pytest.mark.parametrize("wanted", [True, False])
def test_exemplars_may_be_left_out_and_are_judged_alike_in_both_formats(name, wanted):
    text, wire = EXEMPLARS[name]
    settings = Settings(org_id="acme", exemplars=wanted)
    rec = record(gauge(f'{{{TIME},"asDouble":0,"exemplars":[{text}]}}'))
    lines = agree(rec, settings)
    assert (b'"exemplars"' in lines) == (wanted and name == "good")
    left_out = sum(times for reason, times in judged(rec, settings).noted.items() if reason.startswith("part."))
    assert left_out == (wanted and name != "good")
    if wire is not None:
        assert agree(record(repoison.proto_gauge(repoison.proto_point(wire))), settings) == lines


EMPTY = {
    "no metrics": ("", {"bundle.empty": 1}),
    "no data": ('{"name":"a"},{"name":"b","gauge":{}}', {"metric.empty": 2, "bundle.empty": 1}),
    "no points": ('{"sum":{"dataPoints":[]}},{"summary":{"dataPoints":null}}', {"metric.empty": 2, "bundle.empty": 1}),
    "some points": (f'{{"gauge":{{"dataPoints":[{{{TIME},"asInt":"1"}}]}}}},{{"sum":{{}}}}', {"metric.empty": 1}),
}


@pytest.mark.parametrize(("text", "noted"), EMPTY.values(), ids=EMPTY)
def test_what_holds_no_points_is_noted(text: str, noted: dict[str, int]) -> None:
    of_json = metrics(text)
    of_proto = ParseDict(json.loads(of_json), ExportMetricsServiceRequest()).SerializeToString()
    for payload in (of_json, of_proto):
        out = Engine(ACME).fan_out(record(payload))
        assert {reason: n for reason, n in out.noted.items() if reason.endswith(".empty")} == noted
        agree(record(payload), ACME)


def test_points_under_a_name_that_otlp_has_not_are_refused_by_that_name() -> None:
    rec = record(metrics(f'{{"gauge":{{"data_points":[{{{TIME},"asInt":"1"}}]}}}}'))
    with pytest.raises(DecodeError, match="data_points") as caught:
        Engine(ACME).fan_out(rec)
    assert caught.value.reason == "decode.not_understood"
    agree(rec, ACME)


@pytest.mark.parametrize("value", ['"asDouble":"NaN"', '"asInt":"1","asDouble":2', '"flags":1'])
def test_the_reason_of_a_value_stands_before_that_of_a_missing_organization(value):
    point = f"{{{TIME},{value}}}"
    payload = f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{point}]}}}}]}}]}}]}}'
    assert agree(record(payload.encode()), Settings()) == b""
    ((_, reason),) = Engine(Settings()).fan_out(record(payload.encode())).rejected or [(0, "flags.no_value")]
    assert reason != "org.unresolved"
