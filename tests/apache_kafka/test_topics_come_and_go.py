"""Topics that are deleted, made again, and made later, read by both clients on a real broker."""

import asyncio
import logging
import time

import pytest

from lmstream.errors import SourceError
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime
from lmstream.testing import ScriptedSink
from support.doubles import make
from support.kafka_scenarios import produce, settings, source


def ready(consumer):
    """What /readyz would say of a run with this source."""
    runtime = Runtime(consumer, make(ScriptedSink()), clock=time.monotonic)
    runtime.state = "running"
    return Readings(runtime).ready()[:2]


async def deleted(cluster, topic):
    await cluster._ask(lambda admin: admin.delete_topics([topic]))


async def until(consumer, condition, seconds, what, records=None):
    """Poll until the condition holds; seconds it took."""
    began = time.monotonic()
    while not condition():
        batch = await consumer.poll(1 << 20)
        if records is not None:
            records += batch.records
        if batch.records:
            ends = {}
            for record in batch.records:
                ends[record.tp] = record.offset + 1
            await consumer.commit(ends)
        assert time.monotonic() - began < seconds, f"not in {seconds} s: {what}"
    return time.monotonic() - began


async def test_a_deleted_topic_is_said_and_read_again_within_seconds(ours, topic, module, caplog, say):
    caplog.set_level(logging.INFO)
    await ours.create_topic(topic, 2)
    await produce(ours, topic, [b"%d" % n for n in range(5)])
    records = []
    async with source(ours, module, topic, start_from="latest") as consumer:
        await until(consumer, lambda: consumer.health.state == "running", 20, "it runs")
        await produce(ours, topic, [b"old-%d" % n for n in range(5)])
        await until(consumer, lambda: len(records) >= 5, 20, "records of the first", records)
        assert ready(consumer) == (True, "running")

        await deleted(ours, topic)
        took = await until(consumer, lambda: consumer.health.missing, 15, "it is missed")
        assert ready(consumer) == (False, f"no such topic: {topic}")
        (said,) = [each for each in caplog.records if each.levelname == "ERROR" and each.name.startswith("lmstream")]
        assert topic in said.getMessage()
        assert said.code == "LMS-3003"
        say(f"missed after {took:.1f} s")
        await until(consumer, lambda: not consumer.assignment, 20, "no partition is left")

        records.clear()
        await ours.create_topic(topic, 2)
        await produce(ours, topic, [b"new-%d" % n for n in range(3)])
        took = await until(consumer, lambda: len(records) >= 3, 15, "records of the second", records)
        say(f"read again after {took:.1f} s")
        assert [each.value for each in records] == [b"new-0", b"new-1", b"new-2"]  # also with start_from = latest
        assert ready(consumer) == (True, "running")
        assert consumer.health.lost_by_retention == 0


async def test_topics_that_match_a_pattern_are_read_when_they_appear(ours, topic, module, say):
    fast = {"topics_refresh_ms": 1000}
    first, second = f"{topic}.one", f"{topic}.two"
    records = []
    async with source(ours, module, f"^{topic}[.].*", group=topic, **fast) as consumer:
        for _ in range(3):
            assert not (await consumer.poll(1 << 20)).records
        assert ready(consumer)[0] is False
        await ours.create_topic(first, 2)
        await ours.create_topic(f"no.{topic}.one")
        await produce(ours, first, [b"a", b"b"])
        took = await until(consumer, lambda: len(records) >= 2, 20, "the first topic", records)
        say(f"the first after {took:.1f} s")
        await ours.create_topic(second)
        await produce(ours, second, [b"c"])
        took = await until(consumer, lambda: len(records) >= 3, 20, "the second topic", records)
        say(f"the second after {took:.1f} s")
        assert {tp.topic for tp in consumer.assignment} == {first, second}
        assert ready(consumer) == (True, "running")
        await ours.add_partitions(first, 3)
        await produce(ours, first, [b"d"], partition=2)
        await until(consumer, lambda: len(records) >= 4, 20, "the new partition", records)
    assert [each.value for each in records] == [b"a", b"b", b"c", b"d"]


async def test_a_name_that_is_not_there_stops_a_start_or_is_waited_for(ours, topic, module):
    async with source(ours, module, topic) as consumer:
        with pytest.raises(SourceError, match=topic):
            await consumer.poll(1 << 20)
    records = []
    async with source(ours, module, topic, on_topic_missing="wait") as consumer:
        await consumer.poll(1 << 20)
        assert ready(consumer) == (False, "the source is starting")
        await ours.create_topic(topic)
        await produce(ours, topic, [b"a"])
        await until(consumer, lambda: records, 15, "its record", records)


async def test_the_lag_of_a_pattern_is_that_of_the_topics(ours, topic):
    from lmstream.kafka.lag import lag
    from lmstream.sources import kafka

    await ours.create_topic(f"{topic}.one", 2)
    await ours.create_topic(f"{topic}.two")
    await produce(ours, f"{topic}.two", [b"a"])
    found = await lag(settings(ours, kafka, f"^{topic}[.].*", group=topic))
    assert [(each.topic, each.partition, each.records) for each in found] == [
        (f"{topic}.one", 0, 0),
        (f"{topic}.one", 1, 0),
        (f"{topic}.two", 0, 1),
    ]
    await asyncio.sleep(0)
