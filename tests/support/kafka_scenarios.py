"""What any Kafka source must live through, on any cluster: run on the lab's broker and on Apache Kafka alike.

A scenario takes the cluster (the face of KafkaLab: bootstrap, certificates, client_context, create_topic), a topic of
its own and the module of the source. It uses nothing but the seam, so that it holds for every implementation.
"""

import asyncio
import contextlib
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from lmstream.errors import LmstreamError
from lmstream.model import TopicPartition
from lmstream.sources.kafka import read_range

GROUP = {
    "session_timeout_ms": 2000,
    "heartbeat_interval_ms": 200,
    "rebalance_timeout_ms": 2000,
    "request_timeout_ms": 5000,
}
SCENARIOS = []


def scenario(run):
    SCENARIOS.append(run)
    return run


def settings(lab, module, *topics, **more):
    if lab.certificates is not None:
        certificates = lab.certificates
        tls = {
            "security": "ssl",
            "ca": str(certificates.ca),
            "cert": str(certificates.client_cert),
            "key": str(certificates.client_key),
        }
        more = tls | more
    usual = {"bootstrap": lab.bootstrap, "topics": topics, "group": "-".join(topics) or "g"}
    return module.Settings(**{**usual, **getattr(lab, "group", GROUP), **more})


@contextlib.asynccontextmanager
async def source(lab, module, *topics, **more):
    made = module.make(settings(lab, module, *topics, **more))
    try:
        yield made
    finally:
        await made.close()


def security(lab):
    context = lab.client_context()
    return {"security_protocol": "SSL", "ssl_context": context} if context else {}


async def produce(lab, topic, values, partition=0, **more):
    async with AIOKafkaProducer(bootstrap_servers=lab.bootstrap, **security(lab)) as producer:
        for n, value in enumerate(values):
            await producer.send_and_wait(topic, value, partition=partition, timestamp_ms=1_700_000_000_000 + n, **more)


async def committed(lab, group, topic, partition=0):
    """The group's commit as the broker knows it."""
    async with AIOKafkaConsumer(
        bootstrap_servers=lab.bootstrap, group_id=group, enable_auto_commit=False, **security(lab)
    ) as consumer:
        return await consumer.committed(KafkaPartition(topic, partition))


async def polled(consumer, count, room=1 << 20, seconds=15):
    records, epochs = [], {}
    async with asyncio.timeout(seconds):
        while len(records) < count:
            batch = await consumer.poll(room)
            records += batch.records
            epochs |= batch.epochs
    return records, epochs


@scenario
async def records_come_whole_once_and_go_on_after_the_commit(lab, lm, module):
    await lab.create_topic(lm, partitions=2)
    await produce(lab, lm, [b"a", None, b"c"], headers=[("h", b"1"), ("n", None)], key=b"k")
    await produce(lab, lm, [b"d"], partition=1)
    async with source(lab, module, lm) as first:
        records, epochs = await polled(first, 4)
        assert [r.value for r in records if r.partition == 0] == [b"a", None, b"c"]
        one = next(r for r in records if r.partition == 0)
        assert (one.offset, one.timestamp, one.key, one.headers) == (
            0,
            1_700_000_000_000,
            b"k",
            (("h", b"1"), ("n", None)),
        )
        assert epochs == first.assignment
        assert set(epochs) == {TopicPartition(lm, 0), TopicPartition(lm, 1)}
        await first.commit({TopicPartition(lm, 0): 2, TopicPartition(lm, 1): 1, TopicPartition("other", 0): 5})
        await first.commit({TopicPartition(lm, 0): 1})  # never backwards
    async with source(lab, module, lm) as second:
        records, _ = await polled(second, 1)
        assert [(r.partition, r.offset) for r in records] == [(0, 2)]

    got = [r async for r in read_range(settings(lab, module, lm), lm, {0: (1, 3), 1: (None, None)})]
    assert sorted((r.partition, r.offset) for r in got) == [(0, 1), (0, 2), (1, 0)]


@scenario
async def room_is_obeyed_and_no_room_keeps_the_membership(lab, lm, module):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"x" * 1000] * 20)
    async with source(lab, module, lm) as consumer:
        records, epochs = await polled(consumer, 1, room=1)
        assert len(records) == 1
        until = time.monotonic() + settings(lab, module, lm).session_timeout_ms / 1000 + 0.5
        while time.monotonic() < until:
            assert not (await consumer.poll(0)).records
        assert consumer.assignment == epochs
        while len(records) < 20:
            batch = await consumer.poll(2500)
            assert sum(len(r.value) for r in batch.records) <= 2500
            records += batch.records
        assert [r.offset for r in records] == list(range(20))


