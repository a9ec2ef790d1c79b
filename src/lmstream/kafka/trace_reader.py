"""Search topics for records, by their time and by what is asked of each: outside of any group, and with an end."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.errors import ConfigError
from lmstream.kafka.log_bounds import log_bounds
from lmstream.kafka.range_reader import read_range
from lmstream.kafka.settings import Settings
from lmstream.kafka.topics import Wanted
from lmstream.model import Record

_DISORDER: Final = 600_000
"""Milliseconds: ten minutes."""


class Searched(Struct, kw_only=True):
    """What was searched."""

    records: int = 0
    partitions: int = 0
    topics: tuple[str, ...] = ()
    begin: str = ""
    """Time of the first records, in UTC; empty where they were named by offset."""
    end: str = ""
    """Time of the last; empty for all there are."""
    complete: bool = True
    """False where the search ended early: enough was found."""

    @property
    def text(self) -> str:
        """For people."""
        until = f" until {self.end}" if self.end else ""
        since = f" from {self.begin} on{until}" if self.begin else ""
        topics = f" of {', '.join(self.topics)}" if self.topics else ""
        return f"{self.records:,} records in {self.partitions:,} partitions{topics}{since}"


async def search(
    settings: Settings,
    begin: datetime,
    end: datetime | None,
    wanted: Callable[[Record], Sequence[int]],
    advance: Callable[[], None],
    *,
    most: int,
) -> tuple[list[Record], Searched]:
    """Records whose points are wanted, until so many points were found. Raises ConfigError and SourceError."""
    named = sorted(Wanted(settings.topics).named)
    if not named:
        what = f"{', '.join(settings.topics)} is a pattern"
        raise ConfigError("config.invalid", what, "name the topic to search with --topic")
    searched = Searched(topics=tuple(named), begin=_text(begin), end="" if end is None else _text(end))
    found: list[Record] = []
    count = 0
    for topic in named:
        one = msgspec.structs.replace(settings, topics=(topic,))
        since = int(begin.timestamp() * 1000)
        starts = {partition: each.begin for partition, each in (await log_bounds(one, topic, since)).items()}
        searched.partitions += len(starts)
        async with aclosing(_records(one, topic, starts, end)) as records:
            async for record in records:
                searched.records += 1
                advance()
                if some := wanted(record):
                    found.append(record)
                    count += len(some)
                    if count >= most:
                        searched.complete = False
                        return found, searched
    return found, searched


async def _records(
    settings: Settings, topic: str, starts: Mapping[int, int], end: datetime | None
) -> AsyncGenerator[Record]:
    """The records from these offsets on, of each partition until one comes that is much younger than `end`: records of
    a partition are nearly in the order of their time, and brokers exist that cannot say where a time is."""
    if end is None:
        async for record in read_range(settings, topic, {p: (start, None) for p, start in starts.items()}):
            yield record
        return
    last = end.timestamp() * 1000
    for partition, start in starts.items():
        async with aclosing(read_range(settings, topic, {partition: (start, None)})) as records:
            async for record in records:
                if record.timestamp >= last + _DISORDER:
                    break
                yield record


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
