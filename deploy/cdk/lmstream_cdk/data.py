"""Where rows go and what reads them: key, buckets, Firehose, Glue table and view, Athena workgroup."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_athena as athena
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream.deployment.buckets import ERRORS, RESULTS, results_expire, rows_prefix
from lmstream_cdk.base import KEEP, KEYS, LmstreamStack, acknowledge, cfn, pin
from lmstream_cdk.catalog import add_catalog
from lmstream_cdk.firehose import add_stream
from lmstream_cdk.lake import add_images, add_lake_table, claim_rules, only_new_objects

__all__ = ["ERRORS", "LETTERS", "DataStack"]

LETTERS = "dead-letters/"
LOGS = "logs/"
RESULT_DAYS = 14
_PAIRS = ["kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateDataKeyWithoutPlaintext"]
_LOG_KEYS = [*KEYS, *_PAIRS, "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"]
"""What docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html gives, its wildcards written out."""


class DataStack(LmstreamStack):
    """Deployable by itself: rows can be put into the stream by any host of lmstream."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        self.direct = deployment.path == "direct"
        what = "key, buckets, Glue and Athena" if self.direct else "key, buckets, Firehose, Glue and Athena"
        super().__init__(scope, "data", deployment, what)
        self.key = self._key()
        self.logs_bucket = self._bucket("Logs", self.bucket_name("logs"), days=90)
        landing = self.bucket_name("metrics")
        self.landing: s3.IBucket = (
            s3.Bucket.from_bucket_name(self, "Landing", landing)
            if deployment.bucket.existing
            else self._bucket("Landing", landing)
        )
        self.dead_letters = self._bucket(
            "DeadLetters", self.bucket_name("dead-letters"), days=deployment.bucket.dead_letter_days
        )
        results = self.bucket_name("results")
        apart = results != self.bucket_name("metrics")
        self.results = self._bucket("Results", results, days=RESULT_DAYS) if apart else self.landing
        self.stream = None if self.direct else add_stream(self)
        if self.direct:
            add_lake_table(self, deployment, self.landing.bucket_name)
        else:
            add_catalog(self, deployment, self.landing.bucket_name)
        self.workgroup = self._workgroup()
        name = deployment.name
        if self.direct:
            self.images = add_images(self)
            self.container_logs = self.log_group("ContainerLogs", f"/{name}/container")
            if self.deployment.lake.enforce and isinstance(self.landing, s3.Bucket):
                only_new_objects(self.landing, rows_prefix(deployment.engine.path))
        else:
            self.function_logs = self.log_group("FunctionLogs", f"/{name}/function")
            self.pipe_logs = self.log_group("PipeLogs", f"/aws/vendedlogs/pipes/{name}")
        self.flow_logs = self.log_group("FlowLogs", f"/{name}/vpc-flow")
        self.broker_logs = self.log_group("BrokerLogs", f"/{name}/brokers")
        self._offer()

    def _offer(self) -> None:
        """Export in every variant all that any variant of another stack imports.

        CloudFormation refuses to drop an export that a deployed stack still imports, and this stack is updated first: a
        change of the source, or to another cluster, would end there. Empty log groups cost nothing.
        """
        ours = (self.container_logs,) if self.direct else (self.function_logs, self.pipe_logs)
        groups = (*ours, self.flow_logs, self.broker_logs)
        for value in (
            *([] if self.deployment.key_arn else [self.key.key_arn]),
            *([] if self.deployment.bucket.existing else [self.landing.bucket_name]),
            self.dead_letters.bucket_name,
            self.dead_letters.bucket_arn,
            *([] if self.stream is None else [self.stream.attr_arn]),
            *(group.log_group_arn for group in groups),
            *(group.log_group_name for group in groups),
        ):
            self.export_value(value)

    @property
    def landing_named(self) -> str:
        """The landing bucket's ARN as the rule pack writes it."""
        existing = self.deployment.bucket.existing
        return f"arn:{self.partition}:s3:::{self.deployment.bucket.name}" if existing else "<LandingBucket.Arn>"

    def bucket_name(self, what: str) -> str:
        """Name of a bucket; with what stands for the account's number while that is not known."""
        return self.deployment.bucket_name(what, self.account)

    def log_group(self, logical_id: str, name: str) -> logs.LogGroup:
        """An encrypted log group that forgets after the days of the settings."""
        group = logs.LogGroup(
            self, logical_id, log_group_name=name, encryption_key=self.key, removal_policy=RemovalPolicy.DESTROY
        )
        # By number, as CloudWatch has it: the L2 has a word for each.
        cfn(group).add_property_override("RetentionInDays", self.deployment.operations.log_days)
        return group

    def log_stream(self, group_name: str, name: str = "*") -> str:
        """ARN of a stream of a log group, or of all of them."""
        return f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:{group_name}:log-stream:{name}"

    def _key(self) -> kms.IKey:
        if self.deployment.key_arn:
            return kms.Key.from_key_arn(self, "Key", self.deployment.key_arn)
        key = pin(
            kms.Key(
                self,
                "Key",
                alias=f"alias/{self.deployment.name}",
                description=f"All that {self.deployment.name} keeps",
                enable_key_rotation=True,
                removal_policy=KEEP,
            ),
            "Key",
        )
        group = f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:*"
        ours = {"StringEquals": {"aws:SourceAccount": self.account}}
        for service, actions, condition in (
            (f"logs.{self.region}", _LOG_KEYS, {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": group}}),
            ("cloudwatch", KEYS, ours),
            ("budgets", KEYS, ours),
        ):
            key.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                    actions=actions,
                    resources=["*"],  # in a key's own policy: this key
                    conditions=condition,
                )
            )
        return key

    def _bucket(self, logical_id: str, name: str, days: int | None = None) -> s3.Bucket:
        is_log = logical_id == "Logs"
        expire = s3.LifecycleRule(
            id="expire",
            # Beside the letters lies what a mapping gave up: healthy records, kept until somebody removes them.
            prefix=LETTERS if logical_id == "DeadLetters" else None,
            expiration=None if days is None else Duration.days(days),
            noncurrent_version_expiration=Duration.days(7),
            abort_incomplete_multipart_upload_after=Duration.days(7),
        )
        rules = self._rows_rules() if days is None else [expire]
        if logical_id == "DeadLetters":
            # What somebody removed can be had back for so long; nothing else here ends what lies beside the letters.
            rules.append(s3.LifecycleRule(id="removed", noncurrent_version_expiration=Duration.days(30)))
        bucket = pin(
            s3.Bucket(
                self,
                logical_id,
                bucket_name=name,
                block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
                object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
                # Access logs are delivered with S3's own key only.
                encryption=s3.BucketEncryption.S3_MANAGED if is_log else s3.BucketEncryption.KMS,
                encryption_key=None if is_log else self.key,
                bucket_key_enabled=None if is_log else True,
                enforce_ssl=True,
                minimum_tls_version=1.2,
                versioned=True,
                lifecycle_rules=rules,
                removal_policy=KEEP,
                server_access_logs_bucket=None if is_log else self.logs_bucket,
                server_access_logs_prefix=None if is_log else f"{LOGS}{name}/",
            ),
            f"{logical_id}Bucket",
        )
        if (logical_id == "Landing" and not self.direct) or (
            logical_id == "DeadLetters" and self.deployment.keeps_failures
        ):
            # The L2 switch for this would deploy a function of its own.
            cfn(bucket).add_property_override(
                "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", value=True
            )
        if is_log:
            acknowledge(bucket, "S1", reason="The bucket of the access logs keeps none of its own access")
        return bucket

    def _rows_rules(self) -> list[s3.LifecycleRule]:
        """The landing bucket's: storage classes of rows when the settings name any, versions that went, results of
        queries where they lie here."""
        settings, rows = self.deployment.bucket, rows_prefix(self.deployment.engine.path)
        colder = [
            s3.Transition(storage_class=storage, transition_after=Duration.days(days))
            for storage, days in (
                (s3.StorageClass.INTELLIGENT_TIERING, settings.intelligent_tiering_days),
                (s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, settings.glacier_ir_days),
                (s3.StorageClass.GLACIER, settings.glacier_days),
            )
            if days is not None
        ]
        rules = [
            s3.LifecycleRule(
                id="versions",
                noncurrent_version_expiration=Duration.days(30),
                abort_incomplete_multipart_upload_after=Duration.days(7),
                # What is left of claims that expired, once their versions are gone.
                expired_object_delete_marker=True if self.direct else None,
            )
        ]
        if self.direct:
            rules += claim_rules(self.deployment)
        if colder:
            rules.append(s3.LifecycleRule(id="rows", prefix=rows or None, transitions=colder))
        if self.bucket_name("results") == self.bucket_name("metrics") and results_expire(self.deployment.engine):
            rules.append(s3.LifecycleRule(id="query-results", prefix=RESULTS, expiration=Duration.days(RESULT_DAYS)))
        return rules

    def _workgroup(self) -> athena.CfnWorkGroup:
        results = athena.CfnWorkGroup.ResultConfigurationProperty(
            output_location=f"s3://{self.results.bucket_name}/{RESULTS}",
            encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                encryption_option="SSE_KMS", kms_key=self.key.key_arn
            ),
        )
        return athena.CfnWorkGroup(
            self,
            "Workgroup",
            name=self.deployment.name,
            description="Queries of rows; one that would read more than 100 GiB is ended",
            recursive_delete_option=False,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                bytes_scanned_cutoff_per_query=100 * 1024**3,
                result_configuration=results,
            ),
        )
