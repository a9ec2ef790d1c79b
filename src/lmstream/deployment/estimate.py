"""Arithmetic of a deployment before money is spent: rates, quotas, objects, monthly cost of the alternatives."""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct, field, structs

from lmstream.deployment.bill import GB, MONTH, YEAR, Line, Work, alarms, bill, tiering
from lmstream.deployment.checks import EVENT_BYTES
from lmstream.deployment.direct_bill import direct
from lmstream.deployment.prices import BASE, Paid, Prices, Rates, own, prices
from lmstream.deployment.quotas import (
    FARGATE_VCPU,
    LARGE_REGIONS,
    S3_PUTS,
    TIERED_BYTES,
    direct_put_mib,
    streams,
)
from lmstream.deployment.settings import Deployment, Transform
from lmstream.deployment.ways import Way, bill_of, ways
from lmstream.deployment.ways import notes as notes_of_ways
from lmstream.errors import ConfigError
from lmstream.settings import MIB

__all__ = ["Estimate", "Line", "Prices", "Quota", "Way", "alarms", "estimate", "own", "prices"]

PACK_ROWS: Final = 500  # docs.aws.amazon.com/firehose: record deaggregation is capped at 500 per record
PACK_BYTES: Final = 1_024_000
KEYED: Final = 0.40  # bytes of lines with engine.dimensions, of those without: benchmarks/dimensions.py, ten minutes
ENVELOPE: Final = 400  # bytes of a record's entry in an event, beside its value
ROWS_PER_CPU_SECOND: Final = 150_000  # of the function with one vCPU, half of what benchmarks/aws_lambda.py measures
VCPU_MB: Final = 1769  # docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
OVERHEAD: Final = 0.02  # seconds of an invocation beside its rows: requests to Firehose under way
SPARE: Final = 0.8  # of a quota: above it an ordinary burst passes it
_FIXED: Final = ("MSK", "private CA", "interface endpoints", "NAT gateway")
_KEPT: Final = ("MSK", "private CA")
"""What `make destroy` leaves and keeps costing, beside what is stored."""


class Quota(Struct, frozen=True):
    """One quota, and what the deployment takes of it."""

    name: str
    used: float
    limit: float
    unit: str
    fix: str = field(name="mend")  # the key of `validate --deployment --json` stays

    @property
    def verdict(self) -> str:
        """ok, close (over four fifths) or over."""
        share = self.used / self.limit
        return "over" if share > 1 else "close" if share > SPARE else "ok"


class Estimate(Struct, frozen=True):
    """All of it."""

    rates: dict[str, float]
    quotas: list[Quota]
    cost: list[Line]
    alternatives: list[Line]
    prices_as_of: str
    notes: list[str]
    """What to know of the figures, a sentence each."""
    prices: dict[str, Paid]
    """Each price that was taken, with its region, date and source."""
    ways: list[Way]
    """The same load through Firehose and written directly."""

    @property
    def total(self) -> float:
        """USD a month as configured."""
        return sum(line.usd for line in self.cost)


def estimate(deployment: Deployment, table: Prices) -> Estimate:
    """Work everything out from the expected load."""
    asked, deployment = deployment, _with_keys(deployment)
    load = deployment.load
    paid = table.at(deployment.region)
    rates = Rates(**{name: price.usd for name, price in paid.items()})
    missing = [name for name, price in paid.items() if price.region not in ("", deployment.region)]
    work = _work(deployment)
    found = ways(deployment, rates, work)
    here = next(way for way in found if way.configured)
    landed, number = work.gb / load.gzip_ratio, work.objects
    if deployment.path == "direct":
        made = direct(deployment, rates, work, deployment.lake.format)
        landed, number = made.landed_gb, made.objects + made.edges
    lines = bill_of(deployment, rates, work)
    figures = {
        "rows_per_second": work.rows,
        "bundles_per_second": work.bundles,
        "invocations_per_second": work.invocations,
        "mib_per_second": work.bytes / MIB,
        "gb_per_month": work.gb,
        "gb_landed_per_month": landed,
        "active_partitions": float(deployment.active_partitions),
        "objects_per_day": number / 30,
        "object_kib": here.object_kib,
    }
    return Estimate(
        figures,
        _quotas_direct(deployment, rates, work) if deployment.path == "direct" else _quotas(deployment, work),
        lines,
        [*_alternatives(deployment, rates, work, lines), *_dimensions(asked, rates)],
        table.as_of,
        [*_notes(deployment, rates, work, missing), *notes_of_ways(deployment, found)],
        paid,
        found,
    )


