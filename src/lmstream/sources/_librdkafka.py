"""A member of the consumer group by confluent-kafka: librdkafka in a thread of its own, its callbacks on our loop."""

import asyncio
import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from lmstream.errors import ConfigError, LmstreamError, SourceError, coded
from lmstream.interfaces import Batch, Standing
from lmstream.model import Record, TopicPartition
from lmstream.sources._kafka_settings import Settings, addresses, client_settings
from lmstream.sources._knock import knock_any
from lmstream.sources._librdkafka_client import DENIED, PASSING, consumer_of, fatal, placed_at, record_of
from lmstream.sources._member import LostError, log, next_epoch
from lmstream.sources._supervisor import Supervisor
from lmstream.sources._worker import Worker

_WAIT: Final = 0.2  # seconds a poll waits for records
_BUSY_WAIT: Final = 0.02  # seconds a poll waits when there is no room: room may come at any moment
_UNSEEN: Final = 1.0  # seconds without room after which the client is asked with everything paused, to stay a member
_RECORDS: Final = 2_000  # records taken from the client at a time
_TOPIC_WAIT: Final = 3.0  # seconds for a topic made a moment ago to appear in the metadata
_STOP: Final = 5.0  # seconds for a consumer to leave its group
Taken = tuple[int, Record]
"""The epoch of its partition when it was taken, and the record."""


