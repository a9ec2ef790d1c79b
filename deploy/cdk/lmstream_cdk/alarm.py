"""One alarm, and the metrics of AWS's own services that alarms and dashboard read."""

from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from lmstream.deployment import Deployment

MINUTES_5 = Duration.minutes(5)
OVER = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
UNDER = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
QUIET, BREACHING = cloudwatch.TreatMissingData.NOT_BREACHING, cloudwatch.TreatMissingData.BREACHING


@dataclass(frozen=True)
class Alarm:
    """One alarm: its metric, its limit, and what it means."""

    name: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int
    meaning: str
    comparison: cloudwatch.ComparisonOperator = OVER
    missing: cloudwatch.TreatMissingData = QUIET
    page: str = ""
    """Section of the runbook; empty: the name."""


def metric(namespace: str, name: str, statistic: str = "Sum", **dimensions: str) -> cloudwatch.Metric:
    """A metric of a service; dimensions with _ where the service has a space."""
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        dimensions_map={key.replace("_", " "): value for key, value in dimensions.items()},
        statistic=statistic,
        period=MINUTES_5,
    )


def of_cluster(deployment: Deployment, name: str, statistic: str = "Maximum", **dimensions: str) -> cloudwatch.Metric:
    """A metric of MSK at the level DEFAULT, which costs nothing.

    docs.aws.amazon.com/msk/latest/developerguide/metrics-details.html: names and dimensions.
    """
    return metric("AWS/Kafka", name, statistic, Cluster_Name=deployment.cluster_name, **dimensions)


def of_brokers(deployment: Deployment, name: str, statistic: str = "Maximum", **more: str) -> list[cloudwatch.Metric]:
    """The same for each broker; MSK numbers them from 1."""
    return [
        of_cluster(deployment, name, statistic, Broker_ID=str(n), **more)
        for n in range(1, deployment.watched_brokers + 1)
    ]


def worst(metrics: list[cloudwatch.Metric], label: str) -> cloudwatch.MathExpression:
    """The highest of a few metrics that are always there.

    Filled, because AWS does not say what the highest is where one of them is missing: a broker that is away must not
    silence the others. A metric that never had a point has nothing to be filled between: that one needs its own alarm.
    """
    named = {f"m{n}": each for n, each in enumerate(metrics)}
    return cloudwatch.MathExpression(
        expression=f"MAX([{', '.join(f'FILL({name}, 0)' for name in named)}])",
        using_metrics=named,
        label=label,
        period=MINUTES_5,
    )
