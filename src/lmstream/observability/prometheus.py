"""The catalogue as Prometheus reads it."""

from collections.abc import Iterable, Iterator
from typing import Final

from lmstream.errors import ConfigError
from lmstream.observability.metrics_catalogue import BY_NAME, SERVED
from lmstream.observability.metrics_catalogue import Metric as Described
from lmstream.observability.readings import Readings, Sample

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.registry import Collector, CollectorRegistry
except ImportError as _error:
    raise ConfigError.missing("a metric", "consumer") from _error

CONTENT_TYPE: Final[str] = CONTENT_TYPE_LATEST
_REQUESTS: Final = "lmstream_sink_request_duration_seconds"


class _Catalogue(Collector):
    """Families in the catalogue's order; one without a value is there all the same, so that dashboards find it."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        plain = (metric for metric in SERVED if metric.kind != "histogram")
        yield from _Samples(plain, self._readings.samples()).collect()
        durations = self._readings.request_durations()
        histogram = HistogramMetricFamily(_REQUESTS, BY_NAME[_REQUESTS].help)
        histogram.add_metric((), durations.cumulative(), durations.total)
        yield histogram


class _Samples(Collector):
    """Families of some metrics that are not histograms, and their values."""

    def __init__(self, metrics: Iterable[Described], samples: Iterable[Sample]) -> None:
        self._metrics, self._samples = metrics, samples

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric in self._metrics:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            families[metric.name] = family(metric.name, metric.help, labels=metric.labels)
        for sample in self._samples:
            families[sample.name].add_metric(sample.labels, sample.value)
        yield from families.values()


def render_of(metrics: Iterable[Described], samples: Iterable[Sample]) -> bytes:
    """These metrics of the catalogue as text. Those without a value are there all the same."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(metrics, samples))
    return generate_latest(registry)


def render(readings: Readings) -> bytes:
    """All metrics as text. Bounded: labels are partitions, lmstream's reasons and kinds of outcome."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Catalogue(readings))
    return generate_latest(registry)
