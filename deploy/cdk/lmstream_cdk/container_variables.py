"""The configuration of the container, made of the deployment's settings: variables by the names of lmstream's own."""

from lmstream.deployment import Deployment
from lmstream.settings import MIB
from lmstream_cdk.data import LETTERS
from lmstream_cdk.engine import engine_variables


def variables(deployment: Deployment, landing: str, letters: str, secret_arn: str) -> dict[str, str]:
    """`landing` and `letters` are names of buckets; `secret_arn` holds the certificate, unless tasks use their role."""
    container, lake, region = deployment.container, deployment.lake, deployment.region
    found = {
        "SOURCE__TYPE": "kafka",
        # Until the brokers are known the service has no task; a name that no one has keeps a mistake from reading.
        "SOURCE__BOOTSTRAP": container.bootstrap or "brokers.invalid:9094",
        "SOURCE__TOPICS": deployment.topic,
        "SOURCE__GROUP": container.group,
        "SOURCE__START_FROM": container.start_from,
        "SINK__TYPE": "s3",
        "SINK__BUCKET": landing,
        "SINK__REGION": region,
        "SINK__FORMAT": lake.format,
        "SINK__WINDOW_SECONDS": f"{lake.window_seconds:g}",
        "SINK__WINDOW_MAX_SECONDS": f"{lake.window_max_seconds:g}",
        "SINK__WINDOW_ROWS": str(lake.window_rows),
        "SINK__WINDOW_BYTES": str(lake.window_bytes),
        "SINK__OBJECT_BYTES": str(lake.object_bytes),
        "DEAD_LETTERS__TYPE": "letters_s3",
        "DEAD_LETTERS__BUCKET": letters,
        "DEAD_LETTERS__PREFIX": LETTERS.removesuffix("/"),
        "DEAD_LETTERS__REGION": region,
        "RUN__BUDGET_BYTES": str(container.budget_mib * MIB),
        "LOGS__FORMAT": "json",
        "LOGS__CLOUDWATCH": deployment.name,
        "LOGS__SERVICE": deployment.name,
        # Asked by the health check of the task alone: nothing comes in from outside.
        "ENDPOINTS__ADDRESS": "127.0.0.1:9464",
    }
    if container.kafka == "iam":
        found |= {"SOURCE__SECURITY": "sasl_ssl", "SOURCE__SASL_MECHANISM": "AWS_MSK_IAM", "SOURCE__AWS_REGION": region}
    else:
        found |= {"SOURCE__SECURITY": "ssl", "SOURCE__CERT": f"awssm:{secret_arn}"}
    optional = {
        "SINK__MONTHLY_DOLLARS": lake.monthly_dollars,
        "SINK__LANES": lake.lanes,
        "SINK__DIVISION": lake.division,
        "RUN__WORKERS": container.processes if container.processes > 1 else None,
    }
    found |= {
        name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in optional.items() if value
    }
    return {f"LMSTREAM_{name}": text for name, text in found.items()} | engine_variables(deployment.engine)
