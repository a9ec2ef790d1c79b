"""One odd data point between two good ones: what becomes of it, by hand, by the oracle and by the engine."""

import pytest

from lmstream import Engine
from lmstream.errors import DecodeError
from support.judging import ACME, SKIPPED, agree, lines_of, record
from support.repoison import TIME, attribute, gauge, metrics, nested

BEFORE_2000 = '"timeUnixNano":"946684799999999999"'
FIRST = '"timeUnixNano":"946684800000000000"'
LAST = '"timeUnixNano":"4133980799999999999"'
IN_2101 = '"timeUnixNano":"4133980800000000000"'
DIGITS = "9" * 1000
LABEL = '{"key":"InstanceId","value":"i-1"}'
SAME = '{"key":"InstanceId","value":{"stringValue":"i-1"}}'
LONG_VALUE = f'{{"arrayValue":{{"values":[{",".join(["{}"] * 1025)}]}}}}'

# Members of the point, and the value of its row, or the reason for none.
NUMBERS = {
    "int as string": ('"asInt":"7"', 7),
    "int as number": ('"asInt":7', 7),
    "int as integral float": ('"asInt":7.0', 7),
    "int as exponent": ('"asInt":1e3', 1000),
    "int as a string of an exponent": ('"asInt":"1E3"', 1000),
    "integral float above 2^53": ('"asInt":1e17', 10**17),
    "largest int": ('"asInt":"9223372036854775807"', 2**63 - 1),
    "smallest int": ('"asInt":-9223372036854775808', -(2**63)),
    "2^53 + 1": ('"asInt":9007199254740993', 2**53 + 1),
    "minus nought": ('"asInt":-0', 0),
    "2^63": ('"asInt":9223372036854775808', "value.range"),
    "2^63 as string": ('"asInt":"9223372036854775808"', "value.range"),
    "-2^63 - 1": ('"asInt":"-9223372036854775809"', "value.range"),
    "2^64": ('"asInt":18446744073709551616', "value.range"),
    "1000 digits": (f'"asInt":{DIGITS}', "value.range"),
    "1000 digits as string": (f'"asInt":"{DIGITS}"', "value.range"),
    "5000 digits": (f'"asInt":{"1" * 5000}', "value.range"),
    "int 1e30": ('"asInt":1e30', "value.range"),
    "int 1e400": ('"asInt":1e400', "value.range"),
    "half an int": ('"asInt":7.5', "point.type"),
    "half an int as string": ('"asInt":"7.5"', "point.type"),
    "int of no digits": ('"asInt":""', "point.type"),
    "int with a space": ('"asInt":" 7"', "point.type"),
    "int with a space behind": ('"asInt":"7 "', "point.type"),
    "int with a line feed": ('"asInt":"7\\n"', "point.type"),
    "int with a plus": ('"asInt":"+7"', "point.type"),
    "hexadecimal": ('"asInt":"0x7"', "point.type"),
    "underscore": ('"asInt":"1_000"', "point.type"),
    "arabic digits": ('"asInt":"\u0667"', "point.type"),
    "leading nought as string": ('"asInt":"007"', "point.type"),
    "injected field": ('"asInt":"7,\\"orgId\\":\\"evil\\""', "point.type"),
    "injected line": ('"asInt":"7}\\n{\\"orgId\\":\\"evil\\"}"', "point.type"),
    "int true": ('"asInt":true', "point.type"),
    "int as the word null": ('"asInt":"null"', "point.type"),
    "int NaN": ('"asInt":"NaN"', "point.type"),
    "int list": ('"asInt":[7]', "point.type"),
    "double": ('"asDouble":42.5', 42.5),
    "double as string": ('"asDouble":"42.5"', 42.5),
    "double as int": ('"asDouble":7', 7.0),
    "double as exponent": ('"asDouble":1E2', 100.0),
    "minus nought as double": ('"asDouble":-0.0', -0.0),
    "smallest double": ('"asDouble":5e-324', 5e-324),
    "too small is nought": ('"asDouble":1e-400', 0.0),
    "largest double": ('"asDouble":1.7976931348623157e308', 1.7976931348623157e308),
    "2^64 as double": ('"asDouble":18446744073709551616', 2.0**64),
    "300 digits as double": (f'"asDouble":{"9" * 300}', 1e300),
    "17 digits": ('"asDouble":0.10000000000000001', 0.1),
    "1e400": ('"asDouble":1e400', "value.range"),
    "-1e400": ('"asDouble":-1e400', "value.range"),
    "1e400 as string": ('"asDouble":"1e400"', "value.range"),
    "1000 digits as double": (f'"asDouble":{DIGITS}', "value.range"),
    "NaN": ('"asDouble":"NaN"', "value.nan"),
    "nan": ('"asDouble":"nan"', "value.nan"),
    "Infinity": ('"asDouble":"Infinity"', "value.infinite"),
    "-Infinity": ('"asDouble":"-Infinity"', "value.infinite"),
    "inf": ('"asDouble":"inf"', "value.infinite"),
    "double as word": ('"asDouble":"many"', "point.type"),
    "double of no digits": ('"asDouble":""', "point.type"),
    "double with a space": ('"asDouble":" 1"', "point.type"),
    "double as the word null": ('"asDouble":"null"', "point.type"),
    "double true": ('"asDouble":true', "point.type"),
    "double with underscore": ('"asDouble":"1_0"', "point.type"),
    "double hexadecimal": ('"asDouble":"0x1p3"', "point.type"),
    "double with a bare dot": ('"asDouble":"1."', "point.type"),
    "injected double": ('"asDouble":"1,\\"a\\":2"', "point.type"),
    "double object": ('"asDouble":{}', "point.type"),
    "no value": ("", "value.missing"),
    "null value": ('"asInt":null', "value.missing"),
    "two values": ('"asInt":1,"asDouble":2', "value.two"),
    "one value and a null": ('"asInt":1,"asDouble":null', 1),
    "snake case": ('"as_int":1', "value.missing"),
    "a key twice": ('"asInt":1,"asInt":2', 2),
    "two values, one out of range": ('"asInt":9223372036854775808,"asDouble":2', "value.two"),
    "two values, one of a wrong type": ('"asInt":"x","asDouble":2', "point.type"),
    # flags
    "no recorded value": ('"asInt":1,"flags":1', "flags.no_value"),
    "no recorded value, none there": ('"flags":1', "flags.no_value"),
    "no recorded value, other bits": ('"flags":"3"', "flags.no_value"),
    "no recorded value as float": ('"flags":1.0', "flags.no_value"),
    "other flags": ('"asInt":1,"flags":2', 1),
    "flags null": ('"asInt":1,"flags":null', 1),
    "flags and two values": ('"asInt":1,"asDouble":1,"flags":1', "flags.no_value"),
    "flags and a wrong type": ('"asInt":"x","flags":1', "point.type"),
    "flags of a wrong type": ('"asInt":1,"flags":"one"', "point.type"),
    "flags of 33 bits": ('"asInt":1,"flags":4294967296', "point.type"),
    "flags below nought": ('"asInt":1,"flags":-1', "point.type"),
    # attributes
    "attributes null": ('"asInt":1,"attributes":null', 1),
    "attributes of a wrong type": ('"asInt":1,"attributes":{}', "point.type"),
    "attribute of a wrong type": ('"asInt":1,"attributes":["x"]', "point.type"),
    "attribute key of a wrong type": ('"asInt":1,"attributes":[{"key":1}]', "point.type"),
    "attribute value of a wrong type": ('"asInt":1,"attributes":[{"key":"a","value":"x"}]', "point.type"),
    "attribute of two kinds": (
        f'"asInt":1,"attributes":{attribute(chr(123) + chr(34) + "boolValue" + chr(34) + ":true," + chr(34) + "intValue" + chr(34) + ":1}")}',
        "point.type",
    ),
    "attribute int as words": ('"asInt":1,"attributes":[{"key":"a","value":{"intValue":"x"}}]', "point.type"),
    "attribute int 2^63": (
        '"asInt":1,"attributes":[{"key":"a","value":{"intValue":9223372036854775808}}]',
        "point.type",
    ),
    "attribute double 1e400": ('"asInt":1,"attributes":[{"key":"a","value":{"doubleValue":1e400}}]', "point.type"),
    "attribute bool as words": ('"asInt":1,"attributes":[{"key":"a","value":{"boolValue":"true"}}]', "point.type"),
    "attribute bool as number": ('"asInt":1,"attributes":[{"key":"a","value":{"boolValue":1}}]', "point.type"),
    "attribute bytes": ('"asInt":1,"attributes":[{"key":"a","value":{"bytesValue":"%"}}]', "point.type"),
    "attribute list": ('"asInt":1,"attributes":[{"key":"a","value":{"arrayValue":[1]}}]', "point.type"),
    "attribute in a list": (
        '"asInt":1,"attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"x"}]}}}]',
        "point.type",
    ),
    "attributes 47 deep": (f'"asInt":1,"attributes":{attribute(nested(47))}', 1),
    "attributes 48 deep": (f'"asInt":1,"attributes":{attribute(nested(48))}', "limits.depth"),
    "1,024 attributes": (f'"asInt":1,"attributes":[{",".join(["{}"] * 1024)}]', 1),
    "1,025 attributes": (f'"asInt":1,"attributes":[{",".join(["{}"] * 1025)}]', "limits.attributes"),
    "1,025 items of a value": (
        f'"asInt":1,"attributes":{attribute(LONG_VALUE)}',
        "limits.attributes",
    ),
    "1,025 attributes, one of a wrong type": (
        f'"asInt":1,"attributes":[{",".join(["{}"] * 1024)},7]',
        "point.type",
    ),
    "too deep and no recorded value": (
        f'"asInt":1,"flags":1,"attributes":{attribute(nested(48))}',
        "limits.depth",
    ),
    # labels of OTLP 0.7 to 0.11
    "labels null": ('"asInt":1,"labels":null', 1),
    "labels empty": ('"asInt":1,"labels":[]', 1),
    "labels that the attributes lack": ('"asInt":1,"labels":[{"key":"a","value":"b"}]', "point.labels"),
    "labels that are attributes": (f'"asInt":1,"labels":[{LABEL}],"attributes":[{SAME}]', 1),
    "labels of another value": (
        f'"asInt":1,"labels":[{LABEL}],"attributes":[{SAME.replace("i-1", "i-2")}]',
        "point.labels",
    ),
    "more labels than attributes": (
        f'"asInt":1,"labels":[{LABEL},{{"key":"b","value":"1"}}],"attributes":[{SAME}]',
        "point.labels",
    ),
    "a label of nothing": ('"asInt":1,"labels":[{}]', "point.labels"),
    "a label of nothing that is an attribute": ('"asInt":1,"labels":[{}],"attributes":[{}]', 1),
    "a label without a value": ('"asInt":1,"labels":[{"key":"a"}],"attributes":[{"key":"a"}]', 1),
    "a label with an int's text": (
        '"asInt":1,"labels":[{"key":"a","value":"7"}],"attributes":[{"key":"a","value":{"intValue":7}}]',
        1,
    ),
    "labels of a wrong type": ('"asInt":1,"labels":{"a":"b"}', "point.labels"),
    "a label of a wrong type": ('"asInt":1,"labels":["a"]', "point.labels"),
    "a label null": ('"asInt":1,"labels":[null]', "point.labels"),
    "a label's value of a wrong type": ('"asInt":1,"labels":[{"key":"a","value":{"stringValue":"b"}}]', "point.labels"),
    "1,025 labels": (f'"asInt":1,"labels":[{",".join(["{}"] * 1025)}],"attributes":[{{}}]', "point.labels"),
    "labels and no recorded value": (f'"asInt":1,"flags":1,"labels":[{LABEL}]', "flags.no_value"),
    "labels and two values": (f'"asInt":1,"asDouble":1,"labels":[{LABEL}]', "point.labels"),
    "labels and a wrong type": (f'"asInt":"x","labels":[{LABEL}]', "point.type"),
    # unknown fields
    "unknown fields": ('"asInt":1,"later":{"a":[1,{"asInt":"x"}]}', 1),
    "unknown number too large": ('"asInt":1,"later":[1e400,' + DIGITS + "]", 1),
}

