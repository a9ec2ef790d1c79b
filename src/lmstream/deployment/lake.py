"""Settings of the direct path: how rows become objects without Firehose, and the container that writes them."""

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream.delivery.window_length import WINDOW_BYTES, WINDOW_ROWS
from lmstream.deployment.aws_names import Check
from lmstream.settings import MIB

if TYPE_CHECKING:
    from lmstream.deployment.settings import Deployment

Seconds = Annotated[float, Meta(ge=1)]
Format = Literal["gzip", "zstd", "parquet"]

SEGMENT_DAYS: Final = 7
"""segment.ms of a topic that does not set it: kafka.apache.org/documentation/#topicconfigs_segment.ms. Retention
deletes whole segments, so a record may stay for so much longer."""
SPARE_DAYS: Final = 7
"""For which claims are kept beyond the last record that could be read again."""

MEMORY: Final[dict[int, range]] = {
    256: range(512, 2_049, 512),
    512: range(1_024, 4_097, 1_024),
    1_024: range(2_048, 8_193, 1_024),
    2_048: range(4_096, 16_385, 1_024),
    4_096: range(8_192, 30_721, 1_024),
}
"""MiB that Fargate offers for so many CPU units: docs.aws.amazon.com/AmazonECS/latest/developerguide/
fargate-tasks-services.html. The page has 512, 1,024 and 2,048 for 256 units; 1,536 is left to AWS to refuse."""