class LibrdkafkaMember:
    """One confluent_kafka.Consumer from its start to its end.

    The client is polled message by message: in a batch, those from before a rebalance could not be told from those
    after it. What runs in the client's thread is marked; everything else runs in the event loop.
    """

    def __init__(self, source: Supervisor) -> None:
        self._source = source
        self._settings = source.settings
        self._loop = asyncio.get_running_loop()
        strategy = client_settings(source.settings).get("partition_assignment_strategy", "cooperative-sticky")
        self._incremental = "cooperative" in str(strategy)
        self._renewals = source.tls.renewals
        self._consumer: Consumer | None = None
        self._worker = Worker("librdkafka")
        self._gathering: asyncio.Future[list[Taken]] | None = None
        self._asked = 0.0  # when the call under way began
        self._inside: queue.SimpleQueue[Callable[[], None] | None] | None = None  # while a callback waits for the loop
        self._committing: tuple[Mapping[TopicPartition, int], asyncio.Future[None]] | None = None
        self._held: deque[Taken] = deque()
        self._owned: dict[TopicPartition, int] = {}  # replaced, never changed: the client's thread reads it
        self._revoking: frozenset[TopicPartition] = frozenset()
        self._committed: dict[TopicPartition, int] = {}
        self._read: dict[TopicPartition, int] = {}  # newest timestamp handed out
        self._next: dict[TopicPartition, int] = {}  # in the client's thread: the offset that comes next
        self._paused: frozenset[TopicPartition] = frozenset()
        self._pausing: frozenset[TopicPartition] = frozenset()  # in the client's thread: what it was told
        self._failure: Exception | None = None
        self._closed = self._joined = False

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._owned)

    @property
    def joined(self) -> bool:
        return self._joined

    async def start(self) -> None:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.startup_timeout_ms / 1000):
                context = await self._source.tls.load()
                await knock_any(addresses(settings.bootstrap), context, client_cert=bool(settings.cert))
                self._consumer = consumer = await self._worker.call(
                    lambda: consumer_of(settings, self._source.tls, error_cb=self._on_error, on_commit=self._on_commit)
                )
                self._source.known(await self._topics(consumer))
        except TimeoutError as error:
            raise SourceError("source.unreachable", f"{settings.bootstrap}: no start in time") from error
        callbacks = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
        await self._worker.call(lambda: consumer.subscribe(list(settings.topics), **callbacks))

    async def _topics(self, consumer: Consumer) -> set[TopicPartition]:
        if not self._settings.topics:
            raise ConfigError("config.invalid", "topics: no topic is named")
        until = self._loop.time() + _TOPIC_WAIT
        timeout = self._settings.startup_timeout_ms / 1000
        while True:
            try:
                found = (await self._worker.call(lambda: consumer.list_topics(timeout=timeout))).topics
            except KafkaException as error:
                detail = f"{self._settings.bootstrap} answers, the brokers it names do not: {error}"
                raise SourceError("source.unreachable", detail) from error
            missing = [t for t in self._settings.topics if t not in found or found[t].error is not None]
            if not missing:
                return {TopicPartition(t, n) for t in self._settings.topics for n in found[t].partitions}
            if self._loop.time() > until:
                raise SourceError("source.topic", f"{', '.join(missing)} at {self._settings.bootstrap}")
            await asyncio.sleep(0.2)

    async def poll(self, room: int, /) -> Batch:
        if self._failure is not None:
            raise self._failure
        if self._source.tls.renewals != self._renewals:
            raise LostError("renewed", "the client certificate was renewed, and librdkafka keeps the one it began with")
        if room <= 0:
            if self._loop.time() - self._asked < _UNSEEN and self._gathering is None:
                await asyncio.sleep(_BUSY_WAIT)  # pausing costs what was fetched ahead, so not for a moment
            else:
                await self._gather(0, _BUSY_WAIT)
            return Batch(records=())
        if not self._held:
            await self._gather(room, _WAIT)
        records = self._take(room)
        self._read.update({record.tp: record.timestamp for record in records})
        return Batch(records=records, epochs={tp: self._owned[tp] for tp in {record.tp for record in records}})

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        mine = {tp: n for tp, n in offsets.items() if tp in self._owned and n > self._committed.get(tp, -1)}
        if self._consumer is None or not mine:
            return
        epochs = self._owned
        await self._commit(mine)
        self._committed.update({tp: n for tp, n in mine.items() if self._owned.get(tp) == epochs[tp]})

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - for the type checker
        what = ", ".join(f"{tp.topic}/{tp.partition}={n}" for tp, n in list(offsets.items())[:3])
        done: asyncio.Future[None] = self._loop.create_future()
        self._committing = offsets, done
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                if self._inside is not None:
                    # The client takes calls of the thread that is inside its callback, and no others.
                    self._inside.put(lambda: self._commit_here(consumer, offsets))
                else:
                    wanted = placed_at(offsets)
                    await self._worker.call(lambda: consumer.commit(offsets=wanted, asynchronous=True))
                    await self._served(done)
                await done
        except (KafkaException, RuntimeError, TimeoutError) as error:
            raise SourceError("source.commit", f"{what}: {type(error).__name__} {error}".rstrip()) from error

    async def _served(self, done: asyncio.Future[None]) -> None:
        """Wait for the answer, which the client gives only while it is polled: at the end nobody else does."""
        while not done.done():
            if self._gathering is None:
                self._ask(1, _BUSY_WAIT)
            assert self._gathering is not None  # noqa: S101 - for the type checker
            waiting: set[asyncio.Future[Any]] = {self._gathering, done}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._gathering is not None and self._gathering.done():
                with contextlib.suppress(LmstreamError, LostError):  # kept, and raised by the next poll
                    self._collect()

    def standings(self) -> Mapping[TopicPartition, Standing]:
        consumer = self._consumer
        if consumer is None or self._closed:
            return {}
        found = {}
        for tp in self._owned:
            # What the client remembers of its last fetch; no request is made.
            ends = consumer.get_watermark_offsets(KafkaPartition(*tp), cached=True)
            committed = self._committed.get(tp, -1)
            known = ends is not None and ends[1] >= 0
            found[tp] = Standing(committed if committed >= 0 else None, ends[1] if known else None, self._read.get(tp))
        return found

    def pause(self, partitions: Collection[TopicPartition], /) -> None:
        self._paused = frozenset(partitions)  # taken up before the next look for records

    async def close(self) -> None:
        self._closed = True
        consumer, self._consumer = self._consumer, None
        self._owned, self._held = {}, deque()
        if consumer is not None:
            # After a fatal error librdkafka's close may not return: then the threads are left behind.
            await asyncio.wait({self._worker.call(consumer.close)}, timeout=_STOP)
        self._worker.close()

    # --- reading -------------------------------------------------------------------------------------------------

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
        if self._failure is not None:
            raise self._failure

    def _ask(self, room: int, wait: float) -> None:
        self._asked = self._loop.time()
        pauses = frozenset(self._owned) if room <= 0 else self._paused & self._owned.keys()
        self._gathering = self._worker.call(lambda: self._look(room, wait, pauses))

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

    def _take(self, room: int) -> list[Record]:
        taken: list[Record] = []
        while self._held:
            epoch, record = self._held[0]
            size = record.size
            if taken and size > room:
                break
            self._held.popleft()
            # Of a partition given up meanwhile: never handed out, so never committed; the next owner reads it.
            if self._owned.get(record.tp) == epoch and record.tp not in self._revoking:
                taken.append(record)
                room -= size
        return taken

    def _fail(self, error: Exception) -> Exception:
        self._failure = error
        return error

    # --- in the client's thread ----------------------------------------------------------------------------------

    def _look(self, room: int, wait: float, pauses: frozenset[TopicPartition]) -> list[Taken]:
        consumer = self._consumer
        if consumer is None:
            return []
        self._pause(consumer, pauses)
        taken: list[Taken] = []
        message = consumer.poll(wait)
        while message is not None and self._failure is None:
            error = message.error()
            if error is not None:
                self._judge(consumer, message, error)
            else:
                record = record_of(message)
                if (epoch := self._owned.get(record.tp)) is not None:
                    self._next[record.tp] = record.offset + 1
                    taken.append((epoch, record))
                    room -= record.size
            if room <= 0 or len(taken) >= _RECORDS:
                break
            message = consumer.poll(0)
        return taken

    def _pause(self, consumer: Consumer, wanted: frozenset[TopicPartition]) -> None:
        already = self._pausing & self._owned.keys()
        if more := wanted - already:
            consumer.pause([KafkaPartition(*tp) for tp in more])
        if fewer := already - wanted:
            consumer.resume([KafkaPartition(*tp) for tp in fewer])
        self._pausing = wanted

    def _judge(self, consumer: Consumer, message: Message, error: KafkaError) -> None:
        place = f"{message.topic()}/{message.partition()}: " if message.topic() else ""
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's own code
            self._lost_offset(consumer, TopicPartition(str(message.topic()), int(message.partition() or 0)), error)
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - as above
            raise fatal(error)
        if error.code() in DENIED:
            raise LostError("denied", f"{place}{error.str()}")
        if error.code() in PASSING or error.retriable():
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - as above
                self._on_error(error)
            return
        raise LostError("client", f"{place}{error.name()} {error.str()}")

    def _commit_here(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        error: KafkaError | None = None
        answers: list[KafkaPartition] = []
        try:
            answers = consumer.commit(offsets=placed_at(offsets), asynchronous=False)
        except KafkaException as caught:
            error = caught.args[0]
        self._on_commit(error, answers or placed_at(offsets))

    def _on_commit(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        failed = error or next((each.error for each in partitions if each.error is not None), None)
        offsets = {TopicPartition(each.topic, each.partition): each.offset for each in partitions}
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._has_committed, offsets, failed)

    def _lost_offset(self, consumer: Consumer, tp: TopicPartition, error: KafkaError) -> None:
        """Find where to go on when an offset is gone, make that the group's, and let a new member begin there."""
        asked, timeout = KafkaPartition(*tp), self._settings.commit_timeout_ms / 1000
        position = self._next.get(tp)
        before = self._source.health.lost_by_retention
        try:
            begin, end = consumer.get_watermark_offsets(asked, timeout=timeout)
            if position is None:
                raise LostError("offset", f"{tp.topic}/{tp.partition}: {error.str()}")
            target = self._source.gone(tp, position, begin, end)
            # No longer ours: what was settled before the jump is history, and must not be committed over it.
            self._on_loop(self._release([tp]))
            answers = consumer.commit(offsets=placed_at({tp: target}), asynchronous=False)
            if answers[0].error is not None:
                self._source.health.lost_by_retention = before  # found again, and counted then
                raise LostError("offset", f"{tp.topic}/{tp.partition}: cannot go on: {answers[0].error}")
        except KafkaException as caught:
            self._source.health.lost_by_retention = before  # as above
            raise LostError("offset", f"{tp.topic}/{tp.partition}: cannot go on: {caught}") from caught
        raise LostError("offset", f"going on at the earliest offset of {tp.topic}/{tp.partition}")

    def _on_error(self, error: KafkaError) -> None:
        self._source.health.last_error = f"{error.name()} {error.str()}"
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - as above
            self._failure = fatal(error)
        elif error.code() in DENIED:
            self._failure = LostError("denied", error.str())
        else:
            log.info("librdkafka says: %s %s", error.name(), error.str())

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        placed: list[KafkaPartition] = []
        try:
            if not self._closed:
                placed, pinned = self._placed(consumer, partitions)
                self._on_loop(self._took(placed, pinned))
        except (KafkaException, RuntimeError, TimeoutError) as error:
            log.warning("partitions were assigned and cannot be placed: %r", error, extra=coded("source.stuck"))
            self._failure = LostError("client", f"partitions cannot be placed: {error!r}")
            placed = []  # without a place nothing may be read
        if self._incremental:
            consumer.incremental_assign(placed)
        else:
            consumer.assign(placed)

    def _placed(
        self, consumer: Consumer, partitions: Sequence[KafkaPartition]
    ) -> tuple[list[KafkaPartition], list[TopicPartition]]:
        """Answer the partitions with the offsets to begin at, and which of them the group has to be told."""
        timeout = min(self._settings.request_timeout_ms, self._settings.rebalance_timeout_ms) / 1000
        known = self._source.known(set())
        placed, pinned = [], []
        for found in consumer.committed(list(partitions), timeout=timeout) if partitions else ():
            if found.error is not None:
                raise KafkaException(found.error)
            tp, offset = TopicPartition(found.topic, found.partition), found.offset
            if offset < 0:
                # A partition added while we run is read from its beginning, else what came before would be missed.
                offset = OFFSET_BEGINNING
                if self._settings.start_from == "latest" and tp in known:
                    _, offset = consumer.get_watermark_offsets(KafkaPartition(*tp), timeout=timeout)
                    pinned.append(tp)
            self._next.pop(tp, None)
            if offset >= 0:
                self._next[tp] = offset
            placed.append(KafkaPartition(tp.topic, tp.partition, offset))
        return placed, pinned

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        if not self._closed:
            gone = [TopicPartition(each.topic, each.partition) for each in partitions]
            try:
                self._on_loop(self._revoked(gone))
            except (RuntimeError, TimeoutError) as error:
                self._failure = LostError("client", f"partitions could not be given up in order: {error!r}")
        if self._incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the event loop and wait for it, but not for ever: the loop may be ending.

        Commits are made meanwhile: the coroutine may be the drain, which ends with one.
        """
        until = time.monotonic() + self._settings.drain_timeout_ms / 1000 + _STOP
        calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._inside = calls
        try:
            try:
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
            except RuntimeError:
                work.close()
                raise
            future.add_done_callback(lambda _: calls.put(None))
            try:
                while (call := calls.get(timeout=max(0.0, until - time.monotonic()))) is not None:
                    call()
            except queue.Empty:
                raise TimeoutError("the event loop did not answer") from None
            future.result(0)
        finally:
            self._inside = None

    # --- on the loop, while the client's thread waits ------------------------------------------------------------

    def _has_committed(self, offsets: Mapping[TopicPartition, int], error: KafkaError | None) -> None:
        if self._committing is None or self._committing[1].done() or self._committing[0] != offsets:
            return  # of a commit that was given up
        if error is None:
            self._committing[1].set_result(None)
        else:
            self._committing[1].set_exception(KafkaException(error))

    async def _revoked(self, gone: list[TopicPartition]) -> None:
        self._revoking |= frozenset(gone)
        try:
            await self._source.given_up(gone)
        finally:
            await self._release(gone)
            self._revoking -= frozenset(gone)

    async def _release(self, gone: Collection[TopicPartition]) -> None:
        self._owned = {tp: epoch for tp, epoch in self._owned.items() if tp not in gone}

    async def _took(self, placed: Sequence[KafkaPartition], pinned: Collection[TopicPartition]) -> None:
        places = {TopicPartition(each.topic, each.partition): each.offset for each in placed}
        self._owned = {**self._owned, **{tp: next_epoch() for tp in places}}
        self._committed = {tp: n for tp, n in self._committed.items() if tp in self._owned}
        self._read = {tp: n for tp, n in self._read.items() if tp in self._owned}
        self._committed |= {tp: n if n >= 0 and tp not in pinned else -1 for tp, n in places.items()}
        self._joined = True
        self._source.health.rebalances += 1
        if pinned:
            try:  # at once: a restart before the first real commit must not skip what came in between
                await self.commit({tp: places[tp] for tp in pinned})
            except SourceError as error:
                raise RuntimeError(str(error)) from error


def checked(settings: Settings) -> None:
    """See what can be seen without a connection. Raises ConfigError."""
    addresses(settings.bootstrap)
    client_settings(settings)
