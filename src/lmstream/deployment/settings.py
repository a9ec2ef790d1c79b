"""Settings of a deployment in AWS, checked: what deploy/cdk builds and what `lmstream validate --deployment` prices."""

from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream.config.convert import convert
from lmstream.config.places import layer_of_file
from lmstream.config.plugins import wrong_names
from lmstream.deployment.buckets import Bucket, Catalog, rows_prefix
from lmstream.deployment.checks import BROKERS_OF_AN_ALARM, RETRIES, wrong_settings
from lmstream.deployment.defaults import NAME, NEWEST, ROWS_PATH, filled
from lmstream.deployment.lake import Container, Lake
from lmstream.errors import ConfigError, refuse
from lmstream.partitioning import firehose_prefix
from lmstream.settings import Settings as EngineSettings

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,40}$")]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]

CONTAINER_ENDPOINTS: Final = ("ecr.api", "ecr.dkr", "logs", "secretsmanager")
"""What a task of Fargate calls through interface endpoints, beside the free one of S3, which has the image's layers:
docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html, .../AmazonECS/latest/developerguide/
vpc-endpoints.html."""
HOURS_OPEN: Final = 2
"""Hours of event time that are open at once: the one that is running, and the one before while late rows come."""


class Cluster(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Kafka cluster: a new one on MSK, or one that exists."""

    arn: str = ""
    """ARN of an existing MSK cluster with mTLS on port 9094; then only retention_hours and brokers_watched are used
    here, for alarms."""
    name: Name = "lm-datapublisher-demo"
    kafka_version: Annotated[str, Meta(pattern=r"^3\.[89]\.x(\.kraft)?$|^4\.\d+\.x\.kraft$")] = "3.9.x.kraft"
    """As MSK names it (`aws kafka list-kafka-versions`). A cluster without .kraft keeps its metadata in ZooKeeper,
    which Kafka 4 does not have: an update cannot turn one into the other."""
    instance: str = "kafka.m7g.large"
    brokers: Literal[2, 3, 6, 9] = 3
    storage_gib: Annotated[int, Meta(ge=1, le=16_384)] = 500
    """Of each broker."""
    brokers_watched: Annotated[int, Meta(ge=0, le=BROKERS_OF_AN_ALARM)] = 0
    """Of an existing cluster: how many brokers it has, numbered from 1, for the alarms on them and on records that
    come while no rows go out. 0: whoever owns it watches them. An alarm of CloudWatch reads ten metrics at most."""
    retention_hours: Annotated[int, Meta(ge=1)] = 72
    """How long the topic keeps records: what an outage may last before rows are lost."""
    message_bytes: Annotated[int, Meta(ge=1024, le=8_000_000)] = 1_048_588
    """The largest batch of records that brokers and topic take, Kafka's own default; LMDP's bundles are far below."""
    create_topic: bool = True
    """Make the topic with the cluster (AWS::MSK::Topic). False for one that exists, or that you make by hand."""
    acls: bool = False
    """Refuse whoever no ACL names (allow.everyone.if.no.acl.found=false). First the ACLs: docs/deploy.md."""
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
    zone_names: tuple[str, ...] = ()
    """Names of the zones, such as us-west-2a. Empty: the account's first ones. They cannot change under a cluster."""
    vpc_id: str = ""
    """A VPC of yours, with the ways out that the pollers need (docs/deploy.md). Empty: one is made."""
    subnet_ids: tuple[str, ...] = ()
    """Private subnets of that VPC for the brokers, one per zone."""
    egress: Literal["endpoints", "nat"] = "endpoints"
    """How pollers in the VPC reach the APIs they call: interface endpoints and no way to the internet, or one NAT
    gateway. A mapping with provisioned pollers calls none."""


class Stream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Firehose delivery stream."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")] = "lmstream-rows"
    buffer_mib: int = 128
    buffer_seconds: int = 300
    active_partitions: Count = 500
    """The stream's quota: 500 unless AWS raised it."""
    mib_per_second: Count | None = None
    """The stream's quota of Direct PUT, once AWS raised it; left out: what a new stream has in the region, 1 or 5."""


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
    group: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9/*:_+=.@-]{1,200}$")] = NAME
    """Consumer group. A settings file that leaves it out gets the deployment's name, which no other deployment of the
    account and region has: members of one group share the topic. AWS would make up a new group for each Pipe and
    mapping, and a replacement would not continue where the one before it was."""
    pipe_name: Annotated[str, Meta(pattern=r"^[.A-Za-z0-9_-]{0,64}$")] = ""
    """A fixed name of the Pipe. Empty: made of what AWS cannot change in a Pipe (cluster, topic, group, start), so that
    a change of these makes another Pipe instead of failing."""
    delivery: Literal["at-once", "canary", "linear"] = "at-once"
    """How new code takes over from old: all calls; a tenth for 5 minutes first; or a tenth more each minute. CodeDeploy
    goes back automatically when an alarm on errors or undelivered records rings meanwhile."""
    snap_start: bool = False
    """Start from a snapshot (SnapStart): shorter cold starts, for a price."""
    provisioned: Annotated[int, Meta(ge=0)] = 0
    """Environments that are always warm (provisioned concurrency), for a price by the hour."""
    tracing: bool = False
    """Trace invocations with X-Ray."""
    adot_layer: str = ""
    """ARN of a layer of the AWS Distro for OpenTelemetry, to trace with it instead."""
    reserve: bool = True
    """Reserve as many concurrent executions as there are partitions. New accounts have 10 in all, and refuse it."""
    pollers: Annotated[int, Meta(ge=0, le=200)] = 0
    """Provisioned pollers of a mapping at most; 0: the mapping scales automatically. They cost by the hour. Partial
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
    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 3653] = 14
    """Days that logs are kept: those that CloudWatch knows."""
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
    """Bytes of a row, its newline included, as it is without engine.dimensions."""
    bundle_bytes: Count = 25_000
    rows_per_bundle: Count = 100
    gzip_ratio: Annotated[float, Meta(ge=1)] = 12.0
    """Rows against their gzip."""
    parquet_ratio: Annotated[float, Meta(ge=1)] | None = None
    """Rows against their Parquet; left out: gzip_ratio times what was measured, 2.4 where an object holds one metric
    and 3.2 where it holds all."""

    @property
    def rows_per_second(self) -> float:
        """Rows a second on average."""
        return self.devices * self.rows_per_device_minute / 60


class Deployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployment: a TOML file of these tables."""

    defaults: Literal[1, 2] = NEWEST
    """Which defaults the file was written for. A file without this line keeps the older ones: CHANGELOG.md."""
    name: Name = "lmstream"
    """Prefix of stacks and of what has a name."""
    account: Annotated[str, Meta(pattern=r"^(\d{12})?$")] = ""
    region: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "us-west-2"
    path: Literal["firehose", "direct"] = "firehose"
    """How rows reach the bucket: a function puts them into Firehose ([transform], [stream]), or a container writes
    objects itself ([container], [lake]). `lmstream validate --deployment` prices both."""
    tags: dict[str, str] = {}
    """Tags of everything, beside `lmstream`: an owner, a cost centre, a stage."""
    permissions_boundary: str = ""
    """ARN of an IAM policy that bounds every role."""
    bootstrap_qualifier: Annotated[str, Meta(pattern=r"^[a-z0-9]{0,10}$")] = ""
    """Qualifier of a CDK bootstrap of yours; empty: CDK's own."""
    key_arn: str = ""
    """ARN of a KMS key of yours, with the statements of docs/deploy.md in its policy; empty: one is made."""
    topic: str = "lm.metrics.otlp"
    partitions: Count = 6
    """Of the topic: as many invocations run at once."""
    certificate_secret: str = ""
    """ARN of an existing secret with the client's certificate; empty: an empty one is made, for you to fill."""
    secret_key: str = ""
    """ARN of the KMS key of an existing secret, when it is not the account's default."""
    engine: EngineSettings = EngineSettings(path=ROWS_PATH)
    cluster: Cluster = Cluster()
    network: Network = Network()
    bucket: Bucket = Bucket()
    catalog: Catalog = Catalog()
    stream: Stream = Stream()
    lake: Lake = Lake()
    container: Container = Container()
    transform: Transform = Transform()
    operations: Operations = Operations()
    load: Load = Load()

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the figures. Raises ConfigError."""
        firehose_prefix(self.engine)  # refuses a path template that Firehose or S3 would
        found = [f"deployment, {key}: {what}" for wrong, key, what in wrong_settings(self) if wrong]
        refuse([ConfigError("config.invalid", each) for each in found])

    def bucket_name(self, what: str, account: str = "") -> str:
        """Name of a bucket: `what` is metrics (the landing bucket), dead-letters, logs and so on.

        `account` is the account's number, or what stands for it while that is not known.
        """
        if what == "dead-letters" and self.bucket.dead_letters:
            return self.bucket.dead_letters
        if what == "results" and self.bucket.results:
            return self.bucket.results
        if self.bucket.name:
            return self.bucket.name if what == "metrics" else f"{self.bucket.name}-{what}"
        return f"{self.name.lower()}-{self.account or account or '0' * 12}-{self.region}-{what}"

    @property
    def cluster_name(self) -> str:
        """Name of the Kafka cluster, a new one or an existing one."""
        return self.cluster.arn.split("/")[1] if self.cluster.arn else self.cluster.name

    @property
    def enabled(self) -> bool:
        """Whether the topic is read."""
        return self.container.enabled if self.path == "direct" else self.transform.enabled

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.container.group if self.path == "direct" else self.transform.group

    @property
    def watched_brokers(self) -> int:
        """How many brokers have alarms: those of a new cluster, or of an existing one as far as the settings say."""
        return self.cluster.brokers_watched if self.cluster.arn else self.cluster.brokers

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Interface endpoints of the VPC of a new cluster, on the path that is configured."""
        return self.endpoints_of(self.path)

    def endpoints_of(self, path: str) -> tuple[str, ...]:
        """Interface endpoints that tasks or pollers need in the VPC of a new cluster.

        A Pipe: docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-msk.html (network configuration). A mapping,
        on demand or provisioned: docs.aws.amazon.com/lambda/latest/dg/with-msk-cluster-network.html.
        """
        if self.cluster.arn or self.network.vpc_id or self.network.egress == "nat":
            return ()
        if path == "direct":
            return CONTAINER_ENDPOINTS
        if self.transform.source == "pipe":
            return ("pipes-data",)
        return () if self.transform.pollers else ("lambda", "sts", "secretsmanager")

    @property
    def partial_failures(self) -> bool:
        """Whether the mapping has ReportBatchItemFailures: AWS offers it with provisioned pollers only. Without it a
        function that answers instead of raising would acknowledge what it names."""
        return self.transform.source == "mapping" and self.transform.pollers > 0

    @property
    def keeps_failures(self) -> bool:
        """Whether the mapping hands what it gave up over to the bucket of dead letters."""
        return self.path == "firehose" and self.partial_failures and self.transform.retries >= 0

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
        return self.paths * (HOURS_OPEN if "{HH}" in self.engine.path else 1)

    @property
    def paths(self) -> int:
        """Paths of one hour: organizations x metricKeys, where the path has the metric; one more of dimension rows."""
        keys = self.metric_keys if "{metricKey}" in self.engine.path else 1
        return self.load.organizations * (keys + self.engine.dimensions)

    @property
    def lanes(self) -> int:
        """Chains of windows of the direct path."""
        return self.lake.lanes or self.partitions

    @property
    def rows_prefix(self) -> str:
        """Prefix below which all rows lie, with its slash; empty: they lie beside the rest."""
        return rows_prefix(self.engine.path)


def load(path: Path | str) -> Deployment:
    """Read a TOML file. Raises ConfigError: what, where, what is expected."""
    layers = [layer_of_file("deployment settings", path)]
    raw = layers[0].tables
    wrong = [*wrong_names(raw.get("engine"), layers)]
    try:
        made: Deployment = convert((), filled(raw), Deployment, layers)
    except ConfigError as e:
        wrong += e.errors
        refuse(wrong)
        raise
    refuse(wrong)
    return made
