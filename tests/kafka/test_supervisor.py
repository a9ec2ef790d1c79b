"""The supervised sources under errors of the broker, request by request, on the mock cluster."""

import asyncio
import contextlib
import json
import os
import threading
from pathlib import Path
from time import monotonic

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from lmstream.errors import ConfigError, RestartError, SourceError
from lmstream.sources import confluent, kafka
from support.mock_kafka import MockKafka
from support.supervised import GROUP, TOPIC, Run, running

pytestmark = pytest.mark.slow  # seconds each: `make test-faults` runs them

MODULES = [pytest.param(kafka, id="kafka"), pytest.param(confluent, id="confluent")]


def note(name, run, seconds):
    """One line for each fault, where the environment names a file for them."""
    if path := os.environ.get("LMSTREAM_TEST_FIGURES"):
        health = run.source.health
        figures = {"fault": name, "seconds": round(seconds, 2), "recreations": health.recreations}
        with Path(path).open("a") as out:
            out.write(json.dumps(figures | {"duplicates": run.duplicates(), "rebalances": health.rebalances}) + "\n")


async def recovers(name, run, *, seconds=12):
    """Send more after a fault, and see it all land."""
    begin = monotonic()
    await run.produce(20)
    await run.settled(seconds)
    note(faulted(name, run), run, monotonic() - begin)
    run.check()


each = pytest.mark.parametrize("module", MODULES)


def faulted(name, run):
    return f"{run.source.__class__.__name__.lower()}: {name}"


async def side_by_side(*runs):
    """Each on a cluster of its own: what they do is mostly to wait."""
    ran = await asyncio.gather(*runs, return_exceptions=True)
    if failed := [error for error in ran if error is not None]:
        raise BaseExceptionGroup("runs that failed", failed)


@each
async def test_a_heartbeat_that_is_refused_does_not_end_the_reading(module):
    await side_by_side(*(heartbeat(module, code) for code in (14, 7, -1, 30, 25, 22, 27)))


async def heartbeat(module, code):
    async with running(module) as run:
        run.kafka.requests()
        run.kafka.push_errors("Heartbeat", code)
        await recovers(f"heartbeat {code}", run)
        health = run.source.health
        await run.until(lambda: health.state == "running")
        # A member that the group does not know any more reads again what it could not commit.
        assert run.duplicates() <= (20 if code in {22, 25, 27} else 0)
        assert sum(health.recreations.values()) <= 1


