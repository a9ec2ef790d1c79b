"""Templates of a few deployments, each synthesized once."""

import copy
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from lmstream.deployment import Deployment, load
from lmstream.settings import DEFAULT_PATH, HIVE_PATH

CDK = Path(__file__).resolve().parents[1]
EXISTING = {
    "arn": "arn:aws:kafka:us-west-2:111122223333:cluster/theirs/11111111-2222-3333-4444-555555555555-1",
}


QUICK = {"stack_traces": False, "tree_metadata": False}
"""A third quicker: where each resource was made in the code, and the tree of all, are in no template."""


class Synthesized(NamedTuple):
    deployment: Deployment
    folder: Path
    templates: dict[str, dict]

    def resources(self, kind, stack=None):
        """Resources by logical id: copies, because what one test takes out of them the next one would miss."""
        return {
            name: copy.deepcopy(resource)
            for part, template in self.templates.items()
            if stack in (None, part)
            for name, resource in template["Resources"].items()
            if resource["Type"] == kind
        }

    def one(self, kind, stack=None):
        (found,) = self.resources(kind, stack).values()
        return found["Properties"]

    @property
    def report(self):
        return json.loads((self.folder / "validation-report.json").read_bytes())


def changed(deployment, **tables):
    """A deployment with some keys of some tables changed."""
    raw = msgspec.to_builtins(deployment)
    for table, keys in tables.items():
        raw[table] = raw[table] | keys if isinstance(keys, dict) else keys
    return msgspec.convert(raw, Deployment)


def synthesized(deployment, folder, *, checked=True, validated=False):
    """Without `checked` the rule pack has no say, without `validated` CDK's own look at the templates has none: it
    takes half of the time, and four seconds more the first time."""
    # Here, where a worker needs them: at the top the process that only hands out tests would start a Node of its own.
    from aws_cdk import App  # noqa: PLC0415 - as said

    from lmstream_cdk.base import FLAGS  # noqa: PLC0415 - as said
    from lmstream_cdk.build import build  # noqa: PLC0415 - as said

    code = folder / "dist"
    code.mkdir(parents=True)
    for architecture in ("arm64", "x86_64"):
        with zipfile.ZipFile(code / f"lmstream-lambda-{architecture}.zip", "w") as made:
            made.writestr(zipfile.ZipInfo("lmstream_lambda.py"), "")
    app = App(outdir=str(folder / "out"), context=dict(FLAGS), builtin_cloud_formation_validation=validated, **QUICK)
    build(app, deployment, code, checked=checked)
    app.synth()
    templates = {
        path.name.removesuffix(".template.json").removeprefix(f"{deployment.name}-"): json.loads(path.read_bytes())
        for path in sorted((folder / "out").glob("*.template.json"))
    }
    return Synthesized(deployment, folder / "out", templates)


@pytest.fixture(scope="session")
def default(tmp_path_factory):
    """The settings file as it lies in the repository: a new cluster, a Pipe."""
    return synthesized(load(CDK / "settings.toml"), tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """The other branches: an existing cluster and secret, a mapping with pollers, hive paths, buckets of metrics."""
    deployment = changed(
        load(CDK / "settings.toml"),
        cluster=EXISTING,
        certificate_secret="arn:aws:secretsmanager:us-west-2:111122223333:secret:theirs-AbCdEf",
        secret_key="arn:aws:kms:us-west-2:111122223333:key/11111111-2222-3333-4444-555555555555",
        engine={"path": HIVE_PATH, "metric_key": "buckets", "org_by_topic": {"lm.metrics.otlp": "acme"}},
        transform={"source": "mapping", "pollers": 4, "enabled": True, "architecture": "x86_64"},
        operations={"email": "oncall@example.com"},
        account="111122223333",
    )
    return synthesized(deployment, tmp_path_factory.mktemp("other"))


IMAGE = "111122223333.dkr.ecr.us-west-2.amazonaws.com/theirs/lmstream@sha256:" + "0" * 64
LAKE = {
    "path": "direct",
    "engine": {"path": "lake/" + DEFAULT_PATH},
    "container": {"enabled": True, "bootstrap": "b-1.example.internal:9094", "image": IMAGE},
}
"""The direct path beside a new cluster, reading."""


@pytest.fixture(scope="session")
def lake(default, tmp_path_factory):
    return synthesized(changed(default.deployment, **LAKE), tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="session")
def beside(default, tmp_path_factory):
    """The direct path beside an existing cluster with IAM, in somebody's VPC and bucket, as lines of JSON."""
    deployment = changed(
        default.deployment,
        path="direct",
        cluster=EXISTING,
        network={
            "vpc_id": "vpc-0123456789abcdef0",
            "subnet_ids": tuple(f"subnet-0123456789abcdef{n}" for n in range(3)),
        },
        bucket={"name": "their-metrics", "existing": True},
        engine={"path": "lake/" + DEFAULT_PATH, "metric_key": "buckets", "exemplars": False},
        lake={"format": "gzip", "lanes": 2, "division": 3, "monthly_dollars": 40.0, "window_rows": 1_000_000},
        container={"kafka": "iam", "architecture": "x86_64", "cpu": 4096, "memory_mb": 8192, "max_tasks": 1},
        account="111122223333",
    )
    return synthesized(deployment, tmp_path_factory.mktemp("beside"))


@pytest.fixture(params=["default", "other"])
def each(request):
    return request.getfixturevalue(request.param)


def pytest_addoption(parser):
    parser.addoption("--accept", action="store_true", help="write the templates' snapshots anew")
