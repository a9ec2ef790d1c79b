"""The topics of a lake, asked over Kafka: which offsets they have, and their records."""

from collections.abc import AsyncIterator

from lmstream.engine import Engine
from lmstream.model import Record
from lmstream.settings import Settings
from lmstream.verification.lake.remade import Bounds, Remade
from lmstream.verification.topics import Topics


def remade(topics: Topics, today: Settings) -> Remade:
    """What these topics owe. `today` are the settings for records that no claim has."""
    bounds = {
        (topic, partition): Bounds(begin, stop, committed)
        for topic, partition, begin, stop, committed in topics.bounds()
    }

    def read(topic: str, partition: int, start: int, stop: int) -> AsyncIterator[Record]:
        return topics.records(topic, {partition: (start, stop)})

    return Remade(bounds, read, today, engine=Engine)
