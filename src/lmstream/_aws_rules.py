"""What AWS would refuse of a deployment, or accept and never run: one sentence each, before anything is built."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lmstream._aws_names import Check

if TYPE_CHECKING:
    from lmstream.deployment import Deployment

BUCKET_LETTERS: Final = 63
"""docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html."""
BUCKETS: Final = ("metrics", "dead-letters", "logs", "results")


def unbuildable(deployment: "Deployment") -> Iterator[Check]:
    """Each (wrong or not, key, sentence)."""
    yield from _buckets(deployment)
    yield from _zones(deployment)
    yield from _cluster(deployment)


def _buckets(deployment: "Deployment") -> Iterator[Check]:
    longest = max((deployment.bucket_name(what) for what in BUCKETS), key=len)
    what = f"{longest} has {len(longest)} characters, S3 takes {BUCKET_LETTERS}: set a shorter bucket.name"
    yield len(longest) > BUCKET_LETTERS, "bucket.name" if deployment.bucket.name else "name", what
    for what in ("metrics", "dead-letters", "results"):
        name = deployment.bucket_name(what)
        # docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html: no periods together, no address.
        wrong = ".." in name or name.startswith(("xn--", "sthree-")) or re.fullmatch(r"\d+(\.\d+){3}", name) is not None
        yield wrong, "bucket.name", f"{name} is no name that S3 takes for a bucket"


def _zones(deployment: "Deployment") -> Iterator[Check]:
    names, zones = deployment.network.zone_names, deployment.network.zones
    yield (
        bool(names) and len(set(names)) != zones,
        "network.zone_names",
        f"{len(set(names))} different zones are named, network.zones is {zones}",
    )
    wrong = [name for name in names if not re.fullmatch(re.escape(deployment.region) + "[a-z]", name)]
    what = f"{', '.join(wrong)}: no zone of {deployment.region} (`aws ec2 describe-availability-zones` lists them)"
    yield bool(wrong), "network.zone_names", what


def _cluster(deployment: "Deployment") -> Iterator[Check]:
    cluster = deployment.cluster
    # docs.aws.amazon.com/msk/latest/developerguide/supported-kafka-versions.html: KRaft from 3.7 on m5, m7g and larger.
    yield (
        not cluster.arn and ".kraft" in cluster.kafka_version and cluster.instance.startswith("kafka.t3."),
        "cluster.instance",
        f"{cluster.instance} is too small for Kafka {cluster.kafka_version}: kafka.m7g.large is the least",
    )
