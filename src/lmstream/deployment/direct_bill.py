"""The bill of the direct path: windows to requests, rows to storage, load to tasks of Fargate. A month, in USD."""

import math
from typing import Final

from msgspec import Struct

from lmstream.delivery.in_flight import OVERHEAD as RECORD
from lmstream.delivery.window_length import Bounds, Flow, Window, window, windows_hold
from lmstream.deployment.bill import GB, HOURS, MONTH, Line, Work, cluster, watching
from lmstream.deployment.lake import Format
from lmstream.deployment.prices import Rates
from lmstream.deployment.settings import Deployment
from lmstream.settings import MIB

ONE_METRIC: Final = {"gzip": 1.0, "zstd": 1.41, "parquet": 2.4}
ALL_METRICS: Final = {"gzip": 1.0, "zstd": 1.57, "parquet": 3.2}
"""How much smaller a format is than gzip, where an object holds one metric, and where it holds all: 41.0 bytes a row,
29.0 and 17.1; 36.8, 23.4 and 11.4. Measured on 12,000 and 324,000 generated rows of 749 bytes."""
READ: Final = {"gzip": 1.0, "zstd": 1.0, "parquet": 0.46}
"""Share of a format's bytes that a query of one value by device reads: 5.2 of 11.4 bytes a row, measured likewise."""
HELD_OF_A_LINE: Final = {True: 0.31, False: 0.18}
"""Bytes of a row in memory as columns, of those of its line, where an object holds one metric and where it holds all:
232 and 133 of 752, measured on 101,280 generated rows in 27 and 2 objects. Lines are held compressed, as they land."""
ROWS_PER_CPU_SECOND: Final = {"gzip": 190_000, "zstd": 190_000, "parquet": 150_000}
"""Of one process from topic to objects: 204,576 were measured from topic to Firehose (docs/scale.md); gzip costs 0.3 µs
a row more, Parquet 1.7 (build and write, measured alone)."""
HEADROOM: Final = 0.6
"""Of a core: the rest catches up after a stop."""
KMS_SHARE: Final = 0.01
"""Requests to KMS for each object with bucket keys: they cut them by up to 99 %, docs.aws.amazon.com/AmazonS3/latest/
userguide/bucket-key.html."""
LOG_BYTES: Final = 2_000
"""Of a process and minute: a line of status and one of metrics."""


class Direct(Struct, frozen=True, kw_only=True):
    """What the direct path does with a load in one format; of a month, unless said otherwise."""

    format: Format
    lanes: int
    window: Window
    """Of one lane."""
    objects: float
    edges: float
    """More objects: of windows that hold the end of one hour and the beginning of the next."""
    claims: float
    landed_gb: float
    tasks: int

    @property
    def puts(self) -> float:
        """Requests that create an object."""
        return self.objects + self.edges + self.claims


def direct(deployment: Deployment, rates: Rates, work: Work, kind: Format) -> Direct:
    """Work a format out: its windows, objects, tasks."""
    lanes, container, settings = deployment.lanes, deployment.container, deployment.lake
    line = deployment.load.row_bytes
    row = line / ratio(deployment, kind)
    cores = work.rows / (ROWS_PER_CPU_SECOND[kind] * HEADROOM)
    tasks = max(container.tasks, math.ceil(cores / min(container.processes, container.cpu / 1024)))
    busiest = math.ceil(lanes / (container.processes * tasks))  # lanes of one process
    held = windows_hold(container.budget_mib * MIB) // busiest
    of_record = RECORD / deployment.load.rows_per_bundle
    flow = Flow(
        rows=work.rows / lanes,
        line_bytes=line,
        landed_bytes=row,
        held_bytes=(line * HELD_OF_A_LINE[_by_metric(deployment)] if kind == "parquet" else row) + of_record,
        paths=deployment.paths,
    )
    bounds = Bounds(
        seconds=settings.window_seconds,
        max_seconds=settings.window_max_seconds,
        rows=settings.window_rows,
        bytes=settings.window_bytes,
        object_bytes=settings.object_bytes,
        memory=held,
        dollars=settings.monthly_dollars / lanes if settings.monthly_dollars else None,
        put_usd=rates.s3_1000_puts / 1000,
    )
    made = window(flow, bounds)
    hourly = "{HH}" in deployment.engine.path
    return Direct(
        format=kind,
        lanes=lanes,
        window=made,
        objects=lanes * made.objects * MONTH / made.seconds,
        edges=lanes * min(deployment.paths, made.rows) * HOURS if hourly else 0.0,
        claims=lanes * MONTH / made.seconds,
        landed_gb=work.rows * row * MONTH / GB,
        tasks=tasks,
    )


def ratio(deployment: Deployment, kind: Format) -> float:
    """Rows against what they take in an object."""
    load = deployment.load
    if kind == "parquet" and load.parquet_ratio is not None:
        return load.parquet_ratio
    return load.gzip_ratio * (ONE_METRIC if _by_metric(deployment) else ALL_METRICS)[kind]


def _by_metric(deployment: Deployment) -> bool:
    """Whether an object holds rows of one metric."""
    return "{metricKey}" in deployment.engine.path


def direct_bill(deployment: Deployment, rates: Rates, work: Work, kind: Format) -> list[Line]:
    """All lines."""
    made = direct(deployment, rates, work, kind)
    logs = LOG_BYTES * made.tasks * deployment.container.processes * MONTH / 60 / GB
    return [
        *_requests(rates, made),
        Line("S3 storage", made.landed_gb * rates.s3_gb_month, f"{made.landed_gb:,.0f} GB of {kind}, first month"),
        _fargate(deployment, rates, made),
        *cluster(deployment, rates, work, "direct", 0.0),
        *watching(deployment, rates, "direct", logs, "the tasks"),
    ]


def _requests(rates: Rates, made: Direct) -> list[Line]:
    windows = MONTH / made.window.seconds
    how = (
        f"{made.objects:,.0f} objects of {made.lanes} lanes in {windows:,.0f} windows of {made.window.seconds:,.0f} s "
        f"(ended by {made.window.ended_by}), {made.edges:,.0f} more at the edge of an hour, {made.claims:,.0f} claims"
    )
    keys = made.puts * KMS_SHARE
    return [
        Line("S3 requests", made.puts / 1000 * rates.s3_1000_puts, how),
        Line("KMS requests", keys / 10_000 * rates.kms_10000_requests, f"{keys:,.0f}, with bucket keys"),
    ]


def _fargate(deployment: Deployment, rates: Rates, made: Direct) -> Line:
    container = deployment.container
    arm = container.architecture == "arm64"
    cpu = rates.fargate_vcpu_hour_arm64 if arm else rates.fargate_vcpu_hour_x86_64
    memory = rates.fargate_gb_hour_arm64 if arm else rates.fargate_gb_hour_x86_64
    vcpu, gb = container.cpu / 1024, container.memory_mb / 1024
    usd = made.tasks * HOURS * (vcpu * cpu + gb * memory)
    return Line("Fargate", usd, f"{made.tasks} tasks of {vcpu:g} vCPU and {gb:g} GB, all month")