def _with_keys(deployment: Deployment) -> Deployment:
    """The deployment with the lines that it makes. What is compressed is reckoned as before: gzip finds most of what
    rows repeat, and keys it cannot compress."""
    load = deployment.load
    if not deployment.engine.dimensions:
        return deployment
    lines = {"row_bytes": round(load.row_bytes * KEYED), "gzip_ratio": max(1.0, load.gzip_ratio * KEYED)}
    return structs.replace(deployment, load=structs.replace(load, **lines))


def _dimensions(deployment: Deployment, rates: Rates) -> Iterator[Line]:
    """The same load with engine.dimensions, or without it where it is set; nothing where it cannot be."""
    engine = deployment.engine
    if deployment.path == "direct" or "{metricKey}" not in engine.path:
        return
    try:
        other = structs.replace(deployment, engine=structs.replace(engine, dimensions=not engine.dimensions))
    except ConfigError:  # one partition more than the stream takes
        return
    made = _with_keys(other)
    total = sum(line.usd for line in bill_of(made, rates, _work(made)))
    size = f"lines of {made.load.row_bytes:,} bytes"
    if other.engine.dimensions:
        size += ", dimension rows included, as on the benchmark corpus; lmstream shape measures yours"
    yield Line(f"{'with' if other.engine.dimensions else 'without'} engine.dimensions", total, size)


