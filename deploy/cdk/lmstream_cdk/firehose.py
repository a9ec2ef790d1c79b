"""The Firehose delivery stream: prefix and query are the engine's own."""

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_logs as logs

from lmstream.deployment.buckets import ERRORS
from lmstream.partitioning import firehose_prefix, jq_query
from lmstream_cdk.base import KEEP, KEYS, acknowledge, pin

if TYPE_CHECKING:
    from lmstream_cdk.data import DataStack

ERROR_PREFIX = ERRORS + "!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"
LOG_STREAM = "delivery"
JQ_ENGINE = "JQ-1.6"


def add_stream(stack: "DataStack") -> firehose.CfnDeliveryStream:
    """The stream with dynamic partitioning, its log and its role."""
    deployment, settings = stack.deployment, stack.deployment.stream
    group_name = f"/{deployment.name}/firehose"
    group = stack.log_group("FirehoseLogs", group_name)
    log_stream = logs.LogStream(
        stack, "FirehoseLogStream", log_group=group, log_stream_name=LOG_STREAM, removal_policy=RemovalPolicy.DESTROY
    )
    role = iam.Role(
        stack,
        "FirehoseRole",
        assumed_by=iam.ServicePrincipal(
            "firehose.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": stack.account}}
        ),
        description="Firehose writes rows and errors into the landing bucket",
    )
    policy = iam.Policy(stack, "FirehosePolicy", roles=[role])
    bucket = stack.landing.bucket_arn
    objects = f"{bucket}/*"
    bucket_actions = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    policy.add_statements(
        iam.PolicyStatement(actions=bucket_actions, resources=[bucket]),
        iam.PolicyStatement(actions=["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], resources=[objects]),
        iam.PolicyStatement(actions=KEYS, resources=[stack.key.key_arn]),
        iam.PolicyStatement(actions=["logs:PutLogEvents"], resources=[stack.log_stream(group_name, LOG_STREAM)]),
    )
    acknowledge(
        policy,
        f"IAM5[Resource::{stack.landing_named}/*]",
        reason="Prefixes are the data's: organization, metric and hour",
    )
    stream = pin(
        firehose.CfnDeliveryStream(
            stack,
            "Stream",
            delivery_stream_name=settings.name,
            delivery_stream_type="DirectPut",
            delivery_stream_encryption_configuration_input=firehose.CfnDeliveryStream.DeliveryStreamEncryptionConfigurationInputProperty(
                key_type="CUSTOMER_MANAGED_CMK", key_arn=stack.key.key_arn
            ),
            extended_s3_destination_configuration=firehose.CfnDeliveryStream.ExtendedS3DestinationConfigurationProperty(
                bucket_arn=bucket,
                role_arn=role.role_arn,
                prefix=firehose_prefix(deployment.engine),
                error_output_prefix=ERROR_PREFIX,
                file_extension=".json.gz",
                compression_format="GZIP",
                buffering_hints=firehose.CfnDeliveryStream.BufferingHintsProperty(
                    size_in_m_bs=settings.buffer_mib, interval_in_seconds=settings.buffer_seconds
                ),
                encryption_configuration=firehose.CfnDeliveryStream.EncryptionConfigurationProperty(
                    kms_encryption_config=firehose.CfnDeliveryStream.KMSEncryptionConfigProperty(
                        awskms_key_arn=stack.key.key_arn
                    )
                ),
                dynamic_partitioning_configuration=firehose.CfnDeliveryStream.DynamicPartitioningConfigurationProperty(
                    enabled=True,
                    retry_options=firehose.CfnDeliveryStream.RetryOptionsProperty(duration_in_seconds=3600),
                ),
                processing_configuration=firehose.CfnDeliveryStream.ProcessingConfigurationProperty(
                    enabled=True,
                    processors=[
                        _processor("RecordDeAggregation", SubRecordType="JSON"),
                        _processor(
                            "MetadataExtraction",
                            MetadataExtractionQuery=jq_query(deployment.engine),
                            JsonParsingEngine=JQ_ENGINE,
                        ),
                        _processor("AppendDelimiterToRecord", Delimiter="\\n"),
                    ],
                ),
                cloud_watch_logging_options=firehose.CfnDeliveryStream.CloudWatchLoggingOptionsProperty(
                    enabled=True, log_group_name=group.log_group_name, log_stream_name=log_stream.log_stream_name
                ),
            ),
        ),
        "DeliveryStream",
    )
    stream.apply_removal_policy(KEEP)
    stream.node.add_dependency(policy)
    return stream


def _processor(kind: str, **parameters: str) -> firehose.CfnDeliveryStream.ProcessorProperty:
    listed = [
        firehose.CfnDeliveryStream.ProcessorParameterProperty(parameter_name=name, parameter_value=value)
        for name, value in parameters.items()
    ]
    return firehose.CfnDeliveryStream.ProcessorProperty(type=kind, parameters=listed)
