"""Real input: metrics of this very process, measured by the OpenTelemetry SDK, carried as OTLP, become rows."""

import json
import os
import random
import time
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from support import strategies
from support.judging import ACME, agree, lines_of, record


def cpu_times(_: CallbackOptions) -> list[Observation]:
    used = os.times()
    return [Observation(used.user, {"state": "user"}), Observation(used.system, {"state": "system"})]


def memory(_: CallbackOptions) -> list[Observation]:
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 1
    return [
        Observation(pages * 4096, {"type": "resident", "pid": os.getpid(), "cores": [0, 1], "ratio": 0.5, "self": True})
    ]


@pytest.fixture
def measured():
    """What the SDK collected: every instrument, delta and cumulative, with the SDK's own exemplars when it has any."""
    reader = sdk.InMemoryMetricReader(
        preferred_temporality={
            Counter: sdk.AggregationTemporality.DELTA,
            Histogram: sdk.AggregationTemporality.CUMULATIVE,
        }
    )
    provider = MeterProvider(
        metric_readers=[reader],
        resource=Resource({"service.name": "self", "service.instance.id": "self-1", "process.pid": os.getpid()}),
        views=[View(instrument_name="loop.exponential", aggregation=ExponentialBucketHistogramAggregation())],
    )
    meter = provider.get_meter("lmstream.tests", "1.0", attributes={"library.language": "python"})
    meter.create_observable_counter("process.cpu.time", [cpu_times], unit="s")
    meter.create_observable_gauge("process.memory", [memory], unit="By")
    turns = meter.create_counter("loop.turns", unit="{turn}")
    running = meter.create_up_down_counter("loop.running")
    plain = meter.create_histogram("loop.duration", unit="s")
    exponential = meter.create_histogram("loop.exponential", unit="s")
    for turn in range(50):
        started = time.perf_counter()
        sum(range(1000 * turn))
        spent = time.perf_counter() - started
        turns.add(1, {"even": turn % 2 == 0})
        running.add(-1 if turn % 3 else 2)
        plain.record(spent, {"kind": "sum"})
        exponential.record(spent)
    data = reader.get_metrics_data()
    provider.shutdown()
    return data


def test_what_the_sdk_measured_becomes_the_same_rows_from_json_and_protobuf(measured):
    bundle = encode_metrics(measured)
    lines = agree(record(bundle.SerializeToString()))
    for seed in range(20):
        assert agree(record(strategies.to_otlp_json(bundle, random.Random(seed)))) == lines
    rows = lines_of(lines)
    assert {row["metric"]: row["type"] for row in rows} == {
        "process.cpu.time": "sum",
        "process.memory": "gauge",
        "loop.turns": "sum",
        "loop.running": "sum",
        "loop.duration": "histogram",
        "loop.exponential": "exponentialHistogram",
    }
    by_metric = {row["metric"]: row for row in rows}
    assert by_metric["loop.turns"]["temporality"] == "delta"
    assert by_metric["loop.duration"]["count"] == 50 == sum(by_metric["loop.duration"]["bucketCounts"])
    assert by_metric["process.memory"]["attributes"] | {"pid": ""} == {
        "type": "resident",
        "pid": "",
        "cores": "[0,1]",
        "ratio": "0.5",
        "self": "true",
    }
    assert {row["deviceId"] for row in rows} == {"self-1"}
    assert all(abs(row["tsUnixMs"] - time.time() * 1000) < 600_000 for row in rows)


def test_the_sdks_own_json_names_the_same_metrics(measured):
    """MetricsData.to_json is no OTLP: it must be refused, not misread."""
    payload = measured.to_json().encode()
    assert "resource_metrics" in json.loads(payload)
    assert agree(record(payload), ACME) == "decode.top_level"
