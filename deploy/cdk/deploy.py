"""`make deploy`: synthesize, compare with what is deployed, refuse in one sentence what AWS would, then the CDK CLI.

Arguments: the CLI's main file, then stacks and options for `cdk deploy`. Without stacks: all of them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from app import HERE, settings_file
from lmstream.deployment import load
from lmstream.errors import ConfigError
from lmstream_cdk.assembly import templates
from lmstream_cdk.base import PARTS
from lmstream_cdk.compare import Plan, compare

_WAITING = {
    "UPDATE_ROLLBACK_FAILED": "`aws cloudformation continue-update-rollback --stack-name {0}`, then again",
    "ROLLBACK_FAILED": "docs/deploy.md, The first deploy failed",
    "DELETE_FAILED": "docs/deploy.md, The first deploy failed",
}
_NEVER_MADE = {"ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS", "DELETE_COMPLETE"}
"""States of a stack in which nothing of it is deployed: the CLI removes it and makes it again."""


def say(text: str) -> None:
    """One line for who waits."""
    sys.stderr.write(f"{text}\n")


def deployed(client: Any, names: list[str]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Templates of the stacks that exist, and what keeps any of them from being updated."""
    found: dict[str, Mapping[str, Any]] = {}
    stuck = []
    for name in names:
        try:
            (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                continue
            raise
        state = stack["StackStatus"]
        if state in _WAITING:
            stuck.append(
                f"{name} is in the state {state}, in which AWS updates nothing: {_WAITING[state].format(name)}"
            )
        elif state.endswith("_IN_PROGRESS") and state not in _NEVER_MADE:
            stuck.append(f"{name} is being changed ({state}): wait until it is done, then again")
        elif state not in _NEVER_MADE:
            body = client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
            found[name] = yaml.safe_load(body) if isinstance(body, str) else body  # the SDK reads JSON itself
    return found, stuck


def planned(region: str, names: list[str], synthesized: Mapping[str, Mapping[str, Any]]) -> Plan:
    """What an update would come to. Raises ConfigError when AWS cannot be asked."""
    try:
        account = boto3.client("sts", region_name=region).get_caller_identity()["Account"]
        before, stuck = deployed(boto3.client("cloudformation", region_name=region), names)
    except (BotoCoreError, ClientError) as error:
        raise ConfigError("config.invalid", f"AWS does not tell what is deployed in {region}: {error}") from error
    if stuck:
        return Plan(refused=stuck)
    return compare(before, synthesized, region, account)


_VALUED = {"--require-approval", "--profile", "--role-arn", "--concurrency", "--progress", "-r", "-c", "--context"}
"""Options of `cdk deploy` whose value stands by itself after them."""


def commands(plan: Plan, arguments: list[str]) -> Iterator[list[str]]:
    """Arguments of `cdk`, one list a run."""
    before = ["", *arguments]
    stacks = [
        each for last, each in zip(before, arguments, strict=False) if not each.startswith("-") and last not in _VALUED
    ]
    options = [each for each in arguments if each not in stacks]
    for stack in plan.first:
        yield ["deploy", "--exclusively", stack, *options]
    yield ["deploy", *arguments, *([] if stacks else ["--all"])]


def main(cli: str, *arguments: str) -> int:
    """Exit 2 with one sentence for each reason why nothing was deployed; else the exit code of the CLI."""
    out = Path(os.environ.get("CDK_OUTDIR") or HERE / "cdk.out")
    done = subprocess.run([sys.executable, str(HERE / "app.py")], check=False)  # noqa: S603 - our own file
    if done.returncode:
        return done.returncode
    try:
        deployment = load(settings_file())
        names = [f"{deployment.name}-{part}" for part in PARTS]
        plan = planned(deployment.region, names, templates(out))
    except ConfigError as error:
        say(str(error))
        return 2
    for note in plan.notes:
        say(f"note: {note}")
    for sentence in plan.refused:
        say(f"refused: {sentence}")
    if plan.refused:
        say("Nothing was deployed. `make deploy-unchecked` asks AWS all the same.")
        return 2
    for each in commands(plan, list(arguments)):
        done = subprocess.run(["node", cli, *each, "--app", str(out)], check=False)  # noqa: S603, S607 - the pinned CLI
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