@contextlib.asynccontextmanager
async def leaving_no_thread():
    """What ran in between has ended, its client's thread too: one that hangs in its library may spin for ever."""
    before = set(threading.enumerate())
    yield
    async with asyncio.timeout(10):
        while [each for each in set(threading.enumerate()) - before if each.name == "librdkafka"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@each
async def test_a_fenced_member_ends_with_75_and_says_why(module):
    async with leaving_no_thread(), running(module) as run:
        run.kafka.push_errors("Heartbeat", 82)
        with pytest.raises(RestartError, match="instance") as caught:
            await asyncio.wait_for(asyncio.shield(run.task), 15)
        assert (caught.value.reason, caught.value.exit_code) == ("source.fenced", 75)
        run.check()


@each
async def test_a_commit_that_is_refused_is_covered_by_the_next(module):
    cases = [[12], [28, 28], [25], [22], [27]]
    cases += [[82]] if module is kafka else []  # fatal for librdkafka, as the next test shows
    await side_by_side(*(refused_commit(module, codes) for codes in cases))


async def refused_commit(module, codes):
    async with running(module) as run:
        run.kafka.push_errors("OffsetCommit", *codes)
        await recovers(f"commit {codes[0]}", run)
        if codes[0] in (12, 28):
            assert run.runtime.progress().commit_failures
            assert run.source.health.rebalances == 1


async def test_a_fenced_commit_ends_librdkafka_with_75():
    async with leaving_no_thread(), running(confluent) as run:
        run.kafka.push_errors("OffsetCommit", 82)
        await run.produce(20)
        with pytest.raises(RestartError) as caught:
            await asyncio.wait_for(asyncio.shield(run.task), 15)
        assert caught.value.reason == "source.fenced"
        run.check()


@each
@pytest.mark.slow
async def test_commits_that_hang_are_given_up_and_made_again(module):
    async with running(module) as run:
        run.kafka.rtt(1, 1.5)
        produced = asyncio.create_task(run.produce(20))
        await run.until(lambda: run.runtime.progress().commit_failures or run.source.health.recreations)
        run.kafka.rtt(1, 0)
        await produced
        await recovers("every answer 1.5 s late", run)


@each
@pytest.mark.slow
async def test_a_coordinator_that_is_late_does_not_stop_the_reading(module):
    async with running(module, brokers=3) as run:
        run.kafka.coordinator(GROUP, 2)
        run.kafka.leader(TOPIC, 0, 1)
        await recovers("coordinator moved", run)
        run.kafka.rtt(2, 2)  # above the time limit of a commit
        begin = monotonic()
        await run.produce(20)
        await run.until(lambda: run.runtime.progress().commit_failures or run.source.health.recreations)
        await run.until(lambda: all(run.landed(0, n) for n in range(run.sent[0])))
        run.kafka.rtt(2, 0)
        await run.settled()
        note(faulted("coordinator 2 s late", run), run, monotonic() - begin)
        run.check()


@each
@pytest.mark.slow
@pytest.mark.parametrize("brokers", [1, 3])
async def test_all_brokers_go_away_and_come_back(module, brokers):
    async with running(module, brokers=brokers) as run:
        for broker in range(1, brokers + 1):
            run.kafka.broker_down(broker)
        begin = monotonic()
        await asyncio.sleep(4)  # longer than the session
        assert not run.task.done()
        for broker in range(1, brokers + 1):
            run.kafka.broker_up(broker)
        await recovers(f"{brokers} brokers down for {monotonic() - begin:.0f} s", run, seconds=25)


@each
@pytest.mark.slow
async def test_leaders_and_coordinators_move_without_notice(module):
    async with running(module, brokers=3) as run:
        for broker in (2, 3, 1):
            run.kafka.leader(TOPIC, 0, broker)
            run.kafka.coordinator(GROUP, broker % 3 + 1)
            await recovers("leader and coordinator moved", run)
        assert not run.source.health.recreations
        assert run.duplicates() == 0


@each
async def test_a_follower_nearby_is_read_from(module):
    async with running(module, brokers=3, client_rack="a") as run:
        run.kafka.leader(TOPIC, 0, 1)
        run.kafka.follower(TOPIC, 0, 3)
        await recovers("fetch from follower", run)
        assert run.duplicates() == 0


@each
async def test_a_fetch_that_is_refused_is_made_again(module):
    await side_by_side(*(fetch(module, code) for code in (2, 6, 56, 74, 75, 9, -1, 29)))


async def fetch(module, code):
    async with running(module) as run:
        run.kafka.push_errors("Fetch", code)
        await recovers(f"fetch {code}", run)


@each
async def test_an_offset_refused_for_a_moment_is_read_and_nothing_is_skipped(module):
    async with running(module) as run:
        run.kafka.push_errors("Fetch", 1)
        await recovers("fetch 1, offset still there", run)
        assert run.source.health.lost_by_retention == 0


@each
@pytest.mark.parametrize("policy", ["stop", "earliest"])
async def test_offsets_that_retention_took_are_counted_exactly(module, policy, caplog):
    async with running(module) as first:
        kafka = first.kafka
        first.runtime.stop()
        await first.task
        await first.produce(30)
        kafka.delete_records(TOPIC, 0, 35)
        again = Run(kafka, module, on_offset_lost=policy)
        again.sent, again.gone = first.sent, set(range(35))
        begin = monotonic()
        again.task = asyncio.create_task(again.runtime.run())
        if policy == "stop":
            with pytest.raises(SourceError, match=f"{TOPIC}/0/20: 15 offsets up to 34") as caught:
                await asyncio.wait_for(again.task, 15)
            assert (caught.value.reason, caught.value.exit_code) == ("source.offset", 1)
        else:
            await again.settled()
            note(faulted("15 offsets gone", again), again, monotonic() - begin)
            again.runtime.stop()
            await again.task
            again.check()
        assert again.source.health.lost_by_retention == 15
        assert "15 offsets" in caplog.text


@each
@pytest.mark.parametrize("policy", ["stop", "earliest"])
async def test_a_topic_made_anew_is_noticed(module, policy):
    async with MockKafka() as mock:
        mock.create_topic(TOPIC, 1)
        async with AIOKafkaConsumer(bootstrap_servers=mock.bootstrap, group_id=GROUP, enable_auto_commit=False) as old:
            old.assign([KafkaPartition(TOPIC, 0)])
            await old.commit({KafkaPartition(TOPIC, 0): 50})  # of the topic that was there before
        run = Run(mock, module, on_offset_lost=policy)
        await run.produce(20)
        begin = monotonic()
        run.task = asyncio.create_task(run.runtime.run())
        if policy == "stop":
            with pytest.raises(SourceError, match="ends at 20, below") as caught:
                await asyncio.wait_for(run.task, 15)
            assert caught.value.reason == "source.offset"
        else:
            await run.settled()
            note(faulted("topic made anew", run), run, monotonic() - begin)
            run.runtime.stop()
            await run.task
            run.check()
        assert (run.source.health.topic_resets, run.source.health.lost_by_retention) == (1, 0)


@each
@pytest.mark.slow
async def test_new_members_that_do_not_help_end_with_75(module):
    async with running(module, restart_limit=2) as run:
        run.kafka.push_errors("Fetch", *[29] * 1000)
        with pytest.raises(RestartError, match="3 denied") as caught:
            await asyncio.wait_for(asyncio.shield(run.task), 15)
        assert (caught.value.reason, caught.value.exit_code) == ("source.stuck", 75)
        run.check()


@each
async def test_missing_rights_at_the_start_are_no_reason_to_try_again(module):
    async with MockKafka() as kafka:
        kafka.create_topic(TOPIC, 1)
        kafka.push_errors("JoinGroup", *[30] * 100)
        run = Run(kafka, module)
        with pytest.raises(SourceError, match=r"(?i)group.*authori") as caught:
            await asyncio.wait_for(run.runtime.run(), 15)
        assert (caught.value.reason, caught.value.exit_code) == ("source.topic", 1)


@each
@pytest.mark.parametrize(
    ("client", "text"),
    [
        ({"enable.auto.commit": True}, "only settled records"),
        ({"auto_offset_reset": "latest"}, "rows would be lost"),
        ({"isolation.level": "read_uncommitted"}, "aborted"),
        ({"ssl.ca.location": "x"}, "security, ca, cert"),
        ({"group.id": "x"}, "set group"),
    ],
)
def test_settings_that_lmstream_owns_are_refused_with_a_reason(module, client, text):
    with pytest.raises(ConfigError, match=text):
        module.make(module.Settings(bootstrap="h:1", topics=("t",), client=client))


async def test_other_settings_reach_the_client_and_wrong_ones_are_said():
    with pytest.raises(ConfigError, match="expected bool, saw 'maybe'"):
        kafka.make(kafka.Settings(bootstrap="h:1", topics=("t",), client={"exclude_internal_topics": "maybe"}))
    # As text, as the environment has it.
    async with running(kafka, client={"exclude_internal_topics": "false", "client.id": "mine"}) as run:
        assert run.source._member._consumer._client._client_id == "mine"
    with pytest.raises(ConfigError, match="did you mean 'check_crcs'"):
        kafka.make(kafka.Settings(bootstrap="h:1", topics=("t",), client={"check_crc": False}))
    async with running(confluent, client={"fetch.wait.max.ms": 50}):
        pass
    with pytest.raises(ConfigError, match=r"fetch\.wait\.max"):
        confluent.make(confluent.Settings(bootstrap="h:1", topics=("t",), client={"fetch.wait.max": 50}))
