"""Which topics are read: those named and those that match a pattern, and what happens when they go and come."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from lmstream.errors import ConfigError, LmstreamError, SourceError, coded
from lmstream.kafka.group.lost import log
from lmstream.kafka.settings import Settings

if TYPE_CHECKING:
    from lmstream.kafka.group.supervisor import Supervisor

_PATTERN: Final = "^"  # no name of a topic has it: letters, digits, dot, dash and underscore
_INTERNAL: Final = "__"  # __consumer_offsets, __transaction_state: patterns never mean these
_SURE: Final = 3.0
"""Seconds that a topic has to be away before it is missed: a broker that has just started may not know it yet."""
_FRESH: Final = 3.0  # seconds for a topic made a moment ago to appear in the metadata
_AGAIN: Final = 0.2
TICK: Final = 1.0
"""Seconds between two looks: at what the client knows already, and at the brokers while a topic is missing."""


class Wanted:
    """The topics of the settings: names, and regular expressions (Python's) of whole names, which begin with ^."""

    def __init__(self, topics: Iterable[str]) -> None:
        """Raises ConfigError for none at all, and for a text that is not an expression."""
        given = list(topics)
        self.named: frozenset[str] = frozenset(each for each in given if not each.startswith(_PATTERN))
        self.patterns: dict[str, re.Pattern[str]] = {}
        if not given:
            raise ConfigError("config.invalid", "topics: no topic is named")
        for each in given:
            if each.startswith(_PATTERN):
                try:
                    self.patterns[each] = re.compile(each)
                except re.error as error:
                    raise ConfigError(
                        "config.invalid", f"topics: {each!r} is not a regular expression: {error}"
                    ) from None

    def of(self, there: Iterable[str]) -> frozenset[str]:
        """Those of the cluster's topics that are wanted."""
        return frozenset(
            name
            for name in there
            if name in self.named
            or (not name.startswith(_INTERNAL) and any(pattern.fullmatch(name) for pattern in self.patterns.values()))
        )

    def missing(self, there: Collection[str]) -> tuple[str, ...]:
        """Names that are not there, and patterns that no topic matches."""
        alone = [text for text, pattern in self.patterns.items() if not any(map(pattern.fullmatch, there))]
        return (*sorted(self.named - set(there)), *alone)


Topics = TypeVar("Topics", bound=Collection[str])


def no_partition(topic: str, wanted: Sequence[int], known: Collection[int]) -> SourceError:
    """The error for partitions that a topic has not."""
    fix = f"name one of 0 to {max(known)}" if known else ""
    return SourceError("source.topic", f"{topic} has no partition {', '.join(map(str, wanted))}", fix)


async def present(ask: Callable[[], Awaitable[Topics]], settings: Settings) -> Topics:
    """Answer what `ask` does, once the topics are there without which there is no start.

    Raises SourceError `source.topic` when one is not there after some seconds, unless it is to be waited for.
    """
    needed = frozenset() if settings.on_topic_missing == "wait" else Wanted(settings.topics).named
    loop = asyncio.get_running_loop()
    until = loop.time() + _FRESH
    while missing := needed - set(there := await ask()):
        if loop.time() > until:
            some = sorted(missing)
            what = f"topics {', '.join(some)} are" if some[1:] else f"topic {some[0]} is"
            detail = f"{what} not there, or not visible to this client, at {settings.bootstrap}"
            raise SourceError("source.topic", detail)
        await asyncio.sleep(_AGAIN)
    return there


class TopicWatch:
    """Keeps the subscription of one member at the topics that there are, and says when one goes and comes back."""

    def __init__(
        self,
        source: "Supervisor",
        look: Callable[[bool], Awaitable[Collection[str] | None]],
        use: Callable[[frozenset[str]], Awaitable[None]],
        *,
        keep: bool,
    ) -> None:
        """`look` answers the wanted topics that are there, by a request when it is told so, else None where only a
        request could tell; `use` subscribes to topics. `keep`: whether what is away stays subscribed, because the
        client releases its partitions, and takes them when it is back.
        """
        self._keep = keep
        self._source, self._look, self._use = source, look, use
        self.wanted: Wanted = Wanted(source.settings.topics)
        self.used: frozenset[str] = frozenset()
        """What the member is subscribed to."""
        self._seen: set[str] = set()  # wanted topics that have been there
        self._away: dict[str, float] = {}  # and are not, since when
        self._task: asyncio.Task[None] | None = None

    async def start(self, there: Collection[str]) -> None:
        """Subscribe to what is there, and watch from now on."""
        await self._take(there)
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        every = self._source.settings.topics_refresh_ms / 1000
        due = loop.time() + every
        while True:
            await asyncio.sleep(min(TICK, every))
            ask = bool(self._source.health.missing or self._away) or loop.time() >= due
            if ask:
                due = loop.time() + every
            try:
                there = await self._look(ask)
                if there is not None:
                    await self._take(there)
            except LmstreamError as error:  # brokers that are away are news of the member, not of its topics
                log.debug("topics cannot be listed: %s", error)
            except Exception:  # noqa: BLE001 - a bug here must not end the watch of a process that runs for months
                log.exception("listing topics failed", extra=coded("source.topic"))

    def _tell(self, missing: tuple[str, ...]) -> None:
        health = self._source.health
        before, health.missing = health.missing, missing
        for name in [each for each in missing if each not in before]:
            why = (
                "no topic matches"
                if name.startswith(_PATTERN)
                else "no such topic: not created yet, deleted, or not visible to this client"
            )
            log.error(
                "%s: %s; waiting for it; it is read from its beginning when it appears",
                name,
                why,
                extra=coded("source.topic"),
            )
        for name in [each for each in before if each not in missing]:
            log.warning("%s: the topic exists again, and is read", name, extra=coded("source.topic"))

    def _sure(self, there: Collection[str]) -> Collection[str]:
        """The topics that are there, and those that have been away for a moment only."""
        now = asyncio.get_running_loop().time()
        found = self.wanted.of(there)
        self._seen |= found
        self._away = {name: self._away.get(name, now) for name in self._seen - found}
        self._source.topics_gone({*self._away, *self.wanted.missing(there)})
        return {*there, *(name for name, since in self._away.items() if now - since < _SURE)}

    async def _take(self, there: Collection[str]) -> None:
        there = self._sure(there)
        self._tell(self.wanted.missing(there))
        found = self.wanted.of(there)
        now = (found | (self.used & self.wanted.named) or self.used) if self._keep else found
        if now != self.used:
            if gone := self.used - now - set(self._source.health.missing):
                log.warning(
                    "%s: deleted, or not visible to this client", ", ".join(sorted(gone)), extra=coded("source.topic")
                )
            if self.used:
                log.info("topics: %s", ", ".join(sorted(now)) or "none")
            self.used = now
            await self._use(now)
