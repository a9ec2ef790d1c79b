"""Alarms on what comes before function or container: consumer lag, brokers, the Pipe."""

from collections.abc import Iterator

from aws_cdk import aws_cloudwatch as cloudwatch

from lmstream.deployment import Deployment
from lmstream_cdk.alarm import BREACHING, MINUTES_5, Alarm, metric, of_brokers, of_cluster, worst

BEHIND_SECONDS = 900
"""Beside what a window of the direct path may take by itself: its offsets are committed when it is written."""
DISK_PERCENT = 85
"""Of a broker's data volume: docs.aws.amazon.com/msk/latest/developerguide/bestpractices.html."""


def source_alarms(deployment: Deployment, rows: cloudwatch.Metric, pipe_name: str) -> Iterator[Alarm]:
    """Alarms of one deployment; `rows` counts rows that landed or that Firehose took, `pipe_name` is empty without a
    Pipe."""
    if deployment.enabled:
        yield from _reading(deployment, rows)
    if deployment.watched_brokers:
        yield from _brokers(deployment)
    if pipe_name:
        failed = metric("AWS/EventBridge/Pipes", "ExecutionFailed", PipeName=pipe_name)
        yield Alarm("pipe", failed, 0, 3, "the Pipe has failed for 15 minutes: AWS may stop it")


def lag(deployment: Deployment, name: str = "EstimatedMaxTimeLag") -> cloudwatch.Metric:
    """A lag of the consumer group: there is none before the group has joined."""
    return of_cluster(deployment, name, Consumer_Group=deployment.group, Topic=deployment.topic)


def behind_seconds(deployment: Deployment) -> float:
    """Seconds of lag that are more than a window explains."""
    return BEHIND_SECONDS + (deployment.lake.window_max_seconds if deployment.path == "direct" else 0)


def _reading(deployment: Deployment, rows: cloudwatch.Metric) -> Iterator[Alarm]:
    """Only while the source is enabled: a group that has not joined has no metric, and missing data breaches."""
    hours = deployment.cluster.retention_hours
    yield Alarm(
        "retention",
        lag(deployment),
        hours * 3600 / 4,
        3,
        f"the oldest unread record has waited a quarter of the retention ({hours} h), or nothing consumes the topic",
        missing=BREACHING,
    )
    behind = behind_seconds(deployment)
    yield Alarm("lag", lag(deployment), behind, 3, f"consumer lag is above {behind / 60:g} minutes")
    if not deployment.watched_brokers:
        return  # an existing cluster: how many brokers it has is not known here
    came = {
        f"m{n}": each
        for n, each in enumerate(of_brokers(deployment, "BytesInPerSec", "Average", Topic=deployment.topic))
    }
    unread = cloudwatch.MathExpression(
        expression=f"IF(SUM([{', '.join(came)}]) > 0 AND FILL(rows, 0) == 0, 1, 0)",
        using_metrics={**came, "rows": rows},
        label="records arrive, no rows leave",
        period=MINUTES_5,
    )
    where = "no row landed" if deployment.path == "direct" else "Firehose got no row"
    what = f"records arrive in the topic, and {where} for 30 minutes"
    yield Alarm("unread", unread, 0, 6, what, missing=BREACHING)


def _brokers(deployment: Deployment) -> Iterator[Alarm]:
    disk = worst(of_brokers(deployment, "KafkaDataLogsDiskUsed"), "fullest data volume, %")
    yield Alarm("disk", disk, DISK_PERCENT, 2, f"a broker's data volume is more than {DISK_PERCENT} % full")
    offline = of_cluster(deployment, "OfflinePartitionsCount")
    yield Alarm("offline-partitions", offline, 0, 1, "partitions have no leader: they cannot be written or read")
    under = worst(of_brokers(deployment, "UnderReplicatedPartitions"), "under-replicated partitions of a broker")
    yield Alarm("under-replicated", under, 0, 6, "partitions have had too few replicas for 30 minutes")
