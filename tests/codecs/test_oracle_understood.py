"""A record of which nothing was understood is refused by name; what is unknown beside what was understood is counted."""

import pytest

from lmstream import Engine, Settings
from lmstream.errors import DecodeError
from support.judging import ACME, agree, record
from support.repoison import TIME, field, gauge, metrics, proto_attribute, proto_gauge, proto_metric, proto_point

POINT = f'{{{TIME},"asDouble":1}}'
M = "$.resourceMetrics[0].scopeMetrics[0].metrics[0]"


def entry(members: str) -> bytes:
    return f'{{"resourceMetrics":[{{{members}}}]}}'.encode()


def scoped(members: str) -> bytes:
    return entry(f'"scopeMetrics":[{{{members}}}]')


NOT_UNDERSTOOD = {
    "instrumentation library": (
        entry(f'"instrumentationLibraryMetrics":[{{"metrics":[{{"name":"g","gauge":{{"dataPoints":[{POINT}]}}}}]}}]'),
        "$.resourceMetrics[0].instrumentationLibraryMetrics",
    ),
    "snake_case scopes": (entry('"scope_metrics":[{}]'), "$.resourceMetrics[0].scope_metrics"),
    "snake_case points": (metrics(f'{{"name":"g","gauge":{{"data_points":[{POINT}]}}}}'), f"{M}.gauge.data_points"),
    "a kind of old": (metrics(f'{{"name":"g","intGauge":{{"dataPoints":[{POINT}]}}}}'), f"{M}.intGauge"),
    "beside the resources": (b'{"resourceMetrics":[],"x":1}', "$.x"),
    "null": (b'{"resourceMetrics":null,"x":null}', "$.x"),
    "in a scope entry": (scoped('"Metrics":[]'), "$.resourceMetrics[0].scopeMetrics[0].Metrics"),
    "in a resource": (entry('"resource":{"labels":{}}'), "$.resourceMetrics[0].resource.labels"),
    "in a scope": (scoped('"scope":{"Name":"s"}'), "$.resourceMetrics[0].scopeMetrics[0].scope.Name"),
    "in an attribute": (
        entry('"resource":{"attributes":[{"key":"host","stringValue":"a"}]}'),
        "$.resourceMetrics[0].resource.attributes[0].stringValue",
    ),
    "in a value": (
        entry('"resource":{"attributes":[{"key":"host","value":{"string_value":"a"}}]}'),
        "$.resourceMetrics[0].resource.attributes[0].value.string_value",
    ),
    "in a value of a map in a list": (
        entry(
            '"resource":{"attributes":[{"key":"a","value":{"arrayValue":{"values":'
            '[{},{"kvlistValue":{"values":[{"key":"b","value":{"V":1}}]}}]}}}]}'
        ),
        "$.resourceMetrics[0].resource.attributes[0].value.arrayValue.values[1].kvlistValue.values[0].value.V",
    ),
    "in an array value": (
        scoped('"scope":{"attributes":[{"value":{"arrayValue":{"items":[]}}}]}'),
        "$.resourceMetrics[0].scopeMetrics[0].scope.attributes[0].value.arrayValue.items",
    ),
}


@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_a_bundle_of_nothing_understood_is_refused_by_the_first_name(name):
    payload, path = NOT_UNDERSTOOD[name]
    with pytest.raises(DecodeError) as caught:
        Engine(ACME).fan_out(record(payload))
    assert caught.value.reason == "decode.not_understood"
    assert path in caught.value.detail
    assert agree(record(payload)) == "decode.not_understood"


