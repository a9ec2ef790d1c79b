"""Transactions: what lies between records (markers, aborted records) is no record that waits, and none that was lost."""

import asyncio
import itertools
import time

import pytest
from confluent_kafka import Producer

from apache_kafka.running import running
from lmstream.kafka.lag import lag
from lmstream.lab.generator import Generator
from lmstream.model import TopicPartition
from lmstream.sources import kafka
from support.kafka_scenarios import settings, source
from support.places import Reading

BUNDLES = itertools.islice(Generator(instances=1, start_ms=1_700_000_000_000).bundles(), 20)
PAYLOADS = [bundle.payload for bundle in BUNDLES]


class Sender:
    """One transactional producer."""

    def __init__(self, cluster, name):
        self._producer = Producer({**cluster.client(), "transactional.id": name, "linger.ms": 0})
        self._producer.init_transactions(20)

    def send(self, topic, values, end="commit"):
        """One transaction of these values; `end` is commit, abort, or open."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(topic, value, partition=0, timestamp=int(time.time() * 1000) - 60_000)
        self._producer.flush(20)
        if end == "commit":
            self._producer.commit_transaction(20)
        elif end == "abort":
            self.abort()

    def abort(self):
        self._producer.abort_transaction(20)


async def end_of(cluster, topic):
    (found,) = await lag(settings(cluster, kafka, topic))
    return found.end


async def commit_of(cluster, topic):
    return (await cluster.commits(topic)).get((topic, 0))


@pytest.mark.parametrize("tail", ["commit", "abort"])
async def test_the_commit_stands_behind_the_markers_and_nothing_is_said_to_be_lost(
    cluster, topic, module, tmp_path, tail
):
    await cluster.create_topic(topic)
    sender = await asyncio.to_thread(Sender, cluster, f"tx-{topic}")
    await asyncio.to_thread(sender.send, topic, PAYLOADS[:10])
    if tail == "abort":
        await asyncio.to_thread(sender.send, topic, PAYLOADS[:20], "abort")
    end = await end_of(cluster, topic)
    assert end == (11 if tail == "commit" else 32)

    async with running(cluster, module, topic, tmp_path) as run:
        source = run.join()

        async def level():
            return await commit_of(cluster, topic) == end

        await run.until(level, 20, f"the group is at {end}")

        def standing():  # for a moment a member that is joining again has no place
            found = source.standings().get(TopicPartition(topic, 0))
            return found is not None and (found.next, found.end) == (end, end)

        await run.until(standing, 20, f"the source stands at {end} of {end}")
        summary = await run.leave(source)
        assert (summary.records, summary.unacked) == (10, 0)
    began = time.monotonic()
    (found,) = await lag(settings(cluster, kafka, topic))
    assert (found.records, found.seconds) == (0, 0.0)
    assert time.monotonic() - began < 5

    await cluster.delete_before(topic, 0, end)  # as retention does
    async with running(cluster, module, topic, tmp_path) as run:
        source = run.join()
        await run.until(lambda: source.health.state == "running", 20, "it runs")
        await asyncio.to_thread(sender.send, topic, PAYLOADS[:3])
        await run.until(lambda: len(source.standings()) == 1 and len(run.sink.lines) > 0, 20, "it reads on")
        assert source.health.lost_by_retention == 0


async def test_what_is_passed_after_a_place_or_a_seek_begins_there(cluster, topic, module):
    """Records at 0 to 9, a marker, aborted records at 11 to 30, a marker: what is read ends at 32."""
    await cluster.create_topic(topic)
    sender = await asyncio.to_thread(Sender, cluster, f"tx-{topic}")
    await asyncio.to_thread(sender.send, topic, PAYLOADS[:10])
    await asyncio.to_thread(sender.send, topic, PAYLOADS[:20], "abort")
    tp = TopicPartition(topic, 0)

    async def on_assign(stands):
        assert (stands[tp].next, stands[tp].begin, stands[tp].end) == (0, 0, 32)
        return {tp: 5}

    async with source(cluster, module, topic) as consumer:
        consumer.on_assign = on_assign
        reading = Reading(consumer)
        for place in (None, 3, 15, 10):
            if place is not None:
                await consumer.seek({tp: place})
            await reading.until(lambda: (tp, consumer.assignment.get(tp)) in reading.passed)
            assert reading.latest(tp) == list(range(5 if place is None else place, 10))
            assert reading.passed[tp, consumer.assignment[tp]] == 32
        await consumer.seek({tp: 32})
        await reading.nothing(1)
        await asyncio.to_thread(sender.send, topic, PAYLOADS[:2])
        assert await reading.read(33, tp) == [32, 33]


async def test_lag_behind_an_old_commit_passes_over_markers(cluster, topic):
    """A group that stands before the markers, as one of an earlier version may."""
    await cluster.create_topic(topic)
    sender = await asyncio.to_thread(Sender, cluster, f"tx-{topic}")
    await asyncio.to_thread(sender.send, topic, PAYLOADS[:10])
    await cluster.commit(topic, topic, 0, 10)
    began = time.monotonic()
    (found,) = await lag(settings(cluster, kafka, topic))
    assert (found.committed, found.end, found.records, found.seconds) == (10, 11, 0, 0.0)
    assert time.monotonic() - began < 5


async def test_lag_sees_what_waits_behind_an_open_transaction(cluster, topic):
    await cluster.create_topic(topic)
    sender = await asyncio.to_thread(Sender, cluster, f"tx-{topic}")
    await asyncio.to_thread(sender.send, topic, PAYLOADS[:5], "open")
    try:
        began = time.monotonic()
        (found,) = await lag(settings(cluster, kafka, topic))
        assert (found.records, found.end) == (5, 5)
        assert 55 < found.seconds < 120
        assert time.monotonic() - began < 8
    finally:
        await asyncio.to_thread(sender.abort)
