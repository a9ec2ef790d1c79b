"""The open questions, asked of a deployment that runs. What an emulator cannot answer says so."""

import gzip
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lmstream.cli.flags import BrokerFlags
from lmstream.deployment.defaults import ROWS_PATH
from smoke import judge
from smoke.judge import Answer, unasked
from smoke.log import METRIC, SPELLED, publish
from smoke.plan import ORGANIZATION
from smoke.world import World, say

ACCOUNT = "it needs an account"
SETTLE = 180.0  # seconds in which a mapping tries again what it may not deliver


def landed(world: World, log: Path) -> Answer:
    """Wait until `verify` finds everything, or no longer."""
    report, code = world.verify(log)

    def complete() -> bool:
        nonlocal report, code
        report, code = world.verify(log)
        return code == 0

    world.until("all rows", complete, pause=2.0 if world.url else 15.0, patience=60.0 if world.url else 900.0)
    return judge.landed(report, code)


def prefix(world: World) -> Answer:
    """Where the objects are."""
    keys = [
        each["Key"] for each in world.objects(world.plan.bucket("metrics")) if not each["Key"].startswith("errors/")
    ]
    return judge.prefix(ROWS_PATH, keys)


def starts(world: World) -> Answer:
    """The state of the source."""
    plan = world.plan
    if world.url:
        return unasked("starts", f"{ACCOUNT}: the lab's {plan.source} called the function here")
    if plan.source == "pipe":
        pipes = world.client("pipes")
        name = pipes.list_pipes(NamePrefix=plan.name)["Pipes"][0]["Name"]
        running = lambda: pipes.describe_pipe(Name=name)["CurrentState"] == "RUNNING"  # noqa: E731
        found = world.until("the Pipe", running)
        pipe = pipes.describe_pipe(Name=name)
        said = f"{pipe['CurrentState']} {pipe.get('StateReason', '')}"
    else:
        mapping = _mapping(world)
        found = mapping["State"] == "Enabled"
        said = f"{mapping['State']}: {mapping.get('LastProcessingResult', '')}"
    endpoints = world.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    names = sorted({each["ServiceName"].rpartition(".")[2] for each in endpoints})
    return Answer(
        "starts", "holds" if found else "fails", f"{said}; endpoints of the account: {', '.join(names) or 'none'}"
    )


def report(world: World) -> Answer:
    """ReportBatchItemFailures, as it was deployed and as AWS takes it."""
    plan = world.plan
    if world.url or plan.source == "pipe":
        return unasked("report", ACCOUNT if world.url else "a Pipe has none; --source mapping or pollers")
    mapping, refused = _mapping(world), ""
    if plan.source == "mapping":
        change = {"UUID": mapping["UUID"], "FunctionResponseTypes": ["ReportBatchItemFailures"], "Enabled": False}
        try:
            world.client("lambda").update_event_source_mapping(**change)
        except ClientError as error:
            refused = error.response["Error"].get("Message", str(error))
    return judge.report(plan.source, mapping.get("FunctionResponseTypes") or [], refused)


def errors(world: World) -> Answer:
    """Whether a message of the rule arrives when an object lies below the error prefix."""
    if world.url:
        return unasked("errors", f"{ACCOUNT}: the emulator has no operations stack")
    plan, sqs, sns = world.plan, world.client("sqs"), world.client("sns")
    url = sqs.create_queue(QueueName=plan.name)["QueueUrl"]
    try:
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        outputs = world.client("cloudformation").describe_stack_resources(StackName=f"{plan.name}-operations")
        topic = next(
            each["PhysicalResourceId"]
            for each in outputs["StackResources"]
            if each["ResourceType"] == "AWS::SNS::Topic"
        )
        allow = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        allow["Condition"] = {"ArnEquals": {"aws:SourceArn": topic}}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        key = f"errors/smoke/{time.time_ns()}"
        world.client("s3").put_object(Bucket=plan.bucket("metrics"), Key=key, Body=b"")

        def heard() -> bool:
            messages = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", [])
            return any(key in each["Body"] for each in messages)

        found = world.until("the notice of the error prefix", heard, pause=0.0, patience=600.0)
        world.client("s3").delete_object(Bucket=plan.bucket("metrics"), Key=key)
        return Answer(
            "errors", "holds" if found else "fails", f"a subscriber of {topic} {'heard' if found else 'heard nothing'}"
        )
    finally:
        sqs.delete_queue(QueueUrl=url)


