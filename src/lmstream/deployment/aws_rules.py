"""What AWS would refuse of a deployment, or accept and never run: one sentence each, before anything is built."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lmstream.deployment.aws_names import Check

if TYPE_CHECKING:
    from lmstream.deployment.settings import Deployment

BUCKET_LETTERS: Final = 63
"""docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html."""
TAGS: Final = 45
"""AWS takes 50 of a resource; `lmstream` and CloudFormation's own come on top."""
BUCKETS: Final = ("metrics", "dead-letters", "logs", "results")


def unbuildable(deployment: "Deployment") -> Iterator[Check]:
    """Each (wrong or not, key, sentence)."""
    yield from _buckets(deployment)
    yield from _zones(deployment)
    yield from _cluster(deployment)
    yield from _function(deployment)
    yield from _yours(deployment)


def _buckets(deployment: "Deployment") -> Iterator[Check]:
    longest = max((deployment.bucket_name(what) for what in BUCKETS), key=len)
    what = f"{longest} has {len(longest)} characters, S3 allows {BUCKET_LETTERS}: set a shorter bucket.name"
    yield len(longest) > BUCKET_LETTERS, "bucket.name" if deployment.bucket.name else "name", what
    for what in ("metrics", "dead-letters", "results"):
        name = deployment.bucket_name(what)
        # docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html: no periods together, no address.
        wrong = ".." in name or name.startswith(("xn--", "sthree-")) or re.fullmatch(r"\d+(\.\d+){3}", name) is not None
        yield wrong, "bucket.name", f"{name} is not a valid name of an S3 bucket"


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
        f"{cluster.instance} is too small for Kafka {cluster.kafka_version}: use kafka.m7g.large or larger",
    )


def _function(deployment: "Deployment") -> Iterator[Check]:
    transform = deployment.transform
    # docs.aws.amazon.com/lambda/latest/dg/snapstart.html, supported features and limitations.
    yield (
        transform.snap_start and transform.provisioned > 0,
        "transform.snap_start",
        "Lambda takes a snapshot or provisioned concurrency, not both: leave one out",
    )
    # docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html: at most what is reserved.
    yield (
        transform.reserve and transform.provisioned > deployment.partitions,
        "transform.provisioned",
        f"{transform.provisioned} is more than the {deployment.partitions} executions that are reserved",
    )
    yield (
        transform.tracing and bool(transform.adot_layer),
        "transform.adot_layer",
        "it traces, and so does transform.tracing: leave one out",
    )


def _yours(deployment: "Deployment") -> Iterator[Check]:
    """What exists already, and what is put on everything."""
    network, boundary = deployment.network, deployment.permissions_boundary
    yield (
        bool(network.vpc_id) and not re.fullmatch(r"vpc-[0-9a-f]{8,17}", network.vpc_id),
        "network.vpc_id",
        f"expected a VPC's id as in vpc-0123456789abcdef0, saw {network.vpc_id!r:.60}",
    )
    wrong = [each for each in network.subnet_ids if not re.fullmatch(r"subnet-[0-9a-f]{8,17}", each)]
    yield bool(wrong), "network.subnet_ids", f"expected ids as in subnet-0123456789abcdef0, saw {wrong[:1]!r:.60}"
    yield (
        bool(network.vpc_id) != bool(network.subnet_ids),
        "network.subnet_ids",
        "network.vpc_id and network.subnet_ids go together: your own VPC, and its private subnets for the brokers",
    )
    yield (
        bool(network.subnet_ids) and len(set(network.subnet_ids)) != network.zones,
        "network.subnet_ids",
        f"{len(set(network.subnet_ids))} subnets, and network.zones is {network.zones}: one per zone",
    )
    yield (
        deployment.bucket.existing and not deployment.bucket.name,
        "bucket.existing",
        "it has no name: set bucket.name",
    )
    yield (
        bool(boundary) and not re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}|aws):policy/\S+", boundary),
        "permissions_boundary",
        f"expected the ARN of an IAM policy, saw {boundary!r:.120}",
    )
    # docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html: lengths, letters, aws: reserved.
    for key, value in deployment.tags.items():
        fits = re.fullmatch(r"[\w .:/=+@-]{1,128}", key) and re.fullmatch(r"[\w .:/=+@-]{0,256}", value)
        wrong_tag = not fits or key.lower().startswith("aws:") or key == "lmstream"
        yield (
            wrong_tag,
            "tags",
            f"{key!r:.130} = {value!r:.60} is not a tag that AWS accepts, or is set by lmstream itself",
        )
    yield len(deployment.tags) > TAGS, "tags", f"{len(deployment.tags)}, and AWS allows 50 per resource: at most {TAGS}"
