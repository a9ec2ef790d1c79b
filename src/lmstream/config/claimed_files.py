"""Read records of files again whose rows were claimed, by their numbers in the run that landed them."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from msgspec import structs

from lmstream.errors import SourceError
from lmstream.interfaces import Assigned
from lmstream.model import Record, TopicPartition
from lmstream.settings import MIB, Limits
from lmstream.sources.files import Files, Settings, lane_in

_ROOM: Final = 16 * MIB
_LANE: Final = re.compile(r"(?:files|own)-[0-9a-f]{32}")


def is_of_files(topic: str) -> bool:
    """Whether claims of this name are those of files, or of what cannot be read again: standard input, say."""
    return _LANE.fullmatch(topic) is not None


class ClaimedFiles:
    """Reads windows of the lanes of some files. Their content is read once for its digest, and then for each window
    from its beginning."""

    def __init__(self, settings: Settings, workers: int, limits: Limits) -> None:
        """`workers` are those of the run: each had a lane of its own."""
        self._settings, self._workers, self._limits = settings, workers, limits
        self._lanes: dict[str, Settings] | None = None

    async def lanes(self) -> Mapping[str, Settings]:
        """What each of their lanes reads, by the name that its claims have for a topic. Raises SourceError."""
        if self._lanes is None:
            self._lanes = await asyncio.to_thread(self._found)
        return self._lanes

    async def __call__(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
        """By partition, from a number to before another. Raises SourceError for a lane of other files."""
        settings = (await self.lanes()).get(topic)
        if settings is None:
            raise SourceError("source.file", f"{topic}: source.paths has other files than the run that landed them")
        ((_, (start, end)),) = ranges.items()
        source = Files(settings, limits=self._limits)

        async def begin(places: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
            return dict.fromkeys(places, start)

        source.on_assign = begin
        try:
            ended = False
            while not ended:
                batch = await source.poll(_ROOM)
                ended = batch.end
                for record in batch.records:
                    yield record
                    if record.at + 1 >= end:
                        return
        finally:
            await source.close()

    def _found(self) -> dict[str, Settings]:
        shares = [structs.replace(self._settings, share=(n, self._workers)) for n in range(self._workers)]
        lanes = [(lane_in(each), each) for each in shares]
        return {lane.tp.topic: each for lane, each in lanes if lane.again}