def _work(deployment: Deployment) -> Work:
    load = deployment.load
    rows = load.rows_per_second
    bundles = rows / load.rows_per_bundle
    invocations = bundles / _batch(deployment, bundles)
    return Work(
        rows=rows,
        bundles=bundles,
        invocations=invocations,
        bytes=rows * load.row_bytes,
        objects=_objects_per_day(deployment, rows * load.row_bytes) * 30,
        seconds=_seconds(deployment, rows / max(invocations, 1e-9)),
        pack_rows=min(PACK_ROWS, max(1, PACK_BYTES // load.row_bytes)),
    )


def _quotas(deployment: Deployment, work: Work) -> list[Quota]:
    stream, load = deployment.stream, deployment.load
    event = min(EVENT_BYTES, _batch(deployment, work.bundles) * (load.bundle_bytes * 4 / 3 + ENVELOPE))
    raised = "Firehose raises it without a request while it throttles; rows are late until then, nothing is lost"
    return [
        Quota(
            "Firehose Direct PUT",
            work.bytes / MIB,
            stream.mib_per_second or direct_put_mib(deployment.region),
            "MiB/s",
            f"{raised}. Ask AWS for more before a start with a backlog, and set stream.mib_per_second",
        ),
        Quota(
            "Firehose active partitions",
            deployment.active_partitions,
            stream.active_partitions,
            "partitions",
            "set engine.metric_key to buckets or allow, or ask AWS for more",
        ),
        Quota("delivery streams", 1, streams(deployment.region), "of an account", "ask AWS for more"),
        Quota("Lambda event", event / 1e6, EVENT_BYTES / 1e6, "MB", "lower transform.batch_size"),
        Quota(
            "function at once",
            work.invocations * work.seconds,
            deployment.partitions,
            "invocations",
            "more partitions, or more memory",
        ),
    ]


def _quotas_direct(deployment: Deployment, rates: Rates, work: Work) -> list[Quota]:
    made = direct(deployment, rates, work, deployment.lake.format)
    return [
        Quota(
            "S3 PUT of one prefix",
            made.puts / MONTH,
            S3_PUTS,
            "a second",
            "longer windows, fewer lanes or fewer paths; S3 splits prefixes within an hour, and rows wait until then",
        ),
        Quota(
            "Fargate vCPU",
            made.tasks * deployment.container.cpu / 1024,
            FARGATE_VCPU,
            "of an account",
            "ask AWS for more",
        ),
    ]


def _alternatives(deployment: Deployment, rates: Rates, work: Work, lines: list[Line]) -> list[Line]:
    total, landed = sum(line.usd for line in lines), work.gb / deployment.load.gzip_ratio
    if deployment.path == "direct":
        landed = direct(deployment, rates, work, deployment.lake.format).landed_gb
        found = [Line("as configured", total, f"objects of {deployment.lake.format}, written by the container")]
    else:
        found = _packed(deployment, rates, work, total)
    if not deployment.cluster.arn:
        fixed = sum(line.usd for line in lines if line.name in _FIXED)
        found.append(Line("an existing cluster", total - fixed, "without MSK, its private CA and its network"))
    if deployment.path == "firehose":
        found += _sources(deployment, rates, work)
    kept = sum(line.usd for line in lines if line.name in _KEPT) + rates.kms_key_month + rates.secret_month
    later = (YEAR - 1) * landed * rates.s3_gb_month
    found += [
        Line("after a year of rows", total + later, f"S3 holds {YEAR * landed:,.0f} GB"),
        Line("after make destroy", kept, "what holds data is kept: cluster, CA, key, secret, and what S3 holds"),
    ]
    return found


def _packed(deployment: Deployment, rates: Rates, work: Work, total: float) -> list[Line]:
    """What it costs to put rows into Firehose as they are, and one by one."""
    size = deployment.load.row_bytes
    billed, single = work.billed(size, work.pack_rows), work.billed(size, 1)
    more = (single - billed) * rates.firehose_gb
    return [
        Line("as configured", total, f"{work.pack_rows} rows in a Firehose record: {billed:,.0f} GB billed"),
        Line("one row in each record", total + more, f"rounded up to 5 KB a row: {single:,.0f} GB billed"),
    ]


def _sources(deployment: Deployment, rates: Rates, work: Work) -> Iterator[Line]:
    """The same with another caller of the function."""
    for name, source, pollers in (
        ("a Pipe", "pipe", 0),
        ("a mapping on demand", "mapping", 0),
        ("a mapping with provisioned pollers", "mapping", 1),
    ):
        if (source, pollers > 0) != (deployment.transform.source, deployment.transform.pollers > 0):
            other = msgspec.to_builtins(deployment.transform) | {"source": source, "pollers": pollers}
            given = Transform.__struct_fields__
            other |= {key: getattr(Transform(), key) for key in ("retries", "minimum_pollers") if key in given}
            changed = msgspec.structs.replace(deployment, transform=msgspec.convert(other, Transform))
            usd = sum(line.usd for line in bill(changed, rates, work))
            yield Line(name, usd, "instead of the source that is set")


def _notes(deployment: Deployment, rates: Rates, work: Work, missing: list[str]) -> list[str]:
    bucket, region = deployment.bucket, deployment.region
    notes = []
    if missing:
        notes.append(
            f"prices of {BASE} stand in for {region}, which the table does not have, in {', '.join(missing)}: "
            "most regions cost more. Put your prices in a copy of the table (--show-prices) and pass it with --prices"
        )
    if deployment.path == "firehose" and deployment.stream.mib_per_second is None and region not in LARGE_REGIONS:
        notes.append(
            f"a new delivery stream accepts {direct_put_mib(region):g} MiB/s in {region} "
            f"({direct_put_mib(LARGE_REGIONS[0]):g} in {', '.join(LARGE_REGIONS)}), more once Firehose or AWS raised it"
        )
    if bucket.glacier_days is not None:
        notes.append(
            f"bucket.glacier_days = {bucket.glacier_days}: Athena leaves older rows out of its answers without an "
            "error, and lmstream verify cannot read them; bucket.glacier_ir_days is the class that both read"
        )
    if deployment.engine.path.startswith("{orgKey}"):
        notes.append(
            "engine.path begins with the organization: rows of one that is called errors or athena-results lie where "
            "objects raise an alarm, or expire (CHANGELOG.md has the way to a prefix of their own)"
        )
    moving = (bucket.intelligent_tiering_days, bucket.glacier_ir_days, bucket.glacier_days)
    line = tiering(deployment, rates, work)
    if moving != (None, None, None) and line is None:
        size = work.gb / deployment.load.gzip_ratio * GB / work.objects
        notes.append(
            f"objects of {size / 1024:,.0f} KiB are under {TIERED_BYTES // 1024} KiB: no storage class accepts them"
        )
    elif line and line.usd > 0:
        notes.append(f"the storage classes cost {line.usd:,.2f} a month more than they save in the twelfth month")
    if deployment.catalog.map_keys == "lower-case":
        notes.append(
            'catalog.map_keys = "lower-case": a query fails, or loses a value, at a row with two keys that differ in '
            "case only (CHANGELOG.md has the queries to change)"
        )
    return notes


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
