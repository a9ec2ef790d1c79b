"""Arithmetic of a deployment before money is spent: rates, quotas, objects, monthly cost of the alternatives."""

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Final

from msgspec import Struct

from lmstream._checked import Layer, convert
from lmstream._deployment_checks import EVENT_BYTES
from lmstream.deployment import Deployment
from lmstream.errors import ConfigError
from lmstream.settings import MIB
from lmstream.telemetry import CATALOGUE

MONTH: Final = 30 * 86_400  # seconds
HOURS: Final = MONTH / 3600
GB: Final = 1024**3
PACK_ROWS: Final = 500  # docs.aws.amazon.com/firehose: record deaggregation is capped at 500 per record
PACK_BYTES: Final = 1_024_000
EVENT_STEP: Final = 64 * 1024  # bytes of one billed request of a Pipe
ENVELOPE: Final = 400  # bytes of a record's entry in an event, beside its value
ROWS_PER_CPU_SECOND: Final = 150_000  # of the function with one vCPU, half of what benchmarks/aws_lambda.py measures
VCPU_MB: Final = 1769  # docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
OVERHEAD: Final = 0.02  # seconds of an invocation beside its rows: requests to Firehose under way
ALARMS: Final = 13  # beside those of source and brokers
SPARE: Final = 0.8  # of a quota: above it an ordinary burst passes it


