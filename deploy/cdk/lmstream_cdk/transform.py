"""The function, what calls it, and the roles of both."""

import hashlib
from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_pipes as pipes
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream.errors import ConfigError
from lmstream_cdk.base import KEYS, LmstreamStack, acknowledge, pin
from lmstream_cdk.data import LETTERS, DataStack
from lmstream_cdk.engine import engine_variables
from lmstream_cdk.live import TRACED, add_live

HANDLERS = {"pipe": "lmstream_lambda.pipe_handler", "mapping": "lmstream_lambda.esm_handler"}
_POLL = ["kafka:DescribeCluster", "kafka:DescribeClusterV2", "kafka:GetBootstrapBrokers"]
_LOOK = [
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
]
MAPPING_METRICS = ["EventCount", "ErrorCount", "KafkaMetrics"]
"""What a mapping tells of events, errors and lag, its poller's own lag included."""
_INTERFACES = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"]
FORCED = "AWS gives these ec2 actions no resource to name: pollers make their network interfaces with them"


class TransformStack(LmstreamStack):
    """Deployable beside any cluster with mTLS."""

    def __init__(
        self, scope: Construct, deployment: Deployment, data: DataStack, cluster_arn: str, secret_arn: str, code: Path
    ) -> None:
        """`code` is the zip of `make lambda-zip` for the deployment's architecture."""
        super().__init__(scope, "transform", deployment, "function, and Pipe or mapping")
        if not code.is_file():
            raise ConfigError(
                "config.invalid", f"{code.name} is not in {code.parent.name}/: run `make lambda-zip` first"
            )
        self.data, self.cluster_arn, self.secret_arn = data, cluster_arn, secret_arn
        self.function = self._function(code)
        self.live = add_live(self, self.function)
        self.pipe_name = ""
        """Of the Pipe; empty for a mapping."""
        if deployment.transform.source == "pipe":
            self._pipe()
        else:
            self._mapping()

    @property
    def variables(self) -> dict[str, str]:
        """The function's environment, by the names of lmstream's settings."""
        deployment = self.deployment
        engine = deployment.engine
        found = {
            "LMSTREAM_SINK__STREAM": deployment.stream.name,
            "LMSTREAM_DEAD_LETTERS__TYPE": "letters_s3",
            "LMSTREAM_DEAD_LETTERS__BUCKET": self.data.dead_letters.bucket_name,
            "LMSTREAM_DEAD_LETTERS__PREFIX": LETTERS.removesuffix("/"),
            "LMSTREAM_LAMBDA__PARTIAL_FAILURES": str(deployment.partial_failures).lower(),
            "LMSTREAM_LAMBDA__PATIENCE": str(deployment.transform.timeout_seconds),
            "POWERTOOLS_SERVICE_NAME": deployment.name,
            "POWERTOOLS_METRICS_NAMESPACE": deployment.name,
        }
        if deployment.transform.adot_layer:
            found["AWS_LAMBDA_EXEC_WRAPPER"] = "/opt/otel-instrument"
        return found | engine_variables(engine)

    def _function(self, code: Path) -> lambda_.Function:
        deployment, settings, data = self.deployment, self.deployment.transform, self.data
        role = iam.Role(
            self,
            "FunctionRole",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description="Puts rows into the stream and dead letters into their bucket",
        )
        letters = f"arn:{self.partition}:s3:::{data.bucket_name('dead-letters')}/{LETTERS}*"
        streams = data.log_stream(f"/{deployment.name}/function")
        assert data.stream is not None  # noqa: S101 - for the type checker: this path has one
        policy = iam.Policy(
            self,
            "FunctionPolicy",
            roles=[role],
            statements=[
                iam.PolicyStatement(actions=["firehose:PutRecordBatch"], resources=[data.stream.attr_arn]),
                iam.PolicyStatement(actions=["s3:GetObject", "s3:PutObject"], resources=[letters]),
                iam.PolicyStatement(actions=KEYS, resources=[data.key.key_arn]),
                iam.PolicyStatement(actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[streams]),
            ],
        )
        acknowledge(
            policy, f"IAM5[Resource::{letters}]", reason="A letter's key is its record's place: under one prefix"
        )
        acknowledge(policy, f"IAM5[Resource::{streams}]", reason="Lambda names the streams of the one log group itself")
        arm = settings.architecture == "arm64"
        function = lambda_.Function(
            self,
            "Function",
            function_name=deployment.name,
            description="lmstream: OTLP bundles into rows",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64 if arm else lambda_.Architecture.X86_64,
            handler=HANDLERS[settings.source],
            code=lambda_.Code.from_asset(str(code)),
            role=role,
            memory_size=settings.memory_mb,
            timeout=Duration.seconds(settings.timeout_seconds),
            # Reading never runs wider than the topic: a runaway would be a surprise on the bill.
            reserved_concurrent_executions=deployment.partitions if settings.reserve else None,
            environment=self.variables,
            environment_encryption=data.key,
            log_group=data.function_logs,
            tracing=lambda_.Tracing.ACTIVE if settings.tracing else None,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if settings.snap_start else None,
            layers=[lambda_.LayerVersion.from_layer_version_arn(self, "Adot", settings.adot_layer)]
            if settings.adot_layer
            else None,
        )
        if settings.tracing:
            acknowledge(role, "IAM5[Resource::*]", reason=TRACED)
        function.node.add_dependency(policy)
        pin(function, "Function")
        acknowledge(function, "L1", reason="python3.13 is what the zip is built and tested for")
        return function

    def _polling(self) -> list[iam.PolicyStatement]:
        """What a poller of MSK with mTLS needs; no kafka-cluster action is used with mTLS."""
        secret = [iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[self.secret_arn])]
        key = self.deployment.secret_key or (self.data.key.key_arn if not self.deployment.certificate_secret else "")
        if key:
            secret.append(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key]))
        return [
            iam.PolicyStatement(actions=_POLL, resources=[self.cluster_arn]),
            *secret,
            iam.PolicyStatement(actions=[*_LOOK, *_INTERFACES], resources=["*"]),
        ]

    def _pipe(self) -> None:
        deployment, settings = self.deployment, self.deployment.transform
        role = iam.Role(
            self,
            "PipeRole",
            assumed_by=iam.ServicePrincipal(
                "pipes.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            description="Polls the topic and calls the function",
        )
        invoke = iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self.live.function_arn])
        policy = iam.Policy(self, "PipePolicy", statements=[*self._polling(), invoke], roles=[role])
        acknowledge(policy, "IAM5[Resource::*]", reason=FORCED)
        self.pipe_name = settings.pipe_name or self._pipe_name()
        credentials = pipes.CfnPipe.MSKAccessCredentialsProperty(client_certificate_tls_auth=self.secret_arn)
        pipe = pipes.CfnPipe(
            self,
            "Pipe",
            name=self.pipe_name,
            role_arn=role.role_arn,
            source=self.cluster_arn,
            source_parameters=pipes.CfnPipe.PipeSourceParametersProperty(
                managed_streaming_kafka_parameters=pipes.CfnPipe.PipeSourceManagedStreamingKafkaParametersProperty(
                    topic_name=deployment.topic,
                    consumer_group_id=settings.group,
                    starting_position=settings.starting_position,
                    batch_size=settings.batch_size,
                    maximum_batching_window_in_seconds=settings.window_seconds,
                    credentials=credentials,
                )
            ),
            target=self.live.function_arn,
            target_parameters=pipes.CfnPipe.PipeTargetParametersProperty(
                lambda_function_parameters=pipes.CfnPipe.PipeTargetLambdaFunctionParametersProperty(
                    # FIRE_AND_FORGET would commit offsets before anything is done.
                    invocation_type="REQUEST_RESPONSE"
                )
            ),
            desired_state="RUNNING" if settings.enabled else "STOPPED",
            log_configuration=pipes.CfnPipe.PipeLogConfigurationProperty(
                level="ERROR",
                cloudwatch_logs_log_destination=pipes.CfnPipe.CloudwatchLogsLogDestinationProperty(
                    log_group_arn=self.data.pipe_logs.log_group_arn
                ),
            ),
        )
        pin(pipe, "Pipe")
        pipe.node.add_dependency(policy)

    def _pipe_name(self) -> str:
        """A name of what cannot change in a Pipe: a change makes another one, which a fixed name would not allow."""
        deployment, settings = self.deployment, self.deployment.transform
        fixed = (deployment.cluster.arn, deployment.cluster.name, deployment.topic, settings.group)
        text = "\n".join((*fixed, settings.starting_position))
        return f"{deployment.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def _mapping(self) -> None:
        deployment, settings = self.deployment, self.deployment.transform
        role = self.function.role
        assert role is not None  # noqa: S101 - for the type checker
        provisioned, keeps = settings.pollers > 0, deployment.keeps_failures
        failures = f"arn:{self.partition}:s3:::{self.data.bucket_name('dead-letters')}"
        # No prefix: AWS's page on Kafka names none (docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html), and a
        # refused object would be a lost batch.
        keeping = [
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[failures]),
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[f"{failures}/*"]),
        ]
        policy = iam.Policy(
            self, "PollPolicy", statements=[*self._polling(), *(keeping if keeps else [])], roles=[role]
        )
        acknowledge(policy, "IAM5[Resource::*]", reason=FORCED)
        if keeps:
            named = f"IAM5[Resource::{failures}/*]"
            acknowledge(policy, named, reason="Lambda names what it keeps of failed batches, by rules it does not tell")
        pollers = destination = metrics = None
        if provisioned:
            pollers = lambda_.CfnEventSourceMapping.ProvisionedPollerConfigProperty(
                minimum_pollers=settings.minimum_pollers, maximum_pollers=settings.pollers
            )
            # AWS's pages name these of Kafka mappings, and that their logs need provisioned pollers, but not whether
            # the metrics do: so they are asked for only there. docs.aws.amazon.com/lambda/latest/dg/esm-logging.html,
            # .../lambda/latest/dg/monitoring-metrics-types.html (event source mapping metrics).
            metrics = lambda_.CfnEventSourceMapping.MetricsConfigProperty(metrics=MAPPING_METRICS)
        if keeps:
            destination = lambda_.CfnEventSourceMapping.DestinationConfigProperty(
                on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(
                    destination=self.data.dead_letters.bucket_arn
                )
            )
        mapping = lambda_.CfnEventSourceMapping(
            self,
            "Mapping",
            function_name=self.live.function_arn,
            event_source_arn=self.cluster_arn,
            topics=[deployment.topic],
            starting_position=settings.starting_position,
            batch_size=settings.batch_size,
            maximum_batching_window_in_seconds=settings.window_seconds,
            enabled=settings.enabled,
            # For provisioned pollers only: elsewhere the function raises, and the whole batch comes again.
            function_response_types=["ReportBatchItemFailures"] if deployment.partial_failures else None,
            maximum_retry_attempts=settings.retries if provisioned else None,
            # A batch that kills the function or takes too long gets through in smaller ones.
            bisect_batch_on_function_error=True if provisioned else None,
            amazon_managed_kafka_event_source_config=lambda_.CfnEventSourceMapping.AmazonManagedKafkaEventSourceConfigProperty(
                consumer_group_id=settings.group
            ),
            source_access_configurations=[
                lambda_.CfnEventSourceMapping.SourceAccessConfigurationProperty(
                    type="CLIENT_CERTIFICATE_TLS_AUTH", uri=self.secret_arn
                )
            ],
            provisioned_poller_config=pollers,
            metrics_config=metrics,
            destination_config=destination,
        )
        pin(mapping, "Mapping")
        mapping.node.add_dependency(policy)
