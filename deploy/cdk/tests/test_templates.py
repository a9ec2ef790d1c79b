"""What the templates say: the engine's own values, nothing open, nothing lost on a diff, nothing unexplained."""

import base64
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from aws_cdk import App

from conftest import changed, synthesized
from lmstream.config import load
from lmstream.deployment.estimate import alarms as alarms_of
from lmstream.errors import ConfigError
from lmstream.lab.firehose_config import PARTITIONED_BUFFER
from lmstream.observability.metrics_catalogue import CATALOGUE
from lmstream.partitioning import firehose_prefix, jq_query
from lmstream.settings import MIB
from lmstream.spec import dimension_columns, dimension_partitions, glue_columns, partition_columns, view_query
from lmstream_cdk.base import FLAGS
from lmstream_cdk.build import build
from lmstream_cdk.catalog import presto_type

HERE = Path(__file__).resolve().parent
CFN_LINT = Path(sys.executable).with_name("cfn-lint")


def statements(each):
    """Every statement of every policy, trust and resource policies included, with where it is."""
    for stack, template in each.templates.items():
        for name, resource in template["Resources"].items():
            for key, policy in resource["Properties"].items():
                if key in ("PolicyDocument", "KeyPolicy", "AssumeRolePolicyDocument"):
                    for statement in policy["Statement"]:
                        yield f"{stack}/{name}", resource["Type"], statement


def listed(value):
    return value if isinstance(value, list) else [value]


# Values that must agree with the engine


