"""What the SDK is told of endpoints is what it knows itself, of the services that lmstream asks."""

import json

import pytest
from botocore.loaders import Loader
from botocore.regions import EndpointResolver

from lmstream.aws.descriptions import ASKED, asked, loader


@pytest.fixture(scope="module")
def whole():
    return Loader().load_data("endpoints")


@pytest.fixture(scope="module")
def ours():
    return loader(None).load_data("endpoints")


def test_services_that_nobody_asks_are_left_out(whole, ours):
    assert len(whole["partitions"][0]["services"]) > 200
    assert all(set(partition["services"]) <= set(ASKED) for partition in ours["partitions"])
    assert {"firehose", "s3", "sts"} <= set(ours["partitions"][0]["services"])


def test_the_endpoints_of_services_that_are_asked_are_the_sdks_in_every_region(whole, ours):
    theirs, made = EndpointResolver(whole), EndpointResolver(ours)
    partitions = theirs.get_available_partitions()
    assert made.get_available_partitions() == partitions
    regions = {region for name in partitions for region in theirs.get_available_endpoints("ec2", name)}
    assert len(regions) > 30
    for region in sorted(regions | {"us-west-9", "aws-global"}):
        for service in ASKED:
            assert made.construct_endpoint(service, region) == theirs.construct_endpoint(service, region), region


def test_a_service_that_is_left_out_has_an_endpoint_all_the_same(whole, ours):
    theirs, made = (EndpointResolver(each).construct_endpoint("kinesis", "eu-west-1") for each in (whole, ours))
    assert made["hostname"] == theirs["hostname"] == "kinesis.eu-west-1.amazonaws.com"


def test_nothing_else_of_the_file_changes():
    said = {"version": 3, "partitions": [{"dnsSuffix": "a.b", "services": {"ec2": {"x": 1}, "sts": {"y": [2]}}}]}
    wanted = {"version": 3, "partitions": [{"dnsSuffix": "a.b", "services": {"sts": {"y": [2]}}}]}
    assert asked(json.dumps(said).encode()) == wanted


def test_descriptions_of_services_are_the_sdks_own():
    service = ("firehose", "service-2")
    assert loader(None).load_service_model(*service) == Loader().load_service_model(*service)


def test_folders_of_the_sdks_setting_come_first(tmp_path):
    (tmp_path / "endpoints.json").write_text('{"version": 3, "partitions": []}')
    assert loader(str(tmp_path)).load_data("endpoints") == {"version": 3, "partitions": []}
    assert loader(None).load_data("endpoints")["partitions"]
