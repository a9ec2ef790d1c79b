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

    def graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8, height=6)

    function, deployment = stack.function, stack.deployment
    brokers = []
    if deployment.watched_brokers:
        disk = worst(of_brokers(deployment, "KafkaDataLogsDiskUsed"), "fullest data volume, %")
        brokers = [graph("Brokers: fullest data volume, %", disk)]
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
                    "Undelivered, dead-lettered or without a row",
                    stack.ours("lmstream_records_undelivered_total"),
                    stack.ours("lmstream_dead_letters_total"),
                    stack.ours("lmstream_points_rejected_total"),
                    stack.ours("lmstream_records_without_row_total"),
                ),
            ],
            [
                graph(
                    "Requests to Firehose",
                    stack.ours("lmstream_sink_requests_total"),
                    stack.ours("lmstream_sink_throttled_total"),
                    stack.ours("lmstream_sink_unknown_outcomes_total"),
                ),
                graph("Firehose to S3: oldest row, s", stack.firehose("DeliveryToS3.DataFreshness", "Maximum")),
                graph(
                    "Active partitions",
                    stack.firehose("PartitionCount", "Maximum"),
                    stack.firehose("ActivePartitionsLimit", "Maximum"),
                ),
            ],
            [
                graph("Consumer lag, s", lag(deployment)),
                graph("Consumer lag, records", lag(deployment, "SumOffsetLag")),
                *brokers,
            ],
            [
                graph(
                    "Function: duration, ms",
                    function.metric_duration(statistic="p50"),
                    function.metric_duration(statistic="p99"),
                ),
                graph("Function: errors, throttles", function.metric_errors(), function.metric_throttles()),
                graph(
                    "Bytes into Firehose",
                    stack.firehose("IncomingBytes"),
                    stack.firehose("BytesPerSecondLimit", "Maximum"),
                ),
            ],
        ],
    )
