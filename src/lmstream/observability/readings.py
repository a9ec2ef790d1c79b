"""A running host as numbers: every metric of the catalogue that is served, read when somebody asks."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, get_args

from lmstream import __version__
from lmstream.abilities import Certified, Health, Healthy, Positions, State
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.interfaces import Standing
from lmstream.model import TopicPartition
from lmstream.observability.unblocked import dropped
from lmstream.runtime import Runtime, sink_error

MINUTE: Final = 60.0
STUCK: Final = 120.0  # seconds with records in flight of which none is settled: not progressing
TICKS: Final = 30.0  # seconds after which a loop that did not come round is dead


class Sample(NamedTuple):
    """One value of one metric."""

    name: str
    labels: tuple[str, ...]
    value: float


class Partition(NamedTuple):
    """How far the group is behind in one partition; what is not known is None."""

    topic: str
    partition: int
    committed: int | None
    end: int | None
    lag_records: int | None
    lag_seconds: float | None
    loss_seconds: float | None
    """Until retention takes the oldest record that is not durable. None while nothing waits, or retention is not
    known."""


class Readings:
    """Reads one runtime. Costs nothing between two questions, but for the watch over the event loop."""

    def __init__(self, runtime: Runtime, *, retention_ms: Mapping[str, int] | None = None) -> None:
        """`retention_ms` is how long each topic keeps records; it may be filled in later."""
        self.runtime = runtime
        self.retention_ms = dict(retention_ms or {})
        self.ends: dict[TopicPartition, int] = {}
        """Where partitions end, as asked for while they are not read."""
        self._stalls: deque[tuple[float, float]] = deque()

    # What the endpoints ask

    def alive(self) -> tuple[bool, str]:
        """Whether the loop comes round, whatever Kafka does."""
        run = self.runtime.snapshot()
        if run.state == "starting":
            return True, "starting"
        return run.silent < TICKS, f"the loop came round {run.silent:.1f} s ago"

    def ready(self) -> tuple[bool, str]:
        """Whether the run is a member of its group and gets on; and why not."""
        run = self.runtime.snapshot()
        if run.state != "running":
            return False, run.state
        health = self.health
        if health is not None and health.state != "running":
            return False, f"the source is {health.state}" + (f": {health.last_error}" if health.last_error else "")
        if health is not None and health.missing:
            return False, f"no such topic: {', '.join(health.missing)}"
        seen = run.pipeline
        if seen.fatal is not None:
            return False, f"paused: {sink_error(seen.fatal)}"
        if seen.in_flight and run.still > STUCK and not seen.waiting_records:
            return False, f"{seen.in_flight} records in flight, none settled for {run.still:.0f} s"
        hours = (
            f": {seen.waiting_records} records from {seen.waiting_hour} on wait for room among the stream's partitions"
        )
        return True, "running" + (hours if seen.waiting_records else "")

    def partitions(self) -> list[Partition]:
        """Lag of every partition that is ours."""
        standings = self._standings()
        oldest, ledger = self.runtime.pipeline.oldest(), self.runtime.ledger
        now = time.time()
        found = []
        for tp, standing in sorted(standings.items()):
            first = oldest.get(tp)
            # Of a group without a commit the oldest that was read and is not durable, else what follows what is.
            begin = standing.next
            if begin is None:
                begin = first.offset if first is not None else ledger.position(tp)
            ends = [end for end in (standing.end, self.ends.get(tp)) if end is not None]
            end = max(ends, default=None)
            lag = None if begin is None or end is None else max(0, end - begin)
            # What is read and not durable is lost with this process if retention takes it: its age is the lag.
            since = standing.read_ms if first is None or first.timestamp < 0 else first.timestamp
            age = None if since is None or since < 0 else max(0.0, now - since / 1000)
            behind = 0.0 if lag == 0 else age
            kept = self.retention_ms.get(tp.topic, -1)
            loss = kept / 1000 - age if lag and age is not None and kept > 0 else None
            found.append(Partition(tp.topic, tp.partition, standing.next, end, lag, behind, loss))
        return found

    @property
    def health(self) -> Health | None:
        """How the source is doing, as it says; None when it says nothing."""
        source = self.runtime.source
        return source.health if isinstance(source, Healthy) else None

    def _standings(self) -> Mapping[TopicPartition, Standing]:
        source = self.runtime.source
        return source.standings() if isinstance(source, Positions) else {}

    @property
    def standing_still(self) -> bool:
        """Whether something is not read just now, so that its end is as old as the last fetch."""
        return not self.runtime.snapshot().reading

    def certificate_expiry(self) -> float | None:
        """Unix time at which the client certificate ends; None without one."""
        source = self.runtime.source
        return source.certificate_expiry if isinstance(source, Certified) else None

    def stalled(self, seconds: float) -> None:
        """Note that the event loop came late by so much."""
        now = time.monotonic()
        self._stalls.append((now, seconds))
        while self._stalls[0][0] < now - MINUTE:
            self._stalls.popleft()

    @property
    def stall(self) -> float:
        """Seconds of the longest stall within the last minute."""
        since = time.monotonic() - MINUTE
        return max((seconds for at, seconds in self._stalls if at >= since), default=0.0)

    def request_durations(self) -> LatencyHistogram:
        """Of requests to the sink."""
        return self.runtime.pipeline.snapshot().request_durations

    def samples(self) -> Iterator[Sample]:
        """Every value but the histogram's."""
        yield from self._counts()
        yield from self._gauges()
        yield from self._source()
        yield Sample("lmstream_log_lines_dropped_total", (), dropped())
        for name, (used, made, asked) in self.runtime.pipeline.caches().items():
            yield Sample("lmstream_cache_bytes", (name,), used)
            yield Sample("lmstream_cache_hits_total", (name,), max(0, asked - made))
            yield Sample("lmstream_cache_misses_total", (name,), made)
        for name, (share, tripped) in self.runtime.pipeline.snapshot().refusals.items():
            yield Sample("lmstream_refused_ratio", (name,), share)
            yield Sample("lmstream_breaker_tripped", (name,), float(tripped))

    def _counts(self) -> Iterator[Sample]:
        runtime, progress = self.runtime, self.runtime.progress()
        counts = sent = runtime.pipeline.counts
        plain = {
            "lmstream_bundles_consumed_total": counts.records,
            "lmstream_rows_decoded_total": counts.rows,
            "lmstream_rows_accepted_total": counts.accepted,
            "lmstream_records_understood_total": counts.understood,
            "lmstream_records_empty_total": counts.empty,
            "lmstream_records_undecodable_total": counts.undecodable,
            "lmstream_records_all_skipped_total": counts.all_skipped,
            "lmstream_parts_undecodable_total": counts.parts_undecodable,
            "lmstream_dead_letters_total": counts.dead_letters,
            "lmstream_tombstones_total": counts.tombstones,
            "lmstream_sink_throttled_total": sent.throttled,
            "lmstream_sink_records_retried_total": sent.retried_packs,
            "lmstream_sink_unknown_outcomes_total": sent.unknown_outcomes,
            "lmstream_sink_bytes_total": sent.bytes,
            "lmstream_commits_total": progress.commits,
            "lmstream_commit_failures_total": progress.commit_failures,
            "lmstream_late_acks_total": progress.late,
            "lmstream_stale_records_total": progress.stale,
            "lmstream_partition_keys_overflow_total": runtime.pipeline.snapshot().partitions_overflow,
        }
        yield from (Sample(name, (), value) for name, value in plain.items())
        labelled: tuple[tuple[str, Mapping[str, int]], ...] = (
            ("lmstream_points_skipped_total", counts.skipped),
            ("lmstream_points_rejected_total", counts.rejected),
            ("lmstream_points_noted_total", counts.noted),
            ("lmstream_sink_requests_total", sent.requests),
        )
        for name, values in labelled:
            yield from (Sample(name, (label,), value) for label, value in sorted(values.items()))
        # Both of each topic from the start: an increase is only seen between two values.
        standings = self._standings()
        topics = {tp.topic for tp in standings} | counts.topic_rows.keys() | counts.topic_without_row.keys()
        for topic in sorted(topics):
            yield Sample("lmstream_topic_rows_total", (topic,), counts.topic_rows.get(topic, 0))
            yield Sample("lmstream_records_without_row_total", (topic,), counts.topic_without_row.get(topic, 0))

    def _gauges(self) -> Iterator[Sample]:
        runtime, seen = self.runtime, self.runtime.pipeline.snapshot()
        plain = {
            "lmstream_up_seconds": runtime.progress().duration,
            "lmstream_ready": float(self.ready()[0]),
            "lmstream_paused": float(seen.fatal is not None),
            "lmstream_inflight_records": seen.in_flight,
            "lmstream_inflight_bytes": seen.in_flight_bytes,
            "lmstream_budget_bytes": seen.budget,
            "lmstream_sink_concurrency": seen.concurrency,
            "lmstream_event_loop_stall_seconds": self.stall,
            "lmstream_dead_letters_waiting": seen.letters_waiting,
            "lmstream_partition_keys_active": seen.partitions_active,
            "lmstream_partition_keys_quota": seen.partitions_quota,
            "lmstream_partition_keys_waiting_records": seen.waiting_records,
        }
        yield Sample("lmstream_build_info", (__version__,), 1)
        yield from (Sample(name, (), value) for name, value in plain.items())
        expiry = self.certificate_expiry()
        if expiry is not None:
            yield Sample("lmstream_tls_cert_expiry_timestamp_seconds", (), expiry)

    def _source(self) -> Iterator[Sample]:
        health = self.health
        if health is None:
            return
        for state in get_args(State):
            yield Sample("lmstream_source_state", (state,), float(health.state == state))
        yield Sample("lmstream_source_failed_starts_total", (), health.failed_starts)
        yield Sample("lmstream_rebalances_total", (), health.rebalances)
        yield Sample("lmstream_records_expired_unread_total", (), health.lost_by_retention)
        yield Sample("lmstream_topic_resets_total", (), health.topic_resets)
        yield Sample("lmstream_partitions_unreadable", (), len(health.unreadable))
        yield Sample("lmstream_headers_unread_total", (), health.headers_unread)
        for cause, times in sorted(health.recreations.items()):
            yield Sample("lmstream_consumer_recreations_total", (cause,), times)
        for topic, kept in sorted(self.retention_ms.items()):
            yield Sample("lmstream_topic_retention_seconds", (topic,), kept / 1000)
        partitions = self.partitions()
        yield Sample("lmstream_assigned_partitions", (), len(partitions))
        for each in partitions:
            where = (each.topic, str(each.partition))
            values = {
                "lmstream_consumer_lag_records": each.lag_records,
                "lmstream_consumer_lag_seconds": each.lag_seconds,
                "lmstream_time_to_data_loss_seconds": each.loss_seconds,
                "lmstream_offset_acked": self.runtime.ledger.position(TopicPartition(each.topic, each.partition)),
                "lmstream_offset_committed": each.committed,
            }
            yield from (Sample(name, where, value) for name, value in values.items() if value is not None)
