"""`make rehearsal`, the direct path: deploy its stacks into an AWS on this machine, and run the task that they define.

MiniStack has no Docker here, so it starts no task. Instead the task's own command runs as a process, with the variables
of the deployed task definition and the rights of the deployed task role (MiniStack checks them, AUTH), beside a broker
with mTLS whose certificate is in the deployed secret. What it does not show: Fargate, the network, scaling, and the
condition keys of the bucket policy, which MiniStack does not know.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
from aiokafka import AIOKafkaProducer
from botocore.exceptions import ClientError

from lmstream.lab import KafkaLab
from lmstream.lab.generator import Generator
from rehearsal import PATIENCE, cdk, deploy, ministack, say

REGION, ACCOUNT, NAME = "us-west-2", "000000000000", "rehearsal"
STACKS = (f"{NAME}-data", f"{NAME}-container")
BUNDLES = 30
SETTINGS = """\
defaults = 2
name = "{name}"
account = "{account}"
path = "direct"
partitions = 2
certificate_secret = "{secret}"
[engine]
org_id = "acme"
[cluster]
arn = "arn:aws:kafka:us-west-2:000000000000:cluster/theirs/11111111-2222-3333-4444-555555555555-1"
[network]
zones = 2
vpc_id = "{vpc}"
subnet_ids = {subnets}
[lake]
window_seconds = 3
[container]
enabled = true
bootstrap = "{bootstrap}"
architecture = "x86_64"
max_tasks = 1
"""


def client(service: str, url: str, **more: str) -> Any:
    """A client of the emulator."""
    return boto3.client(service, region_name=REGION, endpoint_url=url, **more)


def settings(url: str, kafka: KafkaLab) -> str:
    """Settings that name what is in the emulator: its VPC, and a secret with the broker's client certificate."""
    ec2, made = client("ec2", url), kafka.certificates
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]][:2]
    pair = {"certificate": made.client_cert.read_text(), "privateKey": made.client_key.read_text()}
    secret = client("secretsmanager", url).create_secret(Name="kafka-client", SecretString=json.dumps(pair))["ARN"]
    return SETTINGS.format(
        name=NAME, account=ACCOUNT, vpc=vpc, subnets=json.dumps(subnets), secret=secret, bootstrap=kafka.bootstrap
    )


def task(url: str) -> dict[str, str]:
    """The environment of the task that the service runs, as it was deployed."""
    ecs = client("ecs", url)
    (service,) = ecs.describe_services(cluster=NAME, services=[NAME])["services"]
    say(f"service: {service['status']}, {service['desiredCount']} task wanted, {service['runningCount']} running")
    found = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    (made,) = found["containerDefinitions"]
    say(f"task: {found['cpu']} CPU units, {found['memory']} MiB, {made['image']}")
    return {each["name"]: each["value"] for each in made["environment"]}


def without_tls(url: str) -> None:
    """Take the statements that ask for TLS out of the buckets' policies: the emulator is asked without."""
    s3 = client("s3", url)
    for bucket in (each["Name"] for each in s3.list_buckets()["Buckets"] if each["Name"].startswith(NAME)):
        policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
        left = [each for each in policy["Statement"] if "SecureTransport" not in json.dumps(each)]
        left = [each for each in left if "TlsVersion" not in json.dumps(each)]
        say(f"{bucket}: {len(policy['Statement']) - len(left)} statements about TLS left out, {len(left)} kept")
        s3.delete_bucket_policy(Bucket=bucket)
        if left:
            s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy | {"Statement": left}))


