"""What a broker says once and nobody repeats: a quota, and a group of two kinds of members."""

import asyncio
import logging
import struct
import time

import pytest

from lmstream.sources import confluent, kafka
from support.kafka_scenarios import polled, produce, source


async def test_two_kinds_of_members_in_one_group_are_named_with_the_way_out(ours, topic):
    await ours.create_topic(topic, 2)
    await produce(ours, topic, [b"a"])
    async with source(ours, confluent, topic) as first:
        await polled(first, 1)
        quick = {"restart_limit": 1, "restart_backoff_ms": 100, "restart_backoff_max_ms": 200}
        async with source(ours, kafka, topic, **quick) as second:
            end = time.monotonic() + 40
            with pytest.raises(Exception, match="LMS-3007") as told:  # noqa: PT012 - polled until it ends
                while time.monotonic() < end:
                    await asyncio.gather(second.poll(1), first.poll(1))
            said = str(told.value)
    assert "another one has the other source.type" in said
    assert "start them with one kind, or take another source.group" in said


async def set_quota(cluster, rate):
    """Bytes a second that consumers with our client id may read; None for no limit.

    kafka.apache.org/protocol#The_Messages_AlterClientQuotas, version 0: neither Python client has it.
    """
    body = struct.pack(">i", 1) + struct.pack(">i", 1) + _text("client-id") + _text("lmstream")
    body += struct.pack(">i", 1) + _text("consumer_byte_rate") + struct.pack(">d?", rate or 0.0, rate is None)
    request = struct.pack(">hhi", 49, 0, 1) + _text("test") + body + b"\0"
    host, _, port = cluster.plain.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    answer = await reader.readexactly(size)
    writer.close()
    assert struct.unpack_from(">iiih", answer) == (1, 0, 1, 0), answer  # correlation, throttle, one entry, no error


def _text(text):
    return struct.pack(">h", len(text)) + text.encode()


async def test_a_quota_that_holds_answers_back_is_said(ours, topic, module, caplog):
    caplog.set_level(logging.WARNING)
    await ours.create_topic(topic)
    await produce(ours, topic, [bytes(200_000)] * 3)
    await set_quota(ours, 20_000.0)
    try:
        async with source(ours, module, topic, partition_bytes=1024, fetch_bytes=1024) as consumer:
            await polled(consumer, 2, seconds=60)
            end = time.monotonic() + 20
            while not consumer.health.throttled and time.monotonic() < end:
                await consumer.poll(1 << 20)
            assert consumer.health.throttled
    finally:
        await set_quota(ours, None)
    (said,) = [each for each in caplog.records if "the brokers throttle fetches" in each.message]
    assert said.code == "LMS-3017"


@pytest.mark.parametrize("kind", [kafka, confluent], ids=["kafka", "confluent"])
def test_answers_that_are_held_back_are_said_once_a_minute(kind, caplog):
    made = kind.make(kind.Settings(bootstrap="127.0.0.1:1", topics=("t",)))
    caplog.set_level(logging.WARNING)
    for seconds in (0.3, 2.0, 5.0):
        made.throttled(seconds)
    (said,) = [each for each in caplog.records if "throttle fetches for 2 s" in each.message]
    assert said.code == "LMS-3017"
    assert made.health.throttled == 2
