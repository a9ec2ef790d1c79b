"""`lmstream topic`: make the topic of the bundles, or bring it to what is asked."""

import asyncio
from typing import Annotated, Any

from cyclopts import Parameter, validators

from lmstream.cli import terminal
from lmstream.cli.flags import NO_CLUSTER, ClusterFlags, Json, Seconds
from lmstream.cli.kafka import cluster_settings
from lmstream.errors import ConfigError

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def topic(
    *,
    topic: str,
    partitions: Count = 6,
    copies: Count = 3,
    retention: Seconds = 259_200.0,
    message_bytes: Count = 1_048_588,
    yes: bool = False,
    as_json: Json = False,
    cluster: ClusterFlags = NO_CLUSTER,
) -> int:
    """Create a topic, or add partitions and set retention and message size; without --yes only show it.

    Parameters
    ----------
    topic
        Name of the topic.
    partitions
        Number of partitions; a topic that has more keeps them.
    copies
        Replication factor of a new topic.
    retention
        Retention, as 72h or 7d: how long an outage may last before rows are lost. Default: 72h.
    message_bytes
        Largest batch of records that the topic accepts.
    yes
        Apply it.
    as_json
        Print what exists and what would change as JSON.
    """
    wanted = {
        "retention.ms": str(int(retention * 1000)),
        "max.message.bytes": str(message_bytes),
    }
    settings = cluster_settings(cluster, topic)
    return asyncio.run(_work(settings, topic, (partitions, copies), wanted, yes=yes, as_json=as_json))


async def _work(
    settings: Any, name: str, size: tuple[int, int], wanted: dict[str, str], *, yes: bool, as_json: bool
) -> int:
    from lmstream.kafka.provisioning import administering

    async with administering(settings) as admin:
        there = await admin.topic(name)
        todo = _todo(name, there, size, wanted)
        if as_json:
            terminal.print_json({"topic": name, "there": there is not None, "todo": [*todo.values()]}, indent=None)
        for each in todo.values():
            terminal.say(each if yes else f"would {each}")
        if yes:
            for step in todo:
                await {
                    "make": lambda: admin.create(name, *size, wanted),
                    "grow": lambda: admin.grow(name, size[0]),
                    "set": lambda: admin.configure(name, wanted),
                }[step]()
    if not todo:
        terminal.say(f"{name} is as requested")
    elif not yes:
        terminal.say("Nothing was changed. Give --yes to apply it.")
    return 0


def _todo(
    name: str, there: tuple[int, int, dict[str, str]] | None, size: tuple[int, int], wanted: dict[str, str]
) -> dict[str, str]:
    """What is to be done, in words, by step. Raises ConfigError for what Kafka does not do."""
    partitions, copies = size
    if there is None:
        return {"make": f"make {name}: {partitions} partitions, {copies} copies, {_listed(wanted)}"}
    has, kept, configs = there
    if kept < copies:
        what = f"{name} has {kept} copies, {copies} are requested: use kafka-reassign-partitions.sh to add replicas"
        raise ConfigError("config.invalid", what)
    todo = {}
    if has < partitions:
        todo["grow"] = f"add partitions to {name}: {has} to {partitions}; keys map to other partitions from then on"
    if changed := {key: value for key, value in wanted.items() if configs.get(key) != value}:
        todo["set"] = f"set {_listed(changed)}"
    return todo


def _listed(configs: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in configs.items())
