"""From every variant of the settings to every other: it deploys, or it is refused beforehand, as this table says.

Verdicts are those of `lmstream_cdk.compare`, which knows CloudFormation's schemas and what AWS refuses beyond them.
"""

import copy
import json
import re
from pathlib import Path

import pytest

from conftest import CDK, EXISTING, LAKE, changed, synthesized
from lmstream.deployment import load
from lmstream.settings import HIVE_PATH
from lmstream_cdk.compare import compare, settled

BEFORE = Path(__file__).parent / "before"
ACCOUNT, REGION = "111122223333", "us-west-2"
SECRET = {
    "certificate_secret": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:theirs-AbCdEf",
    "secret_key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555",
}
CA = f"arn:aws:acm-pca:{REGION}:{ACCOUNT}:certificate-authority/11111111-2222-3333-4444-555555555555"

FREE = {
    "default": {},
    "enabled": {"transform": {"enabled": True}},
    "account": {"account": ACCOUNT},
    "pipe of another group": {"transform": {"group": "second"}},
    "pipe from the end": {"transform": {"starting_position": "LATEST"}},
    "nat": {"network": {"egress": "nat"}},
    "gradual": {"transform": {"delivery": "canary", "provisioned": 2}, "tags": {"stage": "prod"}},
    "secret": SECRET,
    "authority": {"cluster": {"ca_arn": CA, "create_ca": False}},
    "theirs": {"cluster": EXISTING, **SECRET},
    "tuned": {
        "stream": {"buffer_mib": 64, "buffer_seconds": 900},
        "engine": {"metric_key": "buckets", "path": HIVE_PATH},
        "transform": {"batch_size": 50, "memory_mb": 2048, "architecture": "x86_64", "reserve": False},
        "operations": {"email": "oncall@example.com", "budget_usd": 99.0, "silence_minutes": 30, "log_days": 30},
        "cluster": {"collector_cidrs": ("10.0.0.0/8",)},
    },
}
"""Each deploys over each other."""
MAPPINGS = {
    "mapping": {"transform": {"source": "mapping"}},
    "pollers": {"transform": {"source": "mapping", "pollers": 4}},
    "mapping of another group": {"transform": {"source": "mapping", "group": "second"}},
}
"""A Pipe becomes a mapping and back; what is fixed in a mapping is refused."""
CLUSTERS = {
    "retention": {"cluster": {"retention_hours": 24}},
    "more partitions": {"partitions": 12},
    "bigger": {"cluster": {"instance": "kafka.m7g.xlarge"}},
    "more storage": {"cluster": {"storage_gib": 1000}},
    "more brokers": {"cluster": {"brokers": 6}},
    "kafka 4": {"cluster": {"kafka_version": "4.0.x.kraft"}},
}
"""Each deploys over the default; back only where MSK and Kafka have a way, and not two at a time."""
DIRECT = {
    "direct": {"path": "direct"},
    "direct that reads": LAKE,
    "direct of lines": {
        **LAKE,
        "container": {**LAKE["container"], "group": "second", "cpu": 512, "memory_mb": 1024, "budget_mib": 256},
        "lake": {"format": "gzip", "lanes": 2, "claim_days": 30},
        "network": {"egress": "nat"},
    },
}
"""Each deploys over each other, and over none of the path through Firehose."""
NO_WAY_BACK = {"more partitions", "more storage", "more brokers", "kafka 4"}
NEVER = {
    "zookeeper": ({"cluster": {"kafka_version": "3.9.x"}}, "cluster.kafka_version: 3.9.x.kraft is deployed"),
    "bucket": ({"bucket": {"name": "another"}}, "bucket.name: AWS would have to replace"),
    "stream": ({"stream": {"name": "another"}}, "stream.name: AWS would have to replace"),
    "cluster": ({"cluster": {"name": "another"}}, "cluster.name: AWS would have to replace"),
    "cidr": ({"network": {"cidr": "10.9.0.0/16"}}, "network.cidr: AWS would have to replace"),
    "zones": (
        {"network": {"zone_names": [f"{REGION}{letter}" for letter in "abd"]}},
        "network.zone_names: AWS would have to replace",
    ),
}
"""What no update can do, with how its sentence begins."""


def templates(made):
    return settled({f"{made.deployment.name}-{part}": each for part, each in made.templates.items()}, REGION, ACCOUNT)


@pytest.fixture(scope="session")
def variants(default, tmp_path_factory):
    base = default.deployment
    every = FREE | MAPPINGS | CLUSTERS | DIRECT | {name: tables for name, (tables, _) in NEVER.items()}
    return {
        name: templates(
            synthesized(changed(base, **tables), tmp_path_factory.mktemp("walk"), checked=False) if tables else default
        )
        for name, tables in every.items()
    }


def plan(before, after):
    return compare(before, after, REGION, ACCOUNT)


