"""A member of the consumer group by confluent-kafka: its life on our event loop; the client has a thread of its own."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaException

from lmstream.errors import LmstreamError, SourceError, refuse
from lmstream.kafka import connection
from lmstream.kafka.group.guarded_reader import GuardedReader
from lmstream.kafka.group.librdkafka_places import Placed
from lmstream.kafka.group.librdkafka_thread import ClientThread
from lmstream.kafka.group.lost import LostError, log
from lmstream.kafka.group.member import BUSY_WAIT, WAIT, Member
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.kafka.librdkafka import PEAK, Barred, Passed, Taken, misnamed
from lmstream.kafka.settings import Settings, addresses
from lmstream.kafka.topics import present
from lmstream.model import Record, TopicPartition
from lmstream.settings import MIB

_UNSEEN: Final = 1.0  # seconds without room after which the client is asked with everything paused, to stay a member
_NAMES: Final = 5.0  # seconds between two questions whether the named topics are there


class LibrdkafkaMember(Member):
    """One confluent_kafka.Consumer. Partitions change hands one by one (cooperative rebalancing)."""

    keeps_topics = False
    client_errors = (KafkaException, RuntimeError, TimeoutError)

    def __init__(self, source: Supervisor) -> None:
        """Nothing connects before `start`."""
        super().__init__(source)
        self.unknown: bool = False
        """Whether the client met a topic that is not there. Written by its thread, taken back here."""
        self._renewals = source.tls.renewals
        self._client = ClientThread(source, self)
        self._topics_at = 0.0  # when the brokers were asked for topics
        self._guarded = GuardedReader(source)

    @property
    def used(self) -> Collection[str]:
        """Topics that are read."""
        return self._topics.used

    async def _connect(self) -> Collection[str]:
        log.info(
            "librdkafka decompresses whole fetches: %d MiB resident with one partition whose batches inflate "
            "20,000-fold (measured), and the same for each further one; source.type kafka has a limit",
            PEAK // MIB,
        )
        if self._source.journal is not None:
            self._source.journal.fetching()
        async with connection.reached(self._settings, self._source.tls):
            await self._client.start()
            found = await present(self._client.topics, self._settings)
            self._source.known({TopicPartition(t, n) for t in self._topics.wanted.of(found) for n in found[t]})
            return found

    async def _look(self, ask: bool) -> Collection[str] | None:  # noqa: FBT001 - as TopicWatch calls it
        doubt, self.unknown = self.unknown, False
        wanted, now = self._topics.wanted, self._loop.time()
        # librdkafka says nothing of a topic that is gone: some names are asked for often, the whole cluster is not.
        ask = ask or doubt or (not wanted.patterns and now - self._topics_at >= _NAMES)
        if self.closed or not ask:
            return None
        self._topics_at = now
        return await self._client.topics(None if wanted.patterns else wanted.named)

    async def _subscribe(self, topics: frozenset[str]) -> None:
        if not self.closed:
            await self._client.subscribe(sorted(topics))

    async def _disconnect(self) -> None:
        await self._guarded.close()
        await self._client.close()

    # --- reading -------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        super()._check()
        if self._source.tls.renewals != self._renewals:
            raise LostError(
                "renewed", "the client certificate was renewed, but librdkafka keeps the one it started with"
            )

    async def _stay(self) -> None:
        if self._loop.time() - self._asked < _UNSEEN and self._call is None:
            await asyncio.sleep(BUSY_WAIT)  # pausing costs what was fetched ahead, so not for a moment
        else:
            await super()._stay()

    async def _fill(self, room: int) -> None:
        if self._guarded.partitions:
            with self._failing():
                self._hold(await self._guarded.take(room, self._paused))
                if done := self._guarded.done():
                    log.info("librdkafka reads again: %s", ", ".join(f"{tp.topic}/{tp.partition}" for tp in done))
                    await self._client.back(done)
            if not self._guarded.partitions:
                self._source.well()
        if not self._held:
            await self._fetch(room, BUSY_WAIT if self._guarded.partitions else WAIT)

    async def _records(self, room: int, wait: float) -> list[Taken]:
        pauses = frozenset(self.owned) if not room else self._paused & self.owned.keys()
        return await self._client.look(room, wait, pauses)

    def _hold(self, answer: Sequence[Taken]) -> None:
        for epoch, each in answer:
            # Of a partition revoked meanwhile: never handed out, so never committed; the next owner reads it.
            if self.owned.get(each.tp) != epoch or each.tp in self._revoking:
                continue
            if isinstance(each, Barred):
                self._guarded.begin(each.tp, epoch, each.offset)
            else:
                self._held.append(each)

    def _take(self, room: int) -> tuple[list[Record], dict[TopicPartition, int]]:
        taken, _ = super()._take(room)
        passed = {each.tp: each.offset for each in taken if isinstance(each, Passed)}
        return [each for each in taken if not isinstance(each, Passed)] if passed else taken, passed

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Wait for the answer, which the client gives only while it is polled: at the end nobody else does."""
        done = await self._client.commit(offsets)
        try:
            while not done.done():
                waiting: set[asyncio.Future[Any]] = {self._call or self._begin(1, BUSY_WAIT), done}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._call is not None and self._call.done():
                    with contextlib.suppress(LmstreamError, LostError):  # kept, and raised by the next poll
                        self._collect()
        finally:
            done.cancel()  # where nobody waits for it: nobody hears of an answer that comes too late
        done.result()

    async def _commit_alone(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self._client.commit_and_wait(offsets)

    async def _bounds(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        return await self._client.bounds(partitions)

    def _seek(self, places: Mapping[TopicPartition, int]) -> None:
        at = {tp: (self.owned[tp], offset) for tp, offset in places.items()}
        for tp in places.keys() & self._guarded.partitions:
            self._guarded.begin(tp, *at.pop(tp))
        self._client.seek(at)

    def _end_of(self, tp: TopicPartition) -> int | None:
        return self._client.end_of(tp)

    # --- the group, while the client's thread waits --------------------------------------------------------------

    async def took(self, usual: Placed) -> Mapping[TopicPartition, tuple[int, int]]:
        """Take partitions; answer the epoch of each, and where it is read from (negative: its beginning).

        Raises RuntimeError when they cannot be pinned, and as `Placement.ask`.
        """
        places, pinned = dict(usual.places), usual.pinned
        self._placement.begin(usual.stands)
        self._own(places.keys())
        epochs = self.owned
        self._committed |= {tp: n for tp, n in places.items() if n >= 0 and tp not in pinned}
        if pinned:
            try:  # at once: a restart before the first real commit must not skip what came in between
                await self.commit({tp: places[tp] for tp in pinned})
            except SourceError as error:
                raise RuntimeError(str(error)) from error
        if usual.stands:
            better = await self._placement.ask(usual.stands)
            self._asked = self._loop.time()  # that was not the client's time
            await self._tell(better, usual.stands)
            places |= better
        if usual.aside:
            for tp, n in places.items():
                self._guarded.begin(tp, epochs[tp], n)
        return {tp: (epochs[tp], n) for tp, n in places.items()}

    def _release(self, partitions: Collection[TopicPartition]) -> None:
        self._guarded.drop(partitions)
        super()._release(partitions)


def checked(settings: Settings) -> None:
    """See what can be seen without a connection. Raises ConfigError."""
    addresses(settings.bootstrap)
    refuse(misnamed(settings))
