"""The catalogue of metrics: one list for every host, with the names that Prometheus and CloudWatch know them by.

Hosts take values from the counts that the pipeline keeps anyway; nothing below imports this. No label holds an
organization, a device or a metric's name: what senders choose must not decide how many series there are.
"""

from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """One metric. `emf` is its name in CloudWatch, empty for what Lambda does not have."""

    name: str
    emf: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: Literal["Count", "Bytes", "Seconds"]
    help: str
    labels: tuple[str, ...] = ()


CATALOGUE: Final = (
    Metric("lmstream_bundles_consumed_total", "BundlesConsumed", "counter", "Count", "Records read and settled"),
    Metric("lmstream_rows_decoded_total", "RowsDecoded", "counter", "Count", "Rows made from data points"),
    Metric("lmstream_rows_accepted_total", "RowsAccepted", "counter", "Count", "Rows that the sink accepted"),
    Metric(
        "lmstream_points_skipped_total",
        "PointsSkipped",
        "counter",
        "Count",
        "Points without a row on purpose",
        ("reason",),
    ),
    Metric(
        "lmstream_points_rejected_total", "PointsRejected", "counter", "Count", "Points in dead letters", ("reason",)
    ),
    Metric("lmstream_dead_letters_total", "DeadLetters", "counter", "Count", "Records with a durable dead letter"),
    Metric("lmstream_tombstones_total", "Tombstones", "counter", "Count", "Records without a value"),
    Metric("lmstream_sink_requests_total", "SinkRequests", "counter", "Count", "Requests to the sink", ("outcome",)),
    Metric("lmstream_sink_throttled_total", "SinkThrottled", "counter", "Count", "Requests that the sink throttled"),
    Metric("lmstream_sink_records_retried_total", "SinkRecordsRetried", "counter", "Count", "Packs sent again"),
    Metric(
        "lmstream_sink_unknown_outcomes_total",
        "SinkUnknownOutcomes",
        "counter",
        "Count",
        "Packs of requests of which nobody knows whether they were taken",
    ),
    Metric("lmstream_sink_bytes_total", "SinkBytes", "counter", "Bytes", "Bytes of packs that the sink accepted"),
    Metric(
        "lmstream_records_undelivered_total", "RecordsUndelivered", "counter", "Count", "Records left to the source"
    ),
    Metric("lmstream_process_duration_seconds", "ProcessDuration", "gauge", "Seconds", "Time of one invocation"),
    Metric("lmstream_cold_starts_total", "ColdStarts", "counter", "Count", "Invocations that had to start the process"),
)
"""All metrics, in the order in which hosts list them."""

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}
