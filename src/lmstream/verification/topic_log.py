"""Topics as a prover reads them: outside of any group, in event loops of its own."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from lmstream.errors import ConfigError
from lmstream.model import Record, TopicPartition
from lmstream.verification.proof import Bound, Place

if TYPE_CHECKING:
    from lmstream.kafka.settings import Settings


class TopicLog:
    """A proof.Log of the topics of a source. Not to be used where an event loop runs."""

    def __init__(self, settings: "Settings") -> None:
        """Raises ConfigError for a pattern: what it matches is not known."""
        self._settings = settings
        if patterns := [each for each in settings.topics if each.startswith("^")]:
            what = f"{', '.join(patterns)}: a pattern is for run, lag and validate"
            raise ConfigError("config.invalid", what, "name the topics with --topic")

    def _of(self, topic: str) -> "Settings":
        return msgspec.structs.replace(self._settings, topics=(topic,))

    def bounds(self) -> Mapping[Place, Bound]:
        """Of every partition. Raises SourceError and ConfigError."""
        from lmstream.kafka.log_bounds import log_bounds

        async def ask() -> dict[Place, Bound]:
            found: dict[Place, Bound] = {}
            for topic in self._settings.topics:
                for partition, each in (await log_bounds(self._of(topic), topic)).items():
                    found[topic, partition] = Bound(each.begin, each.committed)
            return found

        return asyncio.run(ask())

    def read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Iterator[Record]:
        """Records by partition, from an offset to before another. Raises SourceError."""
        from lmstream.kafka.range_reader import read_range

        records: AsyncGenerator[Record] = read_range(self._of(topic), topic, ranges)

        async def following() -> Record | None:
            return await anext(records, None)

        with asyncio.Runner() as runner:
            try:
                while (record := runner.run(following())) is not None:
                    yield record
            finally:
                runner.run(records.aclose())

    def first(self, offsets: Mapping[Place, int]) -> Mapping[Place, int]:
        """Time, in ms since 1970, of the first record from each of these offsets on. Raises SourceError."""
        from lmstream.kafka.lag import look

        looks = asyncio.run(look(self._settings, {TopicPartition(*place): n for place, n in offsets.items()}))
        return {(tp.topic, tp.partition): each.first[1] for tp, each in looks.items() if each.first is not None}
