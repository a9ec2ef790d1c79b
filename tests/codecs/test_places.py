"""What is said of a point that makes no row: metric, path, member and what was seen; and the names that OTLP knows."""

import contextlib
import json
import struct

import pytest
from google.protobuf.descriptor import Descriptor
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from lmstream import Engine, Settings
from lmstream.codecs import json_names, json_unknown
from lmstream.errors import DecodeError
from lmstream.model import DeadLetter
from support import otlp
from support.judging import record

T = "1715263558360000000"
HERE = "$.resourceMetrics[0].scopeMetrics[0].metrics[0]"


def bundle(*metrics, resource=None):
    return json.dumps(otlp.bundle(*metrics, resource=resource)).encode()


def why(payload, settings=None):
    out = Engine(settings or Settings(org_id="acme")).fan_out(record(payload))
    return {reason: out.why(ordinal) for ordinal, reason in out.rejected}


@pytest.mark.parametrize(
    ("point", "reason", "said"),
    [
        ({"timeUnixNano": T, "asInt": 5.5}, "point.type", "asInt: Expected int, got float, saw 5.5"),
        ({"timeUnixNano": T, "asInt": "x"}, "point.type", 'asInt: Expected int, got str, saw "x"'),
        ({"timeUnixNano": "2024-05-09T14:05:58Z", "asInt": 5}, "point.type", "timeUnixNano: Expected int, got str"),
        ({"timeUnixNano": T, "asInt": 5, "flags": "x"}, "point.type", 'flags: Expected int, got str, saw "x"'),
        (
            {"timeUnixNano": T, "asInt": 5, "attributes": [{"key": "a", "value": {"intValue": "x"}}]},
            "point.type",
            'attributes[0] (key \'a\'): Expected int, got str, saw {"key": "a"',
        ),
        (5, "point.type", "Expected object, got int, saw 5"),
        ({"time_unix_nano": T, "asInt": 5}, "time.missing", "no timeUnixNano, but 'time_unix_nano'"),
        ({"timeUnixNano": 0, "asInt": 5}, "time.missing", "timeUnixNano is 0"),
        ({"timeUnixNano": 1, "asInt": 5}, "time.range", "timeUnixNano is 1, in nanoseconds"),
        ({"timeUnixNano": T, "as_double": 5}, "value.missing", "no asInt and no asDouble, but 'as_double'"),
        ({"timeUnixNano": T, "asInt": 5, "asDouble": 6.5}, "value.two", "asInt 5 and asDouble 6.5"),
        ({"timeUnixNano": T, "asInt": str(2**63)}, "value.range", f'asInt "{2**63}"'),
        (
            {"timeUnixNano": T, "asInt": 5, "labels": [{"key": "host", "value": "a"}]},
            "point.labels",
            "labels: 'host' = 'a'",
        ),
        (
            {"timeUnixNano": T, "asInt": 5, "attributes": [{"key": str(n)} for n in range(1025)]},
            "limits.attributes",
            "attributes: 1,025 attributes",
        ),
    ],
)
def test_a_number_that_makes_no_row_is_named_by_metric_path_member_and_token(point, reason, said):
    told = why(bundle(otlp.metric({"timeUnixNano": T, "asInt": 1}, point)))
    assert list(told) == [reason]
    assert told[reason].startswith(f"metric 'cpu' at {HERE}.gauge.dataPoints[1]: {said}")


