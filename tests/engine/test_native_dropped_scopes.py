"""Of a scope that rules drop whole the native part makes nothing: both engines say the same of it, and of what is beside it."""

import json

import pytest
from benchmarks import corpus

from lmstream import Settings
from lmstream.native import native
from lmstream.rules import Conditions, Rule
from support.native_twins import Twins

pytestmark = pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")

TIMES = {"startTimeUnixNano": "1715263517241000000", "timeUnixNano": "1715263577241000000"}
DROP = Rule(name="noisy", when=Conditions(datasource="noisy"), drop=True)


def attributes(**texts):
    return [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()]


def metric(name, *values, of=None, **more):
    every = attributes(i="a", wildValue="b") if of is None else of
    points = [TIMES | {"asDouble": value, "attributes": every} for value in values]
    return {"name": name, "gauge": {"dataPoints": points}} | more


def total(name, **more):
    return {"name": name, "unit": "By", "sum": metric(name, 1.5)["gauge"] | more}


def scope(name, *metrics):
    return {"scope": {"name": name}, "metrics": list(metrics)}


def document(*scopes, device="7"):
    return {"resourceMetrics": [{"resource": {"attributes": attributes(hostId=device)}, "scopeMetrics": list(scopes)}]}


def payloads(made):
    return corpus.encode(made, "json"), corpus.encode(made, "proto")


@pytest.fixture
def twins():
    """Two engines that have dropped something by the rule: it is told before anything else."""
    pair = Twins(Settings(org_id="acme", rules=(DROP,)))
    for payload in payloads(document(scope("noisy", metric("m1", 1.5)))):
        assert pair.agree(payload)
    return pair


def made(pair, name):
    """Metrics and attributes that a codec ever made."""
    caches = pair.native.codecs[name].caches()
    return caches["metric"][1], caches["attributes"][1]


@pytest.mark.parametrize("at", [0, 1])
def test_nothing_is_made_of_a_scope_that_is_dropped(twins, at):
    name = ("otlp_json", "otlp_proto")[at]
    before = made(twins, name)
    every = metric("new", 1.5, 2.5, of=attributes(j="once")), total("other", aggregationTemporality=2, isMonotonic=True)
    dropped, quiet = (payloads(document(scope(each, *every)))[at] for each in ("noisy", "quiet"))
    assert twins.said(twins.native, dropped) == twins.said(twins.plain, dropped)
    assert made(twins, name) == before
    assert twins.said(twins.native, quiet) == twins.said(twins.plain, quiet)
    assert made(twins, name) == (before[0] + 2, before[1] + 1)


def test_points_are_counted_by_their_rule(twins):
    for payload in payloads(document(scope("noisy", metric("m2", 1.5, 2.5)), scope("quiet", metric("m2", 3.5)))):
        assert twins.agree(payload)
        rows, *_, told = twins.said(twins.native, payload)[:4]
        assert rows.count(b"\n") == 1
        assert b':2"' in rows, "its place among all points"
        assert [("noisy", 2)] in told


@pytest.mark.parametrize("order", ["nq", "qn", "nqn", "qnq", "nnq"])
def test_the_same_attributes_beside_a_dropped_scope_are_made_all_the_same(twins, order):
    names = {"n": "noisy", "q": "quiet"}
    scopes = [scope(names[each], metric(f"m{at}", 1.5, 2.5), metric("m", 3.5)) for at, each in enumerate(order)]
    for payload in payloads(document(*scopes)):
        assert twins.agree(payload)
        assert b"wildValue" in twins.said(twins.native, payload)[0]


ODD = [
    metric("n", 1.5, unit=None),
    metric("n\u0041", 1.5, description='a "b"'),
    metric("n", 1.5, metadata=[]),
    metric("n", 1.5, colour="red"),
    metric("n", 1.5, of=[{"key": "i", "value": {"intValue": "5"}}]),
    metric("n", 1.5, of=[{"key": "i", "value": {"fooValue": 5}}]),
    metric("n", 1.5, of=[{"value": {"stringValue": "a"}, "key": "i"}]),
    metric("n", 1.5, of=attributes(i='q"') + attributes(i="twice")),
    metric("n", 1.5, of=[]),
    metric("n", 1.5, of=attributes(**{f"k{at}": "v" for at in range(70)})),
    metric("n", 1.5, of=attributes(**{f"k{at}": "v" for at in range(1025)})),
    total("n", aggregationTemporality="AGGREGATION_TEMPORALITY_DELTA"),
    total("n", aggregationTemporality=7),
    total("n", isMonotonic="yes"),
    total("n", isMonotonic=None),
    metric("n", 1e300, -5.0),
    metric(5, 1.5),
    metric("n", 1.5, summary={"dataPoints": []}),
]


@pytest.mark.parametrize("odd", range(len(ODD)))
def test_what_is_odd_in_a_dropped_scope_is_what_the_codec_says(twins, odd):
    for scopes in (
        [scope("noisy", ODD[odd])],
        [scope("noisy", ODD[odd], metric("m", 1.5)), scope("q", metric("m", 2.5))],
    ):
        payload = json.dumps(document(*scopes)).encode()
        for _ in range(2):
            twins.agree(payload)


def test_a_scope_with_something_to_decide_about_is_read():
    of_one = Rule(name="one", when=Conditions(datasource="noisy", metric="m1"), keep=True)
    by_point = Rule(name="point", when=Conditions(datasource="noisy", attributes={"i": "b"}), keep=True)
    elsewhere = Rule(name="elsewhere", when=Conditions(resource={"hostId": "8"}), keep=True)
    payload = payloads(document(scope("noisy", metric("m1", 1.5), metric("m2", 2.5, of=attributes(i="b")))))[0]
    for first, left in ((of_one, 1), (by_point, 1), (elsewhere, 0)):
        pair = Twins(Settings(org_id="acme", rules=(first, DROP)))
        for _ in range(3):
            assert pair.agree(payload)
        assert pair.said(pair.native, payload)[0].count(b"\n") == left


def test_a_rule_that_never_dropped_is_idle_to_both_until_it_does(twins):
    pair = Twins(Settings(org_id="acme", rules=(DROP,)))
    assert not pair.agree(b'{"resourceMetrics":[' + payloads(document(scope("noisy", metric("m", 1.5))))[0][20:-2])
    assert pair.native.shaping.idle == pair.plain.shaping.idle == ["noisy"]
    assert twins.native.shaping.idle == twins.plain.shaping.idle == []
