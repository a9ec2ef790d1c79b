"""The bill of a deployment, line by line: a month of 30 days, in USD."""

import math
from typing import Final

from msgspec import Struct

from lmstream.deployment.prices import Rates
from lmstream.deployment.quotas import EPU_BYTES, POLLERS_OF_EPU, TIERED_BYTES
from lmstream.deployment.settings import Deployment
from lmstream.observability.metrics_catalogue import CATALOGUE

MONTH: Final = 30 * 86_400  # seconds
HOURS: Final = MONTH / 3600
GB: Final = 1024**3
YEAR: Final = 12  # months
FIREHOSE_STEP: Final = 5120  # aws.amazon.com/firehose/pricing: each record is rounded up to 5 KB
JQ_ROWS: Final = 80_000  # rows that a second of jq handles: measured with jq 1.8 on one core, not by AWS
EVENT_STEP: Final = 64 * 1024  # aws.amazon.com/eventbridge/pricing: bytes of one billed request of a Pipe
LOG_BYTES: Final = 1_500  # of an invocation: one line of metrics, about 900 bytes, and Lambda's own
ALARMS: Final = 17  # beside those of source and brokers
ALARMS_DIRECT: Final = 7  # the same of the container
RESTORED_HOURS: Final = 2  # an environment lives about so long before another is started
_INSTANCE: Final = "kafka.m7g.large"


class Line(Struct, frozen=True):
    """One line of the bill, a month of 30 days."""

    name: str
    usd: float
    how: str


class Work(Struct, frozen=True, kw_only=True):
    """What a deployment does, of which the bill is made."""

    rows: float
    """A second; so are the next three."""
    bundles: float
    invocations: float
    bytes: float
    objects: float
    """A month."""
    seconds: float
    """Of an invocation."""
    pack_rows: int
    """Rows of a Firehose record."""

    @property
    def gb(self) -> float:
        """Rows of a month."""
        return self.bytes * MONTH / GB

    def billed(self, row_bytes: int, rows: int) -> float:
        """GB a month that Firehose counts with so many rows in a record."""
        return self.rows / rows * math.ceil(rows * row_bytes / FIREHOSE_STEP) * FIREHOSE_STEP * MONTH / GB


def bill(deployment: Deployment, rates: Rates, work: Work) -> list[Line]:
    """All lines of the path through Firehose."""
    through, logs = events(deployment, work) / GB, work.invocations * MONTH * LOG_BYTES / GB
    return [
        *delivery(deployment, rates, work),
        *_storage(deployment, rates, work),
        *function(deployment, rates, work),
        *cluster(deployment, rates, work, "firehose", through),
        *watching(deployment, rates, "firehose", logs, "the function"),
    ]


def delivery(deployment: Deployment, rates: Rates, work: Work) -> list[Line]:
    """What Firehose is paid for."""
    billed = work.billed(deployment.load.row_bytes, work.pack_rows)
    jq_hours = work.rows * MONTH / JQ_ROWS / 3600
    partitioning = (
        work.gb * rates.partitioning_gb
        + work.objects / 1000 * rates.partitioning_1000_objects
        + jq_hours * rates.partitioning_jq_hour
    )
    how = f"{work.gb:,.0f} GB, {work.objects:,.0f} objects, {jq_hours:,.0f} jq hours"
    return [
        Line("Firehose ingestion", billed * rates.firehose_gb, f"{billed:,.0f} GB"),
        Line("Firehose partitioning", partitioning, how),
    ]


def _storage(deployment: Deployment, rates: Rates, work: Work) -> list[Line]:
    landed = work.gb / deployment.load.gzip_ratio
    first = landed * rates.s3_gb_month + work.objects / 1000 * rates.s3_1000_puts
    return [
        Line("S3", first, f"{landed:,.0f} GB and {work.objects:,.0f} PUT, first month"),
        *(line for line in [tiering(deployment, rates, work)] if line),
    ]