@pytest.mark.parametrize(
    ("kind", "members", "reason", "said"),
    [
        ("histogram", {"count": "x"}, "point.type", 'count: Expected int, got str, saw "x"'),
        (
            "histogram",
            {"bucketCounts": ["1", "x"], "explicitBounds": [1]},
            "point.type",
            "bucketCounts[1]: Expected int",
        ),
        ("histogram", {"bucketCounts": 5}, "point.type", "bucketCounts: Expected array | null, got int"),
        (
            "histogram",
            {"bucketCounts": [1], "explicitBounds": [1]},
            "point.shape",
            "1 bucketCounts and 1 explicitBounds",
        ),
        ("histogram", {"count": -1}, "value.range", "count -1"),
        (
            "exponentialHistogram",
            {"positive": {"bucketCounts": ["x"]}},
            "point.type",
            "positive.bucketCounts[0]: Expected",
        ),
        ("summary", {"count": {}}, "point.type", "count: Expected int, got object, saw {}"),
    ],
)
def test_a_distribution_that_makes_no_row_is_named_by_metric_path_member_and_token(kind, members, reason, said):
    told = why(bundle({"name": "lat", kind: {"dataPoints": [{"timeUnixNano": T} | members]}}))
    assert list(told) == [reason]
    assert told[reason].startswith(f"metric 'lat' at {HERE}.{kind}.dataPoints[0]: {said}")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (
            bundle(
                otlp.metric({"timeUnixNano": T, "asInt": 1}),
                {
                    "name": "d",
                    "sum": {"aggregationTemporality": "DELTA", "dataPoints": [{"timeUnixNano": T, "asInt": 1}]},
                },
            ),
            '$.resourceMetrics[0].scopeMetrics[0].metrics[1].sum.aggregationTemporality: "DELTA" is not a number of the enum',
        ),
        (
            bundle(otlp.metric({"timeUnixNano": T, "asInt": 1}, name=5), otlp.metric({"timeUnixNano": T, "asInt": 1})),
            f"{HERE}.name: Expected str | null, got int, saw 5",
        ),
        (
            bundle(
                otlp.metric({"timeUnixNano": T, "asInt": 1}),
                resource={"attributes": [{"key": "a", "value": {"boolValue": "yes"}}]},
            ),
            "$.resourceMetrics[0].resource.attributes[0] (key 'a'): Expected true or false, saw",
        ),
        (
            bundle(otlp.metric({"timeUnixNano": T, "asInt": 1}) | {"sum": {"dataPoints": [{}]}}),
            f"{HERE} is a gauge and a sum: a metric has one kind",
        ),
    ],
)
def test_a_bad_head_is_named_by_its_path(payload, said):
    assert said in why(payload)["decode.type"]


def test_a_part_without_ordinals_is_named_and_its_siblings_land():
    out = Engine(Settings(org_id="acme")).fan_out(
        record(bundle(otlp.metric({"timeUnixNano": T, "asInt": 1}), {"name": "x", "gauge": {"dataPoints": 5}}))
    )
    [part] = out.parts
    assert (out.rows, out.points, part.reason) == (1, 1, "decode.type")
    assert part.path == "$.resourceMetrics[0].scopeMetrics[0].metrics[1].gauge.dataPoints"
    assert part.detail == f"{part.path}: Expected array | null, got int, saw 5"


def test_long_names_and_tokens_are_cut():
    [told] = why(bundle(otlp.metric({"timeUnixNano": T, "asInt": "y" * 5000}, name="x" * 5000))).values()
    assert len(told) < 400


def test_points_past_the_tenth_are_told_when_asked_for():
    out = Engine(Settings(org_id="acme")).fan_out(
        record(bundle(otlp.metric(*({"timeUnixNano": T} for _ in range(40)))))
    )
    assert out.why(0).startswith(f"metric 'cpu' at {HERE}.gauge.dataPoints[0]: no asInt")
    assert out.why(39).startswith(f"metric 'cpu' at {HERE}.gauge.dataPoints[39]: no asInt")
    assert out.why(40) == "data point 40"


def test_protobuf_points_are_named_as_those_of_json():
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu")
    metric.gauge.data_points.add(time_unix_nano=int(T))
    metric.gauge.data_points.add(time_unix_nano=1, as_int=5)
    told = why(request.SerializeToString())
    assert told["value.missing"] == f"metric 'cpu' at {HERE}.gauge.dataPoints[0]: no asInt and no asDouble"
    assert told["time.range"] == f"metric 'cpu' at {HERE}.gauge.dataPoints[1]: timeUnixNano is 1, in nanoseconds"


