"""The bill of one run, from what was counted: Cost Explorer has it a day later."""

from dataclasses import dataclass

from lmstream.deployment.bill import FIREHOSE_STEP, GB, HOURS
from lmstream.deployment.estimate import Line
from lmstream.deployment.prices import Rates

TB = 1024**4
LEAST_QUERY = 10_000_000  # aws.amazon.com/athena/pricing: a query is at least 10 MB


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run used, as far as it is paid for."""

    source: str
    hours: float
    records: int
    """Firehose records."""
    bytes: int
    """Bytes of rows."""
    objects: int
    event_bytes: int
    invocations: int
    scanned: tuple[int, ...]
    """Bytes of each query."""


def spent(usage: Usage, rates: Rates) -> list[Line]:
    """The bill, without the cluster, which was there before."""
    stepped = usage.records * -(-max(1, usage.bytes) // max(1, usage.records) // FIREHOSE_STEP) * FIREHOSE_STEP
    requests = max(usage.invocations, -(-usage.event_bytes // 65_536))
    scanned = sum(max(LEAST_QUERY, each) for each in usage.scanned)
    lines = [
        Line(
            "Firehose",
            stepped / GB * rates.firehose_gb + usage.bytes / GB * rates.partitioning_gb,
            f"{usage.bytes:,} bytes",
        ),
        Line(
            "objects",
            usage.objects / 1000 * (rates.partitioning_1000_objects + rates.s3_1000_puts),
            f"{usage.objects} in S3",
        ),
        Line(
            "Lambda",
            usage.invocations * (rates.lambda_1m_requests / 1e6 + rates.lambda_gb_second_arm64),
            f"{usage.invocations} invocations of a GB-second at most",
        ),
        Line("Athena", scanned / TB * rates.athena_tb, f"{len(usage.scanned)} queries"),
        Line(
            "key and secret",
            usage.hours / HOURS * rates.kms_key_month,
            f"{usage.hours:.2f} hours of a month; the key goes after 7 days",
        ),
        Line(
            "alarms and dashboard",
            usage.hours / HOURS * (20 * rates.alarm_month + rates.dashboard_month),
            "by the hour",
        ),
    ]
    if usage.source == "pipe":
        lines.append(Line("Pipe", requests / 1e6 * rates.pipes_1m_requests, f"{requests} requests"))
    if usage.source == "pollers":
        lines.append(Line("provisioned pollers", usage.hours * rates.epu_hour, f"1 EPU, {usage.hours:.2f} hours"))
    return lines
