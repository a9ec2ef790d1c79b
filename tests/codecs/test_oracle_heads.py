"""A bad resource, scope or metric rejects the points under it and nothing else; what cannot be counted is named."""

import json

import pytest

from lmstream import Engine, Settings
from lmstream.errors import DecodeError
from lmstream.model import DeadLetter
from lmstream.settings import Limits
from support.judging import ACME, agree, lines_of, record
from support.repoison import MAP, TIME, attribute, field, nested, proto_attribute, proto_nested, proto_point

MANY = f"[{','.join(['{}'] * 1025)}]"
DEEP = attribute(nested(48))


def point(value: int) -> str:
    return f'{{{TIME},"asInt":"{value}"}}'


def gauge(value: int, head: str = '"name":"m"') -> str:
    return f'{{{head},"gauge":{{"dataPoints":[{point(value)}]}}}}'


def scope(metrics: str, head: str = '"scope":{"name":"s"}') -> str:
    return f'{{{head},"metrics":[{metrics}]}}'


def resource(scopes: str, head: str = '"resource":{}') -> str:
    return f'{{{head},"scopeMetrics":[{scopes}]}}'


def bundle(*resources: str) -> bytes:
    return f'{{"resourceMetrics":[{",".join(resources)}]}}'.encode()


GOOD = resource(scope(gauge(1)))
RESOURCE = [
    ('"resource":"x"', "decode.type"),
    ('"resource":[]', "decode.type"),
    ('"resource":7', "decode.type"),
    ('"resource":{"attributes":{"a":"b"}}', "decode.type"),
    ('"resource":{"attributes":[null]}', "decode.type"),
    ('"resource":{"attributes":["a"]}', "decode.type"),
    ('"resource":{"attributes":[{"key":7}]}', "decode.type"),
    ('"resource":{"attributes":[{"key":"a","value":"b"}]}', "decode.type"),
    ('"resource":{"attributes":[{"key":"a","value":{"stringValue":7}}]}', "decode.type"),
    ('"resource":{"attributes":[{"key":"a","value":{"intValue":"9223372036854775808"}}]}', "decode.type"),
    ('"resource":{"attributes":[{"key":"a","value":{"stringValue":"x","intValue":1}}]}', "decode.type"),
    (f'"resource":{{"attributes":{MANY}}}', "limits.attributes"),
    (f'"resource":{{"attributes":{DEEP}}}', "limits.depth"),
    (f'"resource":{{"attributes":{attribute(nested(48, *MAP))}}}', "limits.depth"),
    (f'"resource":{{"attributes":{MANY[:-1]},7]}}', "decode.type"),
]
SCOPE = [
    ('"scope":"x"', "decode.type"),
    ('"scope":{"name":7}', "decode.type"),
    ('"scope":{"version":{}}', "decode.type"),
    ('"scope":{"attributes":5}', "decode.type"),
    (f'"scope":{{"attributes":{MANY}}}', "limits.attributes"),
    (f'"scope":{{"attributes":{DEEP}}}', "limits.depth"),
    (f'"scope":{{"attributes":{MANY},"version":1}}', "decode.type"),
]
METRIC = ['"name":7', '"name":"m","unit":{}', '"name":["m"]']


def spared(payload: bytes, reason: str, rejected: int = 1) -> None:
    """The bad head is the first of the bundle: its points are rejected, the one behind it lands."""
    out = Engine(ACME).fan_out(record(payload))
    assert out.rejected == tuple((n, reason) for n in range(rejected))
    [row] = lines_of(out.ndjson())
    assert (row["value"], row["rowId"].partition(":")[2]) == (1, str(rejected))
    assert (out.skipped, out.parts, out.points) == ({}, (), rejected + 1)
    assert out.noted["device.unknown"] == 1, "nothing is noted of points under a bad head"
    agree(record(payload))


@pytest.mark.parametrize(("head", "reason"), RESOURCE)
def test_a_bad_resource_rejects_its_points_alone(head, reason):
    spared(bundle(resource(scope(gauge(7) + "," + gauge(8)), head), GOOD), reason, 2)


@pytest.mark.parametrize(("head", "reason"), SCOPE)
def test_a_bad_scope_rejects_its_points_alone(head, reason):
    spared(bundle(resource(scope(gauge(7), head) + "," + scope(gauge(1)))), reason)


