"""Dead letters that are replayed into a lake: a letter after the other, and what became of them."""

from collections.abc import Callable

from msgspec import Struct

from lmstream.cli import terminal
from lmstream.config import Config, build_letters
from lmstream.config.lake_tools import lake_tools
from lmstream.delivery import Settled
from lmstream.interfaces import Source
from lmstream.model import Status

PARTIAL = 4
_ROOM = 16 << 20


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


async def replay_into_lake(
    config: Config, source: Source, settled: Settled, say: Callable[[str], None]
) -> LandedLetters:
    """Land the letters of a source. Those that no claim lists are named, and stay."""
    done = LandedLetters()
    letters = build_letters(config)
    try:
        async with lake_tools(config) as lake:
            work = lake.replaying(letters)
            end = False
            while not end:
                batch = await source.poll(_ROOM)
                end = batch.end
                for record in batch.records:
                    landed = await work.land(record)
                    done.letters, done.rows = done.letters + 1, done.rows + landed.rows
                    done.delivered += landed.status is Status.DELIVERED
                    done.refused += landed.status is Status.DEAD_LETTERED
                    done.left += landed.status is Status.PENDING
                    if landed.said:
                        say(landed.said)
                    if landed.status is not Status.PENDING:
                        settled(record.tp, 0, record.offset, landed.status)
    finally:
        await letters.close()
    return done


def told(done: LandedLetters) -> int:
    """Say how it went; answer the exit code."""
    terminal.say(
        f"{done.letters:,} letters: {done.rows:,} rows landed; {done.delivered:,} letters have all their rows in the "
        f"lake, {done.refused:,} were refused again, {done.left:,} are not to be landed"
    )
    return PARTIAL if done.left or (done.letters and not done.delivered) else 0
