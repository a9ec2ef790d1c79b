"""`make smoke`: deploy, publish, ask, tell what it cost, remove. `make smoke ARGS=--help` says what it needs."""

import contextlib
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from lmstream.cli.flags import BrokerFlags
from lmstream.deployment.prices import Rates, prices
from rehearsal import cdk, ministack, zip_for_here
from smoke import ask, judge
from smoke.judge import Answer
from smoke.local import Lab
from smoke.log import publish
from smoke.plan import arguments
from smoke.spent import Usage, spent
from smoke.teardown import remove
from smoke.world import World, say


def main() -> int:
    """Exit 0 when every question that could be asked has the right answer, 1 when not, 2 when nothing was begun."""
    plan, given = arguments()
    with tempfile.TemporaryDirectory() as made, ExitStack() as held:
        folder = Path(made)
        url = held.enter_context(ministack(folder, str(given.rehearse))) if given.rehearse else None
        world = World(plan, folder, url)
        environment = _environment(world)
        os.environ |= {name: environment[name] for name in environment if name.startswith("AWS_")}
        account = world.client("sts").get_caller_identity()["Account"]
        if account != plan.account:
            say(f"the credentials are of account {account}, --account is {plan.account}: nothing was done")
            return 2
        if given.remove:
            return 1 if remove(world) else 0
        return _run(world, given, environment)


def _run(world: World, given: Namespace, environment: dict[str, str]) -> int:
    plan, began = world.plan, time.monotonic()
    say(f"{plan.name} in {plan.account}, {plan.region}: {', '.join(plan.stacks)}; {plan.source}")
    answers: list[Answer] = []
    left: list[str] = []
    try:
        if world.url:
            zip_for_here(world.folder)
            cdk(
                "bootstrap",
                f"aws://{plan.account}/{plan.region}",
                "--output",
                environment["CDK_OUTDIR"],
                env=environment,
            )
        deploy = ("deploy", *plan.stacks, "--require-approval", "never", "--output", environment["CDK_OUTDIR"])
        cdk(*deploy, env=environment)
        answers = _ask(world, given)
    finally:
        hours = (time.monotonic() - began) / 3600
        with contextlib.suppress(Exception):  # a bill that cannot be counted must not keep anything alive
            _bill(world, hours)
        if given.keep:
            say(f"kept, and costing. Remove it with: make smoke ARGS='--account {plan.account} --remove {plan.name}'")
        else:
            left = remove(world)
    sys.stdout.write(f"{judge.table(answers)}\n")
    if world.url:
        say("rehearsed: source and Firehose were the lab's, so these answers are of the program and not of AWS")
    asked = sum(each.verdict != "not asked" for each in answers)
    say(f"{asked} of {len(answers)} questions asked in {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if judge.failed(answers) or left else 0


def _ask(world: World, given: Namespace) -> list[Answer]:
    log, plan = world.folder / "log.jsonl", world.plan
    with _brokers(world, given) as (broker, delivered):
        answers = [ask.starts(world)]
        expected = publish(broker, plan.topic, log, plan.bundles)
        say(f"published {sum(expected.values())} rows of {len(expected)} metrics")
        delivered(plan.bundles + 1)
        answers += [ask.landed(world, log), ask.prefix(world), ask.rows(world, expected), ask.keys(world)]
        answers += [ask.errors(world), ask.partial(world, broker, plan.bundles), ask.report(world)]
    return answers


@contextlib.contextmanager
def _brokers(world: World, given: Namespace) -> Iterator[tuple[BrokerFlags, Callable[[int], None]]]:
    """The user's brokers, which the deployed source reads; or a lab's, with the lab's source."""
    if world.url is None:
        paths = {name: Path(getattr(given, name)) if getattr(given, name) else None for name in ("ca", "key")}
        yield BrokerFlags(bootstrap=given.bootstrap, cert=given.cert or None, **paths), lambda _records: None
        return
    with Lab(world) as lab:
        yield BrokerFlags(bootstrap=lab.bootstrap), lab.deliver


def _bill(world: World, hours: float) -> None:
    plan = world.plan
    rates = Rates(**{name: paid.usd for name, paid in prices().at(plan.region).items()})
    found = world.objects(plan.bucket("metrics"), "rows/")
    # The stream takes 500 rows a record and lands them in gzip: counted here by what landed, twelve times as large.
    size = 12 * sum(each["Size"] for each in found)
    lines = spent(
        Usage(
            source=plan.source,
            hours=hours,
            records=max(1, size // 400_000),
            bytes=size,
            objects=len(found),
            event_bytes=plan.bundles * 35_000,
            invocations=plan.bundles,
            scanned=tuple(world.scanned),
        ),
        rates,
    )
    for line in lines:
        say(f"  {line.usd:10.4f} USD  {line.name}: {line.how}")
    say(f"  {sum(line.usd for line in lines):10.4f} USD in all, by the table of prices; Cost Explorer has it in a day")


def _environment(world: World) -> dict[str, str]:
    plan, folder = world.plan, world.folder
    (folder / "settings.toml").write_text(plan.settings())
    found = os.environ | {"LMSTREAM_DEPLOYMENT": str(folder / "settings.toml"), "CDK_OUTDIR": str(folder / "cdk.out")}
    if world.url:
        found |= {
            "AWS_ENDPOINT_URL": world.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "LMSTREAM_ZIPS": str(folder),
        }
    return found | {"AWS_REGION": plan.region}


if __name__ == "__main__":
    sys.exit(main())
