"""What production teams set: tags, a boundary, their own VPC, key and bucket, and how new code takes over."""

import json
import runpy
from functools import partial
from pathlib import Path

import aws_cdk
import pytest
from test_templates import violations

from conftest import CDK, changed, synthesized

PLACE = "us-west-2:111122223333"
KEY = f"arn:aws:kms:{PLACE}:key/22222222-2222-3333-4444-555555555555"
BOUNDARY = "arn:aws:iam::111122223333:policy/bounds"
SUBNETS = tuple(f"subnet-0123456789abcdef{n}" for n in range(3))


@pytest.fixture(scope="module")
def theirs(default, tmp_path_factory):
    """Everything that can be somebody's own."""
    tables = {
        "tags": {"owner": "observability", "stage": "prod"},
        "permissions_boundary": BOUNDARY,
        "bootstrap_qualifier": "platform",
        "key_arn": KEY,
        "network": {"vpc_id": "vpc-0123456789abcdef0", "subnet_ids": SUBNETS},
        "bucket": {"name": "their-metrics", "existing": True},
        "operations": {"log_days": 365},
        "transform": {"delivery": "canary", "provisioned": 2, "tracing": True},
    }
    return synthesized(changed(default.deployment, **tables), tmp_path_factory.mktemp("theirs"))


def test_the_rule_pack_has_nothing_against_it(theirs):
    assert violations(theirs) == []


def test_everything_that_can_have_tags_has_them(theirs):
    tagged = list(theirs.resources("AWS::IAM::Role").values())
    tagged += theirs.resources("AWS::KinesisFirehose::DeliveryStream").values()
    for each in tagged:
        found = {tag["Key"]: tag["Value"] for tag in each["Properties"]["Tags"]}
        assert found == {"lmstream": "lmstream", "owner": "observability", "stage": "prod"}
    assert theirs.one("AWS::MSK::Cluster")["Tags"] == {
        "lmstream": "lmstream",
        "owner": "observability",
        "stage": "prod",
    }


def test_every_role_has_the_boundary(theirs):
    roles = theirs.resources("AWS::IAM::Role").values()
    assert len(roles) >= 4
    assert {each["Properties"]["PermissionsBoundary"] for each in roles} == {BOUNDARY}


def test_the_bootstrap_is_theirs(theirs):
    assert "cdk-platform-assets-" in json.dumps(json.loads((theirs.folder / "manifest.json").read_bytes()))
    assert "/cdk-bootstrap/platform/version" in json.dumps(theirs.templates["data"])


def test_their_key_is_used_and_none_is_made(theirs):
    assert not theirs.resources("AWS::KMS::Key")
    assert theirs.one("AWS::SNS::Topic")["KmsMasterKeyId"] == KEY
    assert (
        theirs.one("AWS::KinesisFirehose::DeliveryStream")["DeliveryStreamEncryptionConfigurationInput"]["KeyARN"]
        == KEY
    )


def test_their_bucket_is_left_as_it_is(theirs):
    assert set(theirs.resources("AWS::S3::Bucket")) == {"DeadLettersBucket", "LogsBucket", "ResultsBucket"}
    to = theirs.one("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    assert to["BucketARN"] == "arn:aws:s3:::their-metrics"


def test_their_vpc_gets_a_security_group_and_nothing_else(theirs):
    kinds = {each["Type"] for each in theirs.templates["network"]["Resources"].values()}
    assert kinds <= {"AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress"}
    group = theirs.resources("AWS::EC2::SecurityGroup", "network").values()
    assert {each["Properties"]["VpcId"] for each in group} == {"vpc-0123456789abcdef0"}
    assert theirs.one("AWS::MSK::Cluster")["BrokerNodeGroupInfo"]["ClientSubnets"] == list(SUBNETS)


def test_logs_are_kept_as_long_as_asked(theirs):
    groups = theirs.resources("AWS::Logs::LogGroup").values()
    assert {each["Properties"]["RetentionInDays"] for each in groups} == {365}


def test_new_code_comes_gradually_with_alarms_as_its_brake(theirs):
    group = theirs.one("AWS::CodeDeploy::DeploymentGroup")
    assert group["AlarmConfiguration"]["Enabled"] is True
    assert len(group["AlarmConfiguration"]["Alarms"]) == 2
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    (alias,) = theirs.resources("AWS::Lambda::Alias").values()
    assert "CodeDeployLambdaAliasUpdate" in alias["UpdatePolicy"]
    assert alias["Properties"]["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": 2}
    assert theirs.one("AWS::Lambda::Function")["TracingConfig"] == {"Mode": "Active"}


def test_who_calls_the_function_calls_the_alias(default, other):
    (alias,) = default.resources("AWS::Lambda::Alias")
    assert default.one("AWS::Pipes::Pipe")["Target"] == {"Ref": alias}
    assert default.one("AWS::Lambda::Alias")["Name"] == "live"
    assert "UpdatePolicy" not in default.resources("AWS::Lambda::Alias")[alias]
    (alias,) = other.resources("AWS::Lambda::Alias")
    assert other.one("AWS::Lambda::EventSourceMapping")["FunctionName"] == {"Ref": alias}


def test_a_snapshot_and_a_layer_are_one_setting_each(default, tmp_path):
    layer = f"arn:aws:lambda:{PLACE}:layer:aws-otel-python:1"
    made = synthesized(
        changed(default.deployment, transform={"snap_start": True, "adot_layer": layer, "delivery": "linear"}), tmp_path
    )
    function = made.one("AWS::Lambda::Function")
    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert function["Layers"] == [layer]
    assert function["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/otel-instrument"
    assert violations(made) == []


def test_alarms_that_nobody_hears_are_said(tmp_path, monkeypatch, capsys, default):
    monkeypatch.setenv("LMSTREAM_DEPLOYMENT", str(CDK / "settings.toml"))
    monkeypatch.setenv("LMSTREAM_ZIPS", str(Path(default.folder).parent / "dist"))
    monkeypatch.setenv("CDK_OUTDIR", str(tmp_path / "out"))
    monkeypatch.setattr(aws_cdk, "App", partial(aws_cdk.App, builtin_cloud_formation_validation=False))  # quicker
    assert runpy.run_path(str(CDK / "app.py"))["main"]() == 0
    assert "nobody hears of alarms" in capsys.readouterr().err
