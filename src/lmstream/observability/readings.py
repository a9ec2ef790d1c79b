"""A running host as numbers: every metric of the catalogue that is served, read when somebody asks."""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, get_args

from lmstream import __version__
from lmstream.abilities import Certified, Health, Healthy, Positions, State
from lmstream.behind import Behind, Look, Retention, behind, farewell, said, utc
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.interfaces import Standing
from lmstream.model import TopicPartition
from lmstream.observability.metrics_catalogue import values
from lmstream.observability.unblocked import dropped
from lmstream.runtime import RunSnapshot, Runtime, sink_error

MINUTE: Final = 60.0
MOMENT: Final = 5.0  # seconds that nothing may settle before brokers are asked how much time is left
TICKS: Final = 30.0  # seconds after which a loop that did not run is dead


class Sample(NamedTuple):
    """One value of one metric."""

    name: str
    labels: tuple[str, ...]
    value: float


class Readiness(NamedTuple):
    """Whether a run settles what it reads."""

    ready: bool
    why: str
    since: float | None = None
    """Unix time since when it does not."""

    def __str__(self) -> str:
        return self.why if self.since is None else f"{self.why}, since {utc(self.since)}"


class _Hindrance(NamedTuple):
    """Something that keeps records from being settled."""

    kind: str
    why: str
    patience: float = 0.0
    """Seconds that it may last before the run is not ready."""
    since: float | None = None
    """By the monotonic clock; None: since it was first seen."""


