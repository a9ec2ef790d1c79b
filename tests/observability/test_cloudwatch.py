"""Lines in CloudWatch's embedded metric format: what was counted since the last one, under the function's names."""

import asyncio
import json
import re
from itertools import islice

import pytest

from lmstream.config import load
from lmstream.hosts.container.service import serve
from lmstream.lab.generator import Generator
from lmstream.observability import cloudwatch
from lmstream.observability.cloudwatch import TOLD, MetricLines, telling
from lmstream.observability.readings import Sample

UNITS = {"Count", "Bytes", "Seconds"}
"""Of those in API_MetricDatum of CloudWatch, what the catalogue uses."""


class Scripted:
    """Readings that are told."""

    def __init__(self):
        self.now = {}

    def samples(self):
        return [Sample(name, labels, value) for (name, labels), value in self.now.items()]


def checked(line):
    """A line as CloudWatch reads it: values by name. AssertionError where its specification is not met."""
    root = json.loads(line)
    meta = root.pop("_aws")
    assert meta.keys() == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(meta["Timestamp"], int)
    (directive,) = meta["CloudWatchMetrics"]
    assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
    assert directive["Dimensions"] == [["service"]]
    assert isinstance(root.pop("service"), str)
    assert len(directive["Metrics"]) <= 100
    named = {each["Name"]: each["Unit"] for each in directive["Metrics"]}
    assert named.keys() == root.keys()
    assert set(named.values()) <= UNITS
    for name, value in root.items():
        assert re.fullmatch(r"[A-Za-z]+", name)
        assert isinstance(value, int | float)
        assert not isinstance(value, bool)
    return root


def test_counters_are_told_as_what_was_added_and_gauges_as_they_are():
    readings, lag, loss = Scripted(), "lmstream_consumer_lag_seconds", "lmstream_time_to_data_loss_seconds"
    lines = MetricLines(readings, "acme", "acme")
    readings.now = {
        ("lmstream_rows_accepted_total", ()): 10,
        ("lmstream_points_skipped_total", ("flags",)): 2,
        ("lmstream_points_skipped_total", ("nan",)): 3,
        ("lmstream_ready", ()): 1.0,
        (lag, ("lm", "0")): 5.0,
        (lag, ("lm", "1")): 700.0,
        (loss, ("lm", "0")): 9_000.0,
        (loss, ("lm", "1")): 60.0,
        ("lmstream_build_info", ("0.1.0",)): 1,
    }
    first = checked(lines.line(1_700_000_000.5))
    assert first == {"RowsAccepted": 10, "PointsSkipped": 5, "Ready": 1, "ConsumerLag": 700, "TimeToDataLoss": 60}
    readings.now |= {("lmstream_rows_accepted_total", ()): 25, (lag, ("lm", "1")): 1.0}
    second = checked(lines.line(1_700_000_060.5))
    assert second["RowsAccepted"] == 15
    assert second["ConsumerLag"] == 5
    assert "PointsSkipped" not in second, "what counts nothing is not paid for"
    third = checked(lines.line(1_700_000_120.5))
    assert third["RowsAccepted"] == 0, "rows are told when there are none, or no alarm could see that"


def test_a_counter_that_begins_again_takes_nothing_away():
    readings = Scripted()
    lines = MetricLines(readings, "acme", "acme")
    for value, told in ((7, 7), (2, 0), (5, 3)):
        readings.now = {("lmstream_rows_accepted_total", ()): value}
        assert checked(lines.line(0.0))["RowsAccepted"] == told


async def test_it_tells_every_minute_and_at_the_end(monkeypatch):
    monkeypatch.setattr(cloudwatch, "EVERY", 0.01)
    said, told, readings = [], asyncio.Event(), Scripted()
    readings.now = {("lmstream_rows_accepted_total", ()): 3}

    def write(line):
        said.append(line)
        told.set()

    async with telling(readings, "acme", "acme", write):
        async with asyncio.timeout(5):
            await told.wait()
        readings.now = {("lmstream_rows_accepted_total", ()): 4}
    assert checked(said[0])["RowsAccepted"] == 3
    assert sum(checked(each)["RowsAccepted"] for each in said) == 4
    assert all(each.endswith("\n") and each.count("\n") == 1 for each in said)


async def test_nothing_is_told_without_a_namespace():
    said = []
    async with telling(Scripted(), "", "acme", said.append):
        pass
    assert said == []


@pytest.mark.parametrize("namespace", ["acme", ""])
async def test_a_run_tells_what_it_delivered_only_where_it_is_asked_to(tmp_path, capsys, namespace):
    (tmp_path / "bundles").mkdir()
    for number, bundle in enumerate(islice(Generator(instances=2).bundles(), 3)):
        (tmp_path / "bundles" / f"{number}.json").write_bytes(bundle.payload)
    settings = {
        "engine.org_id": "acme",
        "source.type": "files",
        "source.paths": (str(tmp_path / "bundles"),),
        "sink.type": "local",
        "sink.root": str(tmp_path / "landed"),
        "dead_letters.root": str(tmp_path / "dead"),
        "logs.cloudwatch": namespace,
        "logs.service": "rows",
    }
    progress = await serve(load(env={}, overrides=settings))
    said = capsys.readouterr().err
    assert bool(said) == bool(namespace)
    if namespace:
        assert json.loads(said)["service"] == "rows"
        assert json.loads(said)["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "acme"
        told = checked(said)
        assert (told["RowsAccepted"], told["BundlesConsumed"]) == (progress.rows, 3)


def test_what_alarms_read_of_the_function_is_told_by_the_host_too():
    assert {"RowsAccepted", "DeadLetters", "BundlesConsumed", "Ready", "TimeToDataLoss"} <= {
        m.emf for m in TOLD.values()
    }