TIMES = {
    "first": (FIRST, 946_684_800_000),
    "last": (LAST, 4_133_980_799_999),
    "too early": (BEFORE_2000, "time.range"),
    "too late": (IN_2101, "time.range"),
    "as number": ('"timeUnixNano":1715263558360000000', 1_715_263_558_360),
    "as float": ('"timeUnixNano":1.715263558e18', 1_715_263_558_000),
    "floored": ('"timeUnixNano":"1715263558360999999"', 1_715_263_558_360),
    "before the hour": ('"timeUnixNano":"1768647599999999999"', 1_768_647_599_999),
    "milliseconds": ('"timeUnixNano":"1715263558360"', "time.range"),
    "negative": ('"timeUnixNano":"-1"', "time.range"),
    "2^64": ('"timeUnixNano":"18446744073709551616"', "time.range"),
    "1000 digits": (f'"timeUnixNano":{DIGITS}', "time.range"),
    "nought": ('"timeUnixNano":"0"', "time.missing"),
    "null": ('"timeUnixNano":null', "time.missing"),
    "absent": ('"x":1', "time.missing"),
    "small half": ('"timeUnixNano":0.5', "point.type"),
    "words": ('"timeUnixNano":"now"', "point.type"),
    "rfc 3339": ('"timeUnixNano":"2024-05-09T14:05:58Z"', "point.type"),
    "true": ('"timeUnixNano":true', "point.type"),
    "start nought": (f'{TIME},"startTimeUnixNano":0', 1_715_263_558_360),
    "start after the time": (f'{TIME},"startTimeUnixNano":"{1_800_000_000 * 10**9}"', 1_715_263_558_360),
    "labels and no time": (f'"labels":[{LABEL}]', "point.labels"),
}