def tiering(deployment: Deployment, rates: Rates, work: Work) -> Line | None:
    """What storage classes add in the twelfth month, less what they save; None where no object moves. Not in it: what
    queries read of a colder class costs more.
    """
    bucket, landed = deployment.bucket, work.gb / deployment.load.gzip_ratio
    small = work.bytes and landed * GB / work.objects < TIERED_BYTES
    watched, instant, flexible = bucket.intelligent_tiering_days, bucket.glacier_ir_days, bucket.glacier_days
    if small or (watched, instant, flexible) == (None, None, None):
        return None
    usd, said = 0.0, []
    if watched is not None:
        months = max(0.0, YEAR - watched / 30)
        usd += work.objects / 1000 * (rates.tiering_1000_transitions + months * rates.tiering_1000_objects)
        usd -= landed * min(2.0, max(0.0, months - 1)) * (rates.s3_gb_month - rates.s3_ia_gb_month)
        usd -= landed * max(0.0, months - 3) * (rates.s3_gb_month - rates.s3_instant_gb_month)
        said.append(f"{months * work.objects:,.0f} objects watched")
    for days, of, price in (
        (instant, rates.instant_1000_transitions, rates.s3_instant_gb_month),
        (flexible, rates.flexible_1000_transitions, rates.s3_flexible_gb_month),
    ):
        if days is not None and days < YEAR * 30:
            usd += work.objects / 1000 * of - landed * (YEAR - days / 30) * (rates.s3_gb_month - price)
            said.append(f"{work.objects:,.0f} objects moved")
    if flexible is not None and flexible >= YEAR * 30:
        said.append(f"{work.objects / 1000 * rates.flexible_1000_transitions:,.2f} a month after {flexible} days")
    return Line("storage classes", usd, f"twelfth month, with what they save: {', '.join(said)}")


def _warm(deployment: Deployment, rates: Rates) -> list[Line]:
    """What it costs to start quicker, or not at all."""
    transform, gb = deployment.transform, deployment.transform.memory_mb / 1024
    lines = []
    if transform.provisioned:
        arm, x86 = rates.lambda_provisioned_gb_second_arm64, rates.lambda_provisioned_gb_second_x86_64
        usd = transform.provisioned * gb * MONTH * (arm if transform.architecture == "arm64" else x86)
        lines.append(Line("provisioned concurrency", usd, f"{transform.provisioned} environments that are always warm"))
    if transform.snap_start:
        restored = deployment.partitions * HOURS / RESTORED_HOURS
        usd = gb * (MONTH * rates.snapstart_cache_gb_second + restored * rates.snapstart_restore_gb)
        lines.append(Line("snapshots", usd, f"one kept, {restored:,.0f} starts from it"))
    return lines


def function(deployment: Deployment, rates: Rates, work: Work) -> list[Line]:
    """Lambda, and what calls it."""
    transform, invocations = deployment.transform, work.invocations * MONTH
    gb_second = rates.lambda_gb_second_arm64 if transform.architecture == "arm64" else rates.lambda_gb_second_x86_64
    usd = invocations * (work.seconds * transform.memory_mb / 1024 * gb_second + rates.lambda_1m_requests / 1e6)
    lines = [Line("Lambda", usd, f"{invocations:,.0f} invocations of {work.seconds * 1000:,.0f} ms")]
    lines += _warm(deployment, rates)
    if transform.source == "pipe":
        requests = max(invocations, events(deployment, work) / EVENT_STEP)
        lines.append(Line("Pipe", requests / 1e6 * rates.pipes_1m_requests, f"{requests:,.0f} requests of 64 KiB"))
    elif transform.pollers:
        units = epus(deployment, work)
        hourly = f"{units} EPU: {transform.minimum_pollers} of {POLLERS_OF_EPU} pollers each at least, and the load"
        lines.append(Line("provisioned pollers", units * HOURS * rates.epu_hour, hourly))
    return lines


