"""What cannot work of the settings of a deployment: one sentence each, with the figures."""

from typing import TYPE_CHECKING, Final

from lmstream.deployment.aws_names import Check, wrong_arns, wrong_networks
from lmstream.deployment.aws_rules import unbuildable
from lmstream.deployment.buckets import wrong_storage
from lmstream.deployment.lake import wrong_lake

if TYPE_CHECKING:
    from lmstream.deployment.settings import Deployment

DAY_MINUTES: Final = 1440
RETRIES: Final = 10_000
"""Most retries of a Kafka event source mapping. "Infinite", -1, becomes 10 as soon as there is an on-failure
destination: docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html."""
FEWEST_RETRIES: Final = 1_000
"""Fewer would hand healthy records over in an outage of minutes."""

BROKERS_OF_AN_ALARM: Final = 9
"""An alarm on an expression reads ten metrics at most, and `unread` reads rows beside the brokers:
docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Create-alarm-on-metric-math-expression.html."""

EVENT_BYTES: Final = 6_000_000
"""Bytes of an event that Lambda takes: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""


def wrong_settings(deployment: "Deployment") -> list[Check]:
    """Each (wrong or not, key, sentence)."""
    stream, cluster, transform, engine = deployment.stream, deployment.cluster, deployment.transform, deployment.engine
    needed = deployment.load.bundle_bytes * 4 / 3 + 400
    return [
        *wrong_arns(
            deployment.region,
            ("cluster.arn", cluster.arn, "kafka"),
            ("cluster.ca_arn", cluster.ca_arn, "acm-pca"),
            ("certificate_secret", deployment.certificate_secret, "secretsmanager"),
            ("secret_key", deployment.secret_key, "kms"),
            ("key_arn", deployment.key_arn, "kms"),
            ("transform.adot_layer", transform.adot_layer, "lambda"),
        ),
        *wrong_networks(deployment.network.cidr, cluster.collector_cidrs),
        *unbuildable(deployment),
        (
            bool(deployment.secret_key) and not deployment.certificate_secret,
            "secret_key",
            "it is the key of an existing secret, and certificate_secret names none",
        ),
        (
            deployment.operations.silence_minutes > DAY_MINUTES,
            "operations.silence_minutes",
            f"{deployment.operations.silence_minutes}; an alarm of CloudWatch looks back a day at most, {DAY_MINUTES}",
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
            engine.dimensions and deployment.path == "direct",
            "engine.dimensions",
            "the table of the direct path does not join dimension rows: leave it out",
        ),
        (
            engine.dimensions and "{metricKey}" not in engine.path,
            "engine.dimensions",
            f"engine.path {engine.path!r} has no {{metricKey}}: the stream would put dimension rows among rows",
        ),
        (
            not (cluster.arn or cluster.ca_arn or cluster.create_ca),
            "cluster.ca_arn",
            "mTLS needs a certificate authority: name an existing private CA, or set cluster.create_ca = true",
        ),
        (
            bool(cluster.ca_arn and cluster.create_ca),
            "cluster.create_ca",
            "a CA is named in cluster.ca_arn; creating another one costs its monthly price for nothing",
        ),
        (
            not cluster.arn and cluster.brokers % deployment.network.zones != 0,
            "cluster.brokers",
            f"{cluster.brokers} brokers do not spread evenly over network.zones = {deployment.network.zones}",
        ),
        (
            bool(cluster.brokers_watched) and not cluster.arn,
            "cluster.brokers_watched",
            "it is of an existing cluster, and cluster.arn names none: brokers of a new cluster have alarms anyway",
        ),
        (
            deployment.path == "firehose" and deployment.active_partitions > stream.active_partitions,
            "stream.active_partitions",
            _too_many(deployment),
        ),
        (
            transform.batch_size * needed > EVENT_BYTES,
            "transform.batch_size",
            _too_large(deployment, transform.batch_size * needed, int(EVENT_BYTES // needed)),
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
            _too_few(transform.retries),
        ),
        (
            bool(transform.pollers) and transform.minimum_pollers > transform.pollers,
            "transform.minimum_pollers",
            f"{transform.minimum_pollers} is more than transform.pollers = {transform.pollers}",
        ),
        (
            deployment.bucket_name("dead-letters") == deployment.bucket_name("metrics"),
            "bucket.dead_letters",
            "dead letters in the landing bucket would be read as rows: name another bucket",
        ),
        (
            deployment.bucket_name("results") == deployment.bucket_name("dead-letters"),
            "bucket.results",
            "query results expire and dead letters must not: name another bucket",
        ),
        *wrong_storage(deployment.bucket, engine, old=deployment.defaults == 1),
        *wrong_lake(deployment),
    ]


def _too_large(deployment: "Deployment", size: float, most: int) -> str:
    return f"{deployment.transform.batch_size} bundles make {size / 1e6:.1f} MB, over Lambda's 6 MB: at most {most}"


def _too_few(retries: int) -> str:
    return (
        f"{retries} would use up the retries of valid records in an outage of minutes: set "
        f"{FEWEST_RETRIES:,} to {RETRIES:,}, or -1 to retry without end"
    )


def _too_many(deployment: "Deployment") -> str:
    keys, quota = deployment.metric_keys, deployment.stream.active_partitions
    return (
        f"{deployment.load.organizations} organizations x {keys} metricKeys x hours that are open make "
        f"{deployment.active_partitions:,} active partitions, over the quota of {quota:,}: the others' rows would go "
        "to the error prefix. Set engine.metric_key to buckets or allow, or ask AWS for a higher quota and set it here"
    )