def expected(before, after):
    """deploys or refused, from what is known of AWS and not from the code that judges."""
    both, theirs = {before, after}, "theirs" in (before, after)
    never = both & set(NEVER)
    if before == after:
        refused = False
    elif both & set(DIRECT):
        refused = not both <= set(DIRECT)
    elif never:  # with somebody else's cluster only what is in the data stack is left to be replaced
        refused = not theirs or bool(never & {"bucket", "stream"})
    elif both <= set(MAPPINGS):
        refused = "mapping of another group" in both
    elif theirs:
        refused = False
    elif before in NO_WAY_BACK:
        refused = True
    else:  # MSK takes one request at a time; retention and partitions are lines of one configuration
        requests = {{"more partitions": "retention"}.get(name, name) for name in both & (set(CLUSTERS) | {"authority"})}
        refused = len(requests) > 1
    return "refused" if refused else "deploys"


def test_from_every_variant_to_every_other(variants):
    wrong = []
    for before, old in variants.items():
        for after, new in variants.items():
            found = plan(old, new)
            verdict = "refused" if found.refused else "deploys"
            if verdict != expected(before, after):
                wrong.append(f"{before} -> {after}: {verdict}, {found.refused}")
    assert not wrong, "\n".join(wrong)


def test_what_cannot_be_is_refused_in_one_sentence_that_names_the_setting(variants):
    for name, (_, message) in NEVER.items():
        refused = plan(variants["default"], variants[name]).refused
        assert len(refused) == 1, (name, refused)
        assert refused[0].startswith(message), (name, refused)
        assert "\n" not in refused[0]


def test_a_deployment_keeps_its_path(variants):
    for before, after, kept in (("default", "direct", "firehose"), ("direct", "default", "direct")):
        refused = plan(variants[before], variants[after]).refused
        assert refused[0].startswith(f'path: "{kept}" is deployed, and a deployment keeps its path'), refused


def test_a_way_back_that_msk_does_not_have_names_its_setting(variants):
    settings = {
        "more partitions": "partitions",
        "more storage": "cluster.storage_gib",
        "more brokers": "cluster.brokers",
        "kafka 4": "cluster.kafka_version",
    }
    assert set(settings) == NO_WAY_BACK
    for name, setting in settings.items():
        (refused,) = plan(variants[name], variants["default"]).refused
        assert refused.startswith(f"{setting}: "), refused


def test_a_stack_that_gives_up_what_another_drops_goes_first(variants):
    found = plan(variants["default"], variants["secret"])
    assert (found.refused, found.first) == ([], ["lmstream-transform"])
    assert any("ClientCertificate" in note for note in found.notes)


def test_what_stays_behind_is_told(variants):
    found = plan(variants["default"], variants["theirs"])
    assert [note for note in found.notes if note.startswith("lmstream-streaming is no longer in the settings")]
    assert [note for note in found.notes if note.startswith("lmstream-network is no longer in the settings")]


@pytest.mark.parametrize(
    ("tables", "settings"),
    [
        ({"key_arn": SECRET["secret_key"]}, "key_arn: "),
        (
            {"network": {"vpc_id": "vpc-01234567", "subnet_ids": tuple(f"subnet-0123456{n}" for n in range(3))}},
            "network.zones, network.subnet_ids: ",
        ),
    ],
)
def test_what_is_theirs_cannot_take_the_place_of_what_was_made(default, variants, tmp_path, tables, settings):
    made = synthesized(changed(default.deployment, **tables), tmp_path, checked=False)
    (refused,) = plan(variants["default"], templates(made)).refused
    assert refused.startswith(settings), refused


# Planted faults: each must be found


def resource(made, kind):
    return next(
        (stack, name, each)
        for stack, template in made.items()
        for name, each in template["Resources"].items()
        if each["Type"] == kind
    )


def planted(variants):
    return copy.deepcopy(variants["default"])


def test_a_fixed_name_of_what_is_replaced_is_found(variants):
    old, new = planted(variants), planted(variants)
    for made, group in ((old, "one"), (new, "two")):
        _, _, pipe = resource(made, "AWS::Pipes::Pipe")
        pipe["Properties"]["Name"] = "fixed"
        pipe["Properties"]["SourceParameters"]["ManagedStreamingKafkaParameters"]["ConsumerGroupID"] = group
    (refused,) = plan(old, new).refused
    assert refused.startswith("transform.pipe_name: AWS would have to replace what is deployed")
    assert "has a name that is taken" in refused


def test_a_list_of_kafka_versions_is_found(variants):
    old, new = planted(variants), planted(variants)
    for made, version in ((old, "3.8.x.kraft"), (new, "3.9.x.kraft")):
        resource(made, "AWS::MSK::Configuration")[2]["Properties"]["KafkaVersionsList"] = [version]
    assert any("KafkaVersionsList" in each for each in plan(old, new).refused)


