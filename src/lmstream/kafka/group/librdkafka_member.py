"""A member of the consumer group by confluent-kafka: its life on our event loop; the client has a thread of its own."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Final

from confluent_kafka import KafkaException

from lmstream.errors import LmstreamError, SourceError
from lmstream.interfaces import Batch, Standing
from lmstream.kafka.connection_probe import knock_any
from lmstream.kafka.greeting import greet_any
from lmstream.kafka.group.aside import Aside
from lmstream.kafka.group.librdkafka_shared import Barred, Passed, Shared, Taken
from lmstream.kafka.group.librdkafka_thread import ClientThread
from lmstream.kafka.group.member import LostError, log, next_epoch
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.kafka.librdkafka import PEAK
from lmstream.kafka.settings import Settings, addresses, client_settings
from lmstream.kafka.topics import TopicWatch
from lmstream.model import Record, TopicPartition
from lmstream.settings import MIB

_WAIT: Final = 0.2  # seconds a poll waits for records
_BUSY_WAIT: Final = 0.02  # seconds a poll waits when there is no room: room may come at any moment
_UNSEEN: Final = 1.0  # seconds without room after which the client is asked with everything paused, to stay a member
_NAMES: Final = 5.0  # seconds between two questions whether the named topics are there
_TOPIC_WAIT: Final = 3.0  # seconds for a topic made a moment ago to appear in the metadata


class LibrdkafkaMember:
    """One confluent_kafka.Consumer from its start to its end. All of this runs on the event loop."""

    def __init__(self, source: Supervisor) -> None:
        self._source = source
        self._settings = source.settings
        self._loop = asyncio.get_running_loop()
        self._renewals = source.tls.renewals
        self._shared = Shared()
        self._client = ClientThread(
            source, self._shared, took=self._took, revoked=self._revoked, released=self._released
        )
        self._gathering: asyncio.Future[list[Taken]] | None = None
        self._asked = 0.0  # when the call under way began
        self._held: deque[Taken] = deque()
        self._revoking: frozenset[TopicPartition] = frozenset()
        self._committed: dict[TopicPartition, int] = {}
        self._read: dict[TopicPartition, int] = {}  # newest timestamp handed out
        self._paused: frozenset[TopicPartition] = frozenset()
        self._joined = False
        self._topics_at = 0.0  # when the brokers were asked for topics
        self._topics = TopicWatch(source, self._look, self._subscribe, keep=False)
        self._aside = Aside(source)

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._shared.owned)

    @property
    def joined(self) -> bool:
        return self._joined

    async def start(self) -> None:
        settings = self._settings
        seconds = settings.startup_timeout_ms / 1000
        log.info(
            "librdkafka opens what it fetches whole: %d MiB resident with one partition whose batches inflate "
            "20,000-fold (measured), as much again for each further one; source.type kafka has a bound",
            PEAK // MIB,
        )
        if self._source.journal is not None:
            self._source.journal.fetching()
        try:
            async with asyncio.timeout(seconds):
                context = await self._source.tls.load()
            await knock_any(addresses(settings.bootstrap), context, client_cert=bool(settings.cert), lookup=seconds)
            async with asyncio.timeout(seconds):
                await greet_any(addresses(settings.bootstrap), self._source.tls)
                await self._client.start()
                found = await self._found()
                self._source.known({TopicPartition(t, n) for t in self._topics.wanted.of(found) for n in found[t]})
        except TimeoutError as error:
            raise SourceError("source.unreachable", f"{settings.bootstrap}: no start in time") from error
        await self._topics.start(found)

    async def _found(self) -> Mapping[str, Collection[int]]:
        """Answer the topics that there are, once those are there without which there is no start."""
        wait = self._settings.on_topic_missing == "wait"
        until = self._loop.time() + _TOPIC_WAIT
        while missing := self._topics.wanted.absent(found := await self._client.topics(), wait=wait):
            if self._loop.time() > until:
                raise SourceError("source.topic", f"{', '.join(missing)} at {self._settings.bootstrap}")
            await asyncio.sleep(0.2)
        return found

    async def _look(self, ask: bool) -> Collection[str] | None:  # noqa: FBT001 - as TopicWatch calls it
        doubt, self._shared.unknown = self._shared.unknown, False
        wanted, now = self._topics.wanted, self._loop.time()
        # librdkafka says nothing of a topic that is gone: some names are asked for often, the whole cluster is not.
        ask = ask or doubt or (not wanted.patterns and now - self._topics_at >= _NAMES)
        if self._shared.closed or not ask:
            return None
        self._topics_at = now
        return await self._client.topics(None if wanted.patterns else wanted.named)

    async def _subscribe(self, topics: frozenset[str]) -> None:
        if not self._shared.closed:
            await self._client.subscribe(sorted(topics))

    async def poll(self, room: int, /) -> Batch:
        if self._shared.failure is not None:
            raise self._shared.failure
        if self._source.tls.renewals != self._renewals:
            raise LostError("renewed", "the client certificate was renewed, and librdkafka keeps the one it began with")
        if not self._topics.used and not self._joined:
            await asyncio.sleep(_WAIT)  # no topic is there yet
            return Batch(records=())
        if room <= 0:
            if self._loop.time() - self._asked < _UNSEEN and self._gathering is None:
                await asyncio.sleep(_BUSY_WAIT)  # pausing costs what was fetched ahead, so not for a moment
            else:
                await self._gather(0, _BUSY_WAIT)
            return Batch(records=())
        if not self._held and self._aside.partitions:
            await self._look_aside(room)
        if not self._held:
            await self._gather(room, _BUSY_WAIT if self._aside.partitions else _WAIT)
        records, passed = self._take(room)
        self._read.update({record.tp: record.timestamp for record in records})
        owned = self._shared.owned
        epochs = {tp: owned[tp] for tp in {record.tp for record in records} | passed.keys()}
        return Batch(records, epochs, passed=passed)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        owned = self._shared.owned
        mine = {tp: n for tp, n in offsets.items() if tp in owned and n > self._committed.get(tp, -1)}
        if self._shared.closed or not mine:
            return
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                await self._answered(await self._client.commit(mine))
        except (KafkaException, RuntimeError, TimeoutError) as error:
            what = ", ".join(f"{tp.topic}/{tp.partition}={n}" for tp, n in list(mine.items())[:3])
            raise SourceError("source.commit", f"{what}: {type(error).__name__} {error}".rstrip()) from error
        self._committed.update({tp: n for tp, n in mine.items() if self._shared.owned.get(tp) == owned[tp]})

    async def _answered(self, done: asyncio.Future[None]) -> None:
        """Wait for the answer, which the client gives only while it is polled: at the end nobody else does."""
        try:
            while not done.done():
                if self._gathering is None:
                    self._ask(1, _BUSY_WAIT)
                assert self._gathering is not None  # noqa: S101 - for the type checker
                waiting: set[asyncio.Future[Any]] = {self._gathering, done}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._gathering is not None and self._gathering.done():
                    with contextlib.suppress(LmstreamError, LostError):  # kept, and raised by the next poll
                        self._collect()
        finally:
            done.cancel()  # where it was given up: nobody hears of an answer that comes too late
        done.result()

    def standings(self) -> Mapping[TopicPartition, Standing]:
        found = {}
        for tp in self._shared.owned:
            committed = self._committed.get(tp, -1)
            end = self._client.end_of(tp)
            found[tp] = Standing(committed if committed >= 0 else None, end, self._read.get(tp))
        return found

    def pause(self, partitions: Collection[TopicPartition], /) -> None:
        self._paused = frozenset(partitions)  # taken up before the next look for records

    async def close(self) -> None:
        self._topics.stop()
        self._shared.closed = True
        self._shared.owned, self._held = {}, deque()
        await self._aside.close()
        await self._client.close()

    # --- reading -------------------------------------------------------------------------------------------------

    async def _look_aside(self, room: int) -> None:
        try:
            self._held.extend(await self._aside.take(room, self._paused))
            if done := self._aside.done():
                log.info("librdkafka reads again: %s", ", ".join(f"{tp.topic}/{tp.partition}" for tp in done))
                await self._client.back(done)
        except LostError as error:
            raise self._fail(error) from error.__cause__
        except (KafkaException, RuntimeError) as error:
            raise self._fail(LostError("client", f"{type(error).__name__}: {error}")) from error
        if not self._aside.partitions:
            self._source.well()

    async def _gather(self, room: int, wait: float) -> None:
        """Let the client answer for up to `wait` seconds; a call that takes longer lives on until a later poll."""
        if self._gathering is None:
            self._ask(room, wait)
        gathering = self._gathering
        assert gathering is not None  # noqa: S101 - for the type checker
        await asyncio.wait({gathering}, timeout=wait + _BUSY_WAIT)
        if not gathering.done():
            self._check_patience()
        elif self._gathering is gathering:
            self._collect()
        if self._shared.failure is not None:
            raise self._shared.failure

    def _ask(self, room: int, wait: float) -> None:
        self._asked = self._loop.time()
        owned = self._shared.owned
        pauses = frozenset(owned) if room <= 0 else self._paused & owned.keys()
        self._gathering = self._client.look(room, wait, pauses)

    def _collect(self) -> None:
        """Take what the call that has ended brought; what it raised is this member's end."""
        gathering, self._gathering = self._gathering, None
        assert gathering is not None  # noqa: S101 - for the type checker
        try:
            self._held.extend(gathering.result())
        except LmstreamError as error:
            raise self._fail(error) from error
        except LostError as error:
            raise self._fail(error) from error.__cause__
        except (KafkaException, RuntimeError) as error:
            raise self._fail(LostError("client", f"{type(error).__name__}: {error}")) from error

    def _check_patience(self) -> None:
        patience = (self._settings.rebalance_timeout_ms + self._settings.stuck_timeout_ms) / 1000
        if self._revoking:
            patience += self._settings.drain_timeout_ms / 1000  # ours, and bounded by itself
        if self._loop.time() - self._asked > patience:
            raise self._fail(LostError("silent", f"no answer from librdkafka for {patience:.0f} s"))

    def _take(self, room: int) -> tuple[list[Record], dict[TopicPartition, int]]:
        taken: list[Record] = []
        passed: dict[TopicPartition, int] = {}
        while self._held:
            epoch, found = self._held[0]
            size = found.size
            if taken and size > room:
                break
            self._held.popleft()
            # Of a partition given up meanwhile: never handed out, so never committed; the next owner reads it.
            if self._shared.owned.get(found.tp) != epoch or found.tp in self._revoking:
                continue
            if isinstance(found, Passed):
                passed[found.tp] = found.offset
            elif isinstance(found, Barred):
                self._aside.begin(found.tp, epoch, found.offset)
            else:
                taken.append(found)
                room -= size
        return taken, passed

    def _fail(self, error: Exception) -> Exception:
        self._shared.failure = error
        return error

    # --- the group, while the client's thread waits --------------------------------------------------------------

    async def _took(self, places: Mapping[TopicPartition, int], pinned: Collection[TopicPartition]) -> None:
        owned = {**self._shared.owned, **{tp: next_epoch() for tp in places}}
        self._shared.owned = owned
        self._committed = {tp: n for tp, n in self._committed.items() if tp in owned}
        self._read = {tp: n for tp, n in self._read.items() if tp in owned}
        self._committed |= {tp: n if n >= 0 and tp not in pinned else -1 for tp, n in places.items()}
        if self._source.wary:
            for tp, n in places.items():
                self._aside.begin(tp, owned[tp], n)
        self._joined = True
        self._source.health.rebalances += 1
        if pinned:
            try:  # at once: a restart before the first real commit must not skip what came in between
                await self.commit({tp: places[tp] for tp in pinned})
            except SourceError as error:
                raise RuntimeError(str(error)) from error

    async def _revoked(self, gone: Collection[TopicPartition]) -> None:
        self._revoking |= frozenset(gone)
        try:
            await self._source.given_up(gone)
        finally:
            await self._released(gone)
            self._revoking -= frozenset(gone)

    async def _released(self, gone: Collection[TopicPartition]) -> None:
        self._aside.drop(gone)
        self._shared.owned = {tp: epoch for tp, epoch in self._shared.owned.items() if tp not in gone}


def checked(settings: Settings) -> None:
    """See what can be seen without a connection. Raises ConfigError."""
    addresses(settings.bootstrap)
    client_settings(settings)
