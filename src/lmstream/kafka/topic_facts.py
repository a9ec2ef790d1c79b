"""What brokers say of topics to somebody who is about to write a configuration: names, partitions, limits."""

from collections.abc import Iterable
from typing import NamedTuple

from lmstream.behind import Retention
from lmstream.errors import SourceError
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls
from lmstream.kafka.topics import Wanted

_MESSAGE = "max.message.bytes"


class TopicFacts(NamedTuple):
    """One topic."""

    name: str
    partitions: int
    retention: Retention | None
    """None: the brokers do not say."""
    message_bytes: int | None
    """Bytes of the largest batch of records that it accepts; None: the brokers do not say."""


async def topic_names(settings: Settings) -> list[str]:
    """All topics that this client may see, those of Kafka itself left out. Raises ConfigError or SourceError."""
    return sorted(name for name in await _partitions(settings) if not name.startswith("__"))


async def topic_facts(settings: Settings) -> list[TopicFacts]:
    """The topics of the settings, those that there are. Raises ConfigError or SourceError."""
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - an extra

    from lmstream.kafka.admin import admin, retentions, topic_settings  # noqa: PLC0415 - as above
    from lmstream.kafka.connection import explained  # noqa: PLC0415 - as above

    there = await _partitions(settings)
    names = sorted(Wanted(settings.topics).of(there))
    try:
        async with admin(settings, Tls(settings)) as client:
            kept = await retentions(client, names)
            sizes = await topic_settings(client, names, _MESSAGE)
    except (KafkaError, OSError) as error:
        raise SourceError(*explained(error)) from error
    return [TopicFacts(name, there[name], kept.get(name), _size(sizes.get(name, {}))) for name in names]


def _size(values: dict[str, str]) -> int | None:
    return int(values[_MESSAGE]) if _MESSAGE in values else None


async def _partitions(settings: Settings) -> dict[str, int]:
    """Every topic with its number of partitions. All are asked for: brokers may make one that is asked for by name."""
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - an extra

    from lmstream.kafka.admin import admin  # noqa: PLC0415 - as above
    from lmstream.kafka.connection import explained, reached  # noqa: PLC0415 - as above

    tls = Tls(settings)
    try:
        async with reached(settings, tls), admin(settings, tls) as client:
            described: Iterable[dict[str, object]] = await client.describe_topics()
            return {str(each["topic"]): _count(each["partitions"]) for each in described}
    except (KafkaError, OSError) as error:
        raise SourceError(*explained(error)) from error


def _count(partitions: object) -> int:
    return len(partitions) if isinstance(partitions, list | tuple) else 0
