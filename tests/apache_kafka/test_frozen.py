"""A member that was frozen until nobody is left in its group: what it settles after that, it may not commit."""

import asyncio
import contextlib
import itertools
import os
import signal
import struct
import sys
import textwrap
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from lmstream.lab.generator import Generator
from support.kafka_scenarios import committed as commit_of
from support.kafka_scenarios import security

SINK = """
    from pathlib import Path

    from msgspec import Struct

    from lmstream.model import Failure, Kind
    from lmstream.testing import Memory

    FOLDER = Path(__file__).parent

    FIRST = []

    def judge(pack):
        if not (FOLDER / "hold").exists():
            return None
        FIRST.append(pack.data)
        (FOLDER / "held").touch()
        if pack.data == FIRST[0] and (FOLDER / "one").exists():
            return None
        return Failure(Kind.RETRYABLE, "Held", "until the file hold is gone")

    def make(settings):
        return Memory(judge=judge)

    class Settings(Struct):
        pass
"""
SESSION_MS = 4000
PAYLOADS = [b.payload for b in itertools.islice(Generator(instances=1, start_ms=1_700_000_000_000).bundles(), 65)]


@contextlib.asynccontextmanager
async def member(cluster, topic, kind, folder, name):
    """One `lmstream run` whose sink is a module in a folder of its own."""
    home = folder / name
    (home / f"{name}_sink").mkdir(parents=True)
    (home / f"{name}_sink" / "__init__.py").write_text("")
    (home / f"{name}_sink" / "sink.py").write_text(textwrap.dedent(SINK))
    settings = {
        "source.type": kind,
        "source.group": topic,
        "source.session_timeout_ms": SESSION_MS,
        "source.heartbeat_interval_ms": 300,
        "source.rebalance_timeout_ms": 8000,
        "source.request_timeout_ms": 15_000,
        "sink.type": f"{name}_sink.sink",
        "runtime.commit_interval": 0.2,
        "runtime.drain_timeout": 5,
        "delivery.backoff_max": 0.3,
        "engine.org_id": "acme",
        "endpoints.address": "off",
        "dead_letters.root": str(home / "dead"),
    }
    command = [sys.executable, "-m", "lmstream", "run", "--bootstrap", cluster.plain, "--topic", topic]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    env = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{home}"}
    log = home / "log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out, env=env)
    try:
        yield process, home / f"{name}_sink", log
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("kind", ["kafka", "confluent"])
async def test_a_member_that_lost_its_membership_commits_nothing(ours, topic, tmp_path, kind, say):
    await ours.create_topic(topic)

    async def until(condition, what, seconds=40):
        end = time.monotonic() + seconds
        while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
            said = "\n".join(log.read_text()[-2000:] for log in tmp_path.glob("*/log"))
            assert time.monotonic() < end, f"not in {seconds} s: {what}\n{said}"
            await asyncio.sleep(0.1)

    async def committed(offset):
        async def reached():
            return (await commit_of(ours, topic, topic) or 0) >= offset

        await until(reached, f"commit of {offset}")

    async with AIOKafkaProducer(bootstrap_servers=ours.bootstrap, **security(ours)) as producer:

        async def publish(first, last):
            for payload in PAYLOADS[first:last]:
                await producer.send_and_wait(topic, payload, partition=0)

        await publish(0, 10)
        async with member(ours, topic, kind, tmp_path, "first") as (first, folder, log):
            await committed(10)
            (folder / "hold").touch()
            await publish(10, 11)
            await until((folder / "held").exists, "one record is held")
            first.send_signal(signal.SIGSTOP)
            await publish(11, 65)
            async with member(ours, topic, kind, tmp_path, "second") as (second, _, _):
                await committed(65)
                second.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(second.wait(), 30) == 0
            assert await commit_of(ours, topic, topic) == 65
            (folder / "one").touch()  # of what it holds, one record is settled: the next offset is 11
            first.send_signal(signal.SIGCONT)
            await asyncio.sleep(6)  # the drain's five seconds, before it joins again
            (folder / "hold").unlink()
            await publish(64, 65)  # what it may commit, as a member again
            await committed(66)
            seen = await all_commits(ours, topic)
            say(f"commits of the group: {seen}")
            assert seen == sorted(seen), log.read_text()[-3000:]
            assert seen[-1] == 66


def _text(data, at):
    (length,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + length].decode(), at + 2 + length


async def all_commits(cluster, group):
    """Every commit of a group of one partition, in order, as the brokers keep them in __consumer_offsets."""
    found = []
    where = KafkaPartition("__consumer_offsets", 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap, exclude_internal_topics=False, **security(cluster)
    ) as consumer:
        consumer.assign([where])
        end = (await consumer.end_offsets([where]))[where]
        consumer.seek(where, 0)
        while await consumer.position(where) < end:
            for record in (await consumer.getmany(where, timeout_ms=500)).get(where, ()):
                # Key: a version (0 and 1 are of commits), group, topic, partition. Value: a version and the offset.
                if struct.unpack_from(">h", record.key)[0] > 1 or record.value is None:
                    continue
                name, _ = _text(record.key, 2)
                if name == group:
                    found.append(struct.unpack_from(">q", record.value, 2)[0])
    return found
