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
    Metric(
        "lmstream_records_without_row_total",
        "RecordsWithoutRow",
        "counter",
        "Count",
        "Records with a value that gave no row: empty, all points skipped, or refused",
        ("topic",),
    ),
    Metric(
        "lmstream_parts_undecodable_total",
        "PartsUndecodable",
        "counter",
        "Count",
        "Parts of bundles in which points could not be counted; dead letters name them",
    ),
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
        "lmstream_records_undelivered_total",
        "RecordsUndelivered",
        "counter",
        "Count",
        "Records left to the source",
        served=False,
    ),
    Metric(
        "lmstream_process_duration_seconds",
        "ProcessDuration",
        "gauge",
        "Seconds",
        "Time of one invocation",
        served=False,
    ),
    Metric(
        "lmstream_cold_starts_total",
        "ColdStarts",
        "counter",
        "Count",
        "Invocations that had to start the process",
        served=False,
    ),
    # Of the container host alone.
    Metric("lmstream_topic_rows_total", "", "counter", "Count", "Rows made from data points", ("topic",)),
    Metric("lmstream_records_understood_total", "", "counter", "Count", "Records that gave at least one data point"),
    Metric("lmstream_records_empty_total", "", "counter", "Count", "Records with a value and without a data point"),
    Metric("lmstream_records_undecodable_total", "", "counter", "Count", "Records refused as a whole"),
    Metric(
        "lmstream_records_all_skipped_total",
        "",
        "counter",
        "Count",
        "Records that gave no row because all of their points were skipped on purpose",
    ),
    Metric(
        "lmstream_points_noted_total",
        "",
        "counter",
        "Count",
        "What was tolerated: parts left out of rows, no device, an enum by name, a metric or bundle without points",
        ("reason",),
    ),
    Metric("lmstream_build_info", "", "gauge", "Count", "1; the version is the label", ("version",)),
    Metric("lmstream_up_seconds", "", "gauge", "Seconds", "Time since the run began"),
    Metric("lmstream_ready", "", "gauge", "Count", "1 while /readyz says yes"),
    Metric("lmstream_paused", "", "gauge", "Count", "1 while reading waits for an operator (fatal configuration)"),
    Metric("lmstream_inflight_records", "", "gauge", "Count", "Records read and not settled"),
    Metric("lmstream_inflight_bytes", "", "gauge", "Bytes", "Payloads and lines of what is not settled"),
    Metric("lmstream_budget_bytes", "", "gauge", "Bytes", "What may be in flight before reading pauses"),
    Metric("lmstream_sink_concurrency", "", "gauge", "Count", "Requests that may be in flight at once just now"),
    Metric(
        "lmstream_sink_request_duration_seconds", "", "histogram", "Seconds", "Requests to the sink, answered or not"
    ),
    Metric("lmstream_dead_letters_waiting", "", "gauge", "Count", "Records whose dead letter is not durable yet"),
    Metric(
        "lmstream_refused_ratio", "", "gauge", "Count", "Share of the last records that were refused, 0 to 1", ("by",)
    ),
    Metric(
        "lmstream_breaker_tripped", "", "gauge", "Count", "1 once so many were refused that reading stopped", ("by",)
    ),
    Metric("lmstream_partition_keys_active", "", "gauge", "Count", "Partitions with rows in the last five minutes"),
    Metric("lmstream_partition_keys_quota", "", "gauge", "Count", "Active partitions that may be: delivery.partitions"),
    Metric(
        "lmstream_partition_keys_waiting_records",
        "",
        "gauge",
        "Count",
        "Records that wait for room among the stream's partitions, in a catch-up",
    ),
    Metric(
        "lmstream_partition_keys_overflow_total", "", "counter", "Count", "Partitions that began at or above the quota"
    ),
    Metric("lmstream_source_state", "", "gauge", "Count", "1 for the state the source is in, 0 for others", ("state",)),
    Metric("lmstream_source_failed_starts_total", "", "counter", "Count", "Members of the group that could not start"),
    Metric("lmstream_commits_total", "", "counter", "Count", "Commits of offsets"),
    Metric("lmstream_commit_failures_total", "", "counter", "Count", "Commits that failed; the next covers them"),
    Metric("lmstream_late_acks_total", "", "counter", "Count", "Settlements after their partition was given up"),
    Metric("lmstream_stale_records_total", "", "counter", "Count", "Records dropped because their partition was gone"),
    Metric("lmstream_rebalances_total", "", "counter", "Count", "Assignments received from the group"),
    Metric("lmstream_consumer_recreations_total", "", "counter", "Count", "Members of the group replaced", ("cause",)),
    Metric(
        "lmstream_records_expired_unread_total",
        "",
        "counter",
        "Count",
        "Offsets gone from the topic before they were read",
    ),
    Metric("lmstream_topic_resets_total", "", "counter", "Count", "Partitions found cut or made anew"),
    Metric(
        "lmstream_partitions_unreadable",
        "",
        "gauge",
        "Count",
        "Partitions held because what comes next arrives damaged",
    ),
    Metric(
        "lmstream_headers_unread_total",
        "",
        "counter",
        "Count",
        "Records whose headers librdkafka could not give; read again only for a dead letter",
    ),
    Metric("lmstream_assigned_partitions", "", "gauge", "Count", "Partitions that are ours"),
    Metric(
        "lmstream_consumer_lag_records", "", "gauge", "Count", "Records in the topic that are not committed", PARTITION
    ),
    Metric(
        "lmstream_consumer_lag_seconds",
        "",
        "gauge",
        "Seconds",
        "Age of the oldest record read and not durable (else of the newest), while records wait",
        PARTITION,
    ),
    Metric(
        "lmstream_time_to_data_loss_seconds",
        "",
        "gauge",
        "Seconds",
        "Until retention takes the oldest record that is not durable, while records wait",
        PARTITION,
    ),
    Metric("lmstream_topic_retention_seconds", "", "gauge", "Seconds", "How long the topic keeps records", ("topic",)),
    Metric("lmstream_offset_acked", "", "gauge", "Count", "Next offset after what is durable", PARTITION),
    Metric("lmstream_offset_committed", "", "gauge", "Count", "Next offset of the group", PARTITION),
    Metric(
        "lmstream_log_lines_dropped_total",
        "",
        "counter",
        "Count",
        "Log lines that nobody took from standard error",
    ),
    Metric("lmstream_event_loop_stall_seconds", "", "gauge", "Seconds", "Longest stall of the loop in the last minute"),
    Metric("lmstream_cache_bytes", "", "gauge", "Bytes", "Encoded pieces that the engine keeps", ("cache",)),
    Metric("lmstream_cache_hits_total", "", "counter", "Count", "Pieces taken from what was kept", ("cache",)),
    Metric("lmstream_cache_misses_total", "", "counter", "Count", "Pieces that had to be encoded", ("cache",)),
    Metric(
        "lmstream_tls_cert_expiry_timestamp_seconds",
        "",
        "gauge",
        "Seconds",
        "When the client certificate ends (Unix time)",
    ),
)
"""All metrics, in the order in which hosts list them."""

SERVED: Final = tuple(metric for metric in CATALOGUE if metric.served)
"""What /metrics has."""

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}