def between(point: str) -> bytes:
    return gauge(f'{{{TIME},"asInt":11}},{point},{{{TIME},"asInt":22}}')


def expect(payload: bytes, wanted: object, field: str) -> None:
    """The siblings become rows; the odd one what is wanted."""
    engine = Engine(ACME)
    out = engine.fan_out(record(payload))
    rows = {row["rowId"].split(":")[1]: row for row in lines_of(out.ndjson())}
    assert rows["0"]["value"] == 11
    assert rows["2"]["value"] == 22
    if not isinstance(wanted, str):
        assert repr(rows["1"][field]) == repr(wanted)
        assert (out.rejected, out.skipped) == ((), {})
    elif wanted in SKIPPED:
        assert (out.rejected, out.skipped, set(rows)) == ((), {wanted: 1}, {"0", "2"})
    else:
        assert (out.rejected, out.skipped, set(rows)) == (((1, wanted),), {}, {"0", "2"})
    agree(record(payload))


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_point_becomes_its_value_or_its_reason(name):
    members, wanted = NUMBERS[name]
    expect(between(f"{{{TIME}{',' if members else ''}{members}}}"), wanted, "value")


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_floored_to_milliseconds_or_named(name):
    members, wanted = TIMES[name]
    expect(between(f'{{{members},"asInt":1}}'), wanted, "tsUnixMs")


