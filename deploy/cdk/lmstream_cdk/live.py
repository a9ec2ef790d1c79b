"""Which code is live: a version and an alias, warm or from a snapshot, and how the next version takes over."""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_lambda as lambda_

from lmstream.observability.metrics_catalogue import BY_NAME
from lmstream_cdk.base import LmstreamStack, acknowledge

TRACED = "X-Ray names no resource: docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html"
MANAGED = "AWSCodeDeployRoleForLambdaLimited is AWS's own for this, and what it may do is bound to Lambda and alarms"
_MINUTE = Duration.minutes(1)


def add_live(stack: LmstreamStack, function: lambda_.Function) -> lambda_.Alias:
    """The alias that a Pipe or a mapping calls: never $LATEST, which changes while it is called."""
    settings = stack.deployment.transform
    alias = lambda_.Alias(
        stack,
        "Live",
        alias_name="live",
        version=function.current_version,
        provisioned_concurrent_executions=settings.provisioned or None,
    )
    if settings.delivery != "at-once":
        configuration = codedeploy.LambdaDeploymentConfig
        group = codedeploy.LambdaDeploymentGroup(
            stack,
            "Delivery",
            alias=alias,
            deployment_config=configuration.CANARY_10_PERCENT_5_MINUTES
            if settings.delivery == "canary"
            else configuration.LINEAR_10_PERCENT_EVERY_1_MINUTE,
            alarms=_brakes(stack, alias),
        )
        name = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited"
        acknowledge(group, f"IAM4[Policy::{name}]", reason=MANAGED)
    return alias


def _brakes(stack: LmstreamStack, alias: lambda_.Alias) -> list[cloudwatch.IAlarm]:
    """Alarms that take new code back: it raises, or leaves what the old one delivered."""
    name, page = stack.deployment.name, stack.deployment.operations.runbook
    undelivered = cloudwatch.Metric(
        namespace=name,
        metric_name=BY_NAME["lmstream_records_undelivered_total"].emf,
        dimensions_map={"service": name},
        statistic="Sum",
        period=_MINUTE,
    )
    watched = {"errors": alias.metric_errors(period=_MINUTE, statistic="Sum"), "undelivered": undelivered}
    return [
        cloudwatch.Alarm(
            stack,
            f"Brake-{what}",
            alarm_name=f"{name}-brake-{what}",
            alarm_description=f"New code is taken back when it rings. Runbook: {page}#{what}",
            metric=metric,
            threshold=0,
            evaluation_periods=2,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        for what, metric in watched.items()
    ]
