"""Where rows, errors and results of queries lie: new deployments, and those of before `defaults = 2`."""

import json
import re
import textwrap
import tomllib

import msgspec
import pytest

from conftest import CDK, changed, synthesized
from lmstream.deployment import Deployment, load
from lmstream.deployment.defaults import filled
from lmstream.settings import DEFAULT_PATH
from lmstream.spec import serde_properties

BEFORE = CDK / "tests" / "before"


def settings(tmp_path, *changes, top=""):
    """The settings file of before it had a line of defaults, with lines put before it and parts of it changed."""
    text = top + (BEFORE / "settings.toml").read_text("utf-8")
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return load(path)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A deployment of a settings file that does not name its defaults."""
    folder = tmp_path_factory.mktemp("before")
    return synthesized(settings(folder), folder)


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The same, moved to the new defaults; its bucket is named in it."""
    folder = tmp_path_factory.mktemp("moved")
    return synthesized(settings(folder, top="defaults = 2\n"), folder)


def rules(made, name="LandingBucket"):
    return {
        r["Id"]: r for r in made.resources("AWS::S3::Bucket")[name]["Properties"]["LifecycleConfiguration"]["Rules"]
    }


def landed(made):
    return made.resources("AWS::Glue::Table")["LandedTable"]["Properties"]["TableInput"]


def output(made):
    location = made.one("AWS::Athena::WorkGroup")["WorkGroupConfiguration"]["ResultConfiguration"]["OutputLocation"]
    return location["Fn::Join"][1]


def test_rows_have_a_prefix_of_their_own_and_no_storage_class_hides_them(default):
    to = default.one("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    assert to["Prefix"].startswith("rows/!{partitionKeyFromQuery:orgKey}/")
    assert landed(default)["StorageDescriptor"]["Location"]["Fn::Join"][1] == [
        "s3://",
        {"Ref": "LandingBucket"},
        "/rows/",
    ]
    assert set(rules(default)) == {"versions"}, "no object moves, and none expires"
    assert not {"Transitions", "ExpirationInDays"} & rules(default)["versions"].keys()


def test_results_of_queries_lie_in_a_bucket_of_their_own_and_expire(default):
    assert output(default) == ["s3://", {"Ref": "ResultsBucket"}, "/athena-results/"]
    assert rules(default, "ResultsBucket")["expire"]["ExpirationInDays"] == 14
    assert "Results" not in json.dumps(default.resources("AWS::IAM::Policy"))


def test_columns_of_a_new_table_keep_the_case_of_keys(default):
    parameters = landed(default)["StorageDescriptor"]["SerdeInfo"]["Parameters"]
    assert parameters == serde_properties()
    assert (parameters["case.insensitive"], parameters["mapping.rowid"]) == ("false", "rowId")


def test_a_settings_file_of_before_keeps_what_it_deployed(before, default):
    assert before.deployment.engine.path == DEFAULT_PATH
    assert set(before.resources("AWS::S3::Bucket")) == set(default.resources("AWS::S3::Bucket")) - {"ResultsBucket"}
    assert output(before) == ["s3://", {"Ref": "LandingBucket"}, "/athena-results/"]
    assert landed(before)["StorageDescriptor"]["SerdeInfo"]["Parameters"] == {"case.insensitive": "true"}
    assert landed(before)["StorageDescriptor"]["Location"]["Fn::Join"][1][-1] == "/"
    moves = {(each["StorageClass"], each["TransitionInDays"]) for each in rules(before)["rows"]["Transitions"]}
    assert moves == {("INTELLIGENT_TIERING", 0), ("GLACIER", 365)}
    assert rules(before)["query-results"]["ExpirationInDays"] == 14


def test_moving_to_the_new_defaults_replaces_nothing_that_holds_data(before, moved):
    """Names of what is kept are those of the template that was deployed first: each update is in place."""
    deployed = json.loads((BEFORE / "data.json").read_text())["Resources"]
    kept = {name: each for name, each in deployed.items() if each.get("DeletionPolicy") == "Retain"}
    assert {"LandingBucket", "DeliveryStream", "Database", "Key"} <= kept.keys()
    for made in (before, moved):
        now = made.templates["data"]["Resources"]
        for name, resource in kept.items():
            assert now[name]["Type"] == resource["Type"]
            for key in ("BucketName", "DeliveryStreamName", "DeliveryStreamType", "CatalogId"):
                assert now[name]["Properties"].get(key) == resource["Properties"].get(key)
    assert set(rules(moved)) == {"versions"}
    assert output(moved)[1] == {"Ref": "ResultsBucket"}
    assert landed(moved)["StorageDescriptor"]["Columns"] == landed(before)["StorageDescriptor"]["Columns"]
    assert landed(moved)["PartitionKeys"] == landed(before)["PartitionKeys"]


def test_the_lines_to_pin_keep_all_that_was_deployed():
    """The block of CHANGELOG.md, put into a file of before that gets `defaults = 2`."""
    text = (CDK.parents[1] / "CHANGELOG.md").read_text("utf-8")
    block = textwrap.dedent(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    given = tomllib.loads((BEFORE / "settings.toml").read_text("utf-8"))
    before, pins = filled(given), tomllib.loads(block)
    assert {"cluster", "bucket", "engine", "catalog"} <= pins.keys()
    pinned = {**given, "defaults": 2}
    for table, keys in pins.items():
        pinned[table] = {**keys, **pinned.get(table, {})}
    assert msgspec.convert(filled(pinned), Deployment) == msgspec.structs.replace(
        msgspec.convert(before, Deployment), defaults=2
    )


@pytest.mark.parametrize(
    ("organizations", "expire"),
    [('org_id = "acme"', True), ('org_id = "athena-results"', False), ('org_attributes = ["org"]', False)],
)
def test_results_beside_rows_expire_only_where_no_row_can_be_taken_for_one(tmp_path, organizations, expire):
    made = synthesized(settings(tmp_path, ('org_id = "acme"', organizations)), tmp_path)
    assert ("query-results" in rules(made)) is expire


def test_storage_classes_are_for_rows_alone(default, tmp_path):
    made = synthesized(changed(default.deployment, bucket={"glacier_ir_days": 90}), tmp_path)
    (move,) = rules(made)["rows"]["Transitions"]
    assert (move["StorageClass"], move["TransitionInDays"], rules(made)["rows"]["Prefix"]) == (
        "GLACIER_IR",
        90,
        "rows/",
    )