@pytest.mark.parametrize("point", ["7", '"x"', "[]", "true"])
def test_a_point_that_is_no_object_is_a_wrong_type(point):
    expect(between(point), "point.type", "value")


@pytest.mark.parametrize("point", ["null", '"attributes":[null]'])
def test_a_null_is_no_element_of_an_array_in_a_point(point):
    expect(between(point if point == "null" else f'{{{TIME},"asInt":1,{point}}}'), "point.type", "value")


@pytest.mark.parametrize(
    "odd", ["1", "0", "1.0", '"true"', "[]", "{}", "9" * 5000, "-" + "9" * 100, "1e400", "[" * 3000 + "]" * 3000]
)
def test_a_monotonic_that_is_no_boolean_rejects_its_points_and_raises_nothing_else(odd: str) -> None:
    sum_ = f'{{"name":"m","sum":{{"dataPoints":[{{{TIME},"asInt":1}}],"isMonotonic":{odd}}}}}'
    good = f'{{"name":"n","sum":{{"dataPoints":[{{{TIME},"asInt":2}}]}}}}'
    rec = record(metrics(f"{sum_},{good}"))
    if odd.startswith("[["):
        with pytest.raises(DecodeError) as caught:
            Engine(ACME).fan_out(rec)
        assert caught.value.reason == "limits.depth"
        return
    out = Engine(ACME).fan_out(rec)
    assert (out.rejected, [row["value"] for row in lines_of(out.ndjson())]) == (((0, "decode.type"),), [2])
    agree(rec)
