"""Publish records to one topic: a producer that is stopped in the end."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lmstream.errors import SourceError
from lmstream.kafka import connection
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls


@contextlib.asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[Any]:
    """Start a producer with acks=all for the one topic of `settings`; stopping it sends what waits.

    Not idempotent: the lab's broker refuses that from aiokafka. After a lost acknowledgement the client sends again,
    and the topic may then hold a bundle twice.
    """
    (topic,) = settings.topics
    tls = Tls(settings)
    consumer = await connection.connect(settings, group=False, tls=tls)  # says what is wrong with broker, TLS or topic
    await connection.stop(consumer)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        client_id="lmstream-publish",
        acks="all",
        linger_ms=5,
        max_batch_size=512 * 1024,
        **tls.options,
    )
    try:
        await producer.start()
        await producer.partitions_for(topic)
    except (KafkaError, OSError) as e:
        await producer.stop()
        raise SourceError("source.unreachable", f"{settings.bootstrap}: {e}") from e
    try:
        yield producer
    finally:
        await producer.stop()
