"""Kafka for verbs that look at a topic or publish to it: settings from flags, a reader of ranges, a producer."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmstream.cli.flags import BrokerFlags
from lmstream.config import Config
from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import connection
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls
from lmstream.model import Record
from lmstream.sources.kafka import Range, read_range


@dataclass(frozen=True)
class Span:
    """Offsets to read, by partition: from the first, to before the last."""

    start: Mapping[int, int]
    stop: Mapping[int, int]
    only: bool = False
    """Whether other partitions than those named are left out."""


def settings_of(config: Config) -> Settings:
    """Answer the settings of the Kafka source, which flags, environment or file must have given."""
    part = config.need("source")
    if not isinstance(part.settings, Settings):
        raise ConfigError("config.invalid", f"source.type is {part.name!r}, expected kafka")
    return part.settings


def client_overrides(broker: BrokerFlags, topic: str) -> dict[str, Any]:
    """Answer the settings that these flags stand for, for a source that is Kafka whatever the file says.

    Raises ConfigError for a pattern: a verb that reads none of it would say that nothing is there.
    """
    if topic.startswith("^"):
        raise ConfigError("config.invalid", f"--topic {topic}: a pattern is for run, lag and validate; name one topic")
    return {"source.type": "kafka", "source.topics": (topic,), **broker.overrides()}


async def read_topic(settings: Settings, span: Span) -> AsyncIterator[Record]:
    """Read the offsets of `span` of the one topic of `settings`."""
    (topic,) = settings.topics
    if span.only:
        partitions = set(span.start) | set(span.stop)
    else:
        consumer = await connection.connect(settings, group=False)
        try:
            partitions = set(consumer.partitions_for_topic(topic) or ())
            if unknown := sorted((set(span.start) | set(span.stop)) - partitions):
                raise ConfigError("config.invalid", f"--from, --to: topic {topic} has no partition {unknown[0]}")
        finally:
            await connection.stop(consumer)
    ranges: dict[int, Range] = {p: (span.start.get(p), span.stop.get(p)) for p in partitions}
    async for record in read_range(settings, topic, ranges):
        yield record


@contextlib.asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[Any]:
    """Start a producer with acks=all for the one topic of `settings`; stopping it sends what waits.

    Not idempotent: the lab's broker refuses that from aiokafka. After a lost acknowledgement the client sends again,
    and the topic may then hold a bundle twice.
    """
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

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
