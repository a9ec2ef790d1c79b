"""How far a run is behind on real brokers: the run and `lmstream lag` say one thing, in an outage, paused, and when
retention takes what is not settled or cannot be asked."""

import asyncio
import contextlib
import random
import time

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from lmstream import Engine, Settings
from lmstream.cli import main
from lmstream.dead_letters.letters import Letters
from lmstream.dead_letters.letters import Settings as LetterSettings
from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.hosts.container.watching import ask_ends, ask_retention
from lmstream.kafka.lag import lag
from lmstream.lab.generator import Generator
from lmstream.model import Failure, Kind, TopicPartition
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.sources import kafka
from lmstream.testing import Memory
from support.kafka_scenarios import security, settings
from support.wait import until

HOUR = 3600.0
KEPT = 6 * HOUR
DOWN = Failure(Kind.RETRYABLE, "ServiceUnavailableException", "slow down")


async def publish(cluster, topic, count, *, age=0.0, partition=0):
    """Bundles with the Kafka timestamp of so many seconds ago."""
    bundles = Generator(instances=1, start_ms=1_700_000_000_000).bundles()
    at = int((time.time() - age) * 1000)
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, **security(cluster)) as producer:
        for _, bundle in zip(range(count), bundles, strict=False):
            await producer.send(topic, bundle.payload, partition=partition, timestamp_ms=at)


@contextlib.asynccontextmanager
async def running(cluster, module, topic, folder, **more):
    """A run whose sink is down while `run.down`, and what is read of it."""
    source = module.make(settings(cluster, module, topic, **more))
    run = Memory(judge=lambda _: DOWN if run.down else None)
    run.down = True
    pipeline = Pipeline(
        Engine(Settings(org_id="acme")),
        run,
        Letters(LetterSettings(root=str(folder / "letters"))),
        clock=time.monotonic,
        sleep=asyncio.sleep,
        random=random.random,
        policy=DeliveryPolicy(timeout=1, backoff_max=0.5),
        budget=256 << 10,
    )
    runtime = Runtime(source, pipeline, clock=time.monotonic, policy=RuntimePolicy(commit_interval=0.2, grace=1))
    readings, said = Readings(runtime), []
    runtime.on_close = lambda: said.append(readings.last_words())
    task = asyncio.create_task(runtime.run())
    try:
        yield run, readings, said
    finally:
        runtime.stop()
        await asyncio.wait_for(task, 40)


async def asked(readings):
    await ask_retention(readings)
    await ask_ends(readings)
    return {each.partition: each for each in readings.partitions()}


