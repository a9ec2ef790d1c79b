"""Who else is in a group, and what a group has committed, as real brokers say it before a start."""

import contextlib
import time

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from lmstream.config.config import Config
from lmstream.config.plugins import Part
from lmstream.hosts.container.service import tell_members
from lmstream.members import FORMER_GROUP
from support.kafka_scenarios import polled, produce, security, settings, source


async def asked(module, made):
    """What `validate --connect` says of the group of a source with these settings: (name, verdict, what, fix)."""
    asking = module.make(made)
    try:
        found = await asking.questions(1)
        return [(each.name, each.verdict, each.said, each.fix) for each in found if "group " in each.name]
    finally:
        await asking.close()


async def told(module, made):
    """What a run says of its group before it joins."""
    said = []
    asking = module.make(made)
    await tell_members(asking, Config(source=Part("kafka", module, made)), said.append)
    await asking.close()
    return said


@contextlib.asynccontextmanager
async def committing(cluster, group, topic):
    async with AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap, group_id=group, enable_auto_commit=False, **security(cluster)
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        yield consumer


async def test_other_members_of_the_group_and_what_they_read_are_told(cluster, topic, module):
    await cluster.create_topic(topic, 3)
    await produce(cluster, topic, [b"a"])
    made = settings(cluster, module, topic)
    assert await told(module, made) == []
    name = f"group {topic}"
    nobody = (f"members of {name}", "ok", "none now", "")
    assert nobody in await asked(module, made)
    async with source(cluster, module, topic) as other:
        await polled(other, 1)
        end = time.monotonic() + 30
        while len(other.assignment) < 3 and time.monotonic() < end:
            await other.poll(1 << 20)
        [line] = await told(module, made)
        assert line.startswith(f"group {topic} has 1 other member, and divides the topics among all: lmstream at ")
        assert line.endswith(f"reads {topic}/0-2")
        [(_, _, what, fix)] = [each for each in await asked(module, made) if each[1] == "warning"]
        assert what.startswith("1 now: lmstream at ")
        assert what.endswith(f"reads {topic}/0-2")
        assert "name another source.group" in fix
        # Another group sees nothing of it.
        assert await told(module, msgspec.structs.replace(made, group=f"{topic}-other")) == []


async def test_the_commits_of_the_former_default_are_shown_to_who_names_no_group(cluster, topic, module):
    await cluster.create_topic(topic, 2)
    await produce(cluster, topic, [b"a"] * 5)
    made = settings(cluster, module, topic, group="")
    former = f"group {FORMER_GROUP}"
    fix = 'to continue there, set source.group = "lmstream"; another group begins at source.start_from'
    assert (former, "warning", "nothing is committed there", fix) in await asked(module, made)
    async with committing(cluster, FORMER_GROUP, topic) as consumer:
        await consumer.commit({TopicPartition(topic, 0): 4})
    said = f"there are commits of the group lmstream: {topic}/0 at 4"
    assert (former, "warning", said, fix) in await asked(module, made)
    # One who took another name, and would read all of it again, is told as well.
    renamed = settings(cluster, module, topic, group=f"{topic}-new")
    assert (f"group {topic}-new", "warning", said, fix) in await asked(module, renamed)
    async with committing(cluster, renamed.group, topic) as consumer:
        await consumer.commit({TopicPartition(topic, 1): 0})
    fine = (f"group {topic}-new", "ok", f"its commits can be read: it has {topic}/1 at 0", "")
    assert fine in await asked(module, renamed)
