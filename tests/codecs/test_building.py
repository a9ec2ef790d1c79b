"""Codecs of other people, written as generators of points: the rows they give are those of the row contract."""

import json
import math

import pytest

from lmstream import Engine, Record, RowEvent, Settings
from lmstream.codecs.building import Histogram, Point, PointCodec, Summary
from lmstream.codecs.checking import misfit
from lmstream.errors import DecodeError
from lmstream.settings import Limits

NS = 1_715_263_558_360_000_000
ACME = Settings(org_id="acme")


def codec_of(points, settings=ACME):
    class Codec(PointCodec):
        def points(self, _payload):
            yield from points

    return Codec(settings)


@pytest.fixture
def fan_out(monkeypatch):
    """Points in, what the engine makes of them out."""

    def made(points, settings=ACME):
        module = type("Module", (), {"Codec": lambda settings: codec_of(points, settings)})
        monkeypatch.setitem(__import__("sys").modules, "acme_points", module)
        engine = Engine(Settings(org_id="acme", format="acme_points", limits=settings.limits))
        return engine.fan_out(Record(topic="t", partition=0, offset=0, value=b"x"))

    return made


def test_points_become_rows_with_all_that_was_said_of_them(fan_out):
    point = Point(
        metric="requests",
        value=7,
        time=NS,
        start=NS - 10**9,
        kind="sum",
        temporality="delta",
        monotonic=True,
        unit="1",
        resource={"host.name": "web-1", "cores": 8, "tags": ["a", 1.5]},
        scope="nginx",
        scope_version="2",
        scope_attributes={"pid": 7},
        attributes={"wildValue": "80", "tls": True},
    )
    (line,) = fan_out([point]).ndjson().splitlines()
    row = json.loads(line)
    assert row.pop("rowId").endswith(":0")
    assert row == {
        "orgId": "acme", "orgKey": "acme", "deviceId": "web-1", "deviceName": "web-1", "datasource": "nginx",
        "resource": {"host.name": "web-1", "cores": "8", "tags": '["a",1.5]'},
        "scope": {"name": "nginx", "version": "2", "pid": "7"},
        "metric": "requests", "metricKey": "requests", "unit": "1", "type": "sum", "temporality": "delta",
        "monotonic": True, "ts": "2024-05-09T14:05:58.360Z", "tsUnixMs": NS // 10**6,
        "startTsUnixMs": NS // 10**6 - 1000, "value": 7, "instance": "80",
        "attributes": {"wildValue": "80", "tls": "true"},
    }  # fmt: skip


def test_every_kind_has_its_members(fan_out):
    named = {"time": NS, "resource": {"host.name": "h"}, "scope": "s"}
    histogram = Histogram(count=3, sum=4.5, min=math.nan, bucket_counts=[1, 2], explicit_bounds=(0.5,))
    points = [
        Point(metric="h", value=histogram, temporality="cumulative", **named),
        Point(metric="s", value=Summary(count=2, sum=1.0, quantiles=[(0.5, 1.0), (0.9, math.inf)]), **named),
        Point(metric="g", value=1.5, **named),
    ]
    out = fan_out(points)
    h, s, g = (json.loads(line) for line in out.ndjson().splitlines())
    assert (h["type"], h["count"], h["bucketCounts"], h["explicitBounds"]) == ("histogram", 3, [1, 2], [0.5])
    assert h["temporality"] == "cumulative"
    assert "min" not in h
    assert (s["type"], s["quantiles"]) == ("summary", [{"quantile": 0.5, "value": 1.0}])
    assert (g["type"], g["value"]) == ("gauge", 1.5)
    assert out.noted == {"part.nan": 2}


def test_each_point_keeps_its_ordinal_and_what_is_wrong_with_it_is_told(fan_out):
    named = {"resource": {"host.name": "h"}, "scope": "s"}
    points = [
        Point(metric="a", value=1, time=NS, **named),
        Point(metric="a", time=None, refused="acme.unit", why="furlongs", at="line 2", **named),
        Point(metric="b", value=2**63, time=NS, **named),
        Point(metric="b", value=True, time=NS, **named),
        Point(metric="b", time=NS, **named),
        Point(metric="b", value=1, time=None, at="line 6", **named),
        Point(metric="b", value=math.nan, time=NS, **named),
        Point(metric="a", value=2, time=NS, resource={"host.name": "other"}, scope="s"),
    ]
    out = fan_out(points)
    rows = [json.loads(line) for line in out.ndjson().splitlines()]
    assert [(row["rowId"].partition(":")[2], row["deviceId"]) for row in rows] == [("0", "h"), ("7", "other")]
    assert out.rejected == (
        (1, "acme.unit"), (2, "value.range"), (3, "point.type"), (4, "value.missing"), (5, "time.missing"),
    )  # fmt: skip
    assert out.skipped == {"value.nan": 1}
    assert out.points == len(points)
    assert out.why(1) == "a at line 2: furlongs"
    assert out.why(5) == "b at line 6: the point has no timeUnixNano and its scope has no epoch attribute"


def test_nothing_is_a_bundle_without_points(fan_out):
    out = fan_out([])
    assert (out.rows, out.points, out.noted) == (0, 0, {"bundle.empty": 1})


def test_what_is_too_much_or_no_text_refuses_the_record(fan_out):
    point = Point(metric="a", value=1, time=NS, resource={"host.name": "h"})
    with pytest.raises(DecodeError, match=r"more than 2 data points \[limits\.points\]"):
        fan_out([point] * 3, Settings(limits=Limits(points=2)))
    with pytest.raises(DecodeError, match=r"limits\.attributes"):
        fan_out([Point(metric="a", value=1, time=NS, attributes=dict.fromkeys(map(str, range(1025)), "x"))])
    with pytest.raises(DecodeError, match=r"'\\udcff' is not UTF-8 \[decode\.utf8\]"):
        fan_out([Point(metric="a\udcff", value=1, time=NS)])


def test_largest_bounds_every_row_it_made():
    codec = codec_of([Point(metric="m" * n, value=1, time=NS, attributes={"a": "b" * n}) for n in range(1, 50)])
    bundle = codec.decode(b"")
    assert misfit(bundle) == ""
    pieces = zip(bundle.metrics, bundle.tails, strict=True)
    scope = bundle.series[0].scope.piece + bundle.series[0].resource.piece
    assert max(len(scope) + len(metric) + len(tail) for metric, tail in pieces) <= codec.largest
    codec.clear()
    assert codec.decode(b"").tails == bundle.tails


def test_rows_are_of_the_contract(fan_out):
    import msgspec

    point = Point(metric="\u2028'\"\\", value=-0.0, time=NS, resource={"host.name": ""}, unit="é", scope="\x00")
    (line,) = fan_out([point]).ndjson().splitlines()
    assert msgspec.json.decode(line, type=RowEvent).metric == "\u2028'\"\\"
