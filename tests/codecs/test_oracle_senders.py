"""Other senders: names of the .proto files, labels of OTLP 0.7 to 0.11, points without a time."""

import pytest

from lmstream import Engine, Settings
from support.judging import ACME, agree, lines_of, record
from support.repoison import TIME, field, gauge, metrics, proto_attribute, proto_gauge, proto_metric, proto_point

ANY = Settings(org_id="acme", field_names="any")


# ------------------------------------------------------------------------ names of the .proto files

SNAKE = (
    f'{{"resource_metrics":[{{"scope_metrics":[{{"metrics":[{{"name":"g","sum":{{"is_monotonic":true,'
    f'"aggregation_temporality":2,"data_points":[{{{TIME.replace("timeUnixNano", "time_unix_nano")},"as_int":"7",'
    f'"start_time_unix_nano":"946684800000000000","attributes":[{{"key":"a","value":{{"string_value":"b"}}}}]}}]}}}}]}}]}}]}}'
).encode()


def test_snake_case_is_read_where_the_settings_say_so_and_refused_by_name_where_not():
    [row] = lines_of(agree(record(SNAKE), ANY))
    assert (row["value"], row["monotonic"], row["temporality"], row["attributes"]) == (
        7,
        True,
        "cumulative",
        {"a": "b"},
    )
    assert row["startTsUnixMs"] == 946_684_800_000
    assert agree(record(SNAKE)) == "decode.top_level"
    below = SNAKE.replace(b"resource_metrics", b"resourceMetrics")
    assert agree(record(below)) == "decode.not_understood"
    assert agree(record(below), ANY) == agree(record(SNAKE), ANY)


@pytest.mark.parametrize(
    ("members", "value"),
    [
        ('"as_int":1', 1),
        ('"as_int":1,"asInt":2', 2),
        ('"asInt":2,"as_int":1', 1),
        ('"asInt":2,"as_int":null,"asDouble":0.5', 0.5),
        ('"as_int":null,"asInt":2', 2),
        ('"asInt":1,"as_int":2,"asInt":3', 3),
    ],
)
def test_of_two_names_of_one_member_the_last_in_the_text_wins(members, value):
    [row] = lines_of(agree(record(gauge(f"{{{TIME},{members}}}")), ANY))
    assert row["value"] == value


def test_other_names_stay_unknown_with_snake_case_too():
    assert agree(record(metrics('{"gauge":{"DataPoints":[]}}')), ANY) == "decode.not_understood"
    assert agree(record(b'{"ResourceMetrics":[]}'), ANY) == "decode.top_level"
    assert agree(record(metrics('{"gauge":{"data_points":[]}}')), ANY) == b""


# ------------------------------------------------------------------------ labels of OTLP 0.7 to 0.11 in protobuf


def label(key: bytes, value: bytes) -> bytes:
    return field(1, field(1, key) + field(2, value))