def rights(url: str) -> dict[str, str]:
    """Credentials with the rights of the deployed task role, and no other."""
    iam = client("iam", url)
    (role,) = [r["RoleName"] for r in iam.list_roles()["Roles"] if "TaskRole" in r["RoleName"]]
    iam.create_user(UserName="task")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        iam.put_user_policy(UserName="task", PolicyName=name, PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName="task")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def refused(url: str, credentials: dict[str, str], bucket: str, key: str) -> None:
    """What the role may not do: delete, and write beside its prefixes."""
    s3 = client(
        "s3",
        url,
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    for what, call in (
        ("delete a row", lambda: s3.delete_object(Bucket=bucket, Key=key)),
        ("write beside rows and claims", lambda: s3.put_object(Bucket=bucket, Key="elsewhere", Body=b"")),
    ):
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDenied":
                raise
            say(f"the task's role may not {what}")
        else:
            raise SystemExit(f"the task's role may {what}")


async def publish(kafka: KafkaLab, topic: str) -> None:
    """Bundles, and one record that is not a bundle."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, security_protocol="SSL", ssl_context=kafka.client_context()
    )
    await producer.start()
    try:
        for number, bundle in enumerate(islice(Generator(instances=2).bundles(), BUNDLES)):
            await producer.send_and_wait(topic, bundle.payload, partition=number % 2)
        await producer.send_and_wait(topic, b"junk", partition=0)
    finally:
        await producer.stop()


@contextmanager
def running(python: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The task's command as a process, ended as ECS ends it."""
    with log.open("wb") as out:
        process = subprocess.Popen([python, "-m", "lmstream", "run"], env=env, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        say(f"the process ended with exit code {process.wait(PATIENCE)}")


def keys(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Names of objects."""
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def landed(url: str, python: str, env: dict[str, str], folder: Path) -> None:
    """Run the task until rows and a letter have landed; check where they lie, and what was told."""
    s3, bucket = client("s3", url), env["LMSTREAM_SINK__BUCKET"]
    letters, log = env["LMSTREAM_DEAD_LETTERS__BUCKET"], folder / "task.log"
    with running(python, env, log) as process:
        end = time.monotonic() + PATIENCE
        while not (keys(s3, bucket, "lake/") and [k for k in keys(s3, letters, "dead-letters/") if "junk" not in k]):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"no row landed:\n{log.read_text()[-4000:]}")
            time.sleep(0.5)
        time.sleep(5)  # another window
    rows, claims = keys(s3, bucket, "lake/"), keys(s3, bucket, "_lmstream/claims/")
    say(f"{len(rows)} objects of rows such as {rows[0]}, {len(claims)} claims such as {claims[0]}")
    table = client("glue", url).get_table(DatabaseName=NAME, Name="rows")["Table"]
    where = table["Parameters"]["storage.location.template"]
    if not rows[0].startswith(where.removeprefix(f"s3://{bucket}/").partition("${")[0]):
        raise SystemExit(f"rows are not where the table looks: {where}")
    told = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"_aws"')]
    counted = {
        name: sum(each.get(name, 0) for each in told) for name in ("BundlesConsumed", "RowsAccepted", "DeadLetters")
    }
    say(f"the log's metrics: {counted}")
    if counted["BundlesConsumed"] != BUNDLES + 1 or counted["DeadLetters"] != 1 or not counted["RowsAccepted"]:
        raise SystemExit(f"the log tells something else:\n{log.read_text()[-3000:]}")


def checked(python: str, env: dict[str, str]) -> None:
    """`validate --connect` with the task's settings and rights: the deployed bucket's own answers."""
    command = [python, "-m", "lmstream", "validate", "--connect", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    for line in done.stdout.splitlines():
        check = json.loads(line)
        say(f"  {check['verdict']}: {check['name']}: {check['said']}"[:200])
    if done.returncode:
        raise SystemExit(f"validate --connect: exit {done.returncode}\n{done.stderr[-2000:]}")


async def make(folder: Path, url: str, kafka: KafkaLab) -> None:
    """Deploy the stacks."""
    (folder / "deployment.toml").write_text(await asyncio.to_thread(settings, url, kafka))
    env = os.environ | {"AWS_ENDPOINT_URL": url}
    out = str(folder / "cdk.out")
    await asyncio.to_thread(cdk, "bootstrap", f"aws://{ACCOUNT}/{REGION}", "--output", out, env=env)
    code, _ = await asyncio.to_thread(deploy, *STACKS, "--require-approval=never", env=env)
    if code:
        raise SystemExit("the stacks do not deploy")
    await asyncio.to_thread(without_tls, url)


async def use(folder: Path, url: str, kafka: KafkaLab, python: str) -> None:
    """Run the task that was deployed, with its rights."""
    variables, credentials = await asyncio.to_thread(task, url), await asyncio.to_thread(rights, url)
    here = {"LMSTREAM_SOURCE__CA": str(kafka.certificates.ca), "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION}
    here |= {"LMSTREAM_SINK__ENDPOINT_URL": url, "LMSTREAM_DEAD_LETTERS__ENDPOINT_URL": url}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    env = kept | variables | credentials | here | {"AWS_EC2_METADATA_DISABLED": "true"}
    await publish(kafka, variables["LMSTREAM_SOURCE__TOPICS"])
    await asyncio.to_thread(checked, python, env)
    await asyncio.to_thread(landed, url, python, env, folder)
    bucket = variables["LMSTREAM_SINK__BUCKET"]
    await asyncio.to_thread(refused, url, credentials, bucket, keys(client("s3", url), bucket, "lake/")[0])


async def rehearse(folder: Path, program: str, python: str) -> None:
    """Deploy without rights being checked, as the emulator's CDK bootstrap needs it; then run with them checked."""
    kept = {"PERSIST_STATE": "1", "STATE_DIR": str(folder / "state")}
    kafka = KafkaLab(folder / "kafka", mtls=True)
    await kafka.start()
    try:
        await kafka.create_topic("lm.metrics.otlp", partitions=2)
        with ministack(folder, program, **kept) as url:
            await make(folder, url, kafka)
        with ministack(folder, program, AUTH="true", **kept) as url:
            await use(folder, url, kafka, python)
    finally:
        await kafka.close()


def main() -> None:
    """Rehearse; arguments: MiniStack's program, and a Python that has lmstream with [lake], [parquet], [consumer]."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "LMSTREAM_DEPLOYMENT": str(folder / "deployment.toml"),
            "CDK_OUTDIR": str(folder / "cdk.out"),
        }
        try:
            asyncio.run(rehearse(folder, sys.argv[1], sys.argv[2]))
        except (Exception, SystemExit):
            say((folder / "ministack.log").read_text()[-3000:])
            raise
    say("rehearsed: the stacks deploy; with the task's settings and rights rows, claims and a dead letter land")


if __name__ == "__main__":
    main()
