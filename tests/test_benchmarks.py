"""The figures of benchmarks/ mean something only if the corpus is the same everywhere and all make the same rows."""

import hashlib
import json

import pytest
from benchmarks import __main__ as report
from benchmarks import baselines, measure
from benchmarks.corpus import SIZES, corpus

SAMPLE = {"small": 8, "medium": 3, "large": 1}


@pytest.mark.parametrize("size", SIZES)
def test_the_corpus_is_the_same_every_time(size):
    one, two = (corpus(size, bundles=2) for _ in range(2))
    assert one == two
    assert one != corpus(size, bundles=2, minute=1)


def test_the_corpus_is_the_same_on_every_machine():
    digest = hashlib.sha256(b"".join(record.value for record in corpus("small", bundles=20).records))
    assert digest.hexdigest()[:16] == "2bdc57ee9e41842a"


@pytest.mark.parametrize(("size", "least", "most"), [("small", 10, 30), ("medium", 100, 300), ("large", 1500, 2500)])
def test_bundles_have_about_the_rows_their_size_says(size, least, most):
    rows = corpus(size, bundles=10).rows
    assert least < sum(rows) / len(rows) < most


def test_the_next_minute_brings_the_same_instances_with_new_times():
    def identities(minute):
        lines = baselines.orjson_lines(corpus("small", bundles=1, minute=minute).records[0]).splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["deviceId"], row["datasource"], row["metric"], row["type"]) for row in rows], rows[0]["tsUnixMs"]

    before, now = identities(0), identities(1)
    assert before[0] == now[0]
    assert before[1] + 60_000 == now[1]


@pytest.mark.parametrize("size", SIZES)
def test_engine_and_baselines_make_the_same_rows(size):
    assert measure.verify(size, SAMPLE[size]) == sum(corpus(size, bundles=SAMPLE[size]).rows)


def test_a_baseline_that_makes_other_rows_is_not_measured(monkeypatch):
    monkeypatch.setitem(baselines.JSON_BASELINES, "wrong", lambda record: baselines.orjson_lines(record)[:-2] + b" }\n")
    measure.verify("small", 1)  # white space is no difference
    monkeypatch.setitem(
        baselines.JSON_BASELINES, "wrong", lambda record: baselines.orjson_lines(record).replace(b"acme", b"emca", 1)
    )
    with pytest.raises(measure.MismatchError, match="small bundle 0: wrong differs"):
        measure.verify("small", 1)


def test_every_figure_is_measured_and_judged_with_slack():
    for figure in report.FIGURES:
        assert {figure.of, figure.to} <= set(report.MEASURED[figure.size])
    faster = report.Figure("", "small", "orjson", "engine", 2.0)
    assert [faster.passes(value) for value in (1.75, 1.77, 9.0)] == [False, True, True]
    slower = report.Figure("", "small", "engine", "orjson", 1.0, lower=True)
    assert [slower.passes(value) for value in (0.1, 1.11, 1.13)] == [True, True, False]
    assert report.Figure("", "small", "orjson", "engine").passes(0.1) is None


def test_a_short_measurement_gives_figures_shares_and_json():
    timing = measure.measure("small", ("engine", "orjson", "decode", "fan_out"), rounds=2, share=100)
    assert (timing.bundles, timing.rows) == (10, sum(corpus("small", minute=1, bundles=10).rows))
    assert {len(seconds) for seconds in timing.seconds.values()} == {2}
    assert sum(timing.shares().values()) == pytest.approx(1)
    raw = json.loads(json.dumps(report.as_json({"small": timing}, [])))
    assert raw["sizes"]["small"]["rows"] == timing.rows
    assert raw["machine"]["python"].startswith("CPython 3.")
