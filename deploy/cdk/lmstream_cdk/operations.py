"""Dashboard, alarms with their runbook, a rule for Firehose's error prefix, and the budget."""

from typing import Protocol

from aws_cdk import Duration
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream.observability.metrics_catalogue import BY_NAME
from lmstream_cdk.alarm import BREACHING, MINUTES_5, UNDER, Alarm, metric
from lmstream_cdk.base import LmstreamStack
from lmstream_cdk.dashboard import add_dashboard
from lmstream_cdk.data import ERRORS, LETTERS, DataStack
from lmstream_cdk.source_alarms import source_alarms


class PathView(Protocol):
    """What only one path has: function and Firehose, or container."""

    pipe_name: str
    """Of the Pipe; empty without one."""

    def alarms(self, stack: "OperationsStack", /) -> list[Alarm]:
        """Alarms of this path alone."""
        ...

    def graphs(self, stack: "OperationsStack", /) -> tuple[list[cloudwatch.GraphWidget], list[cloudwatch.GraphWidget]]:
        """Two rows of the dashboard: what goes to the bucket, and what runs."""
        ...


class OperationsStack(LmstreamStack):
    """What wakes somebody, and what they look at then."""

    def __init__(self, scope: Construct, deployment: Deployment, data: DataStack, path: PathView) -> None:
        super().__init__(scope, "operations", deployment, "dashboard, alarms and budget")
        self.data, self.path = data, path
        self.topic = self._topic()
        self.rules: list[str] = []
        if deployment.path == "firehose":
            self._publisher = self._role()
            self._error_prefix()
        if deployment.keeps_failures:
            self._given_up()
        rows = self.ours("lmstream_rows_accepted_total")
        listed = [*self._alarms(), *source_alarms(deployment, rows, path.pipe_name)]
        alarms = [self._alarm(alarm) for alarm in listed]
        add_dashboard(self, alarms)
        self._budget()

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(
            self,
            "Alarms",
            topic_name=f"{self.deployment.name}-alarms",
            master_key=self.data.key,
            enforce_ssl=True,
        )
        for service in ("cloudwatch", "budgets"):
            topic.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                    actions=["sns:Publish"],
                    resources=[topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": self.account}},
                )
            )
        if self.deployment.operations.email:
            topic.add_subscription(subscriptions.EmailSubscription(self.deployment.operations.email))
        return topic

    def _role(self) -> iam.Role:
        """Who EventBridge is when it publishes: conditions that bind its principal do not work with an encrypted topic.

        docs.aws.amazon.com/sns/latest/dg/sns-key-management.html, docs.aws.amazon.com/eventbridge/latest/userguide/
        eb-use-resource-based.html. Older copies of the latter advise against a role: the alarm `rules` would tell.
        """
        role = iam.Role(
            self,
            "RulesRole",
            assumed_by=iam.ServicePrincipal(
                "events.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            description="EventBridge notifies about new objects in the error prefix and of given-up batches",
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[self.data.key.key_arn])
        )
        return role

    def ours(self, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
        """A metric of function or container, by its name in lmstream's catalogue."""
        return cloudwatch.Metric(
            namespace=self.deployment.name,
            metric_name=BY_NAME[name].emf,
            dimensions_map={"service": self.deployment.name},
            statistic=statistic,
            period=MINUTES_5,
        )

    def graph(self, title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
        """A third of a row of the dashboard."""
        return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8, height=6)

    def _alarms(self) -> list[Alarm]:
        """Those of either path; the rest is the path's own."""
        letters, consumed = self.ours("lmstream_dead_letters_total"), self.ours("lmstream_bundles_consumed_total")
        ratio = cloudwatch.MathExpression(
            expression="100 * letters / IF(consumed > 0, consumed, 1)",
            using_metrics={"letters": letters, "consumed": consumed},
            label="dead letters, % of records",
            period=MINUTES_5,
        )
        # Both come in one line of the function, rows also when there are none: no period has records without rows.
        rowless = cloudwatch.MathExpression(
            expression="IF(without > 0 AND rows == 0, without, 0)",
            using_metrics={
                "without": self.ours("lmstream_records_without_row_total"),
                "rows": self.ours("lmstream_rows_decoded_total"),
            },
            label="records while there are no rows",
            period=Duration.minutes(15),
        )
        minutes = self.deployment.operations.silence_minutes
        what = f"no record arrived for {minutes} minutes"
        silence = Alarm("silence", consumed, 1, max(1, minutes // 5), what, UNDER, BREACHING)
        return [
            Alarm("dead-letters", ratio, 0.1, 2, "more than 0.1 % of the records are dead-lettered"),
            Alarm("no-rows", rowless, 0, 2, "records arrive, and none produced a row for 30 minutes"),
            *self.path.alarms(self),
            *self._unheard(),
            *([silence] if self.deployment.enabled else []),
        ]

    def _unheard(self) -> list[Alarm]:
        """One for each rule: what never failed has no metric, and would leave an expression of both without data."""
        return [
            Alarm(
                f"rules-{name.removeprefix(f'{self.deployment.name}-')}",
                metric("AWS/Events", "FailedInvocations", RuleName=name),
                0,
                1,
                "EventBridge could not send a notification of a new object",
                page="rules",
            )
            for name in self.rules
        ]

    def _alarm(self, alarm: Alarm) -> cloudwatch.Alarm:
        section = f"{self.deployment.operations.runbook}#{alarm.page or alarm.name}"
        made = cloudwatch.Alarm(
            self,
            f"Alarm-{alarm.name}",
            alarm_name=f"{self.deployment.name}-{alarm.name}",
            alarm_description=f"{alarm.meaning}. Runbook: {section}",
            metric=alarm.metric,
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            comparison_operator=alarm.comparison,
            treat_missing_data=alarm.missing,
        )
        made.add_alarm_action(actions.SnsAction(self.topic))
        made.add_ok_action(actions.SnsAction(self.topic))
        return made

    def _error_prefix(self) -> None:
        """Any object under the error prefix is rows that no query finds."""
        self._objects(
            "ErrorPrefix", "error-prefix", f"Firehose wrote to {ERRORS}", self.data.landing, {"prefix": ERRORS}
        )

    def _given_up(self) -> None:
        """Any object beside the letters is a batch that the mapping gave up."""
        self._objects(
            "GivenUp",
            "given-up",
            "The mapping used up its retries for a batch",
            self.data.dead_letters,
            {"anything-but": {"prefix": LETTERS}},
        )

    def _objects(self, logical_id: str, name: str, what: str, bucket: s3.Bucket, keys: dict[str, object]) -> None:
        """Tell of each new object of a bucket whose key fits."""
        self.rules.append(f"{self.deployment.name}-{name}")
        events.Rule(
            self,
            logical_id,
            rule_name=f"{self.deployment.name}-{name}",
            description=f"{what}. Runbook: {self.deployment.operations.runbook}#{name}",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={"bucket": {"name": [bucket.bucket_name]}, "object": {"key": [keys]}},
            ),
            # By its ARN: the L2 would open key and topic to the service once more, without a condition.
            targets=[
                targets.SnsTopic(
                    sns.Topic.from_topic_arn(self, f"{logical_id}Topic", self.topic.topic_arn), role=self._publisher
                )
            ],
        )

    def _budget(self) -> None:
        settings = self.deployment.operations
        notify = [
            budgets.CfnBudget.NotificationWithSubscribersProperty(
                notification=budgets.CfnBudget.NotificationProperty(
                    comparison_operator="GREATER_THAN", notification_type=kind, threshold=share
                ),
                subscribers=[
                    budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=self.topic.topic_arn)
                ],
            )
            for kind, share in (("ACTUAL", 80), ("FORECASTED", 100))
        ]
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=self.deployment.name,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=settings.budget_usd, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:lmstream${self.deployment.name}"]},
            ),
            notifications_with_subscribers=notify,
        )