def test_protobuf_points_of_another_message_are_named_by_their_fields():
    point = b"\x49" + struct.pack("<d", 1.5)  # field 9, eight bytes
    gauge_bytes = b"\x0a" + bytes([len(point)]) + point
    metric = b"\x0a\x03cpu\x2a" + bytes([len(gauge_bytes)]) + gauge_bytes
    scope = b"\x12" + bytes([len(metric)]) + metric
    resource = b"\x12" + bytes([len(scope)]) + scope
    told = why(b"\x0a" + bytes([len(resource)]) + resource)
    assert told == {"time.missing": f"metric 'cpu' at {HERE}.gauge.dataPoints[0]: no timeUnixNano, but field 9"}


def test_logs_that_pass_for_metrics_are_called_logs():
    request = logs_service_pb2.ExportLogsServiceRequest()
    log = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=int(T))
    log.body.string_value = "Hi"
    [told] = why(request.SerializeToString()).values()
    assert told.startswith("the record looks like logs in protobuf: send logs to a topic of their own; metric '' at $.")


def test_a_point_without_an_organization_is_named_too():
    told = why(bundle(otlp.metric({"timeUnixNano": T, "asInt": 1})), Settings())
    assert told == {"org.unresolved": f"metric 'cpu' at {HERE}.gauge.dataPoints[0]: no organization for the resource"}


# The names of OTLP


def messages() -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}

    def visit(message: Descriptor) -> None:
        if message.name not in found:
            found[message.name] = message
            for field in message.fields:
                if field.message_type is not None:
                    visit(field.message_type)

    visit(metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR)
    return found


def test_the_members_that_are_known_are_those_of_the_descriptors():
    every = messages()
    for name, members in json_unknown.MESSAGES.items():
        message = every["ExportMetricsServiceRequest" if name == "Request" else name]
        assert set(members) == {field.json_name for field in message.fields}, name
        for member, inner in members.items():
            field = next(field for field in message.fields if field.json_name == member)
            assert not inner or inner.strip("[]") == field.message_type.name
            assert inner.startswith("[") <= field.is_repeated


def test_every_name_of_the_proto_files_is_read_that_json_spells_otherwise():
    used = {"dropped_attributes_count", "entity_refs", "key_strindex", "string_value_strindex"}
    every = {
        (field.name.encode(), field.json_name.encode())
        for name, message in messages().items()
        if name != "EntityRef"
        for field in message.fields
        if field.name != field.json_name
    }
    assert every == set(json_names._NAMES.items())
    assert {name.encode() for name in used} <= {name for name, _ in every}


