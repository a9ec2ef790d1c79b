"""What operators see of the direct path: alarms and graphs of the tasks, and of what they tell in their log."""

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch

from lmstream_cdk.alarm import BREACHING, UNDER, Alarm, metric
from lmstream_cdk.container import ContainerStack

if TYPE_CHECKING:
    from lmstream_cdk.operations import OperationsStack

MEMORY_PERCENT = 90


class ContainerPath:
    """The service of one deployment."""

    pipe_name = ""
    """It has no Pipe."""

    def __init__(self, container: ContainerStack) -> None:
        self._deployment = container.deployment

    def alarms(self, stack: "OperationsStack", /) -> list[Alarm]:
        """Alarms of this path alone. `tasks` and those of the lag watch whether anything runs at all: a metric that no
        task writes rings none of the others."""
        hours = self._deployment.cluster.retention_hours
        ready = stack.ours("lmstream_ready", "Minimum")
        loss = stack.ours("lmstream_time_to_data_loss_seconds", "Minimum")
        memory = self._ecs("MemoryUtilization", "Maximum")
        quarter = f"less than a quarter of the retention ({hours} h) is left to the oldest record that is not settled"
        slow = "S3 throttles requests (503 SlowDown): rows wait while it splits the prefix"
        found = [
            Alarm("not-ready", ready, 1, 3, "a task settles nothing, or is not in its group, for 15 minutes", UNDER),
            Alarm("time-to-data-loss", loss, hours * 3600 / 4, 1, quarter, UNDER),
            Alarm("throttled", stack.ours("lmstream_sink_throttled_total"), 0, 3, slow),
            Alarm("memory", memory, MEMORY_PERCENT, 3, f"a task uses more than {MEMORY_PERCENT} % of its memory"),
        ]
        if self._deployment.enabled:
            # ECS has metrics of running tasks only: the page that `_ecs` names.
            running = self._ecs("CPUUtilization", "SampleCount")
            what = "no task has run for 15 minutes: nothing reads the topic"
            found.append(Alarm("tasks", running, 1, 3, what, UNDER, BREACHING))
        return found

    def _ecs(self, name: str, statistic: str) -> cloudwatch.Metric:
        """A metric of the service: docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html."""
        of = self._deployment.name
        return metric("AWS/ECS", name, statistic, ClusterName=of, ServiceName=of)

    def graphs(self, stack: "OperationsStack", /) -> tuple[list[cloudwatch.GraphWidget], list[cloudwatch.GraphWidget]]:
        """Two rows of the dashboard: requests and what is at stake, then the tasks."""
        return [
            stack.graph(
                "Requests to S3",
                stack.ours("lmstream_sink_requests_total"),
                stack.ours("lmstream_sink_throttled_total"),
                stack.ours("lmstream_sink_records_retried_total"),
            ),
            stack.graph("Oldest record that is not settled, s", stack.ours("lmstream_consumer_lag_seconds", "Maximum")),
            stack.graph("Time to data loss, s", stack.ours("lmstream_time_to_data_loss_seconds", "Minimum")),
        ], [
            stack.graph(
                "Tasks: CPU, %", self._ecs("CPUUtilization", "Average"), self._ecs("CPUUtilization", "Maximum")
            ),
            stack.graph("Tasks: memory, %", self._ecs("MemoryUtilization", "Maximum")),
            stack.graph("Bytes written", stack.ours("lmstream_sink_bytes_total")),
        ]
