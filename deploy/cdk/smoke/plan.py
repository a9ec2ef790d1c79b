"""What is deployed: settings of a deployment of its own name, for one source."""

import argparse
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "smoke-"
"""Of every name that is made: what does not begin with it is never removed."""
ORGANIZATION: Final = "smoke"
STACKS: Final = ("data", "transform", "operations")
SOURCES: Final = {
    "pipe": 'source = "pipe"',
    "mapping": 'source = "mapping"',
    "pollers": 'source = "mapping"\npollers = 1',
}
EMULATED: Final = "000000000000"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    name: str
    account: str
    region: str
    source: str
    cluster: str
    secret: str
    secret_key: str
    topic: str
    bundles: int
    emulated: bool
    architecture: str = "arm64"

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks, in the order of their deployment. The emulator has no budgets."""
        return tuple(f"{self.name}-{part}" for part in STACKS[: 2 if self.emulated else 3])

    def bucket(self, what: str) -> str:
        """Name of a bucket."""
        return f"{self.name}-{self.account}-{self.region}-{what}"

    @property
    def database(self) -> str:
        """Name of the Glue database."""
        return self.name.replace("-", "_")

    def settings(self) -> str:
        """The settings file of the deployment."""
        text = json.dumps  # a TOML string is a JSON string here: names and ARNs
        key = f"secret_key = {text(self.secret_key)}\n" if self.secret_key else ""
        return f"""\
defaults = 2
name = {text(self.name)}
account = {text(self.account)}
region = {text(self.region)}
topic = {text(self.topic)}
partitions = 1
certificate_secret = {text(self.secret)}
{key}[engine]
org_id = "{ORGANIZATION}"
[cluster]
arn = {text(self.cluster)}
[stream]
name = {text(self.name)}
buffer_seconds = 60
[transform]
{SOURCES[self.source]}
group = {text(self.name)}
enabled = true
reserve = false
architecture = "{self.architecture}"
[load]
metrics = 50
"""


def arguments(given: list[str] | None = None) -> tuple[Plan, argparse.Namespace]:
    """The plan of the command line, and what else it says. Exits 2 with one sentence when something is missing."""
    parser = argparse.ArgumentParser(
        prog="make smoke",
        description=f"{__doc__} Costs a few dollars at most, printed in the end. The cluster is yours, with mTLS and "
        "the topic; this machine must reach its brokers.",
    )
    parser.add_argument("--account", default="", help="number of the account; nothing is done in another one")
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--source", choices=sorted(SOURCES), default="pipe", help="pollers: a provisioned mapping")
    parser.add_argument("--cluster", default="", help="ARN of an MSK cluster")
    parser.add_argument("--secret", default="", help="ARN of the secret with the client's certificate")
    parser.add_argument("--secret-key", default="", help="ARN of its KMS key, when it is not the account's default")
    parser.add_argument("--topic", default="", help="a new topic of one partition, of this run alone")
    parser.add_argument("--bundles", type=int, default=200)
    parser.add_argument("--keep", action="store_true", help="remove nothing; `--remove NAME` does it later")
    parser.add_argument("--remove", metavar="NAME", default="", help="only remove what a run of that name left")
    parser.add_argument("--rehearse", type=Path, metavar="MINISTACK", help="on this machine, in that emulator")
    for flag, what in (
        ("--bootstrap", "brokers, as host:port,host:port"),
        ("--ca", "PEM of the brokers' authority"),
        ("--cert", "PEM of a certificate that may write to the topic"),
        ("--key", "PEM of its key"),
    ):
        parser.add_argument(flag, default="", help=what)
    found = parser.parse_args(given)
    if found.rehearse is None:
        needed = ("account",) if found.remove else ("account", "cluster", "secret", "topic", "bootstrap", "cert", "key")
        if missing := [f"--{name}" for name in needed if not getattr(found, name)]:
            parser.error(f"a run in AWS needs {', '.join(missing)}; without an account: --rehearse")
        if found.remove and not found.remove.startswith(PREFIX):
            parser.error(f"--remove {found.remove}: only what begins with {PREFIX} is removed")
    plan = Plan(
        name=found.remove or f"{PREFIX}{secrets.token_hex(3)}",
        account=found.account if found.rehearse is None else EMULATED,
        region=found.region,
        source=found.source,
        cluster=found.cluster or _arn(found.region, "kafka", "cluster/theirs/11111111-2222-3333-4444-555555555555-1"),
        secret=found.secret or _arn(found.region, "secretsmanager", "secret:client-AbCdEf"),
        secret_key=found.secret_key,
        topic=found.topic or "lmstream.smoke",
        bundles=found.bundles,
        emulated=found.rehearse is not None,
        architecture="arm64" if found.rehearse is None else "x86_64",
    )
    return plan, found


def _arn(region: str, service: str, rest: str) -> str:
    return f"arn:aws:{service}:{region}:{EMULATED}:{rest}"
