"""The direct path: a container that writes objects, with the rights, network and alarms that it needs and no other."""

import json
import re

import pytest
from test_alarms import rings
from test_templates import KEPT, KEYS, linted, listed, reviewed, statements, violations

from conftest import CDK, IMAGE, changed, synthesized
from lmstream import __version__
from lmstream.config import load
from lmstream.config.validation import START, refuse, remarks
from lmstream.deployment import load as deployment
from lmstream.deployment.bill import alarms as alarms_of
from lmstream.observability.cloudwatch import TOLD
from lmstream.observability.metrics_catalogue import BY_NAME
from lmstream.settings import MIB
from lmstream.spec import columns_of, partition_columns, serde_properties
from lmstream_cdk.lake import CLAIMS, PROTOCOL

ROOT = CDK.parents[1]
LANDING = "arn:aws:s3:::lmstream-"
S3 = ["s3:GetObject", "s3:PutObject"]
ASK = ["s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:ListBucket"]
PULL = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
LOG = (["logs:CreateLogStream", "logs:PutLogEvents"], "ContainerLogs")
TOPIC = ["kafka-cluster:DescribeTopic", "kafka-cluster:DescribeTopicDynamicConfiguration", "kafka-cluster:ReadData"]
THEIRS = ":kafka:us-west-2:111122223333:"
UUID = "/theirs/11111111-2222-3333-4444-555555555555-1"
MAY = {
    "lake": {
        "TaskPolicy": [
            (S3, "-us-west-2-metrics/lake/*"),
            (ASK, '-us-west-2-metrics"'),
            (KEYS, "KeyArn"),
            (["secretsmanager:GetSecretValue"], "ClientCertificate"),
        ],
        "ExecutionPolicy": [
            (["ecr:GetAuthorizationToken"], '"*"'),
            (PULL, "arn:aws:ecr:us-west-2:111122223333:repository/theirs/lmstream"),
        ],
        "ExecutionRoleDefaultPolicy": [LOG],
        "VpcFlowIAMRoleDefaultPolicy": [
            (["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], "FlowLogs")
        ],
    },
    "beside": {
        "TaskPolicy": [
            (S3, "their-metrics/lake/*"),
            (ASK, 'arn:aws:s3:::their-metrics"'),
            (KEYS, "KeyArn"),
            (["kafka-cluster:Connect"], f"{THEIRS}cluster{UUID}"),
            (TOPIC, f"{THEIRS}topic{UUID}/lm.metrics.otlp"),
            (["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"], f"{THEIRS}group{UUID}/lmstream"),
        ],
        "ExecutionPolicy": [(["ecr:GetAuthorizationToken"], '"*"'), (PULL, "ImageRepository")],
        "ExecutionRoleDefaultPolicy": [LOG],
    },
}
"""All that any role may do, by deployment and policy: actions, and what the resource's name holds."""


@pytest.fixture(params=["lake", "beside"])
def direct(request):
    return request.getfixturevalue(request.param)


def name_of(made):
    return "beside" if made.deployment.cluster.arn else "lake"


def container(made):
    (found,) = made.one("AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return found


def environment(made):
    """Variables, with what the deploy fills in replaced by a name."""
    found = {each["Name"]: each["Value"] for each in container(made)["Environment"]}
    secret = "awssm:arn:aws:secretsmanager:us-west-2:111122223333:secret:lmstream/kafka-client-AbCdEf"
    return {
        name: value if isinstance(value, str) else secret if name.endswith("CERT") else "a-bucket"
        for name, value in found.items()
    }


# Rights


def test_roles_may_do_what_is_listed_here_and_nothing_else(direct):
    expected = MAY[name_of(direct)]
    policies = direct.resources("AWS::IAM::Policy")
    assert {re.sub(r"[0-9A-F]{8}$", "", name) for name in policies} == expected.keys()
    for name, policy in policies.items():
        left = list(expected[re.sub(r"[0-9A-F]{8}$", "", name)])
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            assert statement.keys() == {"Action", "Effect", "Resource"}
            actions, resource = listed(statement["Action"]), json.dumps(statement["Resource"])
            found = [one for one in left if one[0] == actions and one[1] in resource]
            assert len(found) == 1, f"{name}: {actions} on {resource}"
            left.remove(found[0])
        assert not left, f"{name}: {left}"
    for role in direct.resources("AWS::IAM::Role").values():
        assert not {"ManagedPolicyArns", "Policies"} & role["Properties"].keys()


def test_objects_may_be_made_below_rows_claims_and_letters_alone_and_none_deleted(direct):
    policy = next(each for name, each in direct.resources("AWS::IAM::Policy").items() if name.startswith("TaskPolicy"))
    (put,) = [s for s in policy["Properties"]["PolicyDocument"]["Statement"] if "s3:PutObject" in listed(s["Action"])]
    ends = {json.dumps(each).rstrip('"]}').rpartition("-metrics/")[2] for each in put["Resource"]}
    assert {"lake/*", "_lmstream/*"} <= ends
    assert len(ends) == 3
    assert any(each.endswith("-dead-letters/dead-letters/*") for each in ends)
    assert "Delete" not in json.dumps(direct.templates["container"])


def test_listing_the_bucket_has_no_condition(direct):
    """A HEAD of an object that is not there has no prefix: with a condition on it S3 would answer 403 for 404."""
    asked = [s for _, _, s in statements(direct) if "s3:ListBucket" in listed(s.get("Action", []))]
    assert len(asked) == 1
    assert "Condition" not in asked[0]


def test_no_action_is_a_wildcard_but_where_aws_forces_it(direct):
    for where, kind, statement in statements(direct):
        for action in listed(statement.get("Action", [])):
            if statement["Effect"] == "Deny":
                assert action in ("s3:*", "sns:Publish", "s3:PutObject"), where
            elif kind not in ("AWS::KMS::Key", "AWS::EC2::VPCEndpoint"):  # its policy names whose buckets, not what
                assert "*" not in action, f"{where}: {action}"
        if statement["Effect"] == "Allow" and kind not in ("AWS::KMS::Key", "AWS::EC2::VPCEndpoint"):
            for resource in listed(statement.get("Resource", [])):
                if resource == "*":
                    assert listed(statement["Action"]) == ["ecr:GetAuthorizationToken"], where
                elif "*" in json.dumps(resource):
                    assert json.dumps(resource).rstrip('"]}').endswith("/*"), where


def test_only_tasks_of_this_account_take_the_roles(direct):
    roles = {
        n: r["Properties"] for n, r in direct.resources("AWS::IAM::Role").items() if n.startswith(("Task", "Exec"))
    }
    assert len(roles) == 2
    for role in roles.values():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert statement["Condition"].keys() == {"StringEquals", "ArnLike"}


def test_a_secret_with_a_key_of_its_own_and_an_image_elsewhere(lake, tmp_path):
    key = "arn:aws:kms:us-west-2:111122223333:key/11111111-2222-3333-4444-555555555555"
    secret = "arn:aws:secretsmanager:us-west-2:111122223333:secret:theirs-AbCdEf"
    more = {"certificate_secret": secret, "secret_key": key, "container": {"image": "registry.example.com/lmstream:1"}}
    made = synthesized(changed(lake.deployment, **more), tmp_path, checked=False)
    text = json.dumps(made.resources("AWS::IAM::Policy", "container"))
    assert key in text
    assert "ecr:" not in text
    assert container(made)["Image"] == "registry.example.com/lmstream:1"
    assert environment(made)["LMSTREAM_SOURCE__CERT"] == f"awssm:{secret}"


# What runs


def test_the_task_is_as_closed_as_the_one_that_the_repository_shows(direct):
    shown = json.loads((ROOT / "adapters/container/ecs-task.json").read_text("utf-8"))
    task, here = direct.one("AWS::ECS::TaskDefinition"), container(direct)
    (there,) = shown["containerDefinitions"]
    for key in ("user", "readonlyRootFilesystem", "stopTimeout", "essential"):
        assert here[key[0].upper() + key[1:]] == there[key], key
    assert here["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
    assert here["HealthCheck"]["Command"] == there["healthCheck"]["command"]
    assert (task["NetworkMode"], task["RequiresCompatibilities"]) == ("awsvpc", ["FARGATE"])
    assert here["MountPoints"] == [{"ContainerPath": "/tmp", "ReadOnly": False, "SourceVolume": "tmp"}]
    assert "PortMappings" not in here
    assert "Secrets" not in here
    settings = direct.deployment.container
    assert (task["Cpu"], task["Memory"]) == (str(settings.cpu), str(settings.memory_mb))
    assert task["RuntimePlatform"]["CpuArchitecture"] == {"arm64": "ARM64", "x86_64": "X86_64"}[settings.architecture]


def test_the_folder_that_a_task_may_write_is_a_volume_of_the_image():
    """Else Fargate mounts it for root alone."""
    assert 'VOLUME ["/tmp"]' in (ROOT / "adapters/container/Dockerfile").read_text("utf-8")


def test_the_service_runs_what_the_settings_say(lake, beside):
    service = lake.one("AWS::ECS::Service")
    assert (service["DesiredCount"], service["LaunchType"], service["PlatformVersion"]) == (1, "FARGATE", "1.4.0")
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert service["EnableExecuteCommand"] is False
    assert beside.one("AWS::ECS::Service")["DesiredCount"] == 0, "until it is enabled"
    for made in (lake, beside):
        (depends,) = [one["DependsOn"] for one in made.resources("AWS::ECS::Service").values()]
        names = made.resources("AWS::IAM::Policy", "container")
        assert {name for name in names if not name.startswith("ExecutionRoleDefault")} <= set(depends)


def test_the_image_is_the_one_that_is_named_or_this_version_in_the_deployments_own_repository(lake, beside):
    assert container(lake)["Image"] == IMAGE
    text = json.dumps(container(beside)["Image"])
    assert text.rstrip('"]}').endswith(f":{__version__}")
    assert "ImageRepository" in text
    repository = beside.resources("AWS::ECR::Repository")["ImageRepository"]["Properties"]
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert repository["EncryptionConfiguration"]["EncryptionType"] == "KMS"


def test_the_image_can_be_built_from_the_repository_without_docker_here(lake, tmp_path):
    made = synthesized(changed(lake.deployment, container={"image": "build"}), tmp_path)
    assert violations(made) == []
    assets = json.loads((made.folder / "lmstream-container.assets.json").read_text("utf-8"))
    (image,) = assets["dockerImages"].values()
    assert image["source"]["dockerFile"] == "adapters/container/Dockerfile"
    folder = made.folder / image["source"]["directory"]
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (folder / "adapters/container/Dockerfile").read_text(), re.MULTILINE
    )
    assert len(copied) >= 4
    for name in " ".join(copied).split():
        assert (folder / name).exists(), name
    assert {each.name for each in folder.iterdir()} <= {
        "adapters",
        "requirements",
        "src",
        "LICENSE",
        "hatch_build.py",
        "pyproject.toml",
        "README.md",
    }
    assert not list(folder.rglob("__pycache__"))
    assert [each.name for each in (folder / "adapters").iterdir()] == ["container"]


# Its configuration


def test_the_container_gets_settings_that_lmstream_reads_and_would_start_with(direct, monkeypatch):
    variables, settings = environment(direct), direct.deployment
    config = load(env=variables)
    sink, lake = config.need("sink"), settings.lake
    assert (sink.name, sink.settings.claims) == ("s3", PROTOCOL)
    assert sink.settings.bucket == variables["LMSTREAM_SINK__BUCKET"]
    for name in ("format", "window_seconds", "window_max_seconds", "window_rows", "window_bytes", "object_bytes"):
        assert getattr(sink.settings, name) == getattr(lake, name), name
    assert (sink.settings.lanes, sink.settings.division) == (lake.lanes, lake.division)
    assert sink.settings.monthly_dollars == lake.monthly_dollars
    for name in ("org_id", "path", "metric_key", "exemplars", "limits"):
        assert getattr(config.engine, name) == getattr(settings.engine, name), name
    source = config.need("source").settings
    assert source.topics == (settings.topic,)
    assert source.group == settings.group
    assert config.dead_letters.name == "letters_s3"
    assert config.run.budget_bytes == settings.container.budget_mib * MIB
    assert config.run.workers == settings.container.processes
    assert (config.logs.cloudwatch, config.logs.service) == (settings.name, settings.name)
    assert config.endpoints.address == "127.0.0.1:9464"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    refuse(config, START)  # raises what a start would end with
    assert remarks(config) == []


def test_the_sink_is_the_lake_of_the_settings(lake, beside):
    found = {k.removeprefix("LMSTREAM_SINK__"): v for k, v in environment(lake).items() if "_SINK__" in k}
    assert found == {
        "TYPE": "s3",
        "BUCKET": "a-bucket",
        "REGION": "us-west-2",
        "FORMAT": "parquet",
        "WINDOW_SECONDS": "300",
        "WINDOW_MAX_SECONDS": "900",
        "WINDOW_ROWS": "100000000",
        "WINDOW_BYTES": str(64 * 1024 * MIB),
        "OBJECT_BYTES": str(64 * MIB),
    }
    found = {k.removeprefix("LMSTREAM_SINK__"): v for k, v in environment(beside).items() if "_SINK__" in k}
    assert found.items() >= {"FORMAT": "gzip", "LANES": "2", "MONTHLY_DOLLARS": "40", "WINDOW_ROWS": "1000000"}.items()


def test_tasks_authenticate_by_certificate_or_by_their_role(lake, beside):
    variables = environment(lake)
    assert variables["LMSTREAM_SOURCE__SECURITY"] == "ssl"
    assert variables["LMSTREAM_SOURCE__CERT"].startswith("awssm:arn:")
    assert "SASL" not in json.dumps(variables)
    variables = environment(beside)
    assert (variables["LMSTREAM_SOURCE__SECURITY"], variables["LMSTREAM_SOURCE__SASL_MECHANISM"]) == (
        "sasl_ssl",
        "AWS_MSK_IAM",
    )
    assert "LMSTREAM_SOURCE__CERT" not in variables
    assert "streaming" not in beside.templates, "nobody needs a certificate"


def test_every_setting_of_the_engine_reaches_function_and_container(default, tmp_path):
    engine = {"time_fallback": "record", "field_names": "any", "limits": {"points": 5_000}, "source_id": "east"}
    for path, kind in (("firehose", "AWS::Lambda::Function"), ("direct", "AWS::ECS::TaskDefinition")):
        made = synthesized(changed(default.deployment, path=path, engine=engine), tmp_path / path, checked=False)
        function = kind == "AWS::Lambda::Function"
        found = made.one(kind)["Environment"]["Variables"] if function else environment(made)
        read = load(env={k: v for k, v in found.items() if k.startswith("LMSTREAM_ENGINE__")}).engine
        assert read == made.deployment.engine


# Network


def test_tasks_reach_brokers_and_aws_and_nothing_reaches_them(lake):
    groups = lake.resources("AWS::EC2::SecurityGroup")
    (tasks,) = [name for name in groups if name.startswith("Tasks")]
    assert "SecurityGroupIngress" not in groups[tasks]["Properties"]
    entries = lake.resources("AWS::EC2::SecurityGroupIngress").values()
    assert all(tasks not in json.dumps(each["Properties"]["GroupId"]) for each in entries)
    (brokers,) = [e["Properties"] for e in entries if e["Properties"]["FromPort"] == 9094]
    assert tasks in json.dumps(brokers["SourceSecurityGroupId"])
    rules = [r for r in groups[tasks]["Properties"].get("SecurityGroupEgress", []) if "CidrIp" in r]
    assert [(r["FromPort"], r["CidrIp"]) for r in rules] == [(443, "0.0.0.0/0")], "S3, by the gateway: no other route"
    ports = {r["Properties"]["FromPort"] for r in lake.resources("AWS::EC2::SecurityGroupEgress").values()}
    assert ports == {9094, 443}


def endpoints(made):
    found = [each["Properties"] for each in made.resources("AWS::EC2::VPCEndpoint").values()]
    names = {
        re.search(r"com\.amazonaws\.us-west-2\.([a-z.-]+)|\.(s3)\"", json.dumps(one["ServiceName"])).group(0): one
        for one in found
    }
    return {name.removeprefix("com.amazonaws.us-west-2.").strip('."'): one for name, one in names.items()}


def test_a_vpc_without_nat_has_the_endpoints_that_a_task_needs_and_the_free_one_of_s3(lake):
    found = endpoints(lake)
    assert found.keys() == {"ecr.api", "ecr.dkr", "logs", "secretsmanager", "s3"}
    assert found.keys() - {"s3"} == set(lake.deployment.endpoints)
    gateway = found["s3"]
    assert gateway["VpcEndpointType"] == "Gateway"
    ours, layers = gateway["PolicyDocument"]["Statement"]
    assert ours["Condition"] == {"StringEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}}
    assert layers["Action"] == "s3:GetObject"
    assert json.dumps(layers["Resource"]).rstrip('"]}').endswith(":s3:::prod-us-west-2-starport-layer-bucket/*")


def test_beside_a_nat_gateway_objects_still_go_through_the_free_endpoint(lake, tmp_path):
    made = synthesized(changed(lake.deployment, network={"egress": "nat"}), tmp_path)
    assert endpoints(made).keys() == {"s3"}
    assert len(made.resources("AWS::EC2::NatGateway")) == 1
    assert violations(made) == []


def test_beside_an_existing_cluster_tasks_run_in_the_vpc_that_is_named(beside, tmp_path):
    assert "network" not in beside.templates
    where = beside.one("AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert where["Subnets"] == list(beside.deployment.network.subnet_ids)
    (group,) = beside.resources("AWS::EC2::SecurityGroup").values()
    assert {r["FromPort"] for r in group["Properties"]["SecurityGroupEgress"]} == {9098, 443}
    assert "TaskSecurityGroup" in beside.templates["container"]["Outputs"]
    given = synthesized(changed(beside.deployment, container={"security_group": "sg-0123456789abcdef0"}), tmp_path)
    assert not given.resources("AWS::EC2::SecurityGroup")
    where = given.one("AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert where["SecurityGroups"] == ["sg-0123456789abcdef0"]


def test_a_vpc_of_theirs_for_a_new_cluster_has_no_endpoint_of_ours(lake, tmp_path):
    network = {"vpc_id": "vpc-0123456789abcdef0", "subnet_ids": tuple(f"subnet-0123456789abcdef{n}" for n in range(3))}
    made = synthesized(changed(lake.deployment, network=network), tmp_path)
    assert not made.resources("AWS::EC2::VPCEndpoint")
    assert made.one("AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]["Subnets"] == list(
        network["subnet_ids"]
    )
    assert violations(made) == []


# Where rows lie


def test_there_is_no_firehose_and_no_function(direct):
    kinds = {each["Type"] for template in direct.templates.values() for each in template["Resources"].values()}
    assert not {k for k in kinds if k.startswith(("AWS::Kinesis", "AWS::Lambda", "AWS::Pipes", "AWS::Events"))}


def test_the_bucket_has_bucket_keys_and_refuses_to_overwrite_rows_and_claims(lake, beside):
    bucket = lake.resources("AWS::S3::Bucket")["LandingBucket"]["Properties"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True
    denied = [
        s for _, kind, s in statements(lake) if kind == "AWS::S3::BucketPolicy" and s.get("Sid") == "OnlyNewObjects"
    ]
    (only,) = denied
    assert (only["Effect"], only["Action"], only["Principal"]) == ("Deny", "s3:PutObject", {"AWS": "*"})
    assert only["Condition"] == {
        "Null": {"s3:if-none-match": "true", "s3:if-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }
    ends = {json.dumps(each).rpartition(', "/')[2].rstrip('"]}') for each in only["Resource"]}
    assert ends == {"lake/*", f"{CLAIMS}*"}, "letters, probes and results of queries are written without a condition"
    assert "LandingBucket" not in beside.resources("AWS::S3::Bucket"), "nothing of an existing bucket is changed"
    assert "OnlyNewObjects" not in json.dumps(beside.templates)


def test_the_second_lock_can_be_left_open(lake, tmp_path):
    made = synthesized(changed(lake.deployment, lake={"enforce": False}), tmp_path, checked=False)
    assert "OnlyNewObjects" not in json.dumps(made.templates)


def test_claims_outlive_every_record_that_could_be_read_again(lake, tmp_path):
    def rules(made):
        found = made.resources("AWS::S3::Bucket")["LandingBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
        return {rule["Id"]: rule for rule in found}

    found = rules(lake)
    # 72 h of retention, a segment of 7 days, 7 days more: and longer than that.
    assert (found["claims"]["Prefix"], found["claims"]["ExpirationInDays"]) == ("_lmstream/claims/", 18)
    assert found["probes"]["Prefix"] == "_lmstream/probe/"
    ends = [rule.get("Prefix") for rule in found.values() if "ExpirationInDays" in rule]
    assert sorted(ends) == ["_lmstream/claims/", "_lmstream/probe/"], "no row expires"
    week = rules(synthesized(changed(lake.deployment, cluster={"retention_hours": 169}), tmp_path, checked=False))
    assert week["claims"]["ExpirationInDays"] == 8 + 15


def table(made):
    return made.one("AWS::Glue::Table")["TableInput"]


def test_the_table_is_the_contracts_over_parquet_or_lines(lake, beside):
    for made in (lake, beside):
        found, engine = table(made), made.deployment.engine
        partitions, properties, template = partition_columns(engine)
        form = "parquet" if made.deployment.lake.format == "parquet" else "ndjson"
        columns = [{k: v for k, v in column.items() if v} for column in columns_of(form)]
        assert found["Name"] == "rows", "as the view is called on the other path"
        assert found["StorageDescriptor"]["Columns"] == columns
        assert found["PartitionKeys"] == partitions
        assert properties.items() <= found["Parameters"].items()
        assert json.dumps(found["Parameters"]["storage.location.template"]).rstrip('"]}').endswith(f"/{template}")
        assert json.dumps(found["StorageDescriptor"]["Location"]).rstrip('"]}').endswith("/lake/")
    parquet, lines = table(lake), table(beside)
    assert parquet["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"].endswith("ParquetHiveSerDe")
    assert parquet["StorageDescriptor"]["InputFormat"].endswith("MapredParquetInputFormat")
    assert parquet["Parameters"]["classification"] == "parquet"
    assert lines["StorageDescriptor"]["SerdeInfo"] == {
        "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe",
        "Parameters": serde_properties(),
    }
    assert lines["Parameters"]["classification"] == "json"


def test_what_holds_data_is_kept(lake):
    found = {
        name: (each["DeletionPolicy"], each.get("UpdateReplacePolicy"))
        for template in lake.templates.values()
        for name, each in template["Resources"].items()
        if each.get("DeletionPolicy") not in (None, "Delete")
    }
    assert {"LandingBucket", "DeadLettersBucket", "Key", "Database", "KafkaCluster"} <= found.keys()
    assert set(found.values()) == {KEPT}


# Scaling and alarms


def test_tasks_follow_the_lag_between_the_least_and_the_partitions(lake, beside):
    target = lake.one("AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 6)
    policies = [p["Properties"] for p in lake.resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()]
    steps = [s for p in policies for s in p["StepScalingPolicyConfiguration"]["StepAdjustments"]]
    assert sorted(step["ScalingAdjustment"] for step in steps) == [-1, 1, 2]
    assert {p["StepScalingPolicyConfiguration"]["Cooldown"] for p in policies} == {600}
    named = [a["Properties"] for a in lake.resources("AWS::CloudWatch::Alarm", "container").values()]
    assert {a["MetricName"] for a in named} == {"EstimatedMaxTimeLag"}
    assert {a["Threshold"] for a in named} == {900, 1800}, "above what a window takes: 900 s of windows, 900 more"
    for alarm in named:
        dimensions = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
        assert dimensions["Consumer Group"] == "lmstream"
        assert alarm.get("TreatMissingData", "missing") == "missing", (
            "a group in a rebalance has no lag: change nothing"
        )
    assert not beside.resources("AWS::ApplicationAutoScaling::ScalableTarget"), "one task at most, and not enabled"


def test_alarms_ring_for_what_can_go_wrong_of_a_container(lake):
    alarms = by_name(lake)
    assert set(alarms) == {
        *("dead-letters", "no-rows", "not-ready", "time-to-data-loss", "throttled", "memory", "tasks", "silence"),
        *("retention", "lag", "unread", "disk", "offline-partitions", "under-replicated"),
    }
    assert rings(alarms["tasks"]), "no running task has no metric"
    assert not rings(alarms["tasks"], CPUUtilization=15)
    assert rings(alarms["not-ready"], Ready=0)
    assert not rings(alarms["not-ready"], Ready=1)
    quarter = 72 * 3600 / 4
    assert rings(alarms["time-to-data-loss"], TimeToDataLoss=quarter - 1)
    assert not rings(alarms["time-to-data-loss"], TimeToDataLoss=quarter)
    assert not rings(alarms["time-to-data-loss"]), "nothing waits"
    assert rings(alarms["lag"], EstimatedMaxTimeLag=1801)
    assert not rings(alarms["lag"], EstimatedMaxTimeLag=1800), "windows may take 900 s"
    assert rings(alarms["retention"]), "nobody reads"
    assert rings(alarms["memory"], MemoryUtilization=91)


def by_name(made):
    alarms = [each["Properties"] for each in made.resources("AWS::CloudWatch::Alarm", "operations").values()]
    return {each["AlarmName"].removeprefix("lmstream-"): each for each in alarms}


def test_nothing_rings_for_a_container_that_is_not_enabled_yet(beside):
    alarms = by_name(beside)
    assert not {"tasks", "retention", "lag", "silence"} & set(alarms)
    assert all(each["TreatMissingData"] == "notBreaching" for each in alarms.values())


def test_every_alarm_has_somebody_to_tell_and_a_section_in_the_runbook(direct):
    sections = set(re.findall(r"^### (\S+)$", (ROOT / "docs/runbook.md").read_text("utf-8"), re.MULTILINE))
    found = direct.resources("AWS::CloudWatch::Alarm", "operations").values()
    for alarm in (each["Properties"] for each in found):
        assert len(alarm["AlarmActions"]) == len(alarm["OKActions"]) == 1
        assert alarm["AlarmDescription"].rpartition("#")[2] in sections
    every = direct.resources("AWS::CloudWatch::Alarm")
    assert len(every) == alarms_of(direct.deployment), "the bill counts them"


def test_every_metric_of_ours_is_one_that_the_container_tells(direct):
    told = {metric.emf for metric in TOLD.values()}
    body = direct.one("AWS::CloudWatch::Dashboard")["DashboardBody"]
    parts = body["Fn::Join"][1] if isinstance(body, dict) else [body]
    widgets = json.loads("".join(part if isinstance(part, str) else "x" for part in parts))["widgets"]
    drawn = {m[1] for w in widgets for m in w["properties"].get("metrics", []) if m[0] == "lmstream"}
    text = json.dumps(direct.resources("AWS::CloudWatch::Alarm"))
    watched = set(re.findall(r'"MetricName": "(\w+)", "Namespace": "lmstream"', text))
    assert len(drawn) >= 9
    assert {BY_NAME["lmstream_ready"].emf, "TimeToDataLoss", "DeadLetters", "BundlesConsumed"} <= watched
    assert drawn | watched <= told


# As a whole


def test_the_rule_pack_finds_nothing_and_each_acknowledgement_has_its_reason(direct, tmp_path):
    judged = synthesized(direct.deployment, tmp_path, validated=True)
    assert violations(judged) == []
    (pack,) = judged.report["pluginReports"]
    assert pack["conclusion"] == "success"
    assert 5 <= len(pack["suppressedViolations"]) <= 10
    assert all(len(json.dumps(one)) > 20 for one in pack["suppressedViolations"])


def test_the_settings_of_the_page_synthesize(tmp_path):
    """The repository's own file with the lines of docs/deploy.md."""
    page = (ROOT / "docs/deploy.md").read_text("utf-8")
    (block,) = [each for each in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if 'path = "direct"' in each]
    top, _, tables = block.partition("\n[")
    path = tmp_path / "settings.toml"
    text = (CDK / "settings.toml").read_text("utf-8")
    path.write_text(text.replace("\ntopic = ", f"\n{top}\ntopic = ", 1) + f"\n[{tables}")
    made = synthesized(deployment(path), tmp_path / "made", checked=False)
    assert made.deployment.path == "direct"
    assert made.one("AWS::ECS::Service")["DesiredCount"] == 0


@pytest.mark.parametrize("name", ["container", "data", "network", "operations"])
def test_templates_are_as_reviewed(lake, name, request):
    reviewed(lake.templates[name], f"lake-{name}", request)


def test_cfn_lint_has_nothing_to_say(lake, beside):
    linted(lake, beside)
