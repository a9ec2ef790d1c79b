"""The dashboard of a deployment."""

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from lmstream_cdk.alarm import of_brokers, worst
from lmstream_cdk.source_alarms import lag

if TYPE_CHECKING:
    from lmstream_cdk.operations import OperationsStack


def add_dashboard(stack: "OperationsStack", alarms: list[cloudwatch.Alarm]) -> None:
    """The dashboard: what to look at after an alarm."""
    deployment, graph = stack.deployment, stack.graph
    brokers = []
    if deployment.watched_brokers:
        disk = worst(of_brokers(deployment, "KafkaDataLogsDiskUsed"), "fullest data volume, %")
        brokers = [graph("Brokers: fullest data volume, %", disk)]
    undelivered = "Undelivered, dead-lettered or without a row"
    failed = [stack.ours("lmstream_records_undelivered_total")]
    if deployment.path == "direct":  # a container has no invocation that could leave records behind
        undelivered, failed = "Dead-lettered or without a row", []
    to_bucket, runs = stack.path.graphs(stack)
    cloudwatch.Dashboard(
        stack,
        "Dashboard",
        dashboard_name=stack.deployment.name,
        default_interval=Duration.hours(6),
        widgets=[
            [cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(alarms), width=24, height=3)],
            [
                graph("Records", stack.ours("lmstream_bundles_consumed_total")),
                graph("Rows", stack.ours("lmstream_rows_decoded_total"), stack.ours("lmstream_rows_accepted_total")),
                graph(
                    undelivered,
                    *failed,
                    stack.ours("lmstream_dead_letters_total"),
                    stack.ours("lmstream_points_rejected_total"),
                    stack.ours("lmstream_records_without_row_total"),
                ),
            ],
            to_bucket,
            [
                graph("Consumer lag, s", lag(deployment)),
                graph("Consumer lag, records", lag(deployment, "SumOffsetLag")),
                *brokers,
            ],
            runs,
        ],
    )