@pytest.mark.parametrize("head", METRIC)
def test_a_bad_metric_rejects_its_points_alone(head):
    spared(bundle(resource(scope(gauge(7, head) + "," + gauge(1)))), "decode.type")


@pytest.mark.parametrize("odd", ['"DELTA"', "true", "[]", "1.5", "1e400", '"2"'])
@pytest.mark.parametrize("kind", ["sum", "histogram", "exponentialHistogram"])
def test_a_bad_temporality_rejects_its_points_alone(kind, odd):
    bad = f'{{"name":"b","{kind}":{{"aggregationTemporality":{odd},"dataPoints":[{point(7)},{point(8)}]}}}}'
    spared(bundle(resource(scope(f"{bad},{gauge(1)}"))), "decode.type", 2)


def test_a_temporality_where_there_is_none_is_an_unknown_member():
    odd = f'{{"name":"b","gauge":{{"aggregationTemporality":"DELTA","dataPoints":[{point(7)}]}}}}'
    assert agree(record(bundle(resource(scope(odd))))).count(b"\n") == 1


def test_points_of_a_metric_of_two_kinds_are_rejected_in_field_order():
    two = (
        f'{{"name":"b","sum":{{"dataPoints":[{point(7)}]}},"gauge":{{"dataPoints":[{point(8)},null]}},"summary":null}}'
    )
    spared(bundle(resource(scope(f"{two},{gauge(1)}"))), "decode.type", 3)


def test_the_first_fault_from_outside_in_decides():
    inner = scope(gauge(7, '"name":7'), '"scope":[]')
    spared(bundle(resource(inner, f'"resource":{{"attributes":{MANY}}}'), GOOD), "limits.attributes")
    spared(bundle(resource(scope(gauge(7, '"name":7'), f'"scope":{{"attributes":{DEEP}}}')), GOOD), "limits.depth")


def proto_bundle(*resources: bytes) -> bytes:
    return b"".join(field(1, body) for body in resources)


PROTO_METRIC = field(2, field(1, b"m") + field(5, field(1, proto_point())))
PROTO_GOOD = field(2, PROTO_METRIC)
PROTO_DEEP = field(1, proto_attribute(proto_nested(48)))
PROTO_MANY = field(1, b"") * 1025
PROTO = {
    "resource too many": (field(1, PROTO_MANY) + PROTO_GOOD, "limits.attributes"),
    "resource too deep": (field(1, PROTO_DEEP) + PROTO_GOOD, "limits.depth"),
    "resource in two halves": (
        field(1, PROTO_MANY[:1024]) + PROTO_GOOD + field(1, PROTO_MANY[1024:]),
        "limits.attributes",
    ),
    "scope too many": (field(2, field(1, b"\x1a\0" * 1025) + PROTO_METRIC), "limits.attributes"),
    "scope too deep": (
        field(2, field(1, field(3, proto_attribute(proto_nested(48)))) + PROTO_METRIC),
        "limits.depth",
    ),
    "a list too long": (
        field(1, field(1, proto_attribute(field(5, field(1, b"") * 1025)))) + PROTO_GOOD,
        "limits.attributes",
    ),
}


@pytest.mark.parametrize("name", PROTO)
def test_a_limit_in_protobuf_rejects_the_points_below_it_alone(name):
    body, reason = PROTO[name]
    payload = proto_bundle(body, PROTO_GOOD)
    out = Engine(ACME).fan_out(record(payload))
    assert (out.rejected, out.rows, out.points) == (((0, reason),), 1, 2)
    agree(record(payload))


# ---------------------------------------------------------------------------------------------- what cannot be counted

