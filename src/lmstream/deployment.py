"""Settings of a deployment in AWS, checked: what deploy/cdk builds and what `lmstream validate --deployment` prices."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream._aws_names import wrong_arns, wrong_networks
from lmstream._checked import Layer, convert
from lmstream.errors import ConfigError
from lmstream.partitioning import firehose_prefix
from lmstream.settings import Settings as EngineSettings

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,40}$")]
BucketName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]

DAY_MINUTES: Final = 1440
RETRIES: Final = 10_000
"""Most retries of a Kafka event source mapping. "Infinite", -1, becomes 10 as soon as there is an on-failure
destination: docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html."""
FEWEST_RETRIES: Final = 1_000
"""Fewer would hand healthy records over in an outage of minutes."""

EVENT_BYTES: Final = 6_000_000
"""Bytes of an event that Lambda takes: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
HOURS_OPEN: Final = 2
"""Hours of event time that are open at once: the one that is running, and the one before while late rows come."""


class Cluster(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Kafka cluster: a new one on MSK, or one that exists."""

    arn: str = ""
    """ARN of an existing MSK cluster with mTLS on port 9094; then nothing else here is used."""
    name: Name = "lm-datapublisher-demo"
    kafka_version: Annotated[str, Meta(pattern=r"^3\.8\.x$|^3\.9\.x$|^4\.\d+\.x$")] = "3.8.x"
    instance: str = "kafka.m7g.large"
    brokers: Literal[2, 3, 6, 9] = 3
    storage_gib: Annotated[int, Meta(ge=1, le=16_384)] = 500
    """Of each broker."""
    retention_hours: Annotated[int, Meta(ge=1)] = 72
    """How long the topic keeps records: what an outage may last before rows are lost."""
    ca_arn: str = ""
    """ARN of an existing private CA that signs the clients' certificates."""
    create_ca: bool = False
    """Make a private CA (ACM PCA, a fixed monthly price) when there is none."""
    collector_cidrs: tuple[str, ...] = ()
    """Networks from which LogicMonitor collectors reach port 9094."""


class Network(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The VPC of a new cluster."""

    cidr: str = "10.42.0.0/16"
    zones: Literal[2, 3] = 3
    egress: Literal["endpoints", "nat"] = "endpoints"
    """How pollers in the VPC reach Lambda, STS and Secrets Manager: interface endpoints and no way to the internet, or
    one NAT gateway."""


class Bucket(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The landing bucket, and the one of dead letters."""

    name: BucketName = "lm-datapublisher-metrics"
    dead_letters: str = ""
    """Name of the bucket of dead letters; empty: the landing bucket's with -dead-letters."""
    intelligent_tiering_days: Annotated[int, Meta(ge=0)] = 0
    glacier_days: Annotated[int, Meta(ge=1)] = 365
    dead_letter_days: Annotated[int, Meta(ge=30)] = 90
    """Days until dead letters expire."""


class Stream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Firehose delivery stream."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")] = "lmstream-rows"
    buffer_mib: int = 128
    buffer_seconds: int = 300
    active_partitions: Count = 500
    """The stream's quota: 500 unless AWS raised it."""
    mib_per_second: Count = 5
    """The stream's quota of Direct PUT: 5 MiB/s in most regions unless AWS raised it."""