EMPTY = {
    "nothing": b"{}",
    "no resources": b'{"resourceMetrics":[]}',
    "an empty resource": entry(""),
    "known members alone": entry(
        '"schemaUrl":"u","resource":{"droppedAttributesCount":1,"entityRefs":[{"x":1}],"attributes":[{"keyStrindex":1,'
        '"value":{"stringValueStrindex":4}}]},"scopeMetrics":[{"schemaUrl":"u","scope":{"droppedAttributesCount":2},'
        '"metrics":[{"description":7,"metadata":[{"x":1}],"sum":{"isMonotonic":true,"aggregationTemporality":2}}]}]'
    ),
    "nulls": entry('"resource":null,"scopeMetrics":[{"scope":null,"metrics":[{"gauge":null,"summary":null}]}]'),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_bundle_of_known_members_is_empty(name):
    assert agree(record(EMPTY[name])) == b""
    out = Engine(ACME).fan_out(record(EMPTY[name]))
    assert (out.points, out.noted["bundle.empty"]) == (0, 1)


PROTO_EMPTY = {
    "instrumentation library": field(1, field(1000, b"x")),
    "of the request": field(1, b"") + b"\x98\x06\x01",
    "an int gauge of 0.7": proto_metric(field(1, b"g") + field(4, field(1, b""))),
    "a bare metric": field(1, field(1, b"") + b"\x22\x00"),
    "a scope as a varint": field(1, b"\x10\x07"),
    "a name as a varint": proto_metric(b"\x08\x07"),
    "of a gauge": proto_metric(field(5, field(2, b"x"))),
    "of a resource": field(1, field(1, b"\x7a\x00")),
    "of a scope": field(1, field(2, field(1, b"\x7a\x00"))),
    "of an attribute": field(1, field(1, field(1, b"\x7a\x00"))),
    "of a value": field(1, field(1, field(1, field(2, b"\x7a\x00")))),
    "a group": field(1, b"\x53\x54"),
}


@pytest.mark.parametrize("name", PROTO_EMPTY)
def test_protobuf_of_nothing_understood_is_refused(name):
    assert agree(record(PROTO_EMPTY[name])) == "decode.not_understood"


def test_protobuf_that_is_unknown_in_metadata_is_empty():
    assert agree(record(proto_metric(field(12, b"\x7a\x00")))) == b""


# ------------------------------------------------------------------------ beside what was understood

HOLLOW = {
    "a metric": (
        f'{{"x":1,"gauge":{{"data_points":[7],"y":null}}}},{{"name":"g","gauge":{{"dataPoints":[{POINT}]}}}}',
        ["x", "gauge.data_points", "gauge.y"],
    ),
    "a metric without data": (
        f'{{"intSum":{{"dataPoints":[]}}}},{{"name":"g","gauge":{{"dataPoints":[{POINT}]}}}}',
        ["intSum"],
    ),
    "two kinds without points": (
        f'{{"gauge":{{"x":1}},"sum":{{"y":1,"dataPoints":[]}}}},{{"gauge":{{"dataPoints":[{POINT}]}}}}',
        ["gauge.x", "sum.y"],
    ),
    "a metric with points": (f'{{"x":1,"gauge":{{"y":2,"dataPoints":[{POINT}]}}}}', []),
    "a metric that cannot be counted": (
        f'{{"x":1,"gauge":{{"y":2,"dataPoints":5}}}},{{"gauge":{{"dataPoints":[{POINT}]}}}}',
        [],
    ),
}


@pytest.mark.parametrize("name", HOLLOW)
def test_unknown_members_of_a_metric_without_points_are_counted_and_named(name):
    text, names = HOLLOW[name]
    out = Engine(ACME).fan_out(record(metrics(text)))
    assert out.noted.get("member.unknown", 0) == len(names)
    assert sorted(out.unknown) == sorted(f"{M}.{one}" for one in names)
    agree(record(metrics(text)))


def test_unknown_members_of_entries_without_entries_are_counted():
    good = f'{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{POINT}]}}}}]}},{{"z":1,"scope":{{"zz":1}}}}]}}'
    lost = '{"x":1,"scopeMetrics":5},{"x":1,"scopeMetrics":[7]}'
    payload = f'{{"top":1,"resourceMetrics":[{{"scope_metrics":[],"resource":{{"r":1}}}},{good},{{"x":1,"y":1,"scopeMetrics":[]}},{lost}]}}'
    out = Engine(ACME).fan_out(record(payload.encode()))
    assert sorted(out.unknown) == [
        "$.resourceMetrics[0].scope_metrics",
        "$.resourceMetrics[1].scopeMetrics[1].z",
        "$.resourceMetrics[2].x",
        "$.resourceMetrics[2].y",
    ]
    assert out.noted["member.unknown"] == 4
    agree(record(payload.encode()))


def test_the_first_ten_unknown_members_are_named_and_all_are_counted():
    unknown = ",".join(f'{{"m{n}":1}}' for n in range(12))
    rec = record(metrics(f'{unknown},{{"gauge":{{"dataPoints":[{POINT}]}}}}'))
    out = Engine(ACME).fan_out(rec)
    assert (len(out.unknown), out.noted["member.unknown"], out.noted["metric.empty"]) == (10, 12, 12)
    agree(rec)


def test_unknown_fields_of_a_hollow_part_are_counted_in_protobuf():
    good = field(2, field(1, b"g") + field(5, field(1, proto_point())))
    hollow = field(2, field(4, b"") + field(4, b"") + field(5, b"\x10\x07"))
    payload = field(1, field(2, good + hollow)) + field(1, field(1000, b"x")) + field(1, field(2, b"\x53\x54"))
    out = Engine(ACME).fan_out(record(payload))
    assert (out.rows, out.noted["member.unknown"], len(out.unknown)) == (1, 4, 4)
    agree(record(payload))


# ------------------------------------------------------------------------ attribute values of unknown members

VALUES = {
    '{"stringValue":"a"}': 0,
    "{}": 0,
    '{"stringValue":null}': 0,
    '{"stringValueStrindex":4}': 0,
    '{"string_value":"a"}': 1,
    '{"Value":{"StringValue":"a"}}': 1,
    '{"x":null}': 1,
    '{"stringValue":null,"x":1}': 1,
    '{"stringValue":"","x":1}': 0,
    '{"stringValueStrindex":4,"x":1}': 0,
    '{"arrayValue":{"x":1}}': 0,
    '{"arrayValue":{"values":[{},{"x":1},{"y":2,"intValue":1},{"arrayValue":{"values":[{"x":1}]}}]}}': 2,
    '{"kvlistValue":{"values":[{"key":"a","x":1},{"key":"a","value":{"x":1}},{"key":"a","value":{}}]}}': 2,
}


@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_unknown_members_alone_is_counted_for_every_point_that_uses_it(value):
    pair = f'{{"key":"host","value":{value}}}'
    plain = f'{{{TIME},"asInt":1}}'
    its = f'{{{TIME},"asInt":1,"attributes":[{pair}],"exemplars":[{{"asInt":1,"filteredAttributes":[{pair},{pair}]}}]}}'
    payload = (
        f'{{"resourceMetrics":[{{"resource":{{"attributes":[{pair}]}},"scopeMetrics":[{{"scope":{{"attributes":[{pair}]}},'
        f'"metrics":[{{"gauge":{{"dataPoints":[{plain},{its},7,{plain}]}}}}]}}]}}]}}'
    ).encode()
    engine = Engine(ACME)
    for _ in ("cold", "warm"):
        out = engine.fan_out(record(payload))
        assert out.noted.get("attribute.empty", 0) == VALUES[value] * (4 + 4 + 1 + 2)
    agree(record(payload))
    agree(record(payload), Settings(org_id="acme", exemplars=False))


@pytest.mark.parametrize(
    ("pair", "count"),
    [
        ('{"key":"host","stringValue":"a"}', 1),
        ('{"key":"host","value":null,"x":null}', 1),
        ('{"key":"host"}', 0),
        ('{"key":"host","keyStrindex":1}', 0),
        ('{"key":"host","value":{},"x":1}', 0),
        ('{"key":"a","x":1},{"key":"a","value":{"x":1}},{"key":"a","value":{"stringValue":"b"}}', 2),
    ],
)
def test_an_attribute_without_a_value_and_with_unknown_members_is_counted(pair, count):
    rec = record(gauge(f'{{{TIME},"asInt":1,"attributes":[{pair}]}}'))
    assert Engine(ACME).fan_out(rec).noted.get("attribute.empty", 0) == count
    agree(rec)


USES = {
    "skipped": ('"flags":1', 1),
    "no time": ('"timeUnixNano":0,"asInt":1', 1),
    "no value": ("", 1),
    "labels": ('"asInt":1,"labels":[{}]', 1),
    "of a wrong type": ('"asInt":"x"', 0),
    "too many attributes": ('"asInt":1,"attributes":[' + ",".join(['{"x":1}'] * 1025) + "]", 0),
}


@pytest.mark.parametrize("name", USES)
def test_empty_values_are_counted_whatever_becomes_of_the_point(name):
    members, count = USES[name]
    own = '"attributes":[{"key":"a","value":{"x":1}}]'
    point = ",".join(filter(None, (TIME, own, members)))
    rec = record(gauge(f"{{{point}}},{POINT}"))
    assert Engine(ACME).fan_out(rec).noted.get("attribute.empty", 0) == count
    agree(rec)


def test_empty_values_of_exemplars_count_only_where_the_exemplar_stays_with_them():
    empty = '"filteredAttributes":[{"key":"a","value":{"x":1}}]'
    wrong = '"filteredAttributes":[{"key":"a","value":{"x":1}},7]'
    exemplars = f'[{{"asInt":1,{empty}}},{{{empty}}},{{"asDouble":"NaN",{empty}}},{{"asInt":1,{wrong}}}]'
    rec = record(gauge(f'{{{TIME},"asInt":1,"exemplars":{exemplars}}}'))
    assert Engine(ACME).fan_out(rec).noted["attribute.empty"] == 1
    agree(rec)


def test_empty_values_are_counted_in_protobuf():
    unknown = b"\x7a\x00"
    value = field(5, field(1, unknown) + field(1, field(6, field(1, field(1, b"k") + unknown))))
    pairs = field(7, proto_attribute(unknown)) + field(7, proto_attribute(value)) + field(7, field(1, b"c") + unknown)
    rec = record(proto_gauge(proto_point(pairs)))
    assert Engine(ACME).fan_out(rec).noted["attribute.empty"] == 4
    agree(rec)
