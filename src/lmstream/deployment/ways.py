"""The same load on every path to the bucket, side by side: cost, requests, and how late rows land."""

from typing import Final

from msgspec import Struct

from lmstream.deployment.bill import GB, Line, Work, bill
from lmstream.deployment.direct_bill import READ, direct, direct_bill
from lmstream.deployment.lake import Format
from lmstream.deployment.prices import Rates
from lmstream.deployment.settings import Deployment

TB: Final = 1024  # GB
DAYS: Final = 30
FORMATS: Final[tuple[Format, ...]] = ("gzip", "parquet")
_KINDS: Final = {
    "ingest": ("Firehose ingestion", "Firehose partitioning"),
    "requests": ("S3 requests", "KMS requests"),
    "storage": ("S3", "S3 storage", "storage classes"),
    "compute": ("Lambda", "Pipe", "provisioned pollers", "provisioned concurrency", "snapshots", "Fargate"),
    "network": ("cross-zone transfer", "NAT gateway", "interface endpoints"),
}
"""Lines of a bill by what they are paid for. The rest is the same on every path, or small: cluster, alarms, logs."""


class Way(Struct, frozen=True, kw_only=True):
    """One path from the topic to the bucket, in USD a month."""

    name: str
    configured: bool
    usd: float
    """All of the bill, with what every path needs."""
    ingest: float
    requests: float
    storage: float
    """Of the first month's rows."""
    compute: float
    network: float
    puts: float
    """Requests a month that make an object."""
    object_kib: float
    window_seconds: float
    ended_by: str
    """What ends a window: age, rows, bytes, memory or cost; `buffer` of Firehose."""
    query_usd: float
    """One query that reads a day of rows: what Athena is paid for its bytes."""


def bill_of(deployment: Deployment, rates: Rates, work: Work) -> list[Line]:
    """The bill of the path that is configured."""
    if deployment.path == "direct":
        return direct_bill(deployment, rates, work, deployment.lake.format)
    return bill(deployment, rates, work)


def ways(deployment: Deployment, rates: Rates, work: Work) -> list[Way]:
    """Firehose, direct in gzip, direct in Parquet; and the configured one, when it is none of them."""
    on = deployment.lake.format if deployment.path == "direct" else None
    formats = FORMATS if on is None or on in FORMATS else (*FORMATS, on)
    return [_firehose(deployment, rates, work), *(_direct(deployment, rates, work, kind, on) for kind in formats)]


def _firehose(deployment: Deployment, rates: Rates, work: Work) -> Way:
    landed, stream = work.gb / deployment.load.gzip_ratio, deployment.stream
    lines = bill(deployment, rates, work)
    puts = work.objects / 1000 * rates.s3_1000_puts
    found = _by_kind(lines)
    return Way(
        name="firehose",
        configured=deployment.path == "firehose",
        usd=sum(line.usd for line in lines),
        **found | {"requests": puts, "storage": found["storage"] - puts},
        puts=work.objects,
        object_kib=landed * GB / work.objects / 1024,
        window_seconds=stream.buffer_seconds,
        ended_by="buffer",
        query_usd=landed / DAYS / TB * rates.athena_tb,
    )


def _direct(deployment: Deployment, rates: Rates, work: Work, kind: Format, on: Format | None) -> Way:
    made = direct(deployment, rates, work, kind)
    lines = direct_bill(deployment, rates, work, kind)
    return Way(
        name=f"direct {kind}",
        configured=kind == on,
        usd=sum(line.usd for line in lines),
        **_by_kind(lines),
        puts=made.puts,
        object_kib=made.landed_gb * GB / max(1.0, made.objects + made.edges) / 1024,
        window_seconds=made.window.seconds,
        ended_by=made.window.ended_by,
        query_usd=made.landed_gb / DAYS * READ[kind] / TB * rates.athena_tb,
    )


def _by_kind(lines: list[Line]) -> dict[str, float]:
    return {kind: sum(line.usd for line in lines if line.name in names) for kind, names in _KINDS.items()}


def choice(found: list[Way]) -> str:
    """One sentence: the cheapest path against the configured one, in money and in requests."""
    here = next(way for way in found if way.configured)
    best = min(found, key=lambda way: way.usd)
    if best is here:
        best = min((way for way in found if way is not here), key=lambda way: way.usd)
        how = f"{best.name} costs {best.usd - here.usd:,.2f} USD a month more than {here.name}"
    else:
        how = f"{best.name} costs {here.usd - best.usd:,.2f} USD a month less than {here.name}"
    return f"{how}, in {best.puts:,.0f} requests to S3 instead of {here.puts:,.0f}"


def notes(deployment: Deployment, found: list[Way]) -> list[str]:
    """What to know of the direct path as it is configured, a sentence each."""
    if deployment.path != "direct":
        return []
    said, settings = [], deployment.lake
    here = next(way for way in found if way.configured)
    if here.ended_by == "memory":
        said.append(
            f"windows end after {here.window_seconds:,.0f} s because memory is full, not after "
            f"{settings.window_seconds:g}: raise container.budget_mib or container.tasks for fewer requests"
        )
    if settings.monthly_dollars and here.requests > settings.monthly_dollars * 1.01:
        said.append(
            f"requests cost {here.requests:,.2f} a month, over lake.monthly_dollars = {settings.monthly_dollars:g}, "
            f"in windows of {here.window_seconds:,.0f} s: raise lake.window_max_seconds, or use fewer lanes or paths"
        )
    if deployment.bucket.existing:
        whole = here.puts / 10_000 * 0.03
        said.append(
            f"without bucket keys on {deployment.bucket.name} KMS would cost {whole:,.2f} USD a month: turn them on"
        )
    return said
