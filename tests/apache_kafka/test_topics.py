"""What topics can hold: every compression, transactions, compacted records, deleted records, more partitions."""

import asyncio
import time

import pytest
from confluent_kafka import Producer

from apache_kafka.running import running
from lmstream.errors import SourceError
from lmstream.model import TopicPartition
from support.kafka_scenarios import polled, produce, read_range, settings, source

CODECS = ("gzip", "snappy", "lz4", "zstd")


def send(producer, topic, *values, **more):
    for value in values:
        producer.produce(topic, value, partition=0, **more)
    assert producer.flush(20) == 0


async def whole(cluster, module, topic):
    return [(r.offset, r.value) async for r in read_range(settings(cluster, module, topic), topic, {0: (None, None)})]


async def test_every_compression_is_read(cluster, topic, module):
    # The broker itself compresses: what the consumer gets is sure to be compressed that way.
    topics = [f"{topic}-{codec}" for codec in CODECS]
    values = [b'{"n":%d,"pad":"%b"}' % (n, b"x" * 500) for n in range(300)]
    for name, codec in zip(topics, CODECS, strict=True):
        await cluster.create_topic(name, compression_type=codec)
        await asyncio.to_thread(send, Producer(cluster.client() | {"linger.ms": 20}), name, *values)
    async with source(cluster, module, *topics) as consumer:
        records, _ = await polled(consumer, len(topics) * len(values), seconds=30)
    for name in topics:
        assert [(r.offset, r.value) for r in records if r.topic == name] == list(enumerate(values))


async def test_commits_pass_over_what_a_transaction_leaves(cluster, topic, module, tmp_path):
    def transactions():
        producer = Producer(cluster.client() | {"transactional.id": topic})
        producer.init_transactions(20)
        for commit, values in [(True, b"abc"), (False, b"xyz"), (True, b"de"), (False, b"uvw")]:
            producer.begin_transaction()
            send(producer, topic, *(bytes([value]) for value in values))
            (producer.commit_transaction if commit else producer.abort_transaction)(20)
        producer.begin_transaction()
        send(producer, topic, b"f")
        return producer  # its last transaction is open

    await cluster.create_topic(topic)
    producer = await asyncio.to_thread(transactions)
    kept = [(0, b"a"), (1, b"b"), (2, b"c"), (8, b"d"), (9, b"e")]  # 3, 7, 10 and 14 are markers
    assert await whole(cluster, module, topic) == kept
    async with running(cluster, module, topic, tmp_path) as run:
        member = run.join()  # these are no bundles: each becomes a dead letter, and is settled by that
        await run.until(lambda: _stands(cluster, topic, 15), 20, "the commit behind what was aborted")
        await asyncio.to_thread(producer.commit_transaction, 20)
        await run.until(lambda: _stands(cluster, topic, 17), 20, "the commit behind the last marker")
        assert (await run.leave(member)).records == len(kept) + 1
    letters = sorted(int(path.stem) for path in (tmp_path / "dead-letters").rglob("*.json"))
    assert letters == [*(offset for offset, _ in kept), 15]
    await produce(cluster, topic, [b"g"])
    async with source(cluster, module, topic) as consumer:
        assert [(r.offset, r.value) for r in (await polled(consumer, 1))[0]] == [(17, b"g")]


async def _stands(cluster, topic, offset):
    now = (await cluster.commits(topic)).get((topic, 0), 0)
    assert now <= offset
    return now == offset


async def test_commits_pass_over_what_compaction_leaves(cluster, topic, module):
    await cluster.create_topic(
        topic, cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.001, max_compaction_lag_ms=500
    )
    producer = Producer(cluster.client())
    until = time.monotonic() + 60
    await asyncio.to_thread(send, producer, topic, *(b"%d" % n for n in range(20)), key=b"same")
    while True:  # a record rolls the segment; the cleaner then comes around
        await asyncio.to_thread(send, producer, topic, b"roll", key=b"roll")
        left = await whole(cluster, module, topic)
        if (0, b"0") not in left:
            break
        assert time.monotonic() < until, "nothing was compacted"
        await asyncio.sleep(0.5)
    assert (19, b"19") in left
    await asyncio.to_thread(send, producer, topic, b"end", key=b"end")
    async with source(cluster, module, topic) as consumer:
        records = []
        async with asyncio.timeout(20):
            while not records or records[-1].value != b"end":
                records += (await consumer.poll(1 << 20)).records
        offsets = [r.offset for r in records]
        assert offsets == sorted(set(offsets))
        assert offsets[0] > 0
        await consumer.commit({TopicPartition(topic, 0): offsets[-1] + 1})
    assert await cluster.commits(topic) == {(topic, 0): offsets[-1] + 1}


async def test_records_that_retention_took_are_named(cluster, topic, module):
    await cluster.create_topic(topic)
    await produce(cluster, topic, [b"%d" % n for n in range(10)])
    await cluster.commit(topic, topic, 0, 2)
    await cluster.delete_before(topic, 0, 7)
    # Never silently on: the rows of 2 to 6 are lost, and somebody has to know.
    async with source(cluster, module, topic) as consumer:
        with pytest.raises(SourceError, match=f"{topic}/0/2") as caught:
            await polled(consumer, 1)
        assert caught.value.reason == "source.offset"
    # A group that comes for the first time missed nothing: it starts at what there is.
    async with source(cluster, module, topic, group=f"{topic}-new") as consumer:
        assert [r.offset for r in (await polled(consumer, 3))[0]] == [7, 8, 9]


async def test_partitions_that_are_added_are_read_from_their_beginning(cluster, topic, module):
    await cluster.create_topic(topic)
    await produce(cluster, topic, [b"0"])
    # By default a client looks for new partitions every five minutes.
    names = {"kafka": "metadata_max_age_ms", "confluent": "topic.metadata.refresh.interval.ms"}
    often = {names[module.__name__.rpartition(".")[2]]: 1000}
    async with source(cluster, module, topic, start_from="latest", client=often) as consumer:
        async with asyncio.timeout(20):
            while await cluster.commits(topic) != {(topic, 0): 1}:
                await consumer.poll(1 << 20)
        await cluster.add_partitions(topic, 3)
        for partition in (1, 2):  # before the consumer can have seen them: latest would skip these
            await produce(cluster, topic, [b"new"], partition=partition)
        records, _ = await polled(consumer, 2, seconds=60)
        assert {(r.partition, r.offset, r.value) for r in records} == {(1, 0, b"new"), (2, 0, b"new")}