def test_names_of_the_proto_files_are_read_at_every_level_when_the_settings_say_so():
    payload = json.dumps(
        {
            "resource_metrics": [
                {
                    "resource": {"attributes": [{"key": "hostId", "value": {"string_value": "h"}}]},
                    "scope_metrics": [
                        {
                            "metrics": [
                                {
                                    "name": 'a"time_unix_nano":',
                                    "gauge": {"data_points": [{"time_unix_nano": T, "as_double": 1}]},
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    ).encode()
    with pytest.raises(DecodeError) as refused:
        Engine(Settings(org_id="acme")).fan_out(record(payload))
    assert refused.value.reason == "decode.top_level"
    [row] = Engine(Settings(org_id="acme", field_names="any")).fan_out(record(payload)).ndjson().splitlines()
    row = json.loads(row)
    assert (row["metric"], row["value"], row["deviceId"]) == ('a"time_unix_nano":', 1.0, "h")


# Replay


def test_a_replay_below_a_path_makes_that_and_nothing_else_and_numbers_it_behind_all_others():
    one, two, three = (
        otlp.metric({"timeUnixNano": T, "asInt": n}, {"timeUnixNano": T, "asInt": n}, name=f"m{n}") for n in (1, 2, 3)
    )
    path = "$.resourceMetrics[0].scopeMetrics[0].metrics[1].gauge.dataPoints"
    out = Engine(Settings(org_id="acme")).fan_out(record(bundle(one, two, three), only=(3,), below=(path,)))
    rows = [json.loads(line) for line in out.ndjson().splitlines()]
    assert [(row["metric"], row["rowId"].partition(":")[2]) for row in rows] == [("m2", "4"), ("m2", "5"), ("m3", "3")]


def test_a_replay_of_a_replay_makes_no_row_of_another_point():
    payload = json.dumps(
        {
            "resourceMetrics": [
                {
                    "scopeMetrics": [
                        {
                            "metrics": [
                                {
                                    "name": "a",
                                    "gauge": {"dataPoints": 5, "data_points": [{"timeUnixNano": T, "asInt": 1}, {}]},
                                },
                                otlp.metric(*({"timeUnixNano": T, "asInt": n} for n in (1, 2, 3)), name="b"),
                            ]
                        }
                    ]
                }
            ]
        }
    ).encode()
    path = "$.resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints"
    first = Engine(Settings(org_id="acme")).fan_out(record(payload))
    assert (first.rows, [part.path for part in first.parts]) == (3, [path])
    engine = Engine(Settings(org_id="acme", field_names="any"))
    for _ in range(2):  # the letter stays the same one
        again = engine.fan_out(record(payload, only=(), below=(path,)))
        [row] = map(json.loads, again.ndjson().splitlines())
        assert (row["metric"], row["rowId"].partition(":")[2]) == ("a", "3")
        assert (again.rejected, [(part.path, part.reason) for part in again.parts]) == ((), [(path, "time.missing")])


def test_points_that_were_counted_under_other_names_are_not_taken_for_those_of_this_setting():
    payload = bundle(otlp.metric({"timeUnixNano": T, "asInt": 1}))
    any_names = Engine(Settings(org_id="acme", field_names="any"))
    with pytest.raises(DecodeError, match=r"engine\.field_names = 'otlp'"):
        any_names.fan_out(record(payload, only=(0,)))
    assert any_names.fan_out(record(payload, only=(0,), names="any")).rows == 1
    letter = DeadLetter(topic="t", partition=0, offset=1, value=payload, rejected=((0, "point.type"),), names="any")
    assert any_names.fan_out(letter.record()).rows == 1


@pytest.mark.parametrize("where", ["point", "resource"])
def test_more_attributes_than_there_may_be_are_too_many_in_both_encodings(where):
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    entry = request.resource_metrics.add()
    point = entry.scope_metrics.add().metrics.add(name="cpu").gauge.data_points.add(time_unix_nano=int(T), as_int=5)
    items = (point if where == "point" else entry.resource).attributes
    for n in range(1025):
        items.add(key=f"k{n}").value.string_value = "x"
    assert list(why(request.SerializeToString())) == ["limits.attributes"]


@pytest.mark.parametrize(
    "metrics",
    [[5] * 30_000, [{"name": 5}] * 30_000, [{"a": 0}] * 30_000, [{}] * 30_000],
    ids=["lost", "bad heads", "unknown members", "nothing"],
)
def test_a_bundle_of_a_great_many_odd_metrics_names_no_more_than_a_bound(metrics):
    good = otlp.metric({"timeUnixNano": T, "asInt": 1})
    for payload in (
        bundle(*metrics),
        bundle(good, *metrics),
        bundle(otlp.metric({"timeUnixNano": T, "asInt": "x"}), *metrics),
    ):
        with contextlib.suppress(DecodeError):
            out = Engine(Settings(org_id="acme")).fan_out(record(payload))
            assert len(out.parts) <= 1000
            assert len(out.unknown) <= 10
