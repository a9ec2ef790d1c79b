"""Read offsets again whose rows were claimed, as far as the topic still has them."""

from collections.abc import AsyncIterator, Mapping

import msgspec

from lmstream.kafka.log_bounds import log_bounds
from lmstream.kafka.range_reader import read_range
from lmstream.kafka.settings import Settings
from lmstream.model import Record


class ClaimedOffsets:
    """Reads ranges of topics of one cluster. Where a log begins is asked once a topic: what retention takes afterwards
    ends the reading with an error, and nothing is written then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begins: dict[str, Mapping[int, int]] = {}

    async def __call__(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
        """By partition, from an offset to before another. Raises SourceError and ConfigError."""
        settings = msgspec.structs.replace(self._settings, topics=(topic,))
        if topic not in self._begins:
            bounds = await log_bounds(settings, topic)
            self._begins[topic] = {partition: each.begin for partition, each in bounds.items()}
        begins = self._begins[topic]
        left = {p: (max(start, begins.get(p, 0)), end) for p, (start, end) in ranges.items()}
        left = {p: (start, end) for p, (start, end) in left.items() if start < end}
        if left:
            async for record in read_range(settings, topic, left):
                yield record
