"""The catalogue of metrics: one list for every host, with the names that Prometheus and CloudWatch know them by.

Hosts take values from the counts that the pipeline keeps anyway; nothing below imports this. No label holds an
organization, a device or a metric's name: what senders choose must not decide how many series there are.
"""

from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """One metric. `emf` is its name in CloudWatch, empty for what Lambda does not have; `served` says whether the
    container host serves it to Prometheus."""

    name: str
    emf: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: Literal["Count", "Bytes", "Seconds"]
    help: str
    labels: tuple[str, ...] = ()
    served: bool = True


PARTITION: Final = ("topic", "partition")

CATALOGUE: Final = (
    Metric(
        "lmstream_bundles_consumed_total",
        "BundlesConsumed",
        "counter",
        "Count",
        "Records consumed and settled: delivered or dead-lettered",
    ),
    Metric("lmstream_rows_decoded_total", "RowsDecoded", "counter", "Count", "Rows decoded from data points"),
    Metric("lmstream_rows_accepted_total", "RowsAccepted", "counter", "Count", "Rows that the sink accepted"),
    Metric(
        "lmstream_points_skipped_total",
        "PointsSkipped",
        "counter",
        "Count",
        "Data points skipped on purpose (no recorded value, NaN, infinite)",
        ("reason",),
    ),
    Metric(
        "lmstream_points_rejected_total",
        "PointsRejected",
        "counter",
        "Count",
        "Data points refused and dead-lettered",
        ("reason",),
    ),
    Metric("lmstream_dead_letters_total", "DeadLetters", "counter", "Count", "Records with a durable dead letter"),
    Metric("lmstream_tombstones_total", "Tombstones", "counter", "Count", "Records with a null value (tombstones)"),
    Metric(
        "lmstream_records_without_row_total",
        "RecordsWithoutRow",
        "counter",
        "Count",
        "Records with a value that produced no row: empty, all points skipped, or refused",
        ("topic",),
    ),
    Metric(
        "lmstream_parts_undecodable_total",
        "PartsUndecodable",
        "counter",
        "Count",
        "Refused parts of bundles whose points could not be counted; dead letters name them",
    ),
    Metric("lmstream_sink_requests_total", "SinkRequests", "counter", "Count", "Requests to the sink", ("outcome",)),
    Metric("lmstream_sink_throttled_total", "SinkThrottled", "counter", "Count", "Requests that the sink throttled"),
    Metric("lmstream_sink_records_retried_total", "SinkRecordsRetried", "counter", "Count", "Packs retried"),
    Metric(
        "lmstream_sink_unknown_outcomes_total",
        "SinkUnknownOutcomes",
        "counter",
        "Count",
        "Packs with an unknown outcome: the request timed out or was reset after sending",
    ),
    Metric("lmstream_sink_bytes_total", "SinkBytes", "counter", "Bytes", "Bytes of packs accepted by the sink"),
    Metric(
        "lmstream_records_undelivered_total",
        "RecordsUndelivered",
        "counter",
        "Count",
        "Records that an invocation could not deliver; the source retries them",
        served=False,
    ),
    Metric(
        "lmstream_process_duration_seconds",
        "ProcessDuration",
        "gauge",
        "Seconds",
        "Duration of one invocation",
        served=False,
    ),
    Metric(
        "lmstream_cold_starts_total",
        "ColdStarts",
        "counter",
        "Count",
        "Invocations with a cold start",
        served=False,
    ),
    # Of the container host alone.
    Metric("lmstream_topic_rows_total", "", "counter", "Count", "Rows decoded from data points", ("topic",)),
    Metric("lmstream_records_understood_total", "", "counter", "Count", "Records with at least one data point"),
    Metric("lmstream_records_empty_total", "", "counter", "Count", "Records with a value but no data point"),
    Metric("lmstream_records_undecodable_total", "", "counter", "Count", "Records refused as a whole"),
    Metric(
        "lmstream_records_all_skipped_total",
        "",
        "counter",
        "Count",
        "Records without a row because all of their data points were skipped on purpose",
    ),
    Metric(
        "lmstream_points_noted_total",
        "",
        "counter",
        "Count",
        "Tolerated faults: parts left out of rows, no device, an enum by name, a metric or bundle without points",
        ("reason",),
    ),
    Metric("lmstream_build_info", "", "gauge", "Count", "Always 1; the label is the version", ("version",)),
    Metric("lmstream_up_seconds", "", "gauge", "Seconds", "Time since the run started"),
    Metric("lmstream_ready", "", "gauge", "Count", "1 while /readyz answers 200"),
    Metric(
        "lmstream_paused",
        "",
        "gauge",
        "Count",
        "1 while consumption is paused until an operator acts (configuration error)",
    ),
    Metric("lmstream_inflight_records", "", "gauge", "Count", "Records in flight: consumed and not settled"),
    Metric(
        "lmstream_inflight_bytes",
        "",
        "gauge",
        "Bytes",
        "Bytes in flight: payloads and encoded rows of records that are not settled",
    ),
    Metric("lmstream_budget_bytes", "", "gauge", "Bytes", "Limit of bytes in flight; at the limit consumption pauses"),
    Metric("lmstream_sink_concurrency", "", "gauge", "Count", "Current limit of concurrent requests to the sink"),
    Metric(
        "lmstream_sink_request_duration_seconds",
        "",
        "histogram",
        "Seconds",
        "Duration of requests to the sink, with or without a response",
    ),
    Metric("lmstream_dead_letters_waiting", "", "gauge", "Count", "Records whose dead letter is not durable yet"),
    Metric(
        "lmstream_refused_ratio", "", "gauge", "Count", "Share of recent records that were refused, 0 to 1", ("by",)
    ),
    Metric(
        "lmstream_breaker_tripped",
        "",
        "gauge",
        "Count",
        "1 when the circuit breaker is open: too many records were refused",
        ("by",),
    ),
    Metric(
        "lmstream_partition_keys_active",
        "",
        "gauge",
        "Count",
        "Active partitions: those with rows in the last five minutes",
    ),
    Metric("lmstream_partition_keys_quota", "", "gauge", "Count", "Limit of active partitions (delivery.partitions)"),
    Metric(
        "lmstream_partition_keys_waiting_records",
        "",
        "gauge",
        "Count",
        "Records that wait for a free partition of the stream, while an outage is caught up",
    ),
    Metric("lmstream_partition_keys_overflow_total", "", "counter", "Count", "Partitions opened at or above the quota"),
    Metric(
        "lmstream_source_state", "", "gauge", "Count", "1 for the current state of the source, 0 for others", ("state",)
    ),
    Metric("lmstream_source_failed_starts_total", "", "counter", "Count", "Consumers that could not start"),
    Metric("lmstream_commits_total", "", "counter", "Count", "Offset commits"),
    Metric(
        "lmstream_commit_failures_total",
        "",
        "counter",
        "Count",
        "Offset commits that failed; the next commit includes them",
    ),
    Metric("lmstream_late_acks_total", "", "counter", "Count", "Records settled after their partition was revoked"),
    Metric(
        "lmstream_stale_records_total",
        "",
        "counter",
        "Count",
        "Records discarded because their partition was revoked; the new owner reads them",
    ),
    Metric(
        "lmstream_rebalances_total", "", "counter", "Count", "Rebalances: assignments received from the consumer group"
    ),
    Metric("lmstream_consumer_recreations_total", "", "counter", "Count", "Consumers replaced", ("cause",)),
    Metric(
        "lmstream_records_expired_unread_total",
        "",
        "counter",
        "Count",
        "Records that retention deleted before they were read",
    ),
    Metric("lmstream_topic_resets_total", "", "counter", "Count", "Partitions found truncated or recreated"),
    Metric(
        "lmstream_partitions_unreadable",
        "",
        "gauge",
        "Count",
        "Partitions blocked by a damaged batch",
    ),
    Metric(
        "lmstream_headers_unread_total",
        "",
        "counter",
        "Count",
        "Records whose headers librdkafka could not return; read again only for a dead letter",
    ),
    Metric("lmstream_assigned_partitions", "", "gauge", "Count", "Partitions assigned to this process"),
    Metric(
        "lmstream_consumer_lag_records",
        "",
        "gauge",
        "Count",
        "Consumer lag: records in the topic after the committed offset",
        PARTITION,
    ),
    Metric(
        "lmstream_consumer_lag_seconds",
        "",
        "gauge",
        "Seconds",
        "Consumer lag: age of the oldest record that is read and not durable (else of the newest), while records wait",
        PARTITION,
    ),
    Metric(
        "lmstream_time_to_data_loss_seconds",
        "",
        "gauge",
        "Seconds",
        "Time until retention deletes the oldest record that is not durable, while records wait",
        PARTITION,
    ),
    Metric("lmstream_topic_retention_seconds", "", "gauge", "Seconds", "Retention of the topic", ("topic",)),
    Metric("lmstream_offset_acked", "", "gauge", "Count", "Next offset after the records that are durable", PARTITION),
    Metric("lmstream_offset_committed", "", "gauge", "Count", "Committed offset of the group", PARTITION),
    Metric(
        "lmstream_log_lines_dropped_total",
        "",
        "counter",
        "Count",
        "Log lines dropped because standard error was blocked",
    ),
    Metric(
        "lmstream_event_loop_stall_seconds",
        "",
        "gauge",
        "Seconds",
        "Longest time the event loop was blocked in the last minute",
    ),
    Metric("lmstream_cache_bytes", "", "gauge", "Bytes", "Size of the engine's cache of encoded fragments", ("cache",)),
    Metric("lmstream_cache_hits_total", "", "counter", "Count", "Fragments found in the cache", ("cache",)),
    Metric(
        "lmstream_cache_misses_total", "", "counter", "Count", "Fragments not in the cache, encoded anew", ("cache",)
    ),
    Metric(
        "lmstream_tls_cert_expiry_timestamp_seconds",
        "",
        "gauge",
        "Seconds",
        "Expiry of the client certificate (Unix time)",
    ),
)
"""All metrics, in the order in which hosts list them."""

SERVED: Final = tuple(metric for metric in CATALOGUE if metric.served)
"""What /metrics has."""

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}