def alike(ours, theirs):
    for name in ("records", "gone", "begin", "end", "committed", "retention", "retention_bytes", "retention_known"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("seconds", "loss", "oldest"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=3), name


async def test_in_an_outage_run_and_lag_say_one_thing_and_a_stop_says_until_when(cluster, topic, module, tmp_path):
    await cluster.create_topic(topic, 3, retention_ms=int(1000 * KEPT), retention_bytes=1 << 30)
    await publish(cluster, topic, 5, age=HOUR)
    await cluster.commit(topic, topic, 0, 2)
    async with running(cluster, module, topic, tmp_path) as (run, readings, said):
        await until(lambda: run.requests and len(readings.partitions()) == 3, 30, "it tries")
        await publish(cluster, topic, 3, age=60, partition=1)
        await until(lambda: readings.runtime.snapshot().pipeline.in_flight == 6, 30, "all is in flight")
        ours = await asked(readings)
        for theirs in await lag(settings(cluster, kafka, topic)):
            alike(ours[theirs.partition], theirs)
        assert (ours[0].committed, ours[0].records, ours[0].retention_bytes) == (2, 3, 1 << 30)
        assert HOUR < ours[0].seconds < HOUR + 60
        assert (ours[1].committed, ours[1].records) == (None, 3), "without a commit it is behind since its beginning"
        assert (ours[2].records, ours[2].seconds, ours[2].loss) == (0, 0.0, None)
        await until(lambda: not readings.ready().ready, 10, "it says that nothing settles")
        assert "the sink: ServiceUnavailableException: slow down" in readings.ready().why
    assert said[0].startswith("2 partitions are not settled; the oldest record is of 20")
    assert f", {topic}/0); retention takes it at 20" in said[0]
    assert said[0].endswith("or earlier by size (retention.bytes = 1,073,741,824): start again before")


async def test_while_reading_is_paused_the_truth_is_asked_for_and_what_is_gone_is_counted(
    cluster, topic, module, tmp_path
):
    await cluster.create_topic(topic, retention_ms=int(1000 * KEPT))
    await publish(cluster, topic, 300, age=HOUR)
    small = {"partition_bytes": 32 << 10, "fetch_bytes": 64 << 10}
    async with running(cluster, module, topic, tmp_path, **small) as (run, readings, _):
        await until(lambda: not readings.runtime.snapshot().reading, 30, "reading is paused")
        await publish(cluster, topic, 200)
        ours = (await asked(readings))[0]
        (theirs,) = await lag(settings(cluster, kafka, topic))
        alike(ours, theirs)
        assert (ours.records, ours.end) == (500, 500)
        await cluster.delete_before(topic, 0, 20)  # as retention does
        ours = (await asked(readings))[0]
        assert (ours.begin, ours.gone, ours.loss, ours.soon) == (20, 20, 0.0, True)
        assert "retention has taken 20 offsets already" in readings.last_words()
        run.down = False
        await until(lambda: readings.runtime.ledger.position(TopicPartition(topic, 0)) == 500, 60, "all is settled")
        assert readings.last_words() == ""
        assert not readings.behind()
    (theirs,) = await lag(settings(cluster, kafka, topic))
    assert (theirs.records, theirs.gone, theirs.seconds, theirs.loss) == (0, 0, 0.0, None)


async def test_a_group_that_starts_at_the_end_is_not_behind_what_came_before_it(cluster, topic, module, tmp_path):
    await cluster.create_topic(topic, 2, retention_ms=int(1000 * KEPT))
    await publish(cluster, topic, 5, age=HOUR)
    latest = settings(cluster, kafka, topic, start_from="latest")
    assert [(each.records, each.seconds) for each in await lag(latest)] == [(0, 0.0)] * 2
    assert (await lag(settings(cluster, kafka, topic)))[0].records == 5
    async with running(cluster, module, topic, tmp_path, start_from="latest") as (_, readings, _):
        await until(lambda: readings.runtime.source.health.state == "running", 30, "it is a member")
        stands = readings.standings
        await until(lambda: [each.next for _, each in sorted(stands().items())] == [5, 0], 30, "its place is committed")
        await publish(cluster, topic, 1, age=60)
        await until(lambda: readings.runtime.snapshot().pipeline.in_flight == 1, 30, "it is in flight")
        ours = await asked(readings)
        for theirs in await lag(latest):
            alike(ours[theirs.partition], theirs)
        assert 60 <= ours[0].seconds < 90


async def test_a_retention_that_may_not_be_asked_is_unknown_and_one_that_is_none_is_never(
    ours, topic, module, tmp_path, capsys
):
    await ours.create_topic(topic, retention_ms=int(1000 * KEPT))
    reading = [
        AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", right, AclPermissionType.ALLOW
        )
        for right in (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)
    ]
    await ours._ask(lambda admin: admin.create_acls(reading))
    await publish(ours, topic, 2, age=HOUR)
    async with running(ours, module, topic, tmp_path) as (_, readings, said):
        await until(lambda: readings.runtime.snapshot().pipeline.in_flight == 2, 30, "it is in flight")
        (found,) = (await asked(readings)).values()
        assert (found.retention_known, found.retention, found.loss, found.records) == (False, None, None, 2)
        assert HOUR < found.seconds < HOUR + 60
    assert "retention is unknown: the brokers do not report it" in said[0]
    pem = ours.certificates
    flags = ["--bootstrap", ours.bootstrap, "--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key]
    verb = ["lag", "--wide", "--topic", topic, "--group", topic, *map(str, flags)]
    assert await asyncio.to_thread(main, verb) == 0
    assert "retention unknown" in capsys.readouterr().out
    (theirs,) = await lag(settings(ours, kafka, topic), retention=2 * HOUR)
    assert theirs.loss == pytest.approx(2 * HOUR - theirs.seconds)


@pytest.mark.parametrize(
    ("config", "clause"),
    [
        ({"retention_ms": -1}, "retention never takes it"),
        ({"retention_ms": 3_600_000, "cleanup_policy": "compact"}, "retention never takes it"),
        ({"retention_ms": -1, "retention_bytes": 1 << 20}, "by size alone (retention.bytes = 1,048,576)"),
    ],
)
async def test_topics_without_a_limit_of_time(cluster, topic, config, clause, capsys):
    await cluster.create_topic(topic, **config)
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, **security(cluster)) as producer:
        await producer.send_and_wait(topic, b"{}", key=b"k", timestamp_ms=int((time.time() - 7200) * 1000))
    (found,) = await lag(settings(cluster, kafka, topic))
    assert (found.records, found.loss, found.retention, found.retention_known) == (1, None, None, True)
    pem = cluster.certificates
    tls = ["--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key] if pem else []
    verb = ["lag", "--topic", topic, "--group", topic, "--bootstrap", cluster.bootstrap, *map(str, tls)]
    assert await asyncio.to_thread(main, verb) == 0
    assert clause in capsys.readouterr().out
