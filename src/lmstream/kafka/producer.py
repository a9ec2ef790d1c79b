"""Send records to Kafka: one producer for dead letters and for `publish`, acknowledged by all in-sync replicas."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lmstream.errors import SourceError
from lmstream.kafka.connection import connect, stop
from lmstream.kafka.settings import KafkaConnection, Settings
from lmstream.kafka.tls import Tls


async def started(connection: KafkaConnection, tls: Tls, **options: Any) -> AIOKafkaProducer:
    """Start a producer with these options of aiokafka; `tls` is loaded. Raises what the client raises.

    Not idempotent: that takes a permission on the cluster, and the lab's broker refuses it from aiokafka. After a lost
    acknowledgement the client sends again, and the topic may then hold a record twice.
    """
    producer = AIOKafkaProducer(bootstrap_servers=connection.bootstrap, acks="all", **tls.options, **options)
    try:
        await producer.start()
    except BaseException:
        await stop(producer)
        raise
    return producer


@contextlib.asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for the one topic of `settings`; what waits in it is sent at the end of the block.

    Raises ConfigError or SourceError that say what is wrong with brokers, TLS or topic.
    """
    (topic,) = settings.topics
    tls = Tls(settings)
    await stop(await connect(settings, group=False, tls=tls))
    try:
        producer = await started(settings, tls, client_id="lmstream-publish", linger_ms=5, max_batch_size=512 * 1024)
        await producer.partitions_for(topic)
    except (KafkaError, OSError) as e:
        raise SourceError("source.unreachable", f"{settings.bootstrap}: {e}") from e
    try:
        yield producer
    finally:
        await producer.stop()  # not `stop`: it may take its time
