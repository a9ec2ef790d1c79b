"""Dead letters that are replayed into a lake: a letter after the other, and what became of them."""

from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from lmstream.cli import terminal
from lmstream.config import Config, build_letters
from lmstream.config.lake_tools import LakeTools, lake_tools
from lmstream.delivery import Settled
from lmstream.interfaces import Batch, Drain, Source
from lmstream.lake.replaying import Replaying
from lmstream.model import Record, Status, TopicPartition

PARTIAL = 4
_ROOM = 16 << 20
Rest = Callable[[Source], Awaitable[None]]


class LandedLetters(Struct):
    """What became of the letters of a replay."""

    letters: int = 0
    rows: int = 0
    """That were put."""
    delivered: int = 0
    """Letters of which nothing is left."""
    refused: int = 0
    """Letters of which something was refused once more."""
    left: int = 0
    """Letters that are not the lake's to land."""


class LakeLetters:
    """A source of letters, of which those that are a lake's to land are landed while they are read. With `beside` the
    others are handed out; else they are named, and stay."""

    def __init__(
        self, source: Source, lake: LakeTools, work: Replaying, settled: Settled, say: Callable[[str], None],
        *, beside: bool = False,
    ) -> None:  # fmt: skip
        self.on_revoke: Drain | None = None
        self.done: LandedLetters = LandedLetters()
        self._source, self._lake, self._work, self._beside = source, lake, work, beside
        self._settled, self._say = settled, say

    async def poll(self, room: int, /) -> Batch:
        """Land the next letters, or hand them out."""
        batch = await self._source.poll(room)
        others = []
        for record in batch.records:
            if self._beside and not await self._lake.has(record):
                others.append(record)
            else:
                await self._land(record)
        return Batch(others, end=batch.end)

    async def _land(self, record: Record) -> None:
        landed, done = await self._work.land(record), self.done
        done.letters, done.rows = done.letters + 1, done.rows + landed.rows
        done.delivered += landed.status is Status.DELIVERED
        done.refused += landed.status is Status.DEAD_LETTERED
        done.left += landed.status is Status.PENDING
        if landed.said:
            self._say(landed.said)
        if landed.status is not Status.PENDING:
            self._settled(record.tp, 0, record.offset, landed.status)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """As the source itself."""
        await self._source.commit(offsets)

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()


async def replay_into_lake(
    config: Config, source: Source, settled: Settled, say: Callable[[str], None], rest: Rest | None = None
) -> LandedLetters:
    """Land the letters of a source. Those that no claim lists are named, and stay; `rest` is given a source of those
    whose topic has no claims here at all."""
    letters = build_letters(config)
    try:
        async with lake_tools(config) as lake:
            work = LakeLetters(source, lake, lake.replaying(letters), settled, say, beside=rest is not None)
            if rest is not None:
                await rest(work)
            else:
                while not (await work.poll(_ROOM)).end:
                    pass
    finally:
        await letters.close()
    return work.done


def told(done: LandedLetters) -> int:
    """Say how it went; answer the exit code."""
    terminal.say(
        f"{done.letters:,} letters: {done.rows:,} rows landed; {done.delivered:,} letters have all their rows in the "
        f"lake, {done.refused:,} were refused again, {done.left:,} are not to be landed"
    )
    return PARTIAL if done.left or (done.letters and not done.delivered) else 0
