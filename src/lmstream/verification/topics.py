"""Say what must land of live topics: what the group has committed, and what came since."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from lmstream.engine import Engine
from lmstream.errors import ConfigError
from lmstream.model import Record
from lmstream.settings import Settings
from lmstream.verification.expected import Expected, expectation

if TYPE_CHECKING:
    from lmstream.kafka import settings as kafka
    from lmstream.kafka.log_bounds import Bounds

Place = tuple[str, int]
"""Topic and partition."""


class Judged(Struct, frozen=True, kw_only=True):
    """Records that were read with other settings of the engine than today's: before a change of the configuration."""

    settings: Settings
    topic: str
    partition: int | None = None
    """None: all of them."""
    start: int = 0
    stop: int | None = None
    """The first offset after them; None: all the rest."""

    def has(self, record: Record) -> bool:
        """Whether a record is one of them."""
        if record.topic != self.topic or self.partition not in {None, record.partition}:
            return False
        return self.start <= record.offset and (self.stop is None or record.offset < self.stop)


class Topics:
    """Topics and ranges of them. Reads in event loops of its own: not to be used where one runs.

    Records below the commit of the group are closed: their rows must be there. Later ones are open: read and in flight,
    or not read yet.
    """

    def __init__(
        self,
        source: "kafka.Settings",
        engine: Settings,
        others: Sequence[Judged] = (),
        *,
        start: Mapping[Place, int] | None = None,
        stop: Mapping[Place, int] | None = None,
        since: int | None = None,
        counted: Callable[[Iterator[Expected]], Iterable[Expected]] = iter,
        committed: bool = True,
    ) -> None:
        """`source` names topics and group. Records are judged by the settings of the first of `others` that has them,
        else by `engine`. Ranges default to all that the log has; `since` is in ms since 1970;
        `counted` passes the entries of the ranges through, for a progress bar. `committed`: whether nothing but commits
        of the group says what must be there.

        Raises ConfigError for ranges that the topics do not have, and for a group that has committed nothing where no
        `stop` says what to judge; SourceError for brokers that do not answer.
        """
        self._source, self._others = source, [(each, Engine(each.settings)) for each in others]
        self._engine = Engine(engine)
        self._counted = counted
        self._start, self._stop = dict(start or {}), dict(stop or {})
        self.ranged: bool = bool(start or stop or since is not None)
        """Whether rows of records outside the range may be among those that landed."""
        self._bounds = {topic: asyncio.run(self._look(topic, since)) for topic in source.topics}
        self._commits = any(each.committed is not None for found in self._bounds.values() for each in found.values())
        self._check(committed=committed)
        if named := {*self._start, *self._stop}:  # the others are not asked about
            self._bounds = {
                topic: {p: each for p, each in found.items() if (topic, p) in named}
                for topic, found in self._bounds.items()
            }

    async def _look(self, topic: str, since: int | None) -> "Mapping[int, Bounds]":
        from lmstream.kafka.log_bounds import log_bounds

        return await log_bounds(self._of(topic), topic, since)

    def _of(self, topic: str) -> "kafka.Settings":
        return msgspec.structs.replace(self._source, topics=(topic,))

    def _check(self, *, committed: bool) -> None:
        for flag, ranges in (("--from", self._start), ("--to", self._stop)):
            for topic, partition in ranges:
                if partition not in self._bounds.get(topic, {}):
                    raise ConfigError("config.invalid", f"{flag}: topic {topic} has no partition {partition}")
        for (topic, partition), first in self._start.items():
            begin, last = self._bounds[topic][partition].begin, self._stop.get((topic, partition))
            where = f"--from {partition}={first}"
            if last is not None and last <= first:
                raise ConfigError("config.invalid", f"{where} --to {partition}={last}: no offset is in this range")
            if first < begin:
                what = f"the log of {topic}/{partition} begins at {begin} today: earlier records are gone"
                raise ConfigError("config.invalid", f"{where}: {what}")
        if committed and not self._commits and not self._stop:
            what = f"the group {self._source.group} has committed nothing in {', '.join(self._source.topics)}"
            raise ConfigError(
                "config.invalid",
                f"{what}: name the run's own group (--group, source.group), or say what to judge (--to)",
            )

    def closed(self, entry: Expected) -> bool:
        """Whether the rows of a record must be there by now."""
        if not self._commits:
            return True  # up to where the caller says
        return entry.offset < (self._bounds[entry.topic][entry.partition].committed or 0)

    @property
    def whole(self) -> bool:
        """Whether the log has all that was ever in the topics."""
        return not any(each.begin for found in self._bounds.values() for each in found.values())

    def entries(self) -> Iterator[Expected]:
        """What each record of the ranges must become. Raises SourceError."""
        for topic, found in self._bounds.items():
            starts = {p: self._start.get((topic, p), each.begin) for p, each in found.items()}
            stops = {p: self._stop.get((topic, p)) for p in found}
            yield from self._counted(self._read(topic, {p: (starts[p], stops[p]) for p in found}))

    def later(self, ends: Mapping[Place, int]) -> Iterator[Expected]:
        """What came into the topics after `ends`."""
        for topic, found in self._bounds.items():
            yield from self._read(topic, {p: (ends.get((topic, p), each.begin), None) for p, each in found.items()})

    def bounds(self) -> Iterator[tuple[str, int, int, int | None, int | None]]:
        """Of each partition: topic, number, the first offset to judge, the one to stop before, and what the group has
        committed."""
        for topic, found in self._bounds.items():
            for p, each in found.items():
                yield topic, p, self._start.get((topic, p), each.begin), self._stop.get((topic, p)), each.committed

    def records(self, topic: str, ranges: Mapping[int, tuple[int | None, int | None]]) -> AsyncIterator[Record]:
        """Records of these offsets. Raises SourceError."""
        from lmstream.kafka.range_reader import read_range

        return read_range(self._of(topic), topic, ranges)

    def _read(self, topic: str, ranges: Mapping[int, tuple[int | None, int | None]]) -> Iterator[Expected]:
        async def reading() -> AsyncGenerator[Record]:
            async for record in self.records(topic, ranges):
                yield record

        records = reading()

        async def following() -> Record | None:
            return await anext(records, None)

        with asyncio.Runner() as runner:
            try:
                while (record := runner.run(following())) is not None:
                    maker = next((each for which, each in self._others if which.has(record)), self._engine)
                    yield expectation(maker, record, maker.settings.source_id)
            finally:
                runner.run(records.aclose())
