"""What operators see of the path through Firehose: alarms and graphs of the function and of the stream."""

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_

from lmstream_cdk.alarm import MINUTES_5, UNDER, Alarm, metric
from lmstream_cdk.transform import TransformStack

if TYPE_CHECKING:
    from lmstream_cdk.operations import OperationsStack


class FirehosePath:
    """Function and stream of one deployment."""

    def __init__(self, transform: TransformStack) -> None:
        self.function: lambda_.Function = transform.function
        self.pipe_name = transform.pipe_name
        self._deployment = transform.deployment

    def alarms(self, stack: "OperationsStack", /) -> list[Alarm]:
        """Alarms of this path alone."""
        return [*self._of_function(stack), *self._of_stream(), *self._locked()]

    def _of_function(self, stack: "OperationsStack") -> list[Alarm]:
        undelivered = stack.ours("lmstream_records_undelivered_total")
        unknown = stack.ours("lmstream_sink_unknown_outcomes_total")
        throttled = "the function is throttled: more concurrent invocations than its reserved concurrency"
        slow = 0.8 * 1000 * self._deployment.transform.timeout_seconds
        duration = self.function.metric_duration(statistic="p99", period=MINUTES_5)
        return [
            Alarm(
                "undelivered", undelivered, 0, 3, "records were not delivered for 15 minutes: a partition is blocked"
            ),
            Alarm(
                "unknown-outcomes",
                unknown,
                0,
                2,
                "requests to Firehose ended without a response: rows may be stored twice",
            ),
            Alarm(
                "errors",
                self.function.metric_errors(period=MINUTES_5),
                0,
                3,
                "the function fails, or dies without a response",
            ),
            Alarm("throttles", self.function.metric_throttles(period=MINUTES_5), 0, 3, throttled),
            Alarm("slow", duration, slow, 3, "invocations take 80 % of the timeout"),
        ]

    def _of_stream(self) -> list[Alarm]:
        fresh = 2 * self._deployment.stream.buffer_seconds + 600  # Firehose may take half as long again as its buffer
        return [
            Alarm(
                "stale",
                self._firehose("DeliveryToS3.DataFreshness", "Maximum"),
                fresh,
                3,
                f"the oldest row in Firehose has waited more than {fresh} s for S3",
            ),
            Alarm(
                "delivery",
                self._firehose("DeliveryToS3.Success", "Average"),
                1,
                3,
                "Firehose cannot write to S3; after 24 hours rows are lost",
                UNDER,
            ),
            Alarm(
                "throttled", self._firehose("ThrottledRecords"), 0, 3, "the stream is throttled: its quota is reached"
            ),
            Alarm(
                "partitions",
                self._firehose("PartitionCountExceeded", "Maximum"),
                0,
                1,
                "more active partitions than the quota: rows go to the error prefix",
            ),
        ]

    def _locked(self) -> list[Alarm]:
        """What Firehose counts when it cannot decrypt: docs.aws.amazon.com/firehose/latest/dev/encryption.html.

        One for each cause: what never happened has no metric.
        """
        causes = {"denied": "AccessDenied", "disabled": "Disabled", "state": "InvalidState", "missing": "NotFound"}
        meaning = "Firehose cannot use the KMS key; after 24 hours rows are lost"
        return [
            Alarm(f"key-{name}", self._firehose(f"KMSKey{cause}"), 0, 1, meaning, page="key")
            for name, cause in causes.items()
        ]

    def _firehose(self, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
        """A metric of the delivery stream."""
        return metric("AWS/Firehose", name, statistic, DeliveryStreamName=self._deployment.stream.name)

    def graphs(self, stack: "OperationsStack", /) -> tuple[list[cloudwatch.GraphWidget], list[cloudwatch.GraphWidget]]:
        """Two rows of the dashboard: requests and stream, then the function."""
        function = self.function
        return [
            stack.graph(
                "Requests to Firehose",
                stack.ours("lmstream_sink_requests_total"),
                stack.ours("lmstream_sink_throttled_total"),
                stack.ours("lmstream_sink_unknown_outcomes_total"),
            ),
            stack.graph("Firehose to S3: oldest row, s", self._firehose("DeliveryToS3.DataFreshness", "Maximum")),
            stack.graph(
                "Active partitions",
                self._firehose("PartitionCount", "Maximum"),
                self._firehose("ActivePartitionsLimit", "Maximum"),
            ),
        ], [
            stack.graph(
                "Function: duration, ms",
                function.metric_duration(statistic="p50"),
                function.metric_duration(statistic="p99"),
            ),
            stack.graph("Function: errors, throttles", function.metric_errors(), function.metric_throttles()),
            stack.graph(
                "Bytes into Firehose",
                self._firehose("IncomingBytes"),
                self._firehose("BytesPerSecondLimit", "Maximum"),
            ),
        ]