class Readings:
    """Reads one runtime. Costs nothing between two questions, but for the watch over the event loop."""

    def __init__(
        self, runtime: Runtime, *, retentions: Mapping[str, Retention] | None = None, group: str | None = None
    ) -> None:
        """`retentions` is how long each topic keeps records; it may be filled in later. `group` is the consumer
        group, for sources that have one."""
        self.runtime = runtime
        self.group = group
        self.retentions: Mapping[str, Retention] = retentions or {}
        self._looks: Mapping[TopicPartition, Look] = {}
        self._looked_in = 0
        self._last: list[Behind] = []
        self._since: dict[str, float] = {}
        self._stalls: deque[tuple[float, float]] = deque()

    # What the endpoints ask

    @property
    def who(self) -> str:
        """Which process this is: several may have the same port, one after the other."""
        return f"lmstream {__version__}, pid {os.getpid()}" + (f", group {self.group}" if self.group else "")

    def alive(self) -> tuple[bool, str]:
        """Whether the loop still runs, whatever Kafka does."""
        run = self.runtime.snapshot()
        if run.state == "starting":
            return True, "starting"
        return run.silent < TICKS, f"the event loop last ran {run.silent:.1f} s ago"

    def ready(self) -> Readiness:
        """Whether the run is a member of its group and settles what it reads; if not, why, and since when. It stops
        nothing. Ask now and then: what nobody asked about began when somebody did."""
        run, now = self.runtime.snapshot(), time.monotonic()
        found = list(self._hindrances(run, now))
        self._since = {
            each.kind: self._since.get(each.kind, now) if each.since is None else each.since for each in found
        }
        lasted = [now - self._since[each.kind] for each in found]
        for each, seconds in zip(found, lasted, strict=True):
            if seconds >= each.patience:
                return Readiness(ready=False, why=each.why, since=time.time() - seconds)
        for each, seconds in zip(found, lasted, strict=True):
            if seconds >= MOMENT:
                why = f"running; {each.why}, for {seconds:.0f} s; not ready after {each.patience:.0f} s"
                return Readiness(ready=True, why=why)
        seen = run.pipeline
        waits = f"{seen.waiting_records:,} records from {seen.waiting_hour} on"
        hours = f": {waits} wait for room among the stream's partitions"
        return Readiness(ready=True, why="running" + (hours if seen.waiting_records else ""))

    def _hindrances(self, run: RunSnapshot, now: float) -> Iterator[_Hindrance]:
        if run.state != "running":
            yield _Hindrance(run.state, run.state)
            return
        health = self.health
        if health is not None and health.state != "running":
            why = f"the source is {health.state}" + (f": {health.last_error}" if health.last_error else "")
            yield _Hindrance(health.state, why)
            return
        if health is not None and health.missing:
            yield _Hindrance("missing", f"no such topic: {', '.join(health.missing)}")
            return
        seen, within = run.pipeline, self.runtime.pipeline.settles_within
        self._last = self.partitions()
        if seen.fatal is not None:
            yield _Hindrance("paused", f"paused: {sink_error(seen.fatal)}")
        if seen.letters_trouble is not None:
            more = f"{seen.oldest_letter} and {max(0, seen.letters_waiting - 1):,} more wait"
            yield _Hindrance(
                "letters", f"dead letters cannot be written, {more}: {seen.letters_trouble.message}", within
            )
        trouble = seen.sink_trouble
        if seen.in_flight and (trouble is not None or not seen.waiting_records):
            why = "the sink does not answer" if trouble is None else f"the sink: {trouble.code}: {trouble.message}"
            text = f"{seen.in_flight:,} records in flight, none is settled: {why}"
            yield _Hindrance("settling", text, within, now - run.still)
        unread = 0 if seen.in_flight else sum(each.records or 0 for each in self._last)
        if unread:
            held = next(iter(health.unreadable.values()), "") if health is not None else ""
            why = held or "the brokers give none out, as for an open transaction or a quota"
            # One that was settled meanwhile was read: then it is another time that nothing comes.
            yield _Hindrance(f"reading {seen.counts.settled}", f"{unread:,} records wait, none is read: {why}", within)

    def partitions(self) -> list[Behind]:
        """How far the group is behind in every partition that is ours."""
        oldest, ledger, now = self.runtime.pipeline.oldest(), self.runtime.ledger, time.time()
        looks = self._looks if self._looked_in == self.rebalances else {}
        found = []
        for tp, standing in sorted(self.standings().items()):
            first = oldest.get(tp)
            done = [each for each in (standing.next, ledger.position(tp)) if each is not None]
            found.append(
                behind(
                    tp,
                    settled=max(done, default=None),
                    committed=standing.next,
                    end=standing.end,
                    oldest=None if first is None else (first.offset, first.timestamp),
                    look=looks.get(tp),
                    retention=self.retentions.get(tp.topic),
                    now=now,
                )
            )
        return found

    def behind(self) -> str:
        """One sentence for people: what is not settled, and until when that is safe; empty when all is settled."""
        return said(self.partitions(), time.time())

    def last_words(self) -> str:
        """The same for the end of a run: empty unless something was in flight, paused, or is in danger; or it is not
        in its group, and then it is what was known last."""
        seen, partitions, health = self.runtime.pipeline.snapshot(), self.partitions(), self.health
        away = not partitions and health is not None and health.state != "running"
        if not (seen.in_flight or seen.fatal or away or any(each.soon for each in partitions)):
            return ""
        return farewell(self._last if away else partitions, time.time())

    @property
    def health(self) -> Health | None:
        """How the source is doing, as it says; None when it says nothing."""
        source = self.runtime.source
        return source.health if isinstance(source, Healthy) else None

    def looked(self, looks: Mapping[TopicPartition, Look], rebalances: int) -> None:
        """Take what the brokers said of partitions, asked after so many rebalances: after the next one a topic may be
        another one of the same name."""
        self._looks, self._looked_in = looks, rebalances

    @property
    def rebalances(self) -> int:
        """Assignments received from the group."""
        return 0 if self.health is None else self.health.rebalances

    def standings(self) -> Mapping[TopicPartition, Standing]:
        """Where the group stands, as the source knows it."""
        source = self.runtime.source
        return source.standings() if isinstance(source, Positions) else {}

    @property
    def unsure(self) -> bool:
        """Whether the brokers have to be asked: something is not read just now, so that its end is as old as the last
        fetch, or nothing settles, or records of a partition are in the topic alone."""
        run, found = self.runtime.snapshot(), self.partitions()
        if not run.reading or any(each.records is None or each.seconds is None for each in found):
            return True
        return run.still > MOMENT if run.pipeline.in_flight else any(each.records for each in found)

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
        topics = {tp.topic for tp in self.standings()} | run.pipeline.counts.topic_rows.keys()
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
        yield Sample("lmstream_ready", (), float(self.ready().ready))
        yield Sample("lmstream_settles_within_seconds", (), self.runtime.pipeline.settles_within)
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
        for topic, kept in sorted(self.retentions.items()):
            if kept.seconds is not None:
                yield Sample("lmstream_topic_retention_seconds", (topic,), kept.seconds)
        partitions = self.partitions()
        yield Sample("lmstream_assigned_partitions", (), len(partitions))
        for each in partitions:
            where = (each.topic, str(each.partition))
            values = {
                "lmstream_consumer_lag_records": each.records,
                "lmstream_consumer_lag_seconds": each.seconds,
                "lmstream_time_to_data_loss_seconds": each.loss,
                "lmstream_offset_acked": self.runtime.ledger.position(TopicPartition(each.topic, each.partition)),
                "lmstream_offset_committed": each.committed,
            }
            yield from (Sample(name, where, value) for name, value in values.items() if value is not None)
