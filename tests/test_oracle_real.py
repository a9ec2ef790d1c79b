"""Real input: metrics of this very process, measured by the OpenTelemetry SDK, carried as OTLP, become rows."""

import json
import os
import random
import time
from pathlib import Path

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

import strategies
from judging import ACME, agree, lines_of, record


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


def any_value(value: object, into: object) -> None:
    """An SDK attribute as OTLP: the walk an OTLP exporter does, whose encoder is not among our requirements."""
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, str):
        into.string_value = value
    else:
        into.array_value.SetInParent()
        for inner in value:
            any_value(inner, into.array_value.values.add())


def attributes(values: object, into: object) -> None:
    for key, value in (values or {}).items():
        any_value(value, into.add(key=key).value)


def to_proto(data: sdk.MetricsData) -> pb.MetricsData:
    bundle = pb.MetricsData()
    for measured_resource in data.resource_metrics:
        resource = bundle.resource_metrics.add(schema_url=measured_resource.schema_url)
        attributes(measured_resource.resource.attributes, resource.resource.attributes)
        for measured_scope in measured_resource.scope_metrics:
            scope = resource.scope_metrics.add(schema_url=measured_scope.schema_url)
            scope.scope.name = measured_scope.scope.name
            scope.scope.version = measured_scope.scope.version
            attributes(measured_scope.scope.attributes, scope.scope.attributes)
            for metric in measured_scope.metrics:
                add_metric(
                    metric, scope.metrics.add(name=metric.name, unit=metric.unit, description=metric.description)
                )
    return bundle


def add_metric(metric: sdk.Metric, into: pb.Metric) -> None:
    data = metric.data
    match data:
        case sdk.Gauge():
            made = into.gauge
        case sdk.Sum():
            made = into.sum
            made.is_monotonic = data.is_monotonic
        case sdk.Histogram():
            made = into.histogram
        case sdk.ExponentialHistogram():
            made = into.exponential_histogram
    if not isinstance(data, sdk.Gauge):
        made.aggregation_temporality = data.aggregation_temporality.value
    for measured_point in data.data_points:
        point = made.data_points.add(
            time_unix_nano=measured_point.time_unix_nano,
            start_time_unix_nano=measured_point.start_time_unix_nano or 0,
        )
        attributes(measured_point.attributes, point.attributes)
        if isinstance(data, sdk.Gauge | sdk.Sum):
            setattr(point, "as_int" if isinstance(measured_point.value, int) else "as_double", measured_point.value)
            continue
        point.count, point.sum = measured_point.count, measured_point.sum
        point.min, point.max = measured_point.min, measured_point.max
        if isinstance(data, sdk.Histogram):
            point.bucket_counts.extend(measured_point.bucket_counts)
            point.explicit_bounds.extend(measured_point.explicit_bounds)
        else:
            point.scale, point.zero_count = measured_point.scale, measured_point.zero_count
            for side in ("positive", "negative"):
                getattr(point, side).offset = getattr(measured_point, side).offset
                getattr(point, side).bucket_counts.extend(getattr(measured_point, side).bucket_counts)


def test_what_the_sdk_measured_becomes_the_same_rows_from_json_and_protobuf(measured):
    bundle = to_proto(measured)
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
