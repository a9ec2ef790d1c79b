"""Put the stacks of one deployment together, under the rule pack."""

from pathlib import Path
from typing import NamedTuple

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from lmstream.deployment import Deployment
from lmstream_cdk.container import ContainerStack
from lmstream_cdk.container_path import ContainerPath
from lmstream_cdk.data import DataStack
from lmstream_cdk.firehose_path import FirehosePath
from lmstream_cdk.network import NetworkStack
from lmstream_cdk.operations import OperationsStack, PathView
from lmstream_cdk.streaming import StreamingStack
from lmstream_cdk.transform import TransformStack


class Stacks(NamedTuple):
    """The stacks of one deployment."""

    data: DataStack
    network: NetworkStack | None
    streaming: StreamingStack | None
    transform: TransformStack | None
    container: ContainerStack | None
    operations: OperationsStack


def build(app: App, deployment: Deployment, code: Path, *, checked: bool = True) -> Stacks:
    """Add all stacks to an app; `code` is the folder of the zips. Raises ConfigError for what cannot work.

    Without `checked` the rule pack is left out: templates are the same, and made in half the time.
    """
    if checked:
        Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    data = DataStack(app, deployment)
    network = None if deployment.cluster.arn else NetworkStack(app, deployment, data)
    cluster_arn, secret_arn, streaming = deployment.cluster.arn, deployment.certificate_secret, None
    by_role = deployment.path == "direct" and deployment.container.kafka == "iam"
    if not (cluster_arn and (secret_arn or by_role)):
        streaming = StreamingStack(app, deployment, data, network)
        cluster_arn, secret_arn = streaming.cluster_arn, streaming.secret_arn
    transform = container = None
    path: PathView
    if deployment.path == "direct":
        container = ContainerStack(app, deployment, data, network, cluster_arn, secret_arn)
        path = ContainerPath(container)
    else:
        zipped = code / f"lmstream-lambda-{deployment.transform.architecture}.zip"
        transform = TransformStack(app, deployment, data, cluster_arn, secret_arn, zipped)
        path = FirehosePath(transform)
    operations = OperationsStack(app, deployment, data, path)
    return Stacks(data, network, streaming, transform, container, operations)