class Transform(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The function and what calls it."""

    source: Literal["pipe", "mapping"] = "pipe"
    enabled: bool = False
    """Whether the Pipe or the mapping runs: false for the first deploy, until the secret holds a certificate."""
    architecture: Literal["arm64", "x86_64"] = "arm64"
    memory_mb: Annotated[int, Meta(ge=256, le=10_240)] = 1024
    timeout_seconds: Annotated[int, Meta(ge=15, le=300)] = 60
    batch_size: Annotated[int, Meta(ge=1, le=10_000)] = 100
    window_seconds: Annotated[int, Meta(ge=0, le=300)] = 5
    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "TRIM_HORIZON"
    group: str = "lmstream"
    pollers: Annotated[int, Meta(ge=0, le=200)] = 0
    """Provisioned pollers of a mapping at most; 0: the mapping scales by itself. They cost by the hour. Partial
    answers, retries and an on-failure destination are theirs alone; a mapping without them repeats the whole batch:
    docs.aws.amazon.com/lambda/latest/dg/kafka-scaling-modes.html."""
    minimum_pollers: Annotated[int, Meta(ge=1, le=200)] = 1
    """Provisioned pollers that are always there."""
    retries: Annotated[int, Meta(ge=-1, le=RETRIES)] = RETRIES
    """Retries before a mapping with pollers hands a batch over to the bucket of dead letters, where `lmstream dlq` and
    `lmstream run --files` find it; -1: it retries until the topic's retention ends, and hands nothing over."""


class Operations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dashboard, alarms, logs and budget."""

    email: str = ""
    """Who is told of alarms and of the budget; empty: only the topic is made."""
    log_days: Literal[14, 30] = 14
    budget_usd: Annotated[float, Meta(gt=0)] = 1_500.0
    """Monthly budget of the account's resources with this deployment's tag."""
    runbook: str = "docs/runbook.md"
    """Where the alarms' descriptions point: a page of yours, or this repository's."""
    silence_minutes: Annotated[int, Meta(ge=5)] = 15
    """Minutes without any record after which an alarm says so."""
    broker_metrics: Literal["DEFAULT", "PER_BROKER", "PER_TOPIC_PER_BROKER"] = "DEFAULT"
    """MSK's monitoring level; all but DEFAULT cost by metric."""


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is expected to come: for quotas and cost, never for what is built."""

    organizations: Count = 1
    metrics: Count = 200
    """Distinct metric names of one organization."""
    devices: Count = 1_000
    rows_per_device_minute: Annotated[float, Meta(gt=0)] = 100.0
    row_bytes: Count = 900
    """Bytes of a row, its newline included."""
    bundle_bytes: Count = 25_000
    rows_per_bundle: Count = 100
    gzip_ratio: Annotated[float, Meta(ge=1)] = 12.0
    """Rows against their gzip."""

    @property
    def rows_per_second(self) -> float:
        """Rows a second on average."""
        return self.devices * self.rows_per_device_minute / 60


class Deployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployment: a TOML file of these tables."""

    name: Name = "lmstream"
    """Prefix of stacks and of what has a name."""
    account: Annotated[str, Meta(pattern=r"^(\d{12})?$")] = ""
    region: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "us-west-2"
    topic: str = "lm.metrics.otlp"
    partitions: Count = 6
    """Of the topic: as many invocations run at once."""
    certificate_secret: str = ""
    """ARN of an existing secret with the client's certificate; empty: an empty one is made, for you to fill."""
    secret_key: str = ""
    """ARN of the KMS key of an existing secret, when it is not the account's default."""
    engine: EngineSettings = EngineSettings()
    cluster: Cluster = Cluster()
    network: Network = Network()
    bucket: Bucket = Bucket()
    stream: Stream = Stream()
    transform: Transform = Transform()
    operations: Operations = Operations()
    load: Load = Load()

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the figures. Raises ConfigError."""
        firehose_prefix(self.engine)  # refuses a path template that Firehose or S3 would
        for wrong, key, what in self._checks():
            if wrong:
                raise ConfigError("config.invalid", f"deployment, {key}: {what}")

    @property
    def dead_letter_bucket(self) -> str:
        """Name of the bucket of dead letters."""
        return self.bucket.dead_letters or f"{self.bucket.name}-dead-letters"

    @property
    def partial_failures(self) -> bool:
        """Whether the mapping has ReportBatchItemFailures: AWS offers it with provisioned pollers only. Without it a
        function that answers instead of raising would acknowledge what it names."""
        return self.transform.source == "mapping" and self.transform.pollers > 0

    @property
    def keeps_failures(self) -> bool:
        """Whether the mapping hands what it gave up over to the bucket of dead letters."""
        return self.partial_failures and self.transform.retries >= 0

    @property
    def metric_keys(self) -> int:
        """Values that {metricKey} can have in one organization."""
        engine = self.engine
        if engine.metric_key == "buckets":
            return min(engine.metric_buckets, self.load.metrics)
        if engine.metric_key == "allow":
            return min(len(engine.metric_allow) + 1, self.load.metrics)
        return self.load.metrics

    @property
    def active_partitions(self) -> int:
        """Partitions of the stream with rows waiting: organizations x metricKeys x hours that are open."""
        keys = self.metric_keys if "{metricKey}" in self.engine.path else 1
        hours = HOURS_OPEN if "{HH}" in self.engine.path else 1
        return self.load.organizations * keys * hours

    def _checks(self) -> list[tuple[bool, str, str]]:
        stream, cluster, transform, engine = self.stream, self.cluster, self.transform, self.engine
        needed = self.load.bundle_bytes * 4 / 3 + 400
        return [
            *wrong_arns(
                self.region,
                ("cluster.arn", cluster.arn, "kafka"),
                ("cluster.ca_arn", cluster.ca_arn, "acm-pca"),
                ("certificate_secret", self.certificate_secret, "secretsmanager"),
                ("secret_key", self.secret_key, "kms"),
            ),
            *wrong_networks(self.network.cidr, cluster.collector_cidrs),
            (
                bool(self.secret_key) and not self.certificate_secret,
                "secret_key",
                "it is the key of an existing secret, and certificate_secret names none",
            ),
            (
                len(self.dead_letter_bucket) > 63 or len(self.bucket.name) > 58,  # noqa: PLR2004 - S3's limit is 63
                "bucket.name",
                "with -dead-letters and -logs names may have 63 characters: set a shorter one",
            ),
            (
                self.operations.silence_minutes > DAY_MINUTES,
                "operations.silence_minutes",
                f"{self.operations.silence_minutes}; an alarm of CloudWatch looks back a day at most, {DAY_MINUTES}",
            ),
            (
                not 64 <= stream.buffer_mib <= 128,  # noqa: PLR2004 - the service's limits
                "stream.buffer_mib",
                f"{stream.buffer_mib} MiB; with dynamic partitioning Firehose takes 64 to 128",
            ),
            (
                not 60 <= stream.buffer_seconds <= 900,  # noqa: PLR2004 - the service's limits
                "stream.buffer_seconds",
                f"{stream.buffer_seconds} s; with dynamic partitioning Firehose takes 60 to 900",
            ),
            (
                not (engine.org_id or engine.org_by_topic or engine.org_attributes),
                "engine.org_id",
                "LMDP sends no organization: set org_id, org_by_topic or org_attributes, or every point is rejected",
            ),
            (
                not (cluster.arn or cluster.ca_arn or cluster.create_ca),
                "cluster.ca_arn",
                "mTLS needs a certificate authority: name an existing private CA, or set cluster.create_ca = true",
            ),
            (
                bool(cluster.ca_arn and cluster.create_ca),
                "cluster.create_ca",
                "a CA is named in cluster.ca_arn; making another one costs its monthly price for nothing",
            ),
            (
                not cluster.arn and cluster.brokers % self.network.zones != 0,
                "cluster.brokers",
                f"{cluster.brokers} brokers do not spread evenly over network.zones = {self.network.zones}",
            ),
            (
                self.active_partitions > stream.active_partitions,
                "stream.active_partitions",
                self._too_many(),
            ),
            (
                transform.batch_size * needed > EVENT_BYTES,
                "transform.batch_size",
                self._too_large(transform.batch_size * needed, int(EVENT_BYTES // needed)),
            ),
            (
                bool(transform.pollers) and transform.source == "pipe",
                "transform.pollers",
                "a Pipe has no provisioned pollers: set transform.source to mapping, or leave them out",
            ),
            (
                not transform.pollers and (transform.retries, transform.minimum_pollers) != (RETRIES, 1),
                "transform.retries" if transform.retries != RETRIES else "transform.minimum_pollers",
                "only provisioned pollers have it: set transform.source to mapping and transform.pollers to 1 or more",
            ),
            (
                0 <= transform.retries < FEWEST_RETRIES,
                "transform.retries",
                self._too_few(transform.retries),
            ),
            (
                bool(transform.pollers) and transform.minimum_pollers > transform.pollers,
                "transform.minimum_pollers",
                f"{transform.minimum_pollers} is more than transform.pollers = {transform.pollers}",
            ),
            (
                self.dead_letter_bucket == self.bucket.name,
                "bucket.dead_letters",
                "dead letters in the landing bucket would be read as rows: name another bucket",
            ),
            (
                self.bucket.glacier_days <= self.bucket.intelligent_tiering_days,
                "bucket.glacier_days",
                f"{self.bucket.glacier_days} days is not after intelligent_tiering_days",
            ),
        ]

    def _too_large(self, size: float, most: int) -> str:
        return f"{self.transform.batch_size} bundles make {size / 1e6:.1f} MB, over Lambda's 6 MB: at most {most}"

    def _too_few(self, retries: int) -> str:
        return (
            f"{retries} would give healthy records up in an outage of minutes: set {FEWEST_RETRIES:,} to {RETRIES:,}, "
            "or -1 to retry without end"
        )

    def _too_many(self) -> str:
        keys, quota = self.metric_keys, self.stream.active_partitions
        return (
            f"{self.load.organizations} organizations x {keys} metricKeys x hours that are open make "
            f"{self.active_partitions:,} active partitions, over the quota of {quota:,}: the others' rows would go to "
            "the error prefix. Set engine.metric_key to buckets or allow, or have AWS raise the quota and set it here"
        )


def load(path: Path | str) -> Deployment:
    """Read a TOML file. Raises ConfigError: what, where, what is expected."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError("config.invalid", f"deployment settings {path}: {e.strerror or e}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError("config.invalid", f"deployment settings {path} are no TOML: {e}") from e
    made: Deployment = convert((), raw, Deployment, [Layer(str(path), raw)])
    return made