def test_an_export_in_use_that_goes_is_found(variants):
    new = planted(variants)
    outputs = new["lmstream-data"]["Outputs"]
    (gone,) = [name for name in outputs if name.startswith("ExportsOutputFnGetAttKeyArn")]
    del outputs[gone]
    refused = plan(variants["default"], new).refused
    assert any(each.startswith("lmstream-data: ") and gone in each for each in refused)


def test_a_stack_that_is_no_more_and_still_imports_is_found(variants):
    new = planted(variants)
    del new["lmstream-operations"]
    outputs = new["lmstream-data"]["Outputs"]
    for name in [name for name in outputs if name.startswith("ExportsOutputRefLandingBucket")]:
        del outputs[name]
    assert any(
        "lmstream-operations is no longer in the settings" in each for each in plan(variants["default"], new).refused
    )


def test_a_name_that_moves_to_another_resource_is_found(variants):
    new = planted(variants)
    stack, name, _ = resource(new, "AWS::Logs::LogGroup")
    new["lmstream-transform"]["Resources"]["Moved"] = new[stack]["Resources"].pop(name)
    assert any("would get a name" in each for each in plan(variants["default"], new).refused)


def test_another_type_under_the_same_name_is_found(variants):
    new = planted(variants)
    resource(new, "AWS::Pipes::Pipe")[2]["Type"] = "AWS::Lambda::EventSourceMapping"
    assert any("cannot become" in each for each in plan(variants["default"], new).refused)


# From the version before


@pytest.fixture(scope="session")
def old():
    return {f"lmstream-{path.stem}": json.loads(path.read_bytes()) for path in sorted(BEFORE.glob("*.json"))}


@pytest.fixture(scope="session")
def same(tmp_path_factory):
    return synthesized(load(BEFORE / "settings.toml"), tmp_path_factory.mktemp("same"), checked=False)


def test_the_settings_of_before_deploy_over_the_templates_of_before(old, same):
    found = plan(old, templates(same))
    assert found.refused == []
    assert found.notes == []


def test_data_stays_where_it_is_and_kafka_as_it_is(old, same):
    made = templates(same)
    for stack, template in old.items():
        for name, was in template["Resources"].items():
            if was.get("DeletionPolicy") != "Retain":
                continue
            now = made[stack]["Resources"][name]
            assert now["Type"] == was["Type"], name
            assert now["DeletionPolicy"] == "RetainExceptOnCreate", name

    def properties(kind):
        return [resource(each, kind)[2]["Properties"] for each in (old, made)]

    was, now = properties("AWS::MSK::Cluster")
    assert now["KafkaVersion"] == was["KafkaVersion"] == "3.8.x"
    was, now = (one["ExtendedS3DestinationConfiguration"] for one in properties("AWS::KinesisFirehose::DeliveryStream"))
    assert now["Prefix"] == was["Prefix"]
    was, now = properties("AWS::Pipes::Pipe")
    assert now["Name"] == was["Name"]
    was, now = (
        {name: one["Properties"].get("BucketName") for name, one in each["lmstream-data"]["Resources"].items()}
        for each in (old, made)
    )
    assert was.items() <= now.items()


def test_the_new_file_over_what_is_deployed_is_refused_with_what_to_write(old, variants):
    refused = plan(old, variants["default"]).refused
    said = "\n".join(refused)
    assert 'kafka_version = "3.8.x"' in said
    assert 'LandingBucket ("lm-datapublisher-metrics") of lmstream-data' in said
    assert "bucket.name: AWS would have to replace what is deployed. Set it back" in said
    assert "network.zone_names: AWS would have to replace what is deployed. Set it back" in said
    assert '("us-west-2a")' in said


def test_the_lines_of_the_changelog_pin_what_is_deployed(old, tmp_path):
    """A file that gets `defaults = 2` and the lines to pin changes nothing that holds data."""
    page = (CDK.parents[1] / "CHANGELOG.md").read_text("utf-8")
    pins = re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1]
    text = (BEFORE / "settings.toml").read_text("utf-8")
    for table, lines in re.findall(r"\[(\w+)\]\n((?:[^\[\n]+.*\n)+)", re.sub(r"^  ", "", pins, flags=re.MULTILINE)):
        new = [one for one in lines.splitlines() if not re.search(rf"^{one.split()[0]} =", text, re.MULTILINE)]
        head, kept = f"[{table}]\n", "".join(f"{one}\n" for one in new)
        text = text.replace(head, head + kept) if head in text else f"{text}\n{head}{kept}"
    path = tmp_path / "settings.toml"
    path.write_text("defaults = 2\n" + text)
    made = synthesized(load(path), tmp_path / "made", checked=False)
    assert plan(old, templates(made)).refused == []
