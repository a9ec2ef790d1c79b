"""The thread that a confluent_kafka.Consumer is called in: reading, commits and the callbacks of the group."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from lmstream.errors import LmstreamError, SourceError, coded
from lmstream.kafka.group.librdkafka_places import placed
from lmstream.kafka.group.lost import LostError, log
from lmstream.kafka.group.member import OffsetsGoneError
from lmstream.kafka.group.placement import final
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.kafka.group.thread_worker import Worker
from lmstream.kafka.librdkafka import (
    DENIED,
    UNKNOWN,
    UNREADABLE,
    UNSETTLED,
    Barred,
    Passed,
    Taken,
    committed,
    consumer_of,
    fatal,
    is_fatal,
    listed,
    logger,
    lost_by,
    placed_at,
    record_of,
)
from lmstream.kafka.rereading import is_unread
from lmstream.kafka.settings import client_settings
from lmstream.model import TopicPartition

if TYPE_CHECKING:
    from lmstream.kafka.group.librdkafka_member import LibrdkafkaMember

STOP: Final = 5.0
"""Seconds for a consumer to leave its group, and for the event loop to end what the thread waits for."""
_RECORDS: Final = 2_000  # records taken from the client at a time
_ENDS: Final = 0.1  # seconds between two looks at where partitions end, while records come
T = TypeVar("T")


class ClientThread:
    """One client from its start to its end: what the event loop asks of it first, what runs in its thread below."""

    def __init__(self, source: Supervisor, member: "LibrdkafkaMember") -> None:
        """The thread waits while the member takes partitions, and settles them before they go, on the event loop."""
        self._source, self._settings = source, source.settings
        self._member = member
        self._loop = asyncio.get_running_loop()
        strategy = client_settings(source.settings).get("partition_assignment_strategy", "cooperative-sticky")
        self._incremental = "cooperative" in str(strategy)
        self._worker = Worker("librdkafka")
        self._consumer: Consumer | None = None
        self._logger = logger()
        self._committing: tuple[Mapping[TopicPartition, int], asyncio.Future[None]] | None = None  # of the loop
        self._next: dict[TopicPartition, int] = {}  # of the thread: the offset that comes next
        # Of the thread: the epoch of what the client hands out of each partition. That of the member is ahead of it
        # while a seek waits for its turn, and what the client hands out until then is of no use.
        self._epochs: dict[TopicPartition, int] = {}
        self._counts: dict[str, int] = {}  # of the thread: partitions of topics, as of the last answer
        self._ends: Mapping[TopicPartition, int] = {}  # of the thread, replaced as a whole
        self._ends_at = 0.0
        self._sought: Mapping[TopicPartition, tuple[int, int, float]] = {}  # of the loop: epoch, offset, until when
        self._paused: frozenset[TopicPartition] = frozenset()  # of the thread: what the client was told
        self._barred: set[TopicPartition] = set()  # of the thread: read aside, so paused here
        self._dead = False  # set by the thread, once: a fatal error, after which the client does nothing any more

    async def start(self) -> None:
        """Make the client, which connects in the background. Raises ConfigError."""
        settings, tls = self._settings, self._source.tls
        callbacks: dict[str, Any] = {
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
            "throttle_cb": lambda event: self._source.throttled(event.throttle_time),
        }
        self._consumer = await self._worker.call(lambda: consumer_of(settings, tls, self._logger, **callbacks))

    async def topics(self, named: Iterable[str] | None = None) -> dict[str, Collection[int]]:
        """Answer the topics that there are, of these or of all, with their partitions. Raises SourceError."""
        consumer, timeout = self._running, self._settings.startup_timeout_ms / 1000

        def asked() -> dict[str, Collection[int]]:
            found = listed(consumer, named, timeout)
            self._counts |= {name: len(partitions) for name, partitions in found.items()}
            return found

        try:
            return await self._worker.call(asked)
        except KafkaException as error:
            detail = f"{self._settings.bootstrap} responds, but the brokers it names do not: {error}"
            raise SourceError("source.unreachable", detail) from error

    async def subscribe(self, topics: list[str]) -> None:
        """Join the group for these topics; leave it when there is none."""
        consumer = self._running
        callbacks = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
        if topics:
            await self._worker.call(lambda: consumer.subscribe(topics, **callbacks))
        else:
            await self._worker.call(consumer.unsubscribe)

    def look(self, room: int, wait: float, pauses: frozenset[TopicPartition]) -> asyncio.Future[list[Taken]]:
        """Let the client answer for up to `wait` seconds, longer while the group rebalances, and take records of about
        `room` bytes, none of partitions in `pauses`. Raises LostError, SourceError and what the client raises.
        """
        return self._worker.call(lambda: self._look(room, wait, pauses))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> asyncio.Future[None]:
        """Begin a commit; the answer comes while the client is polled. Raises KafkaException and RuntimeError, both."""
        consumer = self._running
        done: asyncio.Future[None] = self._loop.create_future()
        self._committing = offsets, done
        # Inside its callback the client takes calls of that thread, and the drain that it waits for ends with a commit.
        if not self._worker.call_meanwhile(lambda: self._commit_here(consumer, offsets)):
            wanted = placed_at(offsets)
            await self._worker.call(lambda: consumer.commit(offsets=wanted, asynchronous=True))
        return done

    def commit_and_wait(self, offsets: Mapping[TopicPartition, int]) -> asyncio.Future[None]:
        """Commit before the client does anything else. Raises as `commit`."""
        consumer = self._running
        return self._worker.call(lambda: committed(consumer, offsets))

    def bounds(self, partitions: Collection[TopicPartition]) -> asyncio.Future[dict[TopicPartition, tuple[int, int]]]:
        """Ask the brokers for the first offset of each, and the one behind the last. Raises what the client raises."""
        consumer, timeout = self._running, self._settings.commit_timeout_ms / 1000
        asked = {tp: KafkaPartition(*tp) for tp in partitions}
        return self._worker.call(
            lambda: {tp: consumer.get_watermark_offsets(each, timeout=timeout) for tp, each in asked.items()}
        )

    def back(self, places: Mapping[TopicPartition, tuple[int, int]]) -> asyncio.Future[None]:
        """Read these again in their epochs, from their offsets on. Raises what the client raises."""
        return self._worker.call(lambda: self._back(places))

    def seek(self, places: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Read these in new epochs from their offsets on, before the client is asked for records again. Nobody waits
        for the thread: it may itself be waiting for who calls this.
        """
        owned, until = self._member.owned, time.monotonic() + self._settings.commit_timeout_ms / 1000
        waiting = {tp: each for tp, each in self._sought.items() if owned.get(tp) == each[0]}
        self._sought = {**waiting, **{tp: (*place, until) for tp, place in places.items()}}

    def end_of(self, tp: TopicPartition) -> int | None:
        """Answer the end of a partition, as of the last fetch. The client is not asked: it answers after its poll."""
        return self._ends.get(tp)

    async def close(self) -> None:
        """Leave the group, in a bounded time."""
        consumer, self._consumer = self._consumer, None
        # After a fatal error there is no membership to leave, and librdkafka's close spins for ever: it is dropped.
        if consumer is not None and not self._dead:
            await asyncio.wait({self._worker.call(consumer.close)}, timeout=STOP)
        self._logger.disabled = True
        self._worker.close()

    @property
    def _running(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("the client is closed")
        return self._consumer

    def _has_committed(self, offsets: Mapping[TopicPartition, int], error: KafkaError | None) -> None:
        if self._committing is None or self._committing[1].done() or self._committing[0] != offsets:
            return  # of a commit that nobody waits for
        if error is None:
            self._committing[1].set_result(None)
        else:
            self._committing[1].set_exception(KafkaException(error))

    # --- in the thread: reading ----------------------------------------------------------------------------------

    def _look(self, room: int, wait: float, pauses: frozenset[TopicPartition]) -> list[Taken]:
        consumer = self._consumer
        if consumer is None:
            return []
        self._seek(consumer)
        self._pause(consumer, pauses | (self._barred & self._member.owned.keys()))
        taken: list[Taken] = []
        message = consumer.poll(wait)
        # Message by message: in a batch, those from before a rebalance could not be told from those after it.
        while message is not None and self._member.failure is None:
            error, tp = message.error(), TopicPartition(str(message.topic()), int(message.partition() or 0))
            if tp in self._barred:
                pass  # fetched before: it is read again, aside
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                taken += self._at_end(tp, message)
            elif error is not None and error.code() in UNREADABLE and tp in self._epochs:
                log.warning(
                    "%s/%d is read by the guarded reader for a while: librdkafka cannot read it: %s %s",
                    *(*tp, error.name(), error.str()),
                    extra=coded("source.unreadable"),
                )
                self._bar(consumer, [tp])
                taken.append((self._epochs[tp], Barred(tp, self._next.get(tp, int(message.offset() or -1)))))
            elif error is not None:
                self._judge(message, error)
            else:
                record = record_of(message)
                self._source.health.headers_unread += is_unread(record.headers)
                if (epoch := self._epochs.get(record.tp)) is not None:
                    self._next[record.tp] = record.offset + 1
                    taken.append((epoch, record))
                    room -= record.size
            if room <= 0 or len(taken) >= _RECORDS:
                break
            message = consumer.poll(0)
        if not taken or time.monotonic() - self._ends_at > _ENDS:
            self._ends_at = time.monotonic()
            found = {tp: consumer.get_watermark_offsets(KafkaPartition(*tp), cached=True) for tp in self._epochs}
            self._ends = {tp: ends[1] for tp, ends in found.items() if ends is not None and ends[1] >= 0}
        return taken

    def _at_end(self, tp: TopicPartition, message: Message) -> list[Taken]:
        """How far the client is, when offsets without a record lie behind the last one taken."""
        epoch, offset = self._epochs.get(tp), int(message.offset() or 0)
        if epoch is None or offset <= self._next.setdefault(tp, offset):
            return []
        self._next[tp], self._ends_at = offset, 0.0
        return [(epoch, Passed(tp, offset))]

    def _bar(self, consumer: Consumer, partitions: Collection[TopicPartition]) -> None:
        self._barred |= {*partitions}
        consumer.pause([KafkaPartition(*tp) for tp in partitions])
        self._paused |= {*partitions}

    def _back(self, places: Mapping[TopicPartition, tuple[int, int]]) -> None:
        for tp, (epoch, offset) in places.items():
            # Else it was sought or assigned anew meanwhile: whoever did that has said where it is read.
            if self._consumer is not None and tp in self._barred and self._member.owned.get(tp) == epoch:
                self._read_on(self._consumer, tp, epoch, offset)

    def _seek(self, consumer: Consumer) -> None:
        for tp, (epoch, offset, until) in self._sought.items():
            if self._member.owned.get(tp) != epoch or self._epochs.get(tp) in (epoch, None):
                continue  # no longer wanted, or done
            try:
                self._read_on(consumer, tp, epoch, offset)
            except KafkaException as error:
                if error.args[0].code() not in UNSETTLED or time.monotonic() >= until:
                    raise

    def _read_on(self, consumer: Consumer, tp: TopicPartition, epoch: int, offset: int) -> None:
        consumer.seek(KafkaPartition(tp.topic, tp.partition, offset))
        self._epochs[tp], self._next[tp] = epoch, offset
        self._barred.discard(tp)

    def _pause(self, consumer: Consumer, wanted: frozenset[TopicPartition]) -> None:
        already = self._paused & self._member.owned.keys()
        if more := wanted - already:
            consumer.pause([KafkaPartition(*tp) for tp in more])
        if fewer := already - wanted:
            consumer.resume([KafkaPartition(*tp) for tp in fewer])
        self._paused = wanted

    def _judge(self, message: Message, error: KafkaError) -> None:
        place = f"{message.topic()}/{message.partition()}: " if message.topic() else ""
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's own code
            tp = TopicPartition(str(message.topic()), int(message.partition() or 0))
            if tp not in self._next:
                raise LostError("offset", f"{place}{error.str()}")
            raise OffsetsGoneError({tp: self._next[tp]})
        self._dead = self._dead or is_fatal(error)
        self._member.unknown = self._member.unknown or error.code() in UNKNOWN
        if (lost := lost_by(error, place)) is not None:
            raise lost
        self._on_error(error)

    # --- in the thread: what the client says ---------------------------------------------------------------------

    def _on_error(self, error: KafkaError) -> None:
        self._source.health.last_error = f"{error.name()} {error.str()}"
        if is_fatal(error):
            self._dead = True
            self._member.failure = fatal(error)
        elif error.code() in DENIED:
            self._member.failure = LostError("denied", error.str())
        else:
            log.info("librdkafka says: %s %s", error.name(), error.str())

    def _commit_here(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        error: KafkaError | None = None
        try:
            committed(consumer, offsets)
        except KafkaException as caught:
            error = caught.args[0]
        self._say_committed(offsets, error)

    def _on_commit(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        failed = error or next((each.error for each in partitions if each.error is not None), None)
        self._say_committed({TopicPartition(each.topic, each.partition): each.offset for each in partitions}, failed)

    def _say_committed(self, offsets: Mapping[TopicPartition, int], error: KafkaError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._has_committed, offsets, error)

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        places: Mapping[TopicPartition, tuple[int, int]] = {}
        aside = self._source.wary
        try:
            if not self._member.closed:
                counts = {topic: self._counts.get(topic, 0) for topic in self._member.used}
                told = counts if self._source.on_assign is not None else None
                known = self._source.known(set())
                usual = placed(consumer, partitions, self._settings, known, told=told, aside=aside)
                places = self._on_loop(self._member.took(usual), self._settings.commit_timeout_ms / 1000)
        except (KafkaException, RuntimeError, TimeoutError, LostError, LmstreamError) as error:
            # Without a place nothing may be read.
            what = "start offsets of partitions cannot be set"
            if not self._member.closed:
                log.warning("partitions were assigned but their %s: %r", what, error, extra=coded("source.stuck"))
            ours = isinstance(error, LostError) or final(error)
            self._member.failure = error if ours else LostError("client", f"{what}: {error!r}")
        starts = {tp: offset for tp, (_, offset) in places.items()}
        self._epochs |= {tp: epoch for tp, (epoch, _) in places.items()}
        self._next = {tp: n for tp, n in self._next.items() if tp not in starts} | {
            tp: n for tp, n in starts.items() if n >= 0
        }
        if self._incremental:
            consumer.incremental_assign(placed_at(starts))
        else:
            consumer.assign(placed_at(starts))
        self._barred -= starts.keys()
        if starts and aside:
            self._bar(consumer, starts.keys())  # before anything is fetched: `took` has them read aside

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        if not self._member.closed:
            try:
                self._on_loop(self._member.revoked([TopicPartition(each.topic, each.partition) for each in partitions]))
            except (RuntimeError, TimeoutError) as error:
                self._member.failure = LostError("client", f"partitions could not be revoked in order: {error!r}")
        for each in partitions:
            self._epochs.pop(TopicPartition(each.topic, each.partition), None)
        if self._incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _on_loop(self, work: Coroutine[Any, Any, T], more: float = 0.0) -> T:
        return self._worker.wait_for(work, self._settings.drain_timeout_ms / 1000 + more + STOP)
