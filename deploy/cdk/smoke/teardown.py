"""Remove a run, what is kept elsewhere included: nothing whose name does not begin with smoke-."""

import contextlib

from botocore.exceptions import ClientError

from smoke.plan import PREFIX
from smoke.world import World, say

BUCKETS = ("metrics", "results", "dead-letters", "logs")
KEY_DAYS = 7  # the least that KMS waits before it deletes a key


def remove(world: World) -> list[str]:
    """Remove all, go on after each failure, and answer what is left."""
    plan = world.plan
    if not plan.name.startswith(PREFIX):
        raise SystemExit(f"{plan.name}: only what begins with {PREFIX} is removed")
    stacks, left = world.client("cloudformation"), []
    key = _key(world)
    for stack in reversed(plan.stacks):
        try:
            stacks.update_termination_protection(EnableTerminationProtection=False, StackName=stack)
            stacks.delete_stack(StackName=stack)
            stacks.get_waiter("stack_delete_complete").wait(
                StackName=stack, WaiterConfig={"Delay": 5, "MaxAttempts": 240}
            )
        except Exception as error:  # noqa: BLE001 - what follows is removed all the same
            if "does not exist" not in str(error):
                left.append(f"stack {stack}: {error}")
    for what in BUCKETS:
        with _noting(left, f"bucket {plan.bucket(what)}"):
            _empty(world, plan.bucket(what))
            world.client("s3").delete_bucket(Bucket=plan.bucket(what))
    with _noting(left, f"delivery stream {plan.name}"):
        world.client("firehose").delete_delivery_stream(DeliveryStreamName=plan.name)
    with _noting(left, f"database {plan.database}"):
        world.client("glue").delete_database(Name=plan.database)
    if key:
        with _noting(left, f"key {key}"):
            world.client("kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=KEY_DAYS)
    say("removed" if not left else f"LEFT, and costing: {'; '.join(left)}")
    return left


def _key(world: World) -> str:
    with contextlib.suppress(ClientError):
        found = world.client("kms").describe_key(KeyId=f"alias/{world.plan.name}")
        return str(found["KeyMetadata"]["KeyId"])
    return ""


def _empty(world: World, bucket: str) -> None:
    """Every version: a bucket with any is not deleted."""
    s3 = world.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        gone = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
        if gone:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": gone, "Quiet": True})


@contextlib.contextmanager
def _noting(left: list[str], what: str):  # noqa: ANN202 - a context manager
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in (
            "NoSuchBucket",
            "ResourceNotFoundException",
            "EntityNotFoundException",
        ):
            left.append(f"{what}: {error}")