SAME = field(7, proto_attribute(field(1, b"i-1"), b"InstanceId"))
LABELS = {
    "labels": (label(b"InstanceId", b"i-1"), "point.labels"),
    "labels that are attributes": (label(b"InstanceId", b"i-1") + SAME, None),
    "of another value": (label(b"InstanceId", b"i-2") + SAME, "point.labels"),
    "one more": (label(b"InstanceId", b"i-1") + label(b"a", b"") + SAME, "point.labels"),
    "a label of nothing": (field(1, b""), "point.labels"),
    "no UTF-8": (label(b"InstanceId", b"\xff") + SAME, "point.labels"),
    "no message": (field(1, b"\x0a\x7f") + SAME, "point.labels"),
    "a varint": (b"\x08\x01", None),
    "1,025": (label(b"InstanceId", b"i-1") * 1025 + SAME, "point.labels"),
    "said twice": (field(1, field(1, b"x") + field(1, b"InstanceId") + field(2, b"i-1")) + SAME, None),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_protobuf_are_attributes_too_or_reject_the_point(name):
    more, reason = LABELS[name]
    rec = record(proto_gauge(proto_point(more)))
    out = Engine(ACME).fan_out(rec)
    assert (out.rejected, out.rows) == ((((0, reason),), 0) if reason else ((), 1))
    agree(rec)


@pytest.mark.parametrize(("kind", "number"), [("sum", 7), ("histogram", 9), ("summary", 11)])
def test_labels_reject_points_of_every_kind_that_had_them(kind, number):
    value = b"\x21" + bytes(8) if kind == "sum" else b""
    time = proto_point()[:9]
    rec = record(proto_metric(field(number, field(1, time + value + label(b"a", b"b")))))
    assert Engine(ACME).fan_out(rec).rejected == ((0, "point.labels"),)
    agree(rec)
    text = record(metrics(f'{{"{kind}":{{"dataPoints":[{{{TIME},"asInt":1,"labels":[{{"key":"a","value":"b"}}]}}]}}}}'))
    assert Engine(ACME).fan_out(text).rejected == ((0, "point.labels"),)
    agree(text)


def test_labels_of_an_exponential_histogram_are_an_unknown_member():
    rec = record(metrics(f'{{"exponentialHistogram":{{"dataPoints":[{{{TIME},"labels":[{{"key":"a"}}]}}]}}}}'))
    assert Engine(ACME).fan_out(rec).rows == 1
    agree(rec)
    named = proto_metric(field(10, field(1, proto_point()[:9] + field(1, proto_attribute(field(1, b"b"))))))
    [row] = lines_of(agree(record(named)))
    assert row["attributes"] == {"a": "b"}


# ------------------------------------------------------------------------ the time of the record

FALLBACK = Settings(org_id="acme", time_fallback="record")


@pytest.mark.parametrize(
    ("timestamp", "members", "wanted"),
    [
        (1_715_263_558_360, "", 1_715_263_558_360),
        (1_715_263_558_360, '"timeUnixNano":0,', 1_715_263_558_360),
        (1_715_263_558_360, f"{TIME.replace('360', '361')},", 1_715_263_558_361),
        (1_715_263_558_360, '"timeUnixNano":1,', "time.range"),
        (-1, "", "time.missing"),
        (0, "", "time.missing"),
        (-5, "", "time.missing"),
        (1, "", "time.range"),
        (4_133_980_800_000, "", "time.range"),
        (4_133_980_799_999, "", 4_133_980_799_999),
    ],
)
def test_a_point_without_a_time_has_the_records_where_the_settings_say_so(timestamp, members, wanted):
    rec = record(gauge(f'{{{members}"asInt":1}}'), timestamp=timestamp)
    out = Engine(FALLBACK).fan_out(rec)
    if isinstance(wanted, str):
        assert out.rejected == ((0, wanted),)
    else:
        [row] = lines_of(out.ndjson())
        assert row["tsUnixMs"] == wanted
    assert out.noted.get("time.record", 0) == (wanted == timestamp)
    agree(rec, FALLBACK)
    assert agree(rec).count(b"\n") == ("360" not in members and TIME.replace("360", "361") in members)


def test_the_records_time_is_noted_only_for_rows():
    rec = record(gauge('{"asInt":1},{"asDouble":"NaN"},{},{"asInt":1,"flags":1}'))
    out = Engine(FALLBACK).fan_out(rec)
    assert (out.rows, out.noted["time.record"], out.rejected) == (1, 1, ((2, "value.missing"),))
    agree(rec, FALLBACK)


@pytest.mark.parametrize("epoch", ["soon", "0", "1715263558000", "5"])
def test_the_epoch_of_the_scope_comes_before_the_time_of_the_record(epoch):
    scope = f'"scope":{{"attributes":[{{"key":"epoch","value":{{"stringValue":"{epoch}"}}}}]}}'
    metric = '{"gauge":{"dataPoints":[{"asInt":1}]}}'
    rec = record(f'{{"resourceMetrics":[{{"scopeMetrics":[{{{scope},"metrics":[{metric}]}}]}}]}}'.encode())
    out = Engine(FALLBACK).fan_out(rec)
    assert out.rejected == (((0, "time.range"),) if epoch == "5" else ())
    assert out.noted.get("time.record", 0) == (epoch in ("soon", "0"))
    agree(rec, FALLBACK)