def test_prefix_query_and_buffer_are_the_engines(each):
    to = each.one("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    engine = each.deployment.engine
    assert to["Prefix"] == firehose_prefix(engine)
    processors = {
        one["Type"]: {p["ParameterName"]: p["ParameterValue"] for p in one["Parameters"]}
        for one in to["ProcessingConfiguration"]["Processors"]
    }
    assert processors == {
        "RecordDeAggregation": {"SubRecordType": "JSON"},
        "MetadataExtraction": {"MetadataExtractionQuery": jq_query(engine), "JsonParsingEngine": "JQ-1.6"},
        "AppendDelimiterToRecord": {"Delimiter": "\\n"},
    }
    assert PARTITIONED_BUFFER[0] <= to["BufferingHints"]["SizeInMBs"] * MIB <= PARTITIONED_BUFFER[1]
    assert to["DynamicPartitioningConfiguration"]["Enabled"] is True
    assert to["ErrorOutputPrefix"].startswith("errors/!{firehose:error-output-type}/")


def test_table_and_projection_are_the_contracts(each):
    tables = each.resources("AWS::Glue::Table")
    table = tables["LandedTable"]["Properties"]["TableInput"]
    partitions, properties, template = partition_columns(each.deployment.engine)
    columns = [{k: v for k, v in column.items() if v} for column in glue_columns()]
    assert table["StorageDescriptor"]["Columns"] == columns
    assert table["PartitionKeys"] == partitions
    location = table["Parameters"]["storage.location.template"]
    assert location["Fn::Join"] == ["", ["s3://", {"Ref": "LandingBucket"}, f"/{template}"]]
    assert properties.items() <= table["Parameters"].items()


def test_the_view_is_the_contracts_query_as_athena_keeps_it(each):
    view = each.resources("AWS::Glue::Table")["RowsView"]["Properties"]["TableInput"]
    text = re.fullmatch(r"/\* Presto View: (\S+) \*/", view["ViewOriginalText"])[1]
    said = json.loads(base64.b64decode(text))
    assert said["originalSql"] == view_query(each.deployment.engine, said["schema"])
    partitions, _, _ = partition_columns(each.deployment.engine)
    assert [one["name"] for one in said["columns"]] == [one["Name"] for one in [*glue_columns(), *partitions]]
    assert all(
        f"PARTITION BY {', '.join(one['Name'] for one in partitions)}, rowid" in said["originalSql"] for _ in "1"
    )


def test_with_dimensions_there_is_a_table_of_them_and_the_view_joins_it(default, tmp_path):
    made = synthesized(changed(default.deployment, engine={"dimensions": True}), tmp_path)
    engine = made.deployment.engine
    tables = made.resources("AWS::Glue::Table")
    assert tables.keys() == {"LandedTable", "DimensionsTable", "RowsView"}
    assert {*tables["RowsView"]["DependsOn"]} == {"LandedTable", "DimensionsTable"}
    inputs = {name: table["Properties"]["TableInput"] for name, table in tables.items()}
    for name, columns, (partitions, properties, template) in (
        ("LandedTable", glue_columns(keys=True), partition_columns(engine)),
        ("DimensionsTable", dimension_columns(), dimension_partitions(engine)),
    ):
        table = inputs[name]
        assert table["StorageDescriptor"]["Columns"] == [{k: v for k, v in each.items() if v} for each in columns]
        assert table["PartitionKeys"] == partitions
        location = table["Parameters"]["storage.location.template"]
        assert location["Fn::Join"] == ["", ["s3://", {"Ref": "LandingBucket"}, f"/{template}"]]
        assert properties.items() <= table["Parameters"].items()
        serde = table["StorageDescriptor"]["SerdeInfo"]["Parameters"]
        assert serde["mapping.resourcekey"] == "resourceKey"
    assert inputs["DimensionsTable"]["Name"] == "dimensions"
    text = re.fullmatch(r"/\* Presto View: (\S+) \*/", inputs["RowsView"]["ViewOriginalText"])[1]
    said = json.loads(base64.b64decode(text))
    assert said["originalSql"] == view_query(engine, said["schema"])
    assert f"FROM {said['schema']}.dimensions" in said["originalSql"]
    plain = default.resources("AWS::Glue::Table")["RowsView"]["Properties"]["TableInput"]
    assert inputs["RowsView"]["StorageDescriptor"]["Columns"] == plain["StorageDescriptor"]["Columns"]


@pytest.mark.parametrize(
    ("hive", "presto"),
    [
        ("string", "varchar"),
        ("array<bigint>", "array(bigint)"),
        ("map<string,string>", "map(varchar, varchar)"),
        (
            "array<struct<a:bigint,m:map<string,string>,s:struct<x:double>>>",
            "array(row(a bigint, m map(varchar, varchar), s row(x double)))",
        ),
    ],
)
def test_types_in_the_words_of_athena(hive, presto):
    assert presto_type(hive) == presto


def test_the_function_gets_settings_that_lmstream_reads(each):
    variables = each.one("AWS::Lambda::Function")["Environment"]["Variables"]
    texts = {name: value if isinstance(value, str) else "a-bucket" for name, value in variables.items()}
    config = load(env={"LMSTREAM_SINK__TYPE": "firehose", **texts})
    engine = each.deployment.engine
    for name in ("org_id", "org_by_topic", "path", "metric_key", "metric_buckets"):
        assert getattr(config.engine, name) == getattr(engine, name)
    assert config.need("sink").settings.stream == each.deployment.stream.name
    assert config.dead_letters.name == "letters_s3"
    assert config.function.partial_failures == each.deployment.partial_failures


def test_every_metric_of_ours_is_one_that_the_function_tells(each):
    told = {metric.emf for metric in CATALOGUE if metric.emf}
    body = each.one("AWS::CloudWatch::Dashboard")["DashboardBody"]
    parts = body["Fn::Join"][1] if isinstance(body, dict) else [body]
    widgets = json.loads("".join(part if isinstance(part, str) else "x" for part in parts))["widgets"]
    drawn = [m for widget in widgets for m in widget["properties"].get("metrics", []) if m[0] == each.deployment.name]
    alarms = [alarm["Properties"] for alarm in each.resources("AWS::CloudWatch::Alarm").values()]
    watched = [one for one in alarms if one.get("Namespace") == each.deployment.name]
    parts = [one["MetricStat"]["Metric"] for each in alarms for one in each.get("Metrics", []) if "MetricStat" in one]
    watched += [one for one in parts if one["Namespace"] == each.deployment.name]
    assert len(drawn) >= 9
    assert len(watched) >= 4
    assert {m[1] for m in drawn} | {one["MetricName"] for one in watched} <= told
    # EMF of Powertools has one dimension: a metric looked for without it is never there.
    assert {(m[2], m[3]) for m in drawn} == {("service", each.deployment.name)}
    assert all(one["Dimensions"] == [{"Name": "service", "Value": each.deployment.name}] for one in watched)


# Security


CREATE = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"]
LOOK = [f"ec2:Describe{what}" for what in ("NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")]
CLUSTER = ["kafka:DescribeCluster", "kafka:DescribeClusterV2", "kafka:GetBootstrapBrokers"]
POLL = {
    "default": [(CLUSTER, "KafkaClusterArn"), (["secretsmanager:GetSecretValue"], "ClientCertificate")],
    "other": [(CLUSTER, ":cluster/theirs/"), (["secretsmanager:GetSecretValue"], ":secret:theirs-AbCdEf")],
}
ANY = ([*CREATE, *LOOK], '"*"')
KEYS = ["kms:Decrypt", "kms:GenerateDataKey"]
MAY = {
    "FirehosePolicy": [
        (["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"], '["LandingBucket", "Arn"]}'),
        (["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], '["LandingBucket", "Arn"]}, "/*"'),
        (KEYS, '"Key"'),
        (["logs:PutLogEvents"], ":log-group:/lmstream/firehose:log-stream:delivery"),
    ],
    "FunctionPolicy": [
        (["firehose:PutRecordBatch"], "DeliveryStreamArn"),
        (["s3:GetObject", "s3:PutObject"], "-us-west-2-dead-letters/dead-letters/*"),
        (KEYS, "KeyArn"),
        (["logs:CreateLogStream", "logs:PutLogEvents"], ":log-group:/lmstream/function:log-stream:*"),
    ],
    "VpcFlowIAMRoleDefaultPolicy": [
        (["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], "FlowLogs")
    ],
    "RulesRoleDefaultPolicy": [(KEYS, "KeyArn"), (["sns:Publish"], '{"Ref": "Alarms')],
    "PipePolicy": [*POLL["default"], (["kms:Decrypt"], "KeyArn"), ANY, (["lambda:InvokeFunction"], '{"Ref": "Live')],
    "PollPolicy": [
        *POLL["other"],
        (["kms:Decrypt"], ":key/11111111-2222-3333-4444-555555555555"),
        ANY,
        (["s3:ListBucket"], '-us-west-2-dead-letters"'),
        (["s3:PutObject"], "-us-west-2-dead-letters/*"),
    ],
}
"""All that any role may do: actions, and what the resource's name holds."""


def test_roles_may_do_what_is_listed_here_and_nothing_else(each):
    policies = each.resources("AWS::IAM::Policy")
    names = {re.sub(r"[0-9A-F]{8}$", "", name) for name in policies}
    new = not each.deployment.cluster.arn
    polling = {"PipePolicy", "VpcFlowIAMRoleDefaultPolicy"} if new else {"PollPolicy"}
    assert names == {"FirehosePolicy", "FunctionPolicy", "RulesRoleDefaultPolicy"} | polling
    for name, policy in policies.items():
        left = list(MAY[re.sub(r"[0-9A-F]{8}$", "", name)])
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            assert statement.keys() == {"Action", "Effect", "Resource"}
            actions, resource = listed(statement["Action"]), json.dumps(statement["Resource"])
            found = [one for one in left if one[0] == actions and one[1] in resource]
            assert len(found) == 1, f"{name}: {actions} on {resource}"
            left.remove(found[0])
        assert not left, f"{name}: {left}"
    for role in each.resources("AWS::IAM::Role").values():  # no managed or inline policies beside
        assert not {"ManagedPolicyArns", "Policies"} & role["Properties"].keys()


def test_no_action_is_a_wildcard_but_the_keys_own_policy(each):
    for where, kind, statement in statements(each):
        for action in listed(statement.get("Action", [])):
            if kind == "AWS::KMS::Key" and action == "kms:*":
                assert "root" in json.dumps(statement["Principal"]), (
                    where
                )  # KMS's own default: the account's IAM decides
            elif statement["Effect"] == "Deny":
                assert action in ("s3:*", "sns:Publish"), where  # without TLS
            else:
                assert "*" not in action, f"{where}: {action}"


def test_a_resource_is_a_wildcard_only_where_aws_forces_it(each):
    free = {"ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"}
    free |= {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"}
    ends = ("/*", ":log-stream:*")
    for where, kind, statement in statements(each):
        if statement["Effect"] == "Deny" or kind == "AWS::KMS::Key":
            continue
        for resource in listed(statement.get("Resource", [])):
            text = json.dumps(resource)
            if resource == "*":
                assert set(listed(statement["Action"])) <= free, where
            elif "*" in text:
                assert text.rstrip('"]}').endswith(ends), f"{where}: {text}"


def test_every_principal_is_a_service_with_a_condition_or_the_account(each):
    for where, kind, statement in statements(each):
        principal = statement.get("Principal")
        if principal is None or statement["Effect"] == "Deny":
            continue
        assert principal != "*", where
        assert principal != {"AWS": "*"}, where
        lambda_trust = kind == "AWS::IAM::Role" and principal == {"Service": "lambda.amazonaws.com"}
        account = "AWS" in principal and "root" in json.dumps(principal)
        flow_logs = principal == {"Service": "vpc-flow-logs.amazonaws.com"}
        assert account or lambda_trust or flow_logs or statement.get("Condition"), f"{where}: {principal}"


KEPT = ("RetainExceptOnCreate", "Retain")


def test_buckets_are_private_versioned_encrypted_and_kept(each):
    buckets = each.resources("AWS::S3::Bucket")
    assert set(buckets) == {"LandingBucket", "DeadLettersBucket", "LogsBucket", "ResultsBucket"}
    for name, bucket in buckets.items():
        properties = bucket["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(properties["PublicAccessBlockConfiguration"]) == 4
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == (
            "AES256" if name == "LogsBucket" else "aws:kms"
        )
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == KEPT
    policies = each.resources("AWS::S3::BucketPolicy").values()
    denied = [s for p in policies for s in p["Properties"]["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    plain = [s for s in denied if s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}]
    assert len(plain) == 4


def test_what_holds_data_is_kept_and_never_renamed(each):
    buckets = {"LandingBucket", "DeadLettersBucket", "LogsBucket", "ResultsBucket"}
    kept = {"DeliveryStream", "Key", "Database", *buckets}
    if not each.deployment.cluster.arn:
        kept |= {"KafkaCluster", "CertificateAuthority", "ClientCertificate"}
        # Without these the authority would be disabled: brokers trust nobody new.
        kept |= {"RootCertificate", "AuthorityActivation", "Topica1d16623"}
    found = {
        name: (resource["DeletionPolicy"], resource.get("UpdateReplacePolicy"))
        for template in each.templates.values()
        for name, resource in template["Resources"].items()
        if resource.get("DeletionPolicy") not in (None, "Delete")
    }
    assert set(found) == kept
    # A first create that is rolled back takes them along: they would be in the way of the next.
    assert set(found.values()) == {KEPT}


def test_everything_at_rest_has_the_key(each):
    stream = each.one("AWS::KinesisFirehose::DeliveryStream")
    assert stream["DeliveryStreamEncryptionConfigurationInput"]["KeyType"] == "CUSTOMER_MANAGED_CMK"
    assert "KMSEncryptionConfig" in stream["ExtendedS3DestinationConfiguration"]["EncryptionConfiguration"]
    groups = each.resources("AWS::Logs::LogGroup")
    assert groups
    for group in groups.values():
        assert group["Properties"]["KmsKeyId"]
        assert group["Properties"]["RetentionInDays"] == each.deployment.operations.log_days
    assert each.one("AWS::Lambda::Function")["KmsKeyArn"]
    assert each.one("AWS::SNS::Topic")["KmsMasterKeyId"]


def test_no_template_holds_a_secret(each):
    for secret in each.resources("AWS::SecretsManager::Secret").values():
        assert not {"SecretString", "GenerateSecretString"} & secret["Properties"].keys()
    text = json.dumps(each.templates)
    assert "PRIVATE KEY" not in text
    assert "resolve:secretsmanager" not in text


def test_brokers_speak_mtls_and_nothing_else(default):
    cluster = default.one("AWS::MSK::Cluster")
    assert cluster["ClientAuthentication"]["Tls"]["Enabled"] is True
    assert len(cluster["ClientAuthentication"]["Tls"]["CertificateAuthorityArnList"]) == 1
    assert cluster["ClientAuthentication"]["Unauthenticated"] == {"Enabled": False}
    assert "Sasl" not in cluster["ClientAuthentication"]
    assert cluster["EncryptionInfo"]["EncryptionInTransit"] == {"ClientBroker": "TLS", "InCluster": True}
    assert cluster["KafkaVersion"] == "3.9.x.kraft"
    assert cluster["EnhancedMonitoring"] == "DEFAULT"
    assert len(cluster["BrokerNodeGroupInfo"]["ClientSubnets"]) == 3
    properties = default.one("AWS::MSK::Configuration")["ServerProperties"]
    assert "min.insync.replicas=2" in properties
    assert "unclean.leader.election.enable=false" in properties


def test_there_is_no_way_from_the_brokers_to_the_internet(default):
    assert not default.resources("AWS::EC2::NatGateway")
    assert not default.resources("AWS::EC2::InternetGateway")
    for group in default.resources("AWS::EC2::SecurityGroup").values():
        for rule in group["Properties"].get("SecurityGroupEgress", []):
            assert rule["CidrIp"] != "0.0.0.0/0" or rule["IpProtocol"] == "-1", rule
            assert rule["CidrIp"] == "255.255.255.255/32", rule  # CDK's way to say none


@pytest.mark.parametrize(
    ("transform", "services"),
    [
        ({}, {"pipes-data"}),  # without it a Pipe never starts
        ({"source": "mapping"}, {"lambda", "sts", "secretsmanager"}),
        ({"source": "mapping", "pollers": 2}, set()),
    ],
)
def test_pollers_reach_the_apis_that_aws_names_for_them_and_no_other(default, tmp_path, transform, services):
    made = default
    if transform:
        made = synthesized(changed(default.deployment, transform=transform), tmp_path)
    endpoints = [each["Properties"] for each in made.resources("AWS::EC2::VPCEndpoint").values()]
    found = [json.dumps(one) for one in endpoints if one["VpcEndpointType"] == "Interface"]
    assert {re.search(r"com\.amazonaws\.us-west-2\.([a-z-]+)", one)[1] for one in found} == services
    assert len(found) == len(services) == len(made.deployment.endpoints)
    # What a mapping gives up goes to S3, through an endpoint that costs nothing and ends at this account's buckets.
    gateways = [one for one in endpoints if one["VpcEndpointType"] == "Gateway"]
    assert len(gateways) == made.deployment.keeps_failures
    for one in gateways:
        assert json.dumps(one["ServiceName"]).rstrip('"]}').endswith(".s3")
        (statement,) = one["PolicyDocument"]["Statement"]
        assert statement["Condition"].keys() == {"StringEquals"}
        assert len(one["RouteTableIds"]) == 3
    assert violations(made) == []


def test_zones_are_the_accounts_first_ones_or_those_that_are_named(default, tmp_path):
    found = [each["Properties"]["AvailabilityZone"] for each in default.resources("AWS::EC2::Subnet").values()]
    assert found == [{"Fn::Select": [index, {"Fn::GetAZs": ""}]} for index in range(3)]
    names = ["ap-northeast-1a", "ap-northeast-1c", "ap-northeast-1d"]
    tokyo = changed(default.deployment, region="ap-northeast-1", network={"zone_names": names})
    made = synthesized(tokyo, tmp_path)
    assert [each["Properties"]["AvailabilityZone"] for each in made.resources("AWS::EC2::Subnet").values()] == names
    assert violations(made) == []


def test_the_topic_comes_with_the_cluster(default, tmp_path):
    topic = default.one("AWS::MSK::Topic")
    configs = base64.b64decode(topic.pop("Configs")).decode()
    assert configs == "retention.ms=259200000\nmax.message.bytes=1048588\n"
    assert topic == {
        "ClusterArn": {"Fn::GetAtt": ["KafkaCluster", "Arn"]},
        "TopicName": "lm.metrics.otlp",
        "PartitionCount": 6,
        "ReplicationFactor": 3,
    }
    tables = {"cluster": {"create_topic": False, "acls": True, "message_bytes": 2_000_000}}
    made = synthesized(changed(default.deployment, **tables), tmp_path)
    assert not made.resources("AWS::MSK::Topic")
    lines = made.one("AWS::MSK::Configuration")["ServerProperties"].splitlines()
    assert {"message.max.bytes=2000000", "allow.everyone.if.no.acl.found=false"} <= set(lines)
    assert "allow.everyone" not in default.one("AWS::MSK::Configuration")["ServerProperties"]


def test_an_account_with_few_concurrent_executions_can_deploy(default, tmp_path):
    made = synthesized(changed(default.deployment, transform={"reserve": False}), tmp_path)
    assert "ReservedConcurrentExecutions" not in made.one("AWS::Lambda::Function")


def test_a_nat_gateway_is_one_setting_away(default, tmp_path):
    made = synthesized(changed(default.deployment, network={"egress": "nat"}), tmp_path)
    assert len(made.resources("AWS::EC2::NatGateway")) == 1
    assert not made.resources("AWS::EC2::VPCEndpoint")
    assert violations(made) == []


# Who calls the function


def test_a_pipe_waits_for_the_answer(default):
    pipe = default.one("AWS::Pipes::Pipe")
    assert pipe["TargetParameters"] == {"LambdaFunctionParameters": {"InvocationType": "REQUEST_RESPONSE"}}
    assert "InputTemplate" not in pipe["TargetParameters"]
    assert "Enrichment" not in pipe
    source = pipe["SourceParameters"]["ManagedStreamingKafkaParameters"]
    assert source["Credentials"].keys() == {"ClientCertificateTlsAuth"}
    assert (source["TopicName"], source["StartingPosition"]) == ("lm.metrics.otlp", "TRIM_HORIZON")
    assert pipe["DesiredState"] == "STOPPED"
    assert not default.resources("AWS::Lambda::EventSourceMapping")
    assert default.one("AWS::Lambda::Function")["Handler"] == "lmstream_lambda.pipe_handler"


def test_a_mapping_reports_partial_failures_and_the_function_knows(other):
    mapping = other.one("AWS::Lambda::EventSourceMapping")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ProvisionedPollerConfig"] == {"MinimumPollers": 1, "MaximumPollers": 4}
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"]
    assert (mapping["MaximumRetryAttempts"], mapping["BisectBatchOnFunctionError"]) == (10_000, True)
    variables = other.one("AWS::Lambda::Function")["Environment"]["Variables"]
    assert variables["LMSTREAM_LAMBDA__PARTIAL_FAILURES"] == "true"
    assert mapping["MetricsConfig"] == {"Metrics": ["EventCount", "ErrorCount", "KafkaMetrics"]}
    assert [one["Type"] for one in mapping["SourceAccessConfigurations"]] == ["CLIENT_CERTIFICATE_TLS_AUTH"]
    assert mapping["Enabled"] is True
    assert not other.resources("AWS::Pipes::Pipe")
    function = other.one("AWS::Lambda::Function")
    assert (function["Handler"], function["Architectures"]) == ("lmstream_lambda.esm_handler", ["x86_64"])


@pytest.mark.parametrize(
    ("transform", "answer", "there"),
    [
        # On demand AWS knows none of the error handling: a function that answered would acknowledge what it names.
        ({"source": "mapping"}, "false", set()),
        # Retries without end and a destination are ten retries: so there is no destination.
        (
            {"source": "mapping", "pollers": 2, "retries": -1},
            "true",
            {
                "FunctionResponseTypes",
                "ProvisionedPollerConfig",
                "MaximumRetryAttempts",
                "BisectBatchOnFunctionError",
                "MetricsConfig",
            },
        ),
    ],
)
def test_error_handling_of_a_mapping_is_only_what_aws_offers_there(default, tmp_path, transform, answer, there):
    made = synthesized(changed(default.deployment, transform=transform), tmp_path)
    mapping = made.one("AWS::Lambda::EventSourceMapping")
    options = {"FunctionResponseTypes", "ProvisionedPollerConfig", "DestinationConfig", "MaximumRetryAttempts"}
    assert mapping.keys() & {*options, "BisectBatchOnFunctionError", "MetricsConfig"} == there
    assert mapping.get("MaximumRetryAttempts", -1) == -1
    variables = made.one("AWS::Lambda::Function")["Environment"]["Variables"]
    assert variables["LMSTREAM_LAMBDA__PARTIAL_FAILURES"] == answer


def test_the_function_cannot_run_away(each):
    function = each.one("AWS::Lambda::Function")
    assert function["ReservedConcurrentExecutions"] == each.deployment.partitions
    assert function["Runtime"] == "python3.13"
    assert function["Timeout"] == 60


def test_an_existing_cluster_is_left_alone(other):
    assert "network" not in other.templates
    assert not other.resources("AWS::MSK::Cluster")
    assert not other.resources("AWS::SecretsManager::Secret")


# Operations


def test_every_alarm_tells_somebody_what_it_means_and_where_the_runbook_is(each):
    alarms = each.resources("AWS::CloudWatch::Alarm").values()
    page = (HERE.parents[2] / "docs/runbook.md").read_text("utf-8")
    sections = set(re.findall(r"^### (\S+)$", page, re.MULTILINE))
    assert "error-prefix" in sections
    for alarm in alarms:
        properties = alarm["Properties"]
        assert len(properties["AlarmActions"]) == len(properties["OKActions"]) == 1
        name = properties["AlarmName"].removeprefix("lmstream-")
        page, _, section = properties["AlarmDescription"].rpartition("#")
        assert page.endswith(f". Runbook: {each.deployment.operations.runbook}")
        assert name == section or name.startswith(("key-", "rules-"))
        assert name.startswith(section)
        assert section in sections
    found = each.resources("AWS::Events::Rule").values()
    rules = {one["Properties"]["Description"].rpartition("#")[2] for one in found}
    assert rules == {"error-prefix"} | ({"given-up"} if each.deployment.keeps_failures else set())
    assert rules <= sections
    assert len(alarms) == alarms_of(each.deployment), "the bill counts them"


def test_objects_under_the_error_prefix_are_told(each):
    (pattern,) = (
        one["Properties"]["EventPattern"]
        for name, one in each.resources("AWS::Events::Rule").items()
        if name.startswith("ErrorPrefix")
    )
    assert pattern["detail"]["object"] == {"key": [{"prefix": "errors/"}]}
    landing = each.resources("AWS::S3::Bucket")["LandingBucket"]["Properties"]
    assert landing["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert "Custom::S3BucketNotifications" not in json.dumps(each.templates)


def test_what_a_mapping_gives_up_is_told_and_never_expires(default, other):
    (pattern,) = (
        one["Properties"]["EventPattern"]
        for name, one in other.resources("AWS::Events::Rule").items()
        if name.startswith("GivenUp")
    )
    assert pattern["detail"]["object"] == {"key": [{"anything-but": {"prefix": "dead-letters/"}}]}
    bucket = other.resources("AWS::S3::Bucket")["DeadLettersBucket"]["Properties"]
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    for made in (default, other):
        bucket = made.resources("AWS::S3::Bucket")["DeadLettersBucket"]["Properties"]
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert [rule["Prefix"] for rule in rules if "ExpirationInDays" in rule] == ["dead-letters/"]
        assert [rule["NoncurrentVersionExpiration"]["NoncurrentDays"] for rule in rules] == [7, 30]
        prefix = made.one("AWS::Lambda::Function")["Environment"]["Variables"]["LMSTREAM_DEAD_LETTERS__PREFIX"]
        assert f"{prefix}/" == rules[0]["Prefix"], "letters themselves do expire"


def test_rules_publish_by_a_role_and_no_condition_stands_in_the_way(each):
    """AWS knows no condition on EventBridge's principal that works with an encrypted topic."""
    (role,) = [name for name in each.resources("AWS::IAM::Role") if name.startswith("RulesRole")]
    for rule in each.resources("AWS::Events::Rule").values():
        (target,) = rule["Properties"]["Targets"]
        assert target["RoleArn"] == {"Fn::GetAtt": [role, "Arn"]}
    for where, kind, statement in statements(each):
        if kind in ("AWS::KMS::Key", "AWS::SNS::TopicPolicy"):
            assert statement.get("Principal") != {"Service": "events.amazonaws.com"}, where


def test_a_budget_says_when_it_is_passed(each):
    budget = each.one("AWS::Budgets::Budget")
    kinds = {one["Notification"]["NotificationType"] for one in budget["NotificationsWithSubscribers"]}
    assert kinds == {"ACTUAL", "FORECASTED"}


# As a whole


def violations(made):
    return [one for plugin in made.report["pluginReports"] for one in plugin["violations"]]


def test_the_rule_pack_finds_nothing_and_each_acknowledgement_has_its_reason(each, tmp_path):
    judged = synthesized(each.deployment, tmp_path, validated=True)
    assert violations(judged) == []
    packs = {plugin["pluginName"]: plugin for plugin in judged.report["pluginReports"]}
    assert packs.keys() == {"AwsSolutions"}  # CDK's own look at the templates is told only when it finds something
    assert packs["AwsSolutions"]["conclusion"] == "success"
    said = packs["AwsSolutions"]["suppressedViolations"]
    assert 4 <= len(said) <= 8
    for one in said:
        assert len(json.dumps(one)) > 20


def linted(*made):
    files = [path for each in made for path in sorted(each.folder.glob("*.template.json"))]
    assert len(files) >= 7
    # W3010: zones by name, acknowledged in the network stack. W3045: the log bucket is written by S3 itself.
    run = subprocess.run(
        [CFN_LINT, "--ignore-checks", "W3010", "W3045", "W3005", "--", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "")


def test_cfn_lint_has_nothing_to_say(default, other):
    linted(default, other)


def reviewed(template, name, request):
    text = json.dumps(template, indent=1, sort_keys=True)
    text = re.sub(r"[0-9a-f]{64}(?=\.zip)", "<asset>", text) + "\n"
    path = HERE / "snapshots" / f"{name}.json"
    if request.config.getoption("--accept"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, (
        f'if that is meant: make test-infra ARGS="--accept", and read the diff of {path.name}'
    )


@pytest.mark.parametrize("name", ["data", "network", "operations", "streaming", "transform"])
def test_templates_are_as_reviewed(default, name, request):
    reviewed(default.templates[name], name, request)


NAMES = (
    "BucketName",
    "FunctionName",
    "DeliveryStreamName",
    "DashboardName",
    "AlarmName",
    "LogGroupName",
    "ClusterName",
)


def test_two_deployments_of_one_account_do_not_meet(default, tmp_path):
    tables = {"bucket": {"name": "second-metrics"}, "stream": {"name": "second"}, "cluster": {"name": "second"}}
    made = synthesized(changed(default.deployment, name="second", **tables), tmp_path)

    def names(of):
        resources = [each for template in of.templates.values() for each in template["Resources"].values()]
        found = {json.dumps(one["Properties"].get(key)) for one in resources for key in NAMES}
        return {name for name in found if name != "null" and "Ref" not in name and "Fn::" not in name}

    assert len(names(default)) > 15
    assert not names(default) & names(made)


def test_a_missing_zip_is_one_sentence(default, tmp_path):
    with pytest.raises(ConfigError, match="run `make lambda-zip` first"):
        build(App(outdir=str(tmp_path), context=dict(FLAGS)), default.deployment, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("buffer_mib = 128", "buffer_mib = 5", "5 MiB; with dynamic partitioning Firehose takes 64 to 128"),
        ("create_ca = true", "create_ca = false", "cluster.ca_arn: mTLS needs a certificate authority"),
        ("metrics = 200", "metrics = 3000", "6,000 active partitions, over the quota of 500"),
        ('org_id = "acme"', 'org_id = "acme"\npath = "{orgKey}/x/"', "path template"),
    ],
)
def test_impossible_settings_end_the_synthesis_with_one_message(tmp_path, monkeypatch, capsys, old, new, message):
    text = (HERE.parent / "settings.toml").read_text("utf-8")
    assert text.count(old) == 1
    path = tmp_path / "settings.toml"
    path.write_text(text.replace(old, new))
    monkeypatch.setenv("LMSTREAM_DEPLOYMENT", str(path))
    monkeypatch.setenv("CDK_OUTDIR", str(tmp_path / "out"))
    assert runpy.run_path(str(HERE.parent / "app.py"))["main"]() == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
