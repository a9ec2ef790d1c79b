"""`make deploy` before it asks AWS for anything: states of stacks, the order of runs, what it says."""

import boto3
import pytest
from botocore.stub import Stubber

import app
import deploy
from conftest import changed
from lmstream.deployment import load
from lmstream_cdk.compare import Plan

NAMES = ["lmstream-data", "lmstream-transform"]


@pytest.fixture
def answers():
    client = boto3.client("cloudformation", region_name="us-west-2", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield client, stub


def described(stub, name, state):
    stack = {"StackName": name, "CreationTime": "2026-11-01T00:00:00Z", "StackStatus": state}
    stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": name})


def missing(stub, name):
    stub.add_client_error("describe_stacks", "ValidationError", f"Stack with id {name} does not exist")


def test_templates_of_stacks_that_are_there(answers):
    client, stub = answers
    described(stub, NAMES[0], "UPDATE_COMPLETE")
    expected = {"StackName": NAMES[0], "TemplateStage": "Original"}
    stub.add_response("get_template", {"TemplateBody": "Resources: {}"}, expected)
    missing(stub, NAMES[1])
    assert deploy.deployed(client, NAMES) == ({NAMES[0]: {"Resources": {}}}, [])


@pytest.mark.parametrize("state", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_a_stack_that_was_never_made_is_not_compared(answers, state):
    client, stub = answers
    described(stub, NAMES[0], state)
    assert deploy.deployed(client, NAMES[:1]) == ({}, [])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name lmstream-data"),
        ("ROLLBACK_FAILED", "The first deploy failed"),
        ("DELETE_FAILED", "The first deploy failed"),
        ("UPDATE_IN_PROGRESS", "is being changed"),
        ("CREATE_IN_PROGRESS", "is being changed"),
    ],
)
def test_a_stack_that_aws_would_not_update_is_refused(answers, state, message):
    client, stub = answers
    described(stub, NAMES[0], state)
    found, (refused,) = deploy.deployed(client, NAMES[:1])
    assert found == {}
    assert message in refused


def test_an_answer_that_is_not_about_a_missing_stack_is_no_missing_stack(answers):
    client, stub = answers
    stub.add_client_error("describe_stacks", "AccessDenied", "not authorized")
    with pytest.raises(client.exceptions.ClientError, match="not authorized"):
        deploy.deployed(client, NAMES)


def test_a_synthesis_says_what_works_only_when_somebody_does_something_by_hand():
    alone = load(app.HERE / "settings.toml")
    told = [list(app.notes(each)) for each in (alone, changed(alone, operations={"email": "oncall@example.com"}))]
    assert [len(each) for each in told] == [2, 1]
    assert told[0][0].startswith("operations.email is empty")
    assert all("cost allocation tag `lmstream`" in each[-1] for each in told)


def test_all_stacks_unless_some_are_named():
    assert list(deploy.commands(Plan(), [])) == [["deploy", "--all"]]
    approval = ["--require-approval", "never"]
    assert list(deploy.commands(Plan(), approval)) == [["deploy", *approval, "--all"]]
    assert list(deploy.commands(Plan(), ["lmstream-data", *approval])) == [["deploy", "lmstream-data", *approval]]


def test_what_goes_first_goes_by_itself_with_the_same_options():
    plan = Plan(first=["lmstream-transform"])
    assert list(deploy.commands(plan, ["--require-approval", "never"])) == [
        ["deploy", "--exclusively", "lmstream-transform", "--require-approval", "never"],
        ["deploy", "--require-approval", "never", "--all"],
    ]
