"""Bundles that the native part has seen before but for some part: rows are those of the plain engine."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from benchmarks import corpus
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.model import Record
from lmstream.native import native
from lmstream.settings import Limits
from support.native_twins import Twins, settings_of

pytestmark = pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")

TIMES = {"startTimeUnixNano": "1715263517241000000", "timeUnixNano": "1715263577241000000"}
UNITS = [None, "By", "By/s", "1"]


def metric(name: str, instances: list[str], unit: str | None = None, *, behind: bool = True) -> dict:
    """A gauge; its unit stands behind its points, or before them."""
    points = [
        TIMES | {"asDouble": 1.5, "attributes": [{"key": "i", "value": {"stringValue": each}}]} for each in instances
    ]
    data = {"gauge": {"dataPoints": points}}
    more = {} if unit is None else {"unit": unit}
    return {"name": name} | (data | more if behind else more | data)


def document(*metrics: dict, host: str = "7", scope: str = "s") -> dict:
    resource = {"attributes": [{"key": "hostId", "value": {"stringValue": host}}]}
    return {
        "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": {"name": scope}, "metrics": [*metrics]}]}]
    }


METRIC = st.builds(
    metric,
    st.sampled_from(["m", "m1", "m11", "n"]),
    st.lists(st.sampled_from(["a", "aa", "b", "c"]), min_size=1, max_size=4),
    st.sampled_from(UNITS),
    behind=st.booleans(),
)
DOCUMENT = st.builds(
    lambda metrics, host, scope: document(*metrics, host=host, scope=scope),
    st.lists(METRIC, min_size=1, max_size=6),
    st.sampled_from(["7", "8"]),
    st.sampled_from(["s", "t"]),
)


@given(st.lists(DOCUMENT, min_size=2, max_size=6))
def test_bundles_in_any_order_are_those_of_the_plain_engine(documents):
    """Metrics and instances come, go and change places; what follows points is as before, or another unit."""
    twins = Twins(settings_of("otlp"))
    for each in (*documents, *documents):
        for encoding in ("json", "proto"):
            assert twins.agree(corpus.encode(each, encoding))


@pytest.mark.parametrize(
    "behind",
    [
        '"unit":"By"',
        '"unit":"By/s"',
        '"unit":"By","description":"d"',
        '"x":[{"dataPoints":[]}]',
        '"gauge":{}',
        '"x":01',
    ],
)
def test_what_stands_behind_the_points_may_be_another_thing_than_before(behind):
    twins = Twins(settings_of("otlp"))
    known = json.dumps(document(metric("m", ["a"]), metric("n", ["b", "c"], "By"))).encode()
    assert twins.agree(known)
    assert twins.agree(known)
    twins.agree(known.replace(b'"unit": "By"', behind.encode()))
    assert twins.agree(known)


@pytest.mark.parametrize("kib", [64, 256, 4096])
def test_a_cache_that_is_emptied_again_and_again_gives_the_same_rows(kib):
    settings = Settings(org_id="acme", limits=Limits(cache_bytes=kib * 1024))
    twins = Twins(settings)
    rng = random.Random(kib)
    for number in range(30):
        instances = [str(rng.randrange(400)) for _ in range(60)]
        payload = json.dumps(document(*(metric(f"m{at}", instances) for at in range(3)), host=str(number % 3))).encode()
        assert twins.agree(payload)


def test_threads_that_share_an_engine_get_their_own_rows():
    engine = Engine(Settings(org_id="acme"))
    payloads = [
        json.dumps(document(*(metric(f"m{at}", [f"{host}-{at % 3}", "x"]) for at in range(9)), host=str(host))).encode()
        for host in range(6)
    ]
    records = [Record(topic="t", partition=0, offset=at, value=payload) for at, payload in enumerate(payloads)]
    alone = [Engine(Settings(org_id="acme")).fan_out(each).ndjson() for each in records]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert list(pool.map(lambda each: engine.fan_out(each).ndjson(), records)) == alone
