"""What a host tells CloudWatch: a line of its log in the embedded metric format, with what was counted since the last.

CloudWatch makes metrics of such lines wherever it takes logs in (docs.aws.amazon.com/AmazonCloudWatch/latest/
monitoring/CloudWatch_Embedded_Metric_Format_Specification.html; ..._Generation_PutLogEvents.html: no header is needed).
Names and the one dimension are those that the function has, so that the same alarms and dashboards read both.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from lmstream.observability.metrics_catalogue import CATALOGUE
from lmstream.observability.readings import Readings

EVERY: Final = 60.0
"""Seconds between two lines."""
TOLD: Final = {metric.name: metric for metric in CATALOGUE if metric.emf and metric.served}
"""Metrics of a host that have a name in CloudWatch."""
ALWAYS: Final = frozenset(
    {"lmstream_bundles_consumed_total", "lmstream_rows_decoded_total", "lmstream_rows_accepted_total"}
)
"""Told when nothing was counted too: an alarm must see a 0. Other counters are paid for only once they count."""
_LEAST: Final = frozenset({"lmstream_time_to_data_loss_seconds"})
"""Of several partitions the lowest is told; of other gauges the highest."""


class MetricLines:
    """Makes the lines of one run."""

    def __init__(self, readings: Readings, namespace: str, service: str) -> None:
        self._readings = readings
        self._namespace, self._service = namespace, service
        self._before: dict[str, float] = {}

    def line(self, now: float) -> str:
        """What was counted since the line before, and how things stand; `now` is Unix time in seconds."""
        counted: dict[str, float] = {}
        gauges: dict[str, float] = {}
        for name, _, value in self._readings.samples():
            metric = TOLD.get(name)
            if metric is None:
                continue
            if metric.kind == "counter":
                counted[name] = counted.get(name, 0.0) + value
            else:
                gauges[name] = (min if name in _LEAST else max)(gauges.get(name, value), value)
        # A counter that is lower than before is one whose owner was made again: a consumer, say.
        since = {name: max(0.0, value - self._before.get(name, 0.0)) for name, value in counted.items()}
        self._before = counted
        told = {name: value for name, value in since.items() if value or name in ALWAYS} | gauges
        metrics = [{"Name": TOLD[name].emf, "Unit": TOLD[name].unit} for name in told]
        directive = {"Namespace": self._namespace, "Dimensions": [["service"]], "Metrics": metrics}
        head = {"_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}, "service": self._service}
        return json.dumps(head | {TOLD[name].emf: value for name, value in told.items()})


@contextlib.asynccontextmanager
async def telling(
    readings: Readings, namespace: str, service: str, write: Callable[[str], object] | None = None
) -> AsyncIterator[None]:
    """Tell once a minute while the block lasts, and once more at its end; nothing without a namespace."""
    if not namespace:
        yield
        return
    lines = MetricLines(readings, namespace, service)

    def tell() -> None:
        (write or sys.stderr.write)(lines.line(time.time()) + "\n")

    async def work() -> None:
        while True:
            await asyncio.sleep(EVERY)
            tell()

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        tell()
