"""Where a log begins for who asks by time: at the first record that is not older, whatever the broker answers."""

import contextlib

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from lmstream.kafka.log_bounds import log_bounds
from lmstream.kafka.range_reader import read_range
from lmstream.kafka.settings import Settings
from lmstream.lab import KafkaLab

NOW = 1_764_400_000_000
"""Milliseconds: before the broker's own clock, which it takes for the time of a batch."""


@contextlib.asynccontextmanager
async def topic():
    """Ten records a second apart: four alone, six in one batch. Nothing in a second partition."""
    async with KafkaLab() as kafka:
        await kafka.create_topic("t", 2)
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=50) as producer:
            for n in range(4):
                await producer.send_and_wait("t", b"x", partition=0, timestamp_ms=NOW + 1000 * n)
            sent = [await producer.send("t", b"x", partition=0, timestamp_ms=NOW + 1000 * n) for n in range(4, 10)]
            assert [(await each).offset for each in sent] == list(range(4, 10))
        yield Settings(bootstrap=kafka.bootstrap, topics=("t",), group="g")


async def test_a_time_is_found_to_the_record_and_none_behind_the_end():
    async with topic() as settings:
        for since, begin in (
            (0, 0),
            (NOW, 0),
            (NOW + 1, 1),
            (NOW + 3000, 3),
            (NOW + 4500, 5),
            (NOW + 7000, 7),
            (NOW + 9000, 9),
            (NOW + 9001, 10),
            (NOW + 10**12, 10),
        ):
            found = await log_bounds(settings, "t", since)
            assert (since, found[0].begin, found[1].begin) == (since, begin, 0)
            left = [each.offset async for each in read_range(settings, "t", {0: (found[0].begin, None)})]
            assert left == list(range(begin, 10))


async def test_the_brokers_own_answer_is_still_the_wrong_one():
    """When this fails, the look at each place may go."""
    async with topic() as settings, AIOKafkaConsumer(bootstrap_servers=settings.bootstrap) as consumer:
        tp = TopicPartition("t", 0)
        consumer.assign([tp])
        answer = (await consumer.offsets_for_times({tp: NOW + 10**12}))[tp]
        if answer is None:
            pytest.fail("the broker answers none behind the end now")
        assert (answer.offset, answer.timestamp) == (0, -1)
