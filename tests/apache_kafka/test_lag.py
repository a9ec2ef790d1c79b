"""Lag and time to data loss, as real brokers say them."""

import time

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from lmstream.kafka.lag import lag
from lmstream.sources import kafka
from support.kafka_scenarios import settings

RETENTION = 6 * 3600.0


@pytest.fixture
async def kept(cluster, topic):
    """A topic with a retention of its own, five records an hour old in one of two partitions."""
    context = cluster.certificates.client_context() if cluster.certificates else None
    security = {"security_protocol": "SSL" if context else "PLAINTEXT", "ssl_context": context}
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap, **security)
    await admin.start()
    config = {"retention.ms": str(int(RETENTION * 1000))}
    await admin.create_topics([NewTopic(topic, 2, 1, topic_configs=config)])
    producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, **security)
    await producer.start()
    at = int((time.time() - 3600) * 1000)
    for n in range(5):
        await producer.send_and_wait(topic, b"%d" % n, partition=1, timestamp_ms=at + n)
    await producer.stop()
    yield settings(cluster, kafka, topic)
    await admin.delete_topics([topic])
    await admin.close()


async def test_lag_is_counted_from_the_commit_and_measured_from_the_oldest_unread_record(kept, cluster):
    idle, behind = await lag(kept)
    assert (idle.partition, idle.records, idle.seconds, idle.loss) == (0, 0, 0.0, None)
    assert (behind.committed, behind.end, behind.records) == (None, 5, 5)
    assert behind.retention == RETENTION
    assert 3590 < behind.seconds < 3700
    assert behind.loss == pytest.approx(RETENTION - behind.seconds)
    from aiokafka import AIOKafkaConsumer

    context = cluster.certificates.client_context() if cluster.certificates else None
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        group_id=kept.group,
        enable_auto_commit=False,
        security_protocol="SSL" if context else "PLAINTEXT",
        ssl_context=context,
    )
    await consumer.start()
    consumer.assign([TopicPartition(kept.topics[0], 1)])
    await consumer.commit({TopicPartition(kept.topics[0], 1): 3})
    _, behind = await lag(kept)
    assert (behind.committed, behind.end, behind.records) == (3, 5, 2)
    await consumer.commit({TopicPartition(kept.topics[0], 1): 5})
    await consumer.stop()
    _, level = await lag(kept, retention=60.0)
    assert (level.records, level.seconds, level.loss, level.retention) == (0, 0.0, None, 60.0)