@scenario
async def a_compressed_batch_that_would_inflate_too_far_is_passed_on_closed_and_the_rest_goes_on(lab, lm, module):
    if not module.__name__.endswith(".kafka"):
        return  # librdkafka inflates by itself, where nothing of ours can look first
    limit, bomb = 4 << 20, 12 << 20
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        topic = f"{lm}-{codec}"
        await lab.create_topic(topic)
        options = {"compression_type": codec, "max_request_size": 1 << 30, "max_batch_size": 1 << 26, "linger_ms": 50}
        async with AIOKafkaProducer(bootstrap_servers=lab.bootstrap, **options, **security(lab)) as producer:
            for values in ([b"before"], [b"inside", bytes(bomb)], [b"large" * 600_000], [b"after"]):
                sent = [await producer.send(topic, value, partition=0) for value in values]
                await asyncio.gather(*sent)
        bounded = settings(lab, module, topic, batch_bytes=limit)
        async with source(lab, module, topic, batch_bytes=limit) as consumer:
            records, _ = await polled(consumer, 4, room=1 << 24)
        again = [each async for each in read_range(bounded, topic, {0: (None, None)})]
        for found in (records, again):
            closed = [each for each in found if each.closed]
            assert [each.offset for each in closed] == [2], codec
            assert "would inflate to more than 4,194,304" in closed[0].closed
            assert len(closed[0].value) < bomb // 10
            assert [each.value for each in found if not each.closed] == [b"before", b"large" * 600_000, b"after"]


@scenario
async def a_second_member_gets_its_share_after_the_drain(lab, lm, module):
    await lab.create_topic(lm, partitions=2)
    for partition in (0, 1):
        await produce(lab, lm, [b"v"] * 3, partition=partition)
    async with source(lab, module, lm) as one, source(lab, module, lm) as two:
        drained = []

        async def drain(partitions):
            # settles what is in flight: here all that was handed out
            drained.append(sorted(partitions))
            await one.commit({TopicPartition(lm, 0): 3, TopicPartition(lm, 1): 3})

        one.on_revoke = drain
        await polled(one, 6)
        stray = []
        async with asyncio.timeout(20):
            while len(one.assignment) != 1 or len(two.assignment) != 1:
                # Each is polled by itself, as two processes would: a member that waits must not keep the other from it.
                for batch in await asyncio.gather(*(member.poll(1 << 20) for member in (one, two))):
                    stray += batch.records
        assert set(drained[0]) & {TopicPartition(lm, 0), TopicPartition(lm, 1)}  # both, or the one that moves
        assert stray == []  # the commit of the drain is where the new assignment starts
        assert one.assignment.keys() | two.assignment.keys() == {TopicPartition(lm, 0), TopicPartition(lm, 1)}
        assert max(one.assignment.values()) > 1


@scenario
async def latest_skips_what_was_there_and_is_pinned_at_once(lab, lm, module):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"old"])
    async with source(lab, module, lm, start_from="latest") as consumer:
        async with asyncio.timeout(15):
            while await committed(lab, lm, lm) != 1:
                assert not (await consumer.poll(1 << 20)).records
    await produce(lab, lm, [b"new"])  # while nobody reads
    async with source(lab, module, lm, start_from="latest") as consumer:
        records, _ = await polled(consumer, 1)
        assert [r.value for r in records] == [b"new"]


@scenario
async def a_partition_begins_where_it_is_told_and_is_sought(lab, lm, module):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"%d" % n for n in range(12)])
    tp, told, read = TopicPartition(lm, 0), [], {}

    async def until(consumer, offsets):
        async with asyncio.timeout(20):
            while read.get(consumer.assignment.get(tp)) != offsets:
                batch = await consumer.poll(3)
                for record in batch.records:
                    read.setdefault(batch.epochs[tp], []).append(record.offset)

    async def on_assign(stands):
        told.append(dict(stands))
        return {tp: 4}

    for place in (2, 9):  # before where it begins, and behind it
        async with source(lab, module, lm) as consumer:
            consumer.on_assign = on_assign
            await until(consumer, list(range(4, 12)))
            await consumer.commit({tp: 7})
            await consumer.seek({tp: place})
            await until(consumer, list(range(place, 12)))
            assert await committed(lab, lm, lm) == 7
    assert [(each[tp].next, each[tp].committed, each[tp].begin) for each in told] == [(0, False, 0), (7, True, 0)]
    assert {offsets[0] for offsets in read.values()} == {4, 2, 9}


@scenario
async def a_range_that_does_not_exist_is_named_and_one_past_the_end_ends(lab, lm, module):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"v"] * 3)
    got = [r.offset async for r in read_range(settings(lab, module, lm), lm, {0: (0, 1000)})]
    assert got == [0, 1, 2]
    assert [r async for r in read_range(settings(lab, module, lm), lm, {0: (3, 3)})] == []
    for ranges, topic, reason in [
        ({7: (0, 1)}, lm, "source.topic"),
        ({0: (50, 60)}, lm, "source.offset"),
        ({0: (0, 1)}, "x", "source.topic"),
    ]:
        with pytest.raises(LmstreamError) as caught:
            [r async for r in read_range(settings(lab, module, lm), topic, ranges)]
        assert caught.value.reason == reason
