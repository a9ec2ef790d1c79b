"""What the native part's sieve does by rules is what the plan does behind it, where it is taken and where it is not."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from lmstream import Settings
from lmstream.codecs.fragments import Counted
from lmstream.engine.shaping import sieving
from lmstream.model import Record
from lmstream.native import native
from lmstream.rules import Conditions, Maps, Mask, Names, Rule, Scale
from lmstream.settings import Limits
from support.native_twins import Twins

pytestmark = pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")

TIMES = {"startTimeUnixNano": "1715263517241000000", "timeUnixNano": "1715263577241000000"}
TEXT = {"stringValue": "a"}


def metric(name, *values, attribute=TEXT, times=TIMES):
    points = [times | {"asDouble": value, "attributes": [{"key": "i", "value": attribute}]} for value in values]
    return {"name": name, "gauge": {"dataPoints": points}}


def bundle(*metrics, device="7", scope="s"):
    resource = {"attributes": [{"key": "hostId", "value": {"stringValue": device}}] if device else []}
    scopes = [{"scope": {"name": scope}, "metrics": metrics}]
    return json.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": scopes}]}).encode()


def twins(*rules):
    return Twins(Settings(org_id="acme", rules=rules))


def named(name, metrics="*", **more):
    return Rule(name=name, when=Conditions(metric=metrics), **more)


def of_scope(name, scope, **more):
    return Rule(name=name, when=Conditions(datasource=scope), **more)


def sifted(pair, payload):
    """Whether the native part took a payload, and sifted it."""
    return pair.native.codecs["otlp_json"].decode(payload, sift=True).sifted is not None


def test_powers_that_cancel_out_change_the_unit_all_the_same():
    pair = twins(named("up", scale=Scale(multiply=1024, unit="x")), named("down", scale=Scale(divide=1024, unit="y")))
    payload = bundle(metric("m1", 1.5))
    assert pair.agree(payload)
    assert sifted(pair, payload)
    assert b'"unit":"y"' in pair.said(pair.native, payload)[0]


FAR = [named(f"s{at}", "m1", scale=Scale(multiply=1 << 60, unit="x")) for at in range(17)]


@pytest.mark.parametrize("drop", [False, True])
def test_a_metric_of_a_power_that_is_too_large_is_kept_and_dropped_by_its_own_rule(drop):
    pair = twins(named("first", "m1", drop=drop, keep=not drop), of_scope("all", "s", drop=True), *FAR)
    payload = bundle(metric("m1", 1.5), metric("m2", 2.5))
    assert pair.agree(payload)
    assert sifted(pair, payload) is drop, "of a value that makes no row nobody asks the unit"


def test_resources_and_scopes_of_more_kinds_than_are_remembered_keep_their_bundles_whole(monkeypatch):
    monkeypatch.setattr(sieving, "_KINDS", 2)
    rules = [of_scope(f"r{at}", f"*{at}*", scale=Scale(multiply=1 << at, unit=str(at))) for at in range(1, 6)]
    pair = twins(of_scope("kept", "*5*", keep=True), *rules, of_scope("dropped", ["*12*", "*5*"], drop=True))
    for scope, through in (("s1", True), ("s2", True), ("s12", False), ("s1", True), ("s5", False), ("s125", False)):
        payload = bundle(metric("m1", 1.5, 0.25), metric("m2", 2.5), scope=scope)
        assert pair.agree(payload)
        assert sifted(pair, payload) is through


@pytest.mark.parametrize("seen", [False, True])
def test_what_is_counted_of_attributes_is_counted_of_dropped_points_too(monkeypatch, seen):
    monkeypatch.setattr(Counted, "seen", seen)
    pair = twins(named("dropped", "m1", drop=True))
    odd = bundle(metric("m1", 1.5, 2.5, attribute={"fooValue": 1}), metric("m2", 3.5))
    assert pair.agree(odd)
    assert pair.said(pair.native, odd)[3][0] == [("attribute.empty", 2)]
    assert not sifted(pair, odd)
    other = bundle(metric("m1", 1.5), metric("m2", 3.5, attribute={"fooValue": 1}))
    assert pair.agree(other)
    assert sifted(pair, other), "such a value in what is left is no reason to read all"


def test_what_a_device_without_a_name_notes_is_noted_of_dropped_points_too():
    pair = twins(named("dropped", "m1", drop=True))
    payload = bundle(metric("m1", 1.5), metric("m2", 3.5), device="")
    assert pair.agree(payload)
    assert pair.said(pair.native, payload)[3][0] == [("device.unknown", 2)]
    assert not sifted(pair, payload)


WITHOUT_TIME = {"startTimeUnixNano": "1"}


def test_a_bundle_that_is_read_again_counts_once():
    pair = twins(named("dropped", "m1", drop=True))
    payload = bundle(metric("m1", 1.5), metric("m2", 3.5, 4.5), metric("m3", 1.0, times=WITHOUT_TIME))
    assert pair.agree(payload)
    assert sifted(pair, payload)
    record = Record(topic="t", partition=0, offset=7, timestamp=1_715_263_558_360, value=payload)
    assert [engine.fan_out(record).points for engine in (pair.native, pair.plain)] == [4, 4]


def test_a_dropped_point_without_a_time_is_dropped():
    pair = twins(named("dropped", "m1", drop=True))
    payload = bundle(metric("m1", 1.5, times=WITHOUT_TIME), metric("m2", 3.5))
    pair.agree(payload)
    out = pair.said(pair.native, payload)
    assert out[0].count(b"\n") == 1
    assert out[3][6] == [("dropped", 1)]


@pytest.mark.parametrize(
    "other",
    [
        of_scope("other", "s", org="zz"),
        of_scope("other", "s", metric_key="k"),
        Rule(name="other", when=Conditions(datasource="s", metric="m1"), metric_key="k"),
        named("other", "*1", keep=True),
        named("other", "m1", scale=Scale(multiply=2, unit="x")),
    ],
)
def test_a_rule_that_would_change_only_what_is_dropped_is_idle_to_both_or_to_none(other):
    pair = twins(named("dropped", "m1", drop=True), other)
    pair.agree(b'{"resourceMetrics":[' + bundle(metric("m1", 1.5))[20:-2] + b"]")  # is refused
    assert pair.native.shaping.idle == pair.plain.shaping.idle == ["dropped", "other"]
    assert pair.agree(bundle(metric("m1", 1.5)))
    assert pair.native.shaping.idle == pair.plain.shaping.idle
    assert pair.agree(bundle(metric("m1", 1.5), metric("m2", 1.5)))
    assert pair.native.shaping.idle == pair.plain.shaping.idle


def bundles(*each):
    """Of several resources."""
    return b'{"resourceMetrics":[' + b",".join(one[len(b'{"resourceMetrics": [') : -2] for one in each) + b"]}"


def test_a_device_without_a_name_behind_others_keeps_the_bundle_whole():
    pair = twins(named("dropped", "m1", drop=True), named("scaled", "m2", scale=Scale(divide=4, unit="x")))
    payload = bundles(bundle(metric("m1", 1.5), metric("m2", 3.5)), bundle(metric("m1", 1.5), device=""))
    assert pair.agree(payload)
    assert pair.said(pair.native, payload)[3][0] == [("device.unknown", 1)]
    assert not sifted(pair, payload)
    assert pair.agree(bundles(bundle(metric("m1", 1.5), device=""), bundle(metric("m1", 1.5))))


@pytest.mark.parametrize("turned", ["resource", "scope", "unit"])
def test_members_in_another_order_are_dropped_and_scaled_alike(turned):
    pair = twins(named("dropped", "m1", drop=True), named("scaled", "m2", scale=Scale(divide=4, unit="x")))
    request = json.loads(bundle(metric("m1", 1.5), metric("m2", 3.5, 5.0)))
    resource = request["resourceMetrics"][0]
    scope = resource["scopeMetrics"][0]
    if turned == "resource":
        resource["resource"] = resource.pop("resource")
    elif turned == "scope":
        scope["scope"] = scope.pop("scope")
    else:
        scope["metrics"][1]["unit"] = "By"
    payload = json.dumps(request).encode()
    assert pair.agree(payload)
    assert sifted(pair, payload) is (turned == "unit")


TOGETHER = [
    Rule(name="dropped", when=Conditions(datasource="s", metric="m1"), drop=True),
    Rule(name="key", when=Conditions(resource={"hostId": "7"}), metric_key="k"),
    Rule(name="scaled", when=Conditions(metric="m*"), scale=Scale(divide=1024, unit="Ki")),
    Rule(name="of one", when=Conditions(resource={"hostId": "8"}, metric="m3"), scale=Scale(divide=2, unit="two")),
]


def test_resource_scope_and_metric_may_be_looked_at_together():
    pair = twins(*TOGETHER)
    for device, scope in (("7", "s"), ("7", "t"), ("8", "s"), ("9", "t")):
        payload = bundle(metric("m1", 1.5), metric("m2", 4096.0), metric("m3", 0.1), device=device, scope=scope)
        assert pair.agree(payload)
        assert sifted(pair, payload)
    assert pair.native.shaping.idle == pair.plain.shaping.idle == []


def test_a_value_that_is_not_exact_in_the_last_metric_undoes_what_was_done_before():
    pair = twins(*TOGETHER)
    payload = bundle(metric("m1", 1.5), metric("m2", 4096.0), metric("m3", 5e-324))
    assert pair.agree(payload)
    assert not sifted(pair, payload)
    assert pair.agree(bundle(metric("m1", 1.5), metric("m2", 4096.0), metric("m3", 5.0)))


def test_dropped_points_of_other_times_leave_the_times_of_the_rest():
    pair = twins(named("dropped", "d*", drop=True))
    later = TIMES | {"timeUnixNano": "1715263577999000000"}
    for order in (("d1", "m1", "d2", "m2"), ("m1", "d1", "m2"), ("d1", "m1"), ("m1", "d1", "d2")):
        payload = bundle(*(metric(name, 1.5, 2.5, times=later if "d" in name else TIMES) for name in order))
        assert pair.agree(payload)
        assert sifted(pair, payload)


def test_as_many_points_as_may_be_are_counted_with_those_that_are_dropped():
    rules = (named("dropped", "m1", drop=True),)
    pair = Twins(Settings(org_id="acme", rules=rules, limits=Limits(points=4)))
    assert pair.agree(bundle(metric("m1", 1.0, 2.0), metric("m2", 3.0, 4.0)))
    assert not pair.agree(bundle(metric("m1", 1.0, 2.0), metric("m2", 3.0, 4.0, 5.0)))


def test_an_engine_may_be_used_by_several_threads():
    pair = twins(*TOGETHER)
    payloads = [
        bundle(metric("m1", 1.5), metric("m2", 4096.0), device=str(device), scope=scope)
        for device in range(6, 10)
        for scope in ("s", "t", "u")
    ]
    said = [pair.said(pair.plain, payload) for payload in payloads]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            pair.native.clear_caches()
            assert list(pool.map(lambda payload: pair.said(pair.native, payload), payloads)) == said


@pytest.mark.parametrize(
    "rule",
    [
        Rule(name="r", mask=Mask(attributes=("*",), find="email")),
        Rule(name="r", mask=Mask(attributes=("*token*",), replace="***")),
        Rule(name="r", mask=Mask(attributes=("größe",), replace="***")),
        Rule(name="r", rename=Maps(attributes={"i": "instance"})),
        Rule(name="r", when=Conditions(attributes={"i": "*-x"}), drop=True),
    ],
)
def test_attributes_that_come_once_are_shaped_where_a_rule_is_about_them(rule):
    pair = twins(rule, of_scope("other", "none", drop=True))
    names = ("i", "wildValue", "token", "größe", "a@b.example", "i@")
    values = ("a", "b", "ann@example.com", "token", "größe", "c-x", "@", "", 'q"@', "x\u0040y.example")
    assert pair.agree(bundle(metric("m1", 1.5, attribute={"stringValue": "quiet"})))
    for number, (name, value) in enumerate(product(names, values)):
        request = json.loads(bundle(metric("m1", 1.5, 2.5, attribute={"stringValue": f"{value}{number}"})))
        for point in request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"]:
            point["attributes"][0]["key"] = name
        assert pair.agree(json.dumps(request, ensure_ascii=False).encode())
        assert pair.agree(json.dumps(request).replace("@", "\\u0040").encode())


OTHERWISE = [
    {"org": "zz"},
    {"set": Maps(resource={"env": "prod"})},
    {"mask": Mask(resource=("hostId",), fields=("deviceId",))},
    {"remove": Names(attributes=("i",))},
    {"leave_out": ("scope",)},
]


@pytest.mark.parametrize(
    ("when", "other"),
    [
        *(({"datasource": "s"}, other) for other in OTHERWISE),
        *(({"metric": "m1"}, other) for other in OTHERWISE[1:]),  # an organization is not chosen by metric
    ],
)
@pytest.mark.parametrize("to_metrics", [{"keep": True}, {"scale": Scale(multiply=2, unit="x")}, {"metric_key": "k"}])
def test_what_else_a_rule_does_is_done_behind_the_sieve(when, to_metrics, other):
    pair = twins(Rule(name="r", when=Conditions(**when), **to_metrics, **other), named("dropped", "m2", drop=True))
    payload = bundle(metric("m1", 1.5), metric("m2", 1.5), metric("m3", 2.5))
    assert pair.agree(payload)
    assert sifted(pair, payload)


def test_an_attribute_that_is_the_first_to_be_counted_may_be_of_a_later_metric(monkeypatch):
    monkeypatch.setattr(Counted, "seen", False)
    pair = twins(named("dropped", ["m1", "m2"], drop=True))
    odd = bundle(metric("m1", 1.5), metric("m2", 2.5, attribute={"fooValue": 1}), metric("m3", 1.5))
    mine = pair.said(pair.native, odd)
    monkeypatch.setattr(Counted, "seen", False)
    assert mine == pair.said(pair.plain, odd)
    assert mine[3][0] == [("attribute.empty", 1)]


def by_point(name, *texts, **more):
    return Rule(name=name, when=Conditions(attributes={"i": texts}), **more)


def mixed(name, *points):
    """A metric of points by value, text of their attribute, and later times."""
    made = [metric(name, value, attribute={"stringValue": text}) for value, text, *_ in points]
    every = [each["gauge"]["dataPoints"][0] for each in made]
    for point, (_, _, *later) in zip(every, points, strict=True):
        point["timeUnixNano"] = str(int(point["timeUnixNano"]) + sum(later) * 1_000_000)
    return {"name": name, "gauge": {"dataPoints": every}}


def landed(engine, payload):
    """Ordinals and values of the rows, which have to be those of the columns."""
    out = engine.fan_out(Record(topic="t", partition=0, offset=7, timestamp=1_715_263_558_360, value=payload))
    rows = [json.loads(line) for line in out.ndjson().splitlines()]
    found = sorted((int(row["rowId"].partition(":")[2]), row["value"]) for row in rows)
    columns = [pair for each in out.columns() for pair in zip(each.ordinals, each.values, strict=True)]
    assert sorted(columns) == found
    return found


def of_both(pair, payload):
    """What landed, the same of both engines."""
    assert pair.agree(payload)
    found = landed(pair.native, payload)
    assert found == landed(pair.plain, payload)
    return found


LENGTHS = (0.0, -1.5, 123456789.0125, 0.1, -0.000123456789012345, 7.0, 99999999999999.5, 1e-05, 0.1234567890123456)


@pytest.mark.parametrize(
    "dropped",
    [(0,), (0, 1, 2), (4,), (3, 5), (8,), (6, 7, 8), (0, 8), (0, 2, 4, 6, 8), (1, 3, 5, 7), tuple(range(9))],
)
@pytest.mark.parametrize("times", [(0,) * 9, (0, 0, 0, 1, 1, 1, 2, 2, 2), (0, 1) * 4 + (0,), tuple(range(9))])
def test_points_are_dropped_wherever_in_a_metric_they_are(dropped, times):
    pair = twins(by_point("dropped", "x", drop=True))
    points = [
        (value, "x" if at in dropped else "a", time)
        for at, (value, time) in enumerate(zip(LENGTHS, times, strict=True))
    ]
    payload = bundle(mixed("m1", *points), mixed("m2", (2.5, "a"), (3.5, "x")), mixed("m3", *points))
    left = [at for at in range(9) if at not in dropped]
    expected = [(first + at, LENGTHS[at]) for first in (0, 11) for at in left] + [(9, 2.5)]
    assert of_both(pair, payload) == sorted(expected)
    assert sifted(pair, payload)
    assert pair.said(pair.native, payload)[3][6] == [("dropped", 1 + 2 * len(dropped))]


def test_ordinals_count_on_over_metrics_scopes_and_resources():
    pair = twins(by_point("points", "x", drop=True), named("metric", "d*", drop=True))
    some = mixed("m1", (1.0, "x"), (2.0, "a"), (3.0, "x"))
    gone, all_gone = mixed("d1", (4.0, "a"), (5.0, "x")), mixed("m2", (6.0, "x"))
    one = bundle(gone, some, all_gone, mixed("m3", (7.0, "a")))
    payload = bundles(one, bundle(all_gone, gone, scope="t"), bundle(some, device="8", scope="t"))
    assert of_both(pair, payload) == [(3, 2.0), (6, 7.0), (11, 2.0)]
    assert sifted(pair, payload)
    assert pair.said(pair.native, payload)[3][6] == [("metric", 2), ("points", 8)]


def test_a_point_is_kept_by_a_rule_before_the_one_that_drops_its_metric():
    pair = twins(by_point("kept", "a", keep=True), named("dropped", "m1", drop=True))
    payload = bundle(mixed("m1", (1.0, "x"), (2.0, "a"), (3.0, "y"), (4.0, "a")), mixed("m2", (5.0, "x")))
    assert of_both(pair, payload) == [(1, 2.0), (3, 4.0), (4, 5.0)]
    assert sifted(pair, payload)


def test_a_metric_that_is_dropped_first_asks_no_point():
    pair = twins(named("dropped", "m1", drop=True), by_point("kept", "a", keep=True), by_point("late", "x", drop=True))
    payload = bundle(mixed("m1", (1.0, "x"), (2.0, "a")), mixed("m2", (3.0, "x"), (4.0, "a")))
    assert of_both(pair, payload) == [(3, 4.0)]
    assert sifted(pair, payload)
    assert pair.said(pair.native, payload)[3][6] == [("dropped", 2), ("late", 1)]


def test_what_is_left_of_a_metric_is_scaled():
    pair = twins(by_point("dropped", "x", drop=True), named("scaled", "m*", scale=Scale(divide=4, unit="x")))
    points = ((8.0, "a"), (0.30000000000000004, "x"), (-1.5, "a"), (123456789.0125, "a", 1), (7.0, "x", 1))
    payload = bundle(mixed("m1", *points), mixed("other", *points), mixed("m2", *points[::-1]))
    quarters, others = (2.0, -0.375, 30864197.253125), (8.0, -1.5, 123456789.0125)
    values = [*zip((0, 2, 3), quarters, strict=True), *zip((5, 7, 8), others, strict=True)]
    assert of_both(pair, payload) == [*values, *zip((11, 12, 14), quarters[::-1], strict=True)]
    assert sifted(pair, payload)


@pytest.mark.parametrize("number", [5e-324, 1e300])
def test_a_value_that_the_engine_writes_keeps_the_bundle_whole_where_its_metric_loses_points(number):
    pair = twins(by_point("dropped", "x", drop=True))
    before, behind = mixed("m1", (1.5, "x"), (2.5, "a")), mixed("m3", (3.5, "a"), (4.5, "x"))
    for texts, through in (("aa", True), ("xa", False), ("ax", False), ("xx", False)):
        payload = bundle(before, mixed("m2", (number, texts[0]), (0.25, texts[1])), behind)
        left = [
            (at, value) for at, (value, text) in enumerate(zip((number, 0.25), texts, strict=True), 2) if text == "a"
        ]
        assert of_both(pair, payload) == [(1, 2.5), *left, (4, 3.5)]
        assert sifted(pair, payload) is through


def test_rules_that_drop_different_points_of_a_metric_are_counted_apart():
    pair = twins(
        by_point("one", "x", drop=True), by_point("two", "x", "y", drop=True), by_point("idle", "z", drop=True)
    )
    payload = bundle(mixed("m1", (1.0, "x"), (2.0, "y"), (3.0, "a"), (4.0, "y")), mixed("m2", (5.0, "y")))
    assert of_both(pair, payload) == [(2, 3.0)]
    assert sifted(pair, payload)
    assert pair.said(pair.native, payload)[3][6] == [("one", 1), ("two", 3)]
    assert pair.native.shaping.idle == pair.plain.shaping.idle == ["idle"]


@pytest.mark.parametrize("odd", [0, 1])
def test_points_whose_attributes_are_counted_keep_the_bundle_whole(monkeypatch, odd):
    monkeypatch.setattr(Counted, "seen", False)
    pair = twins(by_point("dropped", "x", drop=True))
    request = json.loads(bundle(mixed("m1", (1.5, "x"), (2.5, "x"))))
    points = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"]
    points[odd]["attributes"].append({"key": "odd", "value": {"fooValue": 1}})
    payload = json.dumps(request).encode()
    assert of_both(pair, payload) == []
    assert pair.said(pair.native, payload)[3][0] == [("attribute.empty", 1)]
    assert not sifted(pair, payload)


def test_points_of_more_kinds_than_are_at_hand_are_told_apart():
    rules = [by_point(f"r{at}", f"{at}", drop=at % 2 == 0, keep=at % 2 == 1) for at in range(24)]
    pair = twins(*rules, named("others", "m*", drop=True))
    points = [(float(at), str(at % 30)) for at in range(90)]
    payload = bundle(mixed("m1", *points), mixed("m2", *points[::-1]))
    kept = [at for at in range(90) if at % 30 < 24 and at % 2]
    assert of_both(pair, payload) == [(at, at) for at in kept] + [(179 - at, at) for at in kept[::-1]]
    assert sifted(pair, payload)


SCALED = Rule(name="s", when=Conditions(metric="*"), scale=Scale(divide=1024, unit="v"))


def test_a_value_that_cannot_be_scaled_is_not_counted_where_a_rule_drops_it():
    by_point = Rule(name="d", when=Conditions(attributes={"i": "a"}), drop=True)
    for rules in ([by_point, SCALED], [SCALED, by_point]):
        pair = twins(*rules)
        payload = bundle(metric("m1", 5e-324), metric("m1", 1.5, attribute={"stringValue": "b"}))
        assert pair.agree(payload)
        assert pair.said(pair.plain, payload)[3][0] == []


def test_a_rule_that_keeps_what_no_rule_drops_is_idle_to_both():
    pair = twins(
        Rule(name="kept", when=Conditions(attributes={"i": "*"}), keep=True), named("dropped", "m1", drop=True)
    )
    assert pair.agree(bundle(metric("m2", 1.5)))
    assert pair.native.shaping.idle == pair.plain.shaping.idle == ["kept", "dropped"]
    assert pair.agree(bundle(metric("m1", 1.5), metric("m2", 1.5)))
    assert pair.native.shaping.idle == pair.plain.shaping.idle == []