class Prices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price table: prices.toml beside this file says what each is."""

    as_of: str
    firehose_gb: float
    firehose_record_step: int
    partitioning_gb: float
    partitioning_1000_objects: float
    partitioning_jq_hour: float
    jq_rows_per_second: int
    s3_gb_month: float
    s3_1000_puts: float
    lambda_gb_second_arm64: float
    lambda_gb_second_x86_64: float
    lambda_1m_requests: float
    pipes_1m_requests: float
    mapping_poller_hour: float
    msk_broker_hour: float
    msk_gb_month: float
    private_ca_month: float
    nat_hour: float
    nat_gb: float
    endpoint_hour: float
    endpoint_gb: float
    kms_key_month: float
    secret_month: float
    alarm_month: float
    dashboard_month: float
    metric_month: float
    log_gb: float


class Quota(Struct, frozen=True):
    """One quota, and what the deployment takes of it."""

    name: str
    used: float
    limit: float
    unit: str
    mend: str

    @property
    def verdict(self) -> str:
        """ok, close (over four fifths) or over."""
        share = self.used / self.limit
        return "over" if share > 1 else "close" if share > SPARE else "ok"


class Line(Struct, frozen=True):
    """One line of the bill, a month of 30 days."""

    name: str
    usd: float
    how: str


class Estimate(Struct, frozen=True):
    """All of it."""

    rates: dict[str, float]
    quotas: list[Quota]
    cost: list[Line]
    alternatives: list[Line]
    prices_as_of: str

    @property
    def total(self) -> float:
        """USD a month as configured."""
        return sum(line.usd for line in self.cost)


def prices(path: Path | str | None = None) -> Prices:
    """Read a price table; None is the one that comes with lmstream. Raises ConfigError."""
    try:
        if path is None:
            text = (resources.files("lmstream") / "prices.toml").read_text(encoding="utf-8")
        else:
            text = Path(path).read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as e:
        raise ConfigError("config.invalid", f"prices {path}: {e.strerror or e}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError("config.invalid", f"prices {path} are no TOML: {e}") from e
    made: Prices = convert((), raw, Prices, [Layer(str(path or "prices.toml"), raw)])
    return made


def estimate(deployment: Deployment, table: Prices) -> Estimate:
    """Work everything out from the expected load."""
    load, stream = deployment.load, deployment.stream
    rows = load.rows_per_second
    size = load.row_bytes
    pack_rows = min(PACK_ROWS, max(1, PACK_BYTES // size))
    records = load.devices * load.rows_per_device_minute / 60 / load.rows_per_bundle
    invocations = records / _batch(deployment, records)
    bytes_per_second = rows * size
    objects = _objects_per_day(deployment, bytes_per_second)
    rates = {
        "rows_per_second": rows,
        "bundles_per_second": records,
        "invocations_per_second": invocations,
        "mib_per_second": bytes_per_second / MIB,
        "gb_per_month": bytes_per_second * MONTH / GB,
        "gb_landed_per_month": bytes_per_second * MONTH / GB / load.gzip_ratio,
        "active_partitions": float(deployment.active_partitions),
        "objects_per_day": objects,
        "object_kib": bytes_per_second * 86_400 / objects / load.gzip_ratio / 1024,
    }
    event = min(EVENT_BYTES, _batch(deployment, records) * (load.bundle_bytes * 4 / 3 + ENVELOPE))
    quotas = [
        Quota(
            "Firehose Direct PUT",
            bytes_per_second / MIB,
            stream.mib_per_second,
            "MiB/s",
            "ask AWS for more and set stream.mib_per_second, or split the topic over streams",
        ),
        Quota(
            "Firehose active partitions",
            deployment.active_partitions,
            stream.active_partitions,
            "partitions",
            "set engine.metric_key to buckets or allow, or ask AWS for more",
        ),
        Quota("Lambda event", event / 1e6, EVENT_BYTES / 1e6, "MB", "lower transform.batch_size"),
        Quota(
            "function at once",
            invocations * _seconds(deployment, rows / max(invocations, 1e-9)),
            deployment.partitions,
            "invocations",
            "more partitions, or more memory",
        ),
    ]
    billed = rows / pack_rows * _stepped(pack_rows * size, table) * MONTH / GB
    single = rows * _stepped(size, table) * MONTH / GB
    cost = _cost(deployment, table, rates, billed)
    total = sum(line.usd for line in cost)
    apart = (single - billed) * table.firehose_gb
    alternatives = [
        Line("as configured", total, f"{pack_rows} rows in a Firehose record: {billed:,.0f} GB billed"),
        Line("one row in each record", total + apart, f"rounded up to 5 KB a row: {single:,.0f} GB billed"),
        Line("an existing cluster", total - _fixed(deployment, table), "without MSK, its private CA and its network"),
    ]
    return Estimate(rates, quotas, cost, alternatives, table.as_of)


def alarms(deployment: Deployment) -> int:
    """How many alarms the operations stack has."""
    new, enabled = not deployment.cluster.arn, deployment.transform.enabled
    pipe = deployment.transform.source == "pipe"
    # Without the source: no `silence`. With it: `retention` and `lag`, and `unread` for brokers that are known.
    return ALARMS + (2 + new if enabled else -1) + 3 * new + pipe


def _batch(deployment: Deployment, records: float) -> float:
    """Records of an invocation: what comes in a window, up to the batch size; a partition at a time."""
    window = max(deployment.transform.window_seconds, 0.5)
    return max(1.0, min(deployment.transform.batch_size, records * window))


def _seconds(deployment: Deployment, rows: float) -> float:
    """Seconds of an invocation with so many rows."""
    return OVERHEAD + rows / (ROWS_PER_CPU_SECOND * min(1.0, deployment.transform.memory_mb / VCPU_MB))


def _objects_per_day(deployment: Deployment, bytes_per_second: float) -> float:
    """A partition's object is written when its buffer is full or old."""
    partitions = max(1, deployment.active_partitions // 2)  # of the hour that is running; late rows come on top
    by_age = partitions * 86_400 / deployment.stream.buffer_seconds
    by_size = bytes_per_second * 86_400 / (deployment.stream.buffer_mib * MIB)
    return max(by_age, by_size)


def _stepped(size: float, table: Prices) -> float:
    return math.ceil(size / table.firehose_record_step) * table.firehose_record_step


def _fixed(deployment: Deployment, table: Prices) -> float:
    cluster, network = deployment.cluster, deployment.network
    if cluster.arn:
        return 0.0
    brokers = cluster.brokers * (table.msk_broker_hour * HOURS + cluster.storage_gib * table.msk_gb_month)
    hours = len(deployment.endpoints) * network.zones * HOURS
    egress = table.nat_hour * HOURS if network.egress == "nat" else hours * table.endpoint_hour
    return brokers + egress + (table.private_ca_month if cluster.create_ca else 0.0)


def _cost(deployment: Deployment, table: Prices, rates: dict[str, float], billed: float) -> list[Line]:
    cluster, network, transform = deployment.cluster, deployment.network, deployment.transform
    gb, landed, objects = rates["gb_per_month"], rates["gb_landed_per_month"], rates["objects_per_day"] * 30
    invocations = rates["invocations_per_second"] * MONTH
    seconds = _seconds(deployment, rates["rows_per_second"] / max(rates["invocations_per_second"], 1e-9))
    gb_second = table.lambda_gb_second_arm64 if transform.architecture == "arm64" else table.lambda_gb_second_x86_64
    events = deployment.load.bundle_bytes * 4 / 3 * rates["bundles_per_second"] * MONTH
    jq_hours = rates["rows_per_second"] * MONTH / table.jq_rows_per_second / 3600
    lines = [
        Line("Firehose ingestion", billed * table.firehose_gb, f"{billed:,.0f} GB"),
        Line(
            "Firehose partitioning",
            gb * table.partitioning_gb
            + objects / 1000 * table.partitioning_1000_objects
            + jq_hours * table.partitioning_jq_hour,
            f"{gb:,.0f} GB, {objects:,.0f} objects, {jq_hours:,.0f} jq hours",
        ),
        Line("S3", landed * table.s3_gb_month + objects / 1000 * table.s3_1000_puts, f"{landed:,.0f} GB, first month"),
        Line(
            "Lambda",
            invocations * (seconds * transform.memory_mb / 1024 * gb_second + table.lambda_1m_requests / 1e6),
            f"{invocations:,.0f} invocations of {seconds * 1000:,.0f} ms",
        ),
    ]
    if transform.source == "pipe":
        requests = max(invocations, events / EVENT_STEP)
        lines.append(Line("Pipe", requests / 1e6 * table.pipes_1m_requests, f"{requests:,.0f} requests of 64 KiB"))
    elif transform.pollers:
        hours = transform.pollers * HOURS
        lines.append(Line("provisioned pollers", hours * table.mapping_poller_hour, f"{hours:,.0f} hours at most"))
    if not cluster.arn:
        brokers = cluster.brokers * table.msk_broker_hour * HOURS
        storage = cluster.brokers * cluster.storage_gib * table.msk_gb_month
        lines.append(Line("MSK", brokers + storage, f"{cluster.brokers} brokers, {cluster.storage_gib} GiB each"))
        through = events / GB
        if network.egress == "nat":
            lines.append(
                Line("NAT gateway", table.nat_hour * HOURS + through * table.nat_gb, f"1, {through:,.0f} GB to Lambda")
            )
        elif deployment.endpoints:
            hourly = len(deployment.endpoints) * network.zones * table.endpoint_hour * HOURS
            what = f"{len(deployment.endpoints)} in {network.zones} zones, {through:,.0f} GB through them"
            lines.append(Line("interface endpoints", hourly + through * table.endpoint_gb, what))
        if cluster.create_ca:
            lines.append(Line("private CA", table.private_ca_month, "general purpose; a fixed price"))
    small = table.kms_key_month + table.secret_month + alarms(deployment) * table.alarm_month + table.dashboard_month
    named = sum(bool(metric.emf) for metric in CATALOGUE)
    lines.append(
        Line("key, secret, alarms, dashboard, metrics", small + named * table.metric_month, f"{named} metrics of ours")
    )
    return lines
