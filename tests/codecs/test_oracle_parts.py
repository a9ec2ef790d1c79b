"""What accompanies a measurement never decides over it: by hand, by the oracle and by the engine."""

import json

import pytest

from lmstream import Engine
from support import twins
from support.judging import ACME, agree, exact, judged, lines_of, record
from support.part_cases import BOTH, JSON_ONLY, THREE
from support.repoison import (
    TIME,
    field,
    gauge,
    metrics,
    proto_attribute,
    proto_gauge,
    proto_nested,
    proto_point,
)

AROUND = {
    *("rowId", "orgId", "orgKey", "deviceId", "datasource", "metric", "metricKey", "type", "ts", "tsUnixMs"),
    *("temporality", "monotonic"),
}
"""Fields of a row that say where, what and when."""
CASES = BOTH | JSON_ONLY


def bundle_of(kind: str, members: str, more: str = "") -> bytes:
    point = f"{{{TIME}{',' if members else ''}{members}}}"
    return metrics(f'{{"name":"m","{kind}":{{"dataPoints":[{point}{more}]}}}}')


@pytest.mark.parametrize("name", CASES)
def test_a_part_is_kept_or_left_out_and_counted_and_the_point_lands(name):
    kind, members, wanted, noted = CASES[name]
    rec = record(bundle_of(kind, members))
    out = Engine(ACME).fan_out(rec)
    [row] = lines_of(out.ndjson())
    assert exact({key: value for key, value in row.items() if key not in AROUND}) == exact(wanted)
    assert (out.rejected, out.skipped) == ((), {})
    assert {reason: times for reason, times in out.noted.items() if reason.startswith("part.")} == noted
    agree(rec)


@pytest.mark.parametrize("name", BOTH)
def test_protobuf_says_the_same_of_a_part(name):
    kind, members, _, noted = BOTH[name]
    payload = bundle_of(kind, members)
    lines = agree(record(payload))
    assert agree(record(twins.to_proto(payload))) == lines
    seen = judged(record(twins.to_proto(payload))).noted
    assert {reason: times for reason, times in seen.items() if reason.startswith("part.")} == noted


WITHOUT_A_ROW = {
    "no recorded value": '"flags":1',
    "no value": "",
    "of a wrong type": '"asInt":"x"',
    "NaN": '"asDouble":"NaN"',
    "two values": '"asInt":1,"asDouble":2',
    "labels": '"asInt":1,"labels":[{"key":"a"}]',
    "too many attributes": f'"asInt":1,"attributes":[{",".join(["{}"] * 1025)}]',
}


@pytest.mark.parametrize("name", WITHOUT_A_ROW)
def test_parts_are_counted_only_where_there_is_a_row(name):
    """A fault of a part never decides, and what becomes of a point without a row is counted by its reason alone."""
    members = ",".join(filter(None, (WITHOUT_A_ROW[name], '"startTimeUnixNano":"1"', '"exemplars":[7,{}]')))
    rec = record(gauge(f'{{{TIME},{members}}},{{{TIME},"asInt":"5"}}'))
    out = Engine(ACME).fan_out(rec)
    assert [row["value"] for row in lines_of(out.ndjson())] == [5]
    assert not [reason for reason in out.noted if reason.startswith("part.")]
    agree(rec)


def test_parts_are_counted_only_for_rows_that_a_replay_makes():
    rec = record(gauge(",".join([f'{{{TIME},"asInt":"5","startTimeUnixNano":"1"}}'] * 3)), only=(1,))
    out = Engine(ACME).fan_out(rec)
    assert (out.rows, out.noted["part.range"], out.noted["device.unknown"]) == (1, 1, 3)
    agree(rec)


def test_exemplar_attributes_too_deep_are_left_out_in_protobuf():
    exemplar = b"\x31\x01" + bytes(7) + field(7, proto_attribute(proto_nested(48)))
    rec = record(proto_gauge(proto_point(field(5, exemplar), field(5, exemplar[:9]))))
    [row] = lines_of(Engine(ACME).fan_out(rec).ndjson())
    assert row["exemplars"] == [{"value": 1}, {"value": 1}]
    assert Engine(ACME).fan_out(rec).noted["part.limit"] == 1
    agree(rec)


COMPANIONS = [
    '"sum":"NaN"',
    '"min":[]',
    '"max":1e999',
    '"startTimeUnixNano":"x"',
    '"exemplars":7',
    '"exemplars":[{"asDouble":"NaN"},null]',
    '"later":{"a":[1]}',
    '"exemplars":[{"asInt":1,"traceId":"W47/"}]',
]


@pytest.mark.parametrize("companion", COMPANIONS)
def test_the_rest_of_the_row_is_the_same_without_the_companion(companion):
    sound = json.loads(agree(record(bundle_of("histogram", THREE))))
    damaged = json.loads(agree(record(bundle_of("histogram", f"{THREE},{companion}"))))
    damaged.pop("exemplars", None)
    assert damaged == sound