def events(deployment: Deployment, work: Work) -> float:
    """Bytes a month that go to the function: base64 of the bundles."""
    return deployment.load.bundle_bytes * 4 / 3 * work.bundles * MONTH


def epus(deployment: Deployment, work: Work) -> int:
    """Event poller units that are paid all the time: by the least number of pollers, and by what they carry."""
    pollers = math.ceil(deployment.transform.minimum_pollers / POLLERS_OF_EPU)
    return max(pollers, math.ceil(deployment.load.bundle_bytes * work.bundles / EPU_BYTES))


def cluster(deployment: Deployment, rates: Rates, work: Work, path: str, through: float) -> list[Line]:
    """Brokers, and the network of what reads them: `through` are GB a month that it carries to AWS."""
    settings, network = deployment.cluster, deployment.network
    crossing = deployment.load.bundle_bytes * work.bundles * MONTH / GB * (1 - 1 / network.zones)
    how = f"{crossing:,.0f} GB: read from brokers in other zones"
    lines = [Line("cross-zone transfer", crossing * rates.cross_zone_gb, how)]
    if settings.arn:
        return lines
    brokers = settings.brokers * (rates.msk_broker_hour * HOURS + settings.storage_gib * rates.msk_gb_month)
    priced = "" if settings.instance == _INSTANCE else f", at the price of {_INSTANCE}"
    lines.append(Line("MSK", brokers, f"{settings.brokers} brokers, {settings.storage_gib} GiB each{priced}"))
    number = len(deployment.endpoints_of(path))
    if network.egress == "nat":
        usd = rates.nat_hour * HOURS + through * rates.nat_gb
        lines.append(Line("NAT gateway", usd, f"1, {through:,.0f} GB through it"))
    elif number:
        usd = number * network.zones * rates.endpoint_hour * HOURS + through * rates.endpoint_gb
        how = f"{number} in {network.zones} zones, {through:,.0f} GB through them"
        lines.append(Line("interface endpoints", usd, how))
    if settings.create_ca:
        lines.append(Line("private CA", rates.private_ca_month, "general purpose; a fixed price"))
    return lines


def alarms(deployment: Deployment, path: str = "") -> int:
    """How many alarms there are: those of the operations stack, the brakes of a gradual delivery, those that scale."""
    path = path or deployment.path
    direct = path == "direct"
    watched = deployment.watched_brokers > 0
    enabled = deployment.container.enabled if direct else deployment.transform.enabled  # of either path, for its price
    # Without the source: no `silence`. With it: `retention` and `lag`, and `unread` for brokers that are watched.
    source = (2 + watched if enabled else -1) + 3 * watched
    if direct:
        container = deployment.container
        scales = enabled and (container.max_tasks or deployment.partitions) > container.tasks
        return ALARMS_DIRECT + source + enabled + 2 * scales
    pipe = deployment.transform.source == "pipe"
    brakes = 2 * (deployment.transform.delivery != "at-once")
    return ALARMS + deployment.keeps_failures + source + pipe + brakes


def watching(deployment: Deployment, rates: Rates, path: str, logs: float, whose: str) -> list[Line]:
    """Logs (GB a month), keys, alarms and metrics."""
    of_host = path == "direct"
    named = sum(
        bool(metric.emf) and (metric.served if of_host else not metric.served or metric.kind != "gauge")
        for metric in CATALOGUE
    )
    found = alarms(deployment, path) * rates.alarm_month
    small = rates.kms_key_month + rates.secret_month + found + rates.dashboard_month
    return [
        Line("log ingestion", logs * rates.log_gb, f"{logs:,.1f} GB of {whose}; flow logs and broker logs are extra"),
        Line(
            "key, secret, alarms, dashboard, metrics",
            small + named * rates.metric_month,
            f"{named} metrics of lmstream",
        ),
    ]
