"""What the direct path needs of the data stack: a table, the images, how long claims stay, who may overwrite."""

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Duration, RemovalPolicy
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream.deployment.buckets import rows_prefix
from lmstream.deployment.lake import claim_days
from lmstream.spec import columns_of, partition_columns, serde_properties
from lmstream_cdk.base import pin
from lmstream_cdk.catalog import VIEW, add_database, column

if TYPE_CHECKING:
    from lmstream_cdk.data import DataStack

PROTOCOL = "_lmstream/"
"""Below it lies what members of the group write for one another: claims, settings, and what a start asks the store."""
CLAIMS, PROBES = f"{PROTOCOL}claims/", f"{PROTOCOL}probe/"
PROBE_DAYS = 1
IMAGES_KEPT = 10
_HIVE = "org.apache.hadoop.hive.ql.io"
_FORMATS = {
    "parquet": (
        f"{_HIVE}.parquet.MapredParquetInputFormat",
        f"{_HIVE}.parquet.MapredParquetOutputFormat",
        f"{_HIVE}.parquet.serde.ParquetHiveSerDe",
    ),
    "json": (
        "org.apache.hadoop.mapred.TextInputFormat",
        f"{_HIVE}.HiveIgnoreKeyTextOutputFormat",
        "org.openx.data.jsonserde.JsonSerDe",
    ),
}
"""docs.aws.amazon.com/athena/latest/ug/parquet-serde.html, openx-json-serde.html. Athena reads gzip and zstd of text
by the objects' names: compression-formats.html."""


def add_lake_table(scope: Construct, deployment: Deployment, bucket_name: str) -> None:
    """Database and table of one deployment: called like the view of landed rows, with its columns (and `valueint` in
    Parquet), and without a view, for each row lies there once."""
    name = add_database(scope, deployment)
    partitions, properties, template = partition_columns(deployment.engine)
    properties["storage.location.template"] = f"s3://{bucket_name}/{template}"
    kind = "parquet" if deployment.lake.format == "parquet" else "json"
    input_format, output_format, serde = _FORMATS[kind]
    parameters = serde_properties(deployment.catalog.map_keys) if kind == "json" else {"serialization.format": "1"}
    table = glue.CfnTable(
        scope,
        "Rows",
        catalog_id=scope.account,  # type: ignore[attr-defined]
        database_name=name,
        table_input=glue.CfnTable.TableInputProperty(
            name=VIEW,
            description="Each row once; ask with p_org and p_metric",
            table_type="EXTERNAL_TABLE",
            parameters={"EXTERNAL": "TRUE", "classification": kind, **properties},
            partition_keys=[column(each) for each in partitions],
            storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                columns=[column(each) for each in columns_of("parquet" if kind == "parquet" else "ndjson")],
                # Below the rows' own prefix: readers without projection then never meet a claim.
                location=f"s3://{bucket_name}/{rows_prefix(deployment.engine.path)}",
                input_format=input_format,
                output_format=output_format,
                compressed=kind == "json",
                serde_info=glue.CfnTable.SerdeInfoProperty(serialization_library=serde, parameters=parameters),
            ),
        ),
    )
    pin(table, "LakeTable").add_resource_dependency(scope.node.find_child("Database"))  # type: ignore[arg-type]


def claim_rules(deployment: Deployment) -> list[s3.LifecycleRule]:
    """Claims go when no record of theirs can be read again; what a start wrote to ask the store goes at once."""
    days = claim_days(deployment)
    return [
        s3.LifecycleRule(id="claims", prefix=CLAIMS, expiration=Duration.days(days)),
        s3.LifecycleRule(id="probes", prefix=PROBES, expiration=Duration.days(PROBE_DAYS)),
    ]


def only_new_objects(bucket: s3.Bucket, rows: str) -> None:
    """Refuse to overwrite rows and claims: a second lock beside the members' own condition.

    docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html: If-None-Match makes an object once,
    If-Match replaces the one that was read (what compaction does). Multipart uploads are exempt until they complete,
    which `s3:ObjectCreationOperation` says; lmstream makes none. Copies are refused with it, by the same page.
    """
    bucket.add_to_resource_policy(
        iam.PolicyStatement(
            sid="OnlyNewObjects",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=["s3:PutObject"],
            resources=[bucket.arn_for_objects(f"{prefix}*") for prefix in (rows, CLAIMS)],
            conditions={
                "Null": {"s3:if-none-match": "true", "s3:if-match": "true"},
                "Bool": {"s3:ObjectCreationOperation": "true"},
            },
        )
    )


def add_images(stack: "DataStack") -> ecr.Repository:
    """Where the container's image is pushed to, unless the settings name another place. The images can be built again,
    so they go with the stack."""
    made = pin(
        ecr.Repository(
            stack,
            "Images",
            repository_name=stack.deployment.name.lower(),
            encryption=ecr.RepositoryEncryption.KMS,
            encryption_key=stack.key,
            image_scan_on_push=True,
            lifecycle_rules=[ecr.LifecycleRule(max_image_count=IMAGES_KEPT, description="the last ones")],
            removal_policy=RemovalPolicy.DESTROY,
            empty_on_delete=True,
        ),
        "ImageRepository",
    )
    CfnOutput(
        stack, "ImageUri", value=made.repository_uri, description="Push the container's image here: docs/deploy.md"
    )
    return made
