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
from lmstream.observability.metrics_catalogue import values
from lmstream.observability.unblocked import dropped
from lmstream.runtime import RunSnapshot, Runtime, sink_error

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
        self.retention_ms: dict[str, int] = dict(retention_ms or {})
        self.ends: dict[TopicPartition, int] = {}
        """Where partitions end, as asked for while they are not read."""
        self._stalls: deque[tuple[float, float]] = deque()

    # What the endpoints ask

    def alive(self) -> tuple[bool, str]:
        """Whether the loop comes round, whatever Kafka does."""
        run = self.runtime.snapshot()
        if run.state == "starting":
            return True, "starting"
        return run.silent < TICKS, f"the event loop last ran {run.silent:.1f} s ago"

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
        run = self.runtime.snapshot()
        topics = {tp.topic for tp in self._standings()} | run.pipeline.counts.topic_rows.keys()
        topics |= run.pipeline.counts.topic_without_row.keys()
        for metric, value in values(run.pipeline.counts, run.pipeline, run, self.health):
            if not metric.labels:
                yield Sample(metric.name, (), value)
                continue
            # Both of each topic from the start: an increase is only seen between two values.
            by_label = dict.fromkeys(topics, 0) | value if metric.labels == ("topic",) else value
            yield from (Sample(metric.name, (label,), one) for label, one in sorted(by_label.items()))
        yield from self._gauges(run)
        yield from self._source()
        yield Sample("lmstream_log_lines_dropped_total", (), dropped())
        for name, (used, made, asked) in self.runtime.pipeline.caches().items():
            yield Sample("lmstream_cache_bytes", (name,), used)
            yield Sample("lmstream_cache_hits_total", (name,), max(0, asked - made))
            yield Sample("lmstream_cache_misses_total", (name,), made)

    def _gauges(self, run: RunSnapshot) -> Iterator[Sample]:
        yield Sample("lmstream_build_info", (__version__,), 1)
        yield Sample("lmstream_ready", (), float(self.ready()[0]))
        yield Sample("lmstream_paused", (), float(run.pipeline.fatal is not None))
        yield Sample("lmstream_event_loop_stall_seconds", (), self.stall)
        for name, (share, tripped) in run.pipeline.refusals.items():
            yield Sample("lmstream_refused_ratio", (name,), share)
            yield Sample("lmstream_breaker_tripped", (name,), float(tripped))
        expiry = self.certificate_expiry()
        if expiry is not None:
            yield Sample("lmstream_tls_cert_expiry_timestamp_seconds", (), expiry)

    def _source(self) -> Iterator[Sample]:
        health = self.health
        if health is None:
            return
        for state in get_args(State):
            yield Sample("lmstream_source_state", (state,), float(health.state == state))
        yield Sample("lmstream_partitions_unreadable", (), len(health.unreadable))
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
