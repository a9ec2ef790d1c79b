"""The catalogue as OTLP has it: what /metrics serves, in one ExportMetricsServiceRequest.

The messages are filled here and not by instruments of the SDK: everything is counted already, an instrument would count
it a second time, and none of them takes a histogram that is there.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lmstream import __version__
from lmstream.delivery.latency_histogram import BOUNDS
from lmstream.errors import ConfigError
from lmstream.observability.metrics_catalogue import SERVED, Metric
from lmstream.observability.readings import Sample

try:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
except ImportError as _error:
    raise ConfigError.missing("telemetry.endpoint", "otel") from _error

UNITS: Final = {"Count": "", "Bytes": "By", "Seconds": "s"}
"""Units of the catalogue as UCUM has them. Counts have none: with "1" a collector that writes for Prometheus would call
a gauge `..._ratio`."""
_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def encoded(
    resource: Mapping[str, str],
    samples: Iterable[Sample],
    durations: tuple[list[int], float],
    times: tuple[int, int],
) -> bytes:
    """One export. `durations` are counts of each bucket, and the sum in seconds; `times` when the run began and now, in
    Unix nanoseconds."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    request = ExportMetricsServiceRequest()
    told = request.resource_metrics.add()
    _attributes(told.resource.attributes, resource.items())
    scope = told.scope_metrics.add()
    scope.scope.name, scope.scope.version = "lmstream", __version__
    for metric in SERVED:
        if metric.kind == "histogram":
            _histogram(_begun(scope, metric), durations, times)
        elif metric.name in by_name:
            made = _begun(scope, metric)
            if metric.kind == "counter":
                made.sum.aggregation_temporality, made.sum.is_monotonic = _CUMULATIVE, True
            for sample in by_name[metric.name]:
                point = (made.sum if metric.kind == "counter" else made.gauge).data_points.add()
                if metric.kind == "counter":
                    point.start_time_unix_nano = times[0]
                point.time_unix_nano = times[1]
                point.as_double = sample.value
                _attributes(point.attributes, zip(metric.labels, sample.labels, strict=True))
    data: bytes = request.SerializeToString()
    return data


def _begun(scope: Any, metric: Metric) -> Any:
    made = scope.metrics.add()
    made.name, made.description, made.unit = metric.name, metric.help, UNITS[metric.unit]
    return made


def _histogram(made: Any, durations: tuple[list[int], float], times: tuple[int, int]) -> None:
    made.histogram.aggregation_temporality = _CUMULATIVE
    point = made.histogram.data_points.add()
    point.start_time_unix_nano, point.time_unix_nano = times
    point.explicit_bounds.extend(BOUNDS)
    point.bucket_counts.extend(durations[0])
    point.count, point.sum = sum(durations[0]), durations[1]


def _attributes(into: Any, pairs: Iterable[tuple[str, str]]) -> None:
    for key, value in pairs:
        added = into.add()
        added.key, added.value.string_value = key, value