class Lake(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows become objects in the landing bucket: the `[sink]` of the container, type "s3"."""

    format: Format = "parquet"
    """gzip and zstd: lines of JSON. Parquet is read for less: a query reads the columns that it names."""
    window_seconds: Seconds = 300.0
    """Age at which a window is closed and its objects are written: how late rows land. Requests are the bill of the
    direct path, and a window twice as long halves them."""
    window_max_seconds: Seconds = 900.0
    """Age that a window may reach to keep to `monthly_dollars`."""
    window_rows: Annotated[int, Meta(ge=1)] = WINDOW_ROWS
    window_bytes: Annotated[int, Meta(ge=1)] = WINDOW_BYTES
    """Rows, and bytes of lines before compression, after which a window is closed before its age. Far above what memory
    holds: `container.budget_mib` ends a window before."""
    object_bytes: Annotated[int, Meta(ge=1 * MIB, le=1024 * MIB)] = 64 * MIB
    """Bytes of lines, before compression, after which a path gets a further object in the same window."""
    monthly_dollars: Annotated[float, Meta(gt=0)] | None = None
    """What PUT requests may cost a month; windows are stretched for it. Left out: they end by age."""
    lanes: Annotated[int, Meta(ge=1)] | None = None
    """How many chains of windows there are; left out: one for each partition. Fewer make fewer, larger objects."""
    division: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """To be raised by one with each change of `lanes`; see "To change the number of lanes" in docs/lake.md."""
    claim_days: Annotated[int, Meta(ge=1)] | None = None
    """Days until claims expire; left out: retention of the topic, a segment of 7 days, and 7 days more."""
    enforce: bool = True
    """Whether the bucket refuses objects of rows and claims that could overwrite others: whatever writes there must
    send If-None-Match or If-Match. Copies into these prefixes are refused with it."""


class Container(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service of Fargate that reads the topic and writes objects."""

    enabled: bool = False
    """Whether tasks run: false for the first deploy, until the secret holds a certificate and `bootstrap` is known."""
    image: str = ""
    """URI of the image, best with its digest: `…dkr.ecr.REGION.amazonaws.com/lmstream@sha256:…`. "build": made from
    this repository when it is deployed, which needs Docker there. Empty: this version in the repository of images that
    the data stack makes, to which you push it."""
    bootstrap: str = ""
    """Brokers as `host:port`, comma-separated: `aws kafka get-bootstrap-brokers` tells them once the cluster exists."""
    kafka: Literal["mtls", "iam"] = "mtls"
    """How tasks authenticate: with the certificate in the secret, or with the task's role (an existing cluster with IAM
    authentication on port 9098)."""
    group: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9/*_+=.@-]{1,200}$")] = "lmstream"
    start_from: Literal["earliest", "latest"] = "earliest"
    architecture: Literal["arm64", "x86_64"] = "arm64"
    cpu: Literal[256, 512, 1024, 2048, 4096] = 1024
    """CPU units of a task; 1,024 are one vCPU, and one process."""
    memory_mb: Annotated[int, Meta(ge=512)] = 2048
    budget_mib: Annotated[int, Meta(ge=16)] = 512
    """Of a process: what open windows and records in flight may hold. It can end a window before its age."""
    tasks: Annotated[int, Meta(ge=1)] = 1
    """Tasks that always run."""
    max_tasks: Annotated[int, Meta(ge=1)] | None = None
    """Tasks at most, when lag grows; left out: one a partition of the topic."""
    security_group: str = ""
    """Id of a security group that an existing cluster's brokers admit. Empty: one is made, and named in the outputs."""

    @property
    def processes(self) -> int:
        """Of one task: one for each whole vCPU."""
        return max(1, self.cpu // 1024)


def claim_days(deployment: "Deployment") -> int:
    """Days until claims expire: more than what the topic may still hold, or what is read again is not recognized."""
    return deployment.lake.claim_days or _fewest_days(deployment)


def _fewest_days(deployment: "Deployment") -> int:
    return math.ceil(deployment.cluster.retention_hours / 24) + SEGMENT_DAYS + SPARE_DAYS + 1


def wrong_lake(deployment: "Deployment") -> Iterator[Check]:
    """Each (wrong or not, key, sentence); nothing for a deployment that writes through Firehose."""
    if deployment.path != "direct":
        return
    lake, container, cluster = deployment.lake, deployment.container, deployment.cluster
    what = f"{lake.window_max_seconds:g} s is less than lake.window_seconds = {lake.window_seconds:g}"
    yield lake.window_max_seconds < lake.window_seconds, "lake.window_max_seconds", what
    what = f"{lake.lanes} lanes, and the topic has {deployment.partitions} partitions: a lane has one at least"
    yield (lake.lanes or 1) > deployment.partitions, "lake.lanes", what
    days, kept = _fewest_days(deployment), f"{cluster.retention_hours} h and a segment of {SEGMENT_DAYS} days"
    what = f"{lake.claim_days} days is too short: the topic keeps records for {kept}, and what is read again after its "
    yield claim_days(deployment) < days, "lake.claim_days", f"{what}claim expired is written twice: at least {days}"
    yield from _wrong_container(deployment)
    what = f"{deployment.engine.path!r} begins with an organization's key: begin it with a prefix of its own, as in "
    what += "'lake/{orgKey}/...', so that claims lie beside the rows and not among them"
    yield not deployment.rows_prefix, "engine.path", what
    what = "_lmstream/ holds the claims: begin the path with another prefix"
    yield deployment.rows_prefix.startswith("_lmstream/"), "engine.path", what
    what = (
        "a new cluster has mTLS only: leave it out, or name an existing cluster with IAM authentication (cluster.arn)"
    )
    yield container.kafka == "iam" and not cluster.arn, "container.kafka", what
    needed = bool(cluster.arn) and not deployment.network.vpc_id
    what = (
        "an existing cluster's tasks need a place: set network.vpc_id and network.subnet_ids, from where the brokers "
    )
    yield needed, "network.vpc_id", f"{what}and S3 can be reached"


def _wrong_container(deployment: "Deployment") -> Iterator[Check]:
    container = deployment.container
    offered, units = MEMORY[container.cpu], f"container.cpu = {container.cpu}"
    what = f"{container.memory_mb} MiB; for {units} Fargate offers {offered[0]:,} to {offered[-1]:,} in steps of "
    yield container.memory_mb not in offered, "container.memory_mb", f"{what}{offered.step:,}"
    held = container.budget_mib * container.processes
    what = f"{held} MiB in {container.processes} processes is more than half of container.memory_mb = "
    what += f"{container.memory_mb}: the rest is for the processes themselves, and for what is compressed and sent"
    yield 2 * held > container.memory_mb, "container.budget_mib", what
    most = container.max_tasks or deployment.partitions
    what = f"{container.tasks} to {most} tasks, and the topic has {deployment.partitions} partitions: more are idle"
    yield container.tasks > most or most > deployment.partitions, "container.max_tasks", what
    what = "no brokers to read from: `aws kafka get-bootstrap-brokers --cluster-arn ARN` tells them"
    yield container.enabled and not container.bootstrap, "container.bootstrap", what
    group = container.security_group
    wrong = bool(group) and re.fullmatch(r"sg-[0-9a-f]{8,17}", group) is None
    yield wrong, "container.security_group", f"expected an id as in sg-0123456789abcdef0, saw {group!r:.60}"