def keys(world: World) -> Answer:
    """The device with two spellings of one property."""
    if world.url:
        return unasked("keys", f"{ACCOUNT}; the readers that Athena is made of were asked in tests/serde")
    wanted = ", ".join(f"resource['{key}']" for key in SPELLED)
    sql = f"SELECT {wanted} FROM {world.plan.database}.rows WHERE {_of(METRIC)}"  # noqa: S608 - names of our own
    state, why, found = world.query(sql)
    return judge.keys(found[0] if found else [None] * len(SPELLED), SPELLED, state, why or "no row")


def rows(world: World, expected: Mapping[str, int]) -> Answer:
    """Rows and distinct ids of the view, by metric."""
    if world.url:
        return unasked("rows", f"{ACCOUNT}: the emulator knows no projected partitions")
    counted = {}
    for metric in expected:
        sql = f"SELECT count(*), count(DISTINCT rowid) FROM {world.plan.database}.rows WHERE {_of(metric)}"  # noqa: S608
        state, why, found = world.query(sql)
        if state != "SUCCEEDED":
            return Answer("rows", "fails", f"the query of {metric} ended with {state}: {why}")
        counted[metric] = (int(found[0][0] or 0), int(found[0][1] or 0))
    return judge.rows(expected, counted)


def partial(world: World, broker: BrokerFlags, bundles: int) -> Answer:
    """Forbid letters for a while: of each batch only the poison is left, and copies show what came again."""
    if world.url or world.plan.source != "pollers":
        return unasked(
            "partial", ACCOUNT if world.url else "only provisioned pollers have partial answers: --source pollers"
        )
    plan, iam, log = world.plan, world.client("iam"), world.folder / "partial.jsonl"
    role = world.client("lambda").get_function_configuration(FunctionName=plan.name)["Role"].rpartition("/")[2]
    before = {each["Key"] for each in world.objects(plan.bucket("metrics"), "rows/")}
    no = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{plan.bucket('dead-letters')}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [no]})
    iam.put_role_policy(RoleName=role, PolicyName="smoke-no-letters", PolicyDocument=policy)
    try:
        time.sleep(30)  # until IAM has it everywhere
        publish(broker, plan.topic, log, bundles, poison=0.05)
        say(f"letters are forbidden for {SETTLE:.0f} s")
        time.sleep(SETTLE)
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="smoke-no-letters")
    total: dict[str, Any] = {}

    def settled() -> bool:
        total.update(world.verify(log)[0]["total"])
        return not total["lost"] and not total["letters_missing"]

    world.until("what was left", settled, pause=20.0)
    healthy = _copies(world, before)
    return judge.partial(healthy, total["lost"], total["letters"], total["letters"] + total["letters_missing"])


def _copies(world: World, before: set[str]) -> Counter[str]:
    """How often each row id landed since."""
    s3, bucket, found = world.client("s3"), world.plan.bucket("metrics"), Counter[str]()
    for each in world.objects(bucket, "rows/"):
        if each["Key"] not in before:
            lines = gzip.decompress(s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()).splitlines()
            found.update(json.loads(line)["rowId"] for line in lines)
    return found


def _of(metric: str) -> str:
    since = time.strftime("%Y/%m/%d/%H", time.gmtime(time.time() - 7200))
    return f"p_org = '{ORGANIZATION}' AND p_metric = '{metric}' AND p_dt >= '{since}'"


def _mapping(world: World) -> dict[str, Any]:
    name = f"{world.plan.name}:live"
    (mapping,) = world.client("lambda").list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    found: dict[str, Any] = mapping
    return found