HERE = "$.resourceMetrics[0]"
LOST = {
    "a resource null": ("null", "$.resourceMetrics[0]"),
    "a resource of a number": ("7", "$.resourceMetrics[0]"),
    "scopes of a number": ('{"scopeMetrics":5}', f"{HERE}.scopeMetrics"),
    "scopes of an object": ('{"scopeMetrics":{}}', f"{HERE}.scopeMetrics"),
    "a scope null": (resource("null"), f"{HERE}.scopeMetrics[0]"),
    "a scope of a text": (resource('"s"'), f"{HERE}.scopeMetrics[0]"),
    "metrics of a number": (resource('{"metrics":5}'), f"{HERE}.scopeMetrics[0].metrics"),
    "a metric null": (resource(scope("null")), f"{HERE}.scopeMetrics[0].metrics[0]"),
    "a metric of a list": (resource(scope("[]")), f"{HERE}.scopeMetrics[0].metrics[0]"),
    "a gauge of a list": (resource(scope('{"gauge":[]}')), f"{HERE}.scopeMetrics[0].metrics[0].gauge"),
    "a summary of a number": (resource(scope('{"summary":0}')), f"{HERE}.scopeMetrics[0].metrics[0].summary"),
    "points of a number": (
        resource(scope('{"gauge":{"dataPoints":5}}')),
        f"{HERE}.scopeMetrics[0].metrics[0].gauge.dataPoints",
    ),
    "points of an object": (
        resource(scope('{"sum":{"dataPoints":{}}}')),
        f"{HERE}.scopeMetrics[0].metrics[0].sum.dataPoints",
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_cannot_be_counted_is_named_and_takes_no_ordinal(name):
    part, path = LOST[name]
    payload = bundle(part, GOOD)
    out = Engine(ACME).fan_out(record(payload))
    assert [(lost.path, lost.reason) for lost in out.parts] == [(path, "decode.type")]
    [row] = lines_of(out.ndjson())
    assert (row["value"], row["rowId"].partition(":")[2], out.points, out.rejected) == (1, "0", 1, ())
    assert "metric.empty" not in out.noted
    agree(record(payload))


@pytest.mark.parametrize("name", LOST)
def test_a_bundle_of_nothing_that_can_be_counted_is_refused_by_the_first(name):
    part, path = LOST[name]
    with pytest.raises(DecodeError) as caught:
        Engine(ACME).fan_out(record(bundle(part, '{"x":1,"scopeMetrics":[7]}')))
    assert caught.value.reason == "decode.type"
    assert path in str(caught.value)
    assert agree(record(bundle(part, '{"x":1,"scopeMetrics":[7]}'))) == "decode.type"


def test_lost_parts_are_named_in_document_order_also_under_a_bad_head():
    bad = resource(f"null,{scope(gauge(7) + ',7')}", '"resource":7')
    two = f'{{"sum":5,"gauge":{{"dataPoints":[{point(8)}]}},"summary":{{"dataPoints":""}}}}'
    payload = bundle(bad, resource(scope(f"{two},{gauge(1)}")), "[]")
    out = Engine(ACME).fan_out(record(payload))
    assert [lost.path for lost in out.parts] == [
        "$.resourceMetrics[0].scopeMetrics[0]",
        "$.resourceMetrics[0].scopeMetrics[1].metrics[1]",
        "$.resourceMetrics[1].scopeMetrics[0].metrics[0].sum",
        "$.resourceMetrics[1].scopeMetrics[0].metrics[0].summary.dataPoints",
        "$.resourceMetrics[2]",
    ]
    assert out.rejected == ((0, "decode.type"), (1, "decode.type"))
    assert [row["value"] for row in lines_of(out.ndjson())] == [1]
    agree(record(payload))


def test_a_bad_head_of_a_bundle_without_points_refuses_it_before_anything_unknown():
    assert agree(record(bundle(resource("", '"resource":7,"x":1')))) == "decode.type"
    assert agree(record(bundle(resource("", f'"resource":{{"attributes":{MANY}}}'), "7"))) == "limits.attributes"
    assert agree(record(bundle("7", resource("", f'"resource":{{"attributes":{MANY}}}')))) == "decode.type"


def test_resource_metrics_that_is_no_array_refuses_the_record():
    for text in (b"{}", b"5", b'"x"', b"false"):
        assert agree(record(b'{"resourceMetrics":' + text + b"}")) == "decode.type"


# ---------------------------------------------------------------------------------------------- replay

BESIDE = "$.resourceMetrics[0].scopeMetrics[0].metrics[1].gauge.dataPoints"
THREE = bundle(resource(scope(f"{gauge(10)},{gauge(11)},{gauge(12)}")), resource(scope(gauge(13))))


@pytest.mark.parametrize(
    ("only", "below", "values"),
    [
        (None, (), {"0": 10, "1": 11, "2": 12, "3": 13}),
        ((), (BESIDE,), {"3": 11}),
        (None, (BESIDE,), {"3": 11}),
        ((0, 2), (BESIDE,), {"0": 10, "2": 13, "3": 11}),
        ((1,), (BESIDE,), {"1": 12, "3": 11}),
        ((), ("$.resourceMetrics[0]",), {"1": 10, "2": 11, "3": 12}),
        ((0,), ("$.resourceMetrics[0].scopeMetrics",), {"0": 13, "1": 10, "2": 11, "3": 12}),
        ((), ("$.resourceMetrics[0].scopeMetrics[0].metrics[1].gauge.dataPoint", "$.resourceMetrics[9]"), {}),
        ((), (BESIDE, "$.resourceMetrics[1]"), {"2": 11, "3": 13}),
        ((), ("$.resourceMetrics[1]", BESIDE), {"2": 11, "3": 13}),
        ((9,), (), {}),
    ],
)
def test_a_replay_makes_what_lies_below_its_paths_and_numbers_it_behind_all_others(only, below, values):
    rec = record(THREE, only=only, below=below)
    out = Engine(ACME).fan_out(rec)
    assert {row["rowId"].partition(":")[2]: row["value"] for row in lines_of(out.ndjson())} == values
    assert (out.points, out.rejected) == (4, ())
    agree(rec)


def test_a_letter_with_a_lost_part_replays_what_can_be_read_below_it_now():
    """What was written before a fix is replayed after it: here the fix is in the bytes, in real life in the reader."""
    broken = bundle(
        resource(
            scope(
                f'{gauge(10)},{{"name":"m","gauge":{{"dataPoints":5}}}},{gauge(12, chr(34) + "name" + chr(34) + ":7")}'
            )
        )
    )
    first = Engine(ACME).fan_out(record(broken))
    assert ([lost.path for lost in first.parts], first.rejected) == ([BESIDE], ((1, "decode.type"),))
    letter = DeadLetter(
        topic="lm.metrics.otlp",
        partition=0,
        offset=7,
        timestamp=1_715_263_558_360,
        value=broken,
        rejected=first.rejected,
        parts=tuple((lost.path, lost.reason) for lost in first.parts),
    )
    again = letter.record()
    second = Engine(ACME).fan_out(again)
    assert ([lost.path for lost in second.parts], second.rejected, second.rows) == ([BESIDE], first.rejected, 0)
    agree(again)
    mended = record(THREE, only=again.only, below=again.below)
    rows = {row["rowId"].partition(":")[2]: row["value"] for row in lines_of(Engine(ACME).fan_out(mended).ndjson())}
    assert rows == {"1": 12, "3": 11}


def test_a_replay_of_ordinals_alone_names_no_lost_parts():
    rec = record(bundle("7", GOOD), only=(0,))
    out = Engine(ACME).fan_out(rec)
    assert (out.parts, out.rows) == ((), 1)
    agree(rec)


def test_a_path_below_which_a_point_is_rejected_stays_in_the_letter_and_skipped_ones_do_not():
    odd = f'{{"name":"m","gauge":{{"dataPoints":[{point(5)},{{{TIME}}},{{{TIME},"asDouble":"NaN"}}]}}}}'
    rec = record(
        bundle(resource(scope(f"{odd},{gauge(1)}"))),
        only=(),
        below=("$.resourceMetrics[0].scopeMetrics[0].metrics[0].gauge",),
    )
    out = Engine(ACME).fan_out(rec)
    assert (out.rejected, out.skipped, out.rows, out.points) == ((), {"value.nan": 1}, 1, 4)
    assert [(part.path, part.reason) for part in out.parts] == [(rec.below[0], "value.missing")]
    assert json.loads(out.ndjson())["rowId"].endswith(":1")
    agree(rec)


def test_limits_count_points_wherever_they_lie():
    settings = Settings(org_id="acme", limits=Limits(points=3))
    assert agree(record(THREE, only=(), below=(BESIDE,)), settings) == "limits.points"
    assert (
        agree(
            record(
                bundle(
                    resource(scope(gauge(7) + "," + gauge(8)), '"resource":7'),
                    resource(scope(gauge(1) + "," + gauge(2))),
                )
            ),
            settings,
        )
        == "limits.points"
    )
