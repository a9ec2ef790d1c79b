"""A member of the consumer group by aiokafka, and the ways in which that client dies without saying so."""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from lmstream.errors import LmstreamError, coded
from lmstream.interfaces import Assigned
from lmstream.kafka import connection
from lmstream.kafka._aiokafka_internals import fence, generation, heartbeat, pause_only, positions
from lmstream.kafka._record_reader import RecordReader
from lmstream.kafka.group.guarded_reader import reader_for
from lmstream.kafka.group.lost import LostError, log
from lmstream.kafka.group.member import Member, OffsetsGoneError
from lmstream.kafka.group.placement import final
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.model import Record, TopicPartition

_NOWHERE: Final = KafkaPartition("", -1)  # asking for it takes nothing, and tells the group that we are alive
Answer = tuple[Mapping[TopicPartition, int], list[Record]]
"""The partitions that were ours when records were taken, and the records."""


class AiokafkaMember(Member, ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """One AIOKafkaConsumer. Partitions change hands all at once (eager rebalancing)."""

    keeps_topics = True
    client_errors = (KafkaError, TimeoutError)

    def __init__(self, source: Supervisor) -> None:
        """Nothing connects before `start`."""
        super().__init__(source)
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: RecordReader | None = None
        self._handed: dict[TopicPartition, int] = {}  # the offset behind what was handed out, or where it begins
        self._generation = -1  # of the group, when the partitions that are ours were assigned

    @property
    def _running(self) -> tuple[AIOKafkaConsumer, RecordReader]:
        assert self._consumer is not None and self._reader is not None  # noqa: S101, PT018 - for the type checker
        return self._consumer, self._reader

    async def _connect(self) -> Collection[str]:
        self._consumer = consumer = await connection.connect(
            self._settings, group=True, tls=self._source.tls, lanes=self._source.lanes
        )
        fence(consumer, lambda: self._generation)
        self._reader = reader_for(self._source, consumer)
        consumer._fetcher._client.throttled = self._source.throttled  # noqa: SLF001 - a Guard, since `reader_for`
        return connection.topics_of(consumer, self._settings)

    async def _look(self, ask: bool) -> Collection[str] | None:  # noqa: FBT001 - as TopicWatch calls it
        wanted, used = self._topics.wanted, self._topics.used
        if self.closed:
            return None
        # What is not subscribed to, the client does not know.
        known = None if wanted.patterns or not wanted.named <= used else wanted.named
        return await connection.topics_there(self._running[0], known, ask=ask)

    async def _subscribe(self, topics: frozenset[str]) -> None:
        if not self.closed:
            self._running[0].subscribe(sorted(topics), listener=self)

    async def _disconnect(self) -> None:
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await connection.stop(consumer)

    # --- reading -------------------------------------------------------------------------------------------------

    async def _records(self, room: int, wait: float) -> Answer:
        consumer, reader = self._running
        # Paused and resumed only between two getmany(): one that meets a paused partition throws away what was fetched
        # of it, and it is fetched again.
        some = {KafkaPartition(*tp) for tp in self._paused | reader.held | self._placement.partitions}
        pause_only(consumer, some if room else consumer.assignment())
        fetcher = consumer._fetcher  # noqa: SLF001 - getmany() does not say when its background task has died
        if fetcher.error_future.done():
            raise LostError("client", f"the client stopped reading: {fetcher.error_future.exception()!r}")
        taken: list[Record] = []
        try:
            if room:
                taken = await reader.take(room, wait)
            else:
                await consumer.getmany(_NOWHERE, timeout_ms=int(wait * 1000))
        except OffsetOutOfRangeError as error:
            raise OffsetsGoneError({TopicPartition(*tp): at for tp, at in error.args[0].items()}) from error
        except NoOffsetForPartitionError:
            pass  # a new partition, about to be placed
        if stray := {record.tp for record in taken} - self.owned.keys():
            raise LostError("client", f"records of partitions that are not assigned: {sorted(stray)}")
        return self.owned, taken

    def _hold(self, answer: Answer) -> None:
        owned, taken = answer
        # Revoked or sought meanwhile: never handed out, for the new owner, or the new epoch, reads them again.
        if owned is not self.owned or self._revoking:
            stale = {tp for tp in owned if owned[tp] != self.owned.get(tp)} | self._revoking
            taken = [record for record in taken if record.tp not in stale]
        self._held.extend(taken)

    def _passed(self, last: Mapping[TopicPartition, Record]) -> Mapping[TopicPartition, int]:
        self._handed.update({tp: record.offset + 1 for tp, record in last.items()})
        # Of a call that is under way, or of what is held, the client's position says nothing yet.
        if self._consumer is None or self._held or self._call is not None or self._revoking:
            return {}
        consumer, reader = self._running
        stands, busy = positions(consumer, self.owned), reader.busy
        passed = {tp: at for tp, at in stands.items() if at > self._handed.get(tp, at) and tp not in busy}
        self._handed.update(passed)
        return passed

    @property
    def _cramped(self) -> bool:
        return self._reader is not None and self._reader.cramped

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self._running[0].commit({KafkaPartition(*tp): n for tp, n in offsets.items()})

    async def _bounds(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        consumer, asked = self._running[0], [KafkaPartition(*tp) for tp in partitions]
        begins, ends = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
        return {TopicPartition(*tp): (begins[tp], ends[tp]) for tp in asked}

    def _seek(self, places: Mapping[TopicPartition, int]) -> None:
        consumer, reader = self._running
        reader.forget(*places)
        for tp, offset in places.items():
            # Without an assignment in the client, because the topics have changed: it assigns these anew, and until
            # then hands out nothing of them.
            with contextlib.suppress(IllegalStateError):
                consumer.seek(KafkaPartition(*tp), offset)
        self._handed.update(places)

    def _end_of(self, tp: TopicPartition) -> int | None:
        consumer, kafka = self._running[0], KafkaPartition(*tp)
        end: int | None = consumer.highwater(kafka) if kafka in consumer.assignment() else None
        return end

    # --- the group -----------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        self._forget()
        await self.revoked([TopicPartition(*tp) for tp in revoked])

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        # Before the first await: from here on records may arrive, and they belong to this epoch.
        self.owned, self._handed = {}, {}
        self._own([TopicPartition(*tp) for tp in assigned])
        self._generation = -1 if self._consumer is None else generation(self._consumer)
        self._placement.begin(self.owned)
        if self._consumer is not None and self._placement.partitions:
            self._consumer.pause(*assigned)
            heartbeat(self._consumer)
        self._forget()
        try:
            await self._place(list(assigned))
        except (KafkaError, TimeoutError, LmstreamError, LostError) as error:
            if not self.closed:
                what = "partitions were assigned but their start offsets cannot be set: %r"
                log.warning(what, error, extra=coded("source.stuck"))
            self._fail(error if final(error) else connection.lost(error))

    def _forget(self) -> None:
        self._held.clear()
        self._source.health.unreadable.clear()
        if self._reader is not None:
            self._reader.forget()

    async def _place(self, partitions: list[KafkaPartition]) -> None:
        """Put partitions where the settings say, where the group has no commit, and then where `on_assign` says."""
        async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
            bare = await self._usual(partitions)
            begins = bare | self._committed
            topics = self._counts()
            bounds = await self._bounds(begins) if self._placement.wanted and not self.closed else {}
        self._handed = begins | self._handed
        if bounds:
            stands = {tp: Assigned(begins[tp], tp not in bare, *bound, topics) for tp, bound in bounds.items()}
            places = await self._placement.ask(stands)
            self._asked = self._loop.time()  # that was not the client's time
            if places and not self.closed:
                self._seek(places)
                await self._tell(places, stands)

    def _counts(self) -> dict[str, int]:
        """Partitions of each topic that is read."""
        consumer = self._consumer
        return {t: len(consumer.partitions_for_topic(t) or ()) for t in self._topics.used} if consumer else {}

    async def _usual(self, partitions: list[KafkaPartition]) -> dict[TopicPartition, int]:
        """Put partitions for which the group has no commit where the settings say; answer where these begin."""
        consumer = self._consumer
        if consumer is None:
            return {}  # closed meanwhile
        offsets = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
        self._committed = {TopicPartition(*tp): n for tp, n in zip(partitions, offsets, strict=True) if n is not None}
        bare = [tp for tp, n in zip(partitions, offsets, strict=True) if n is None]
        known = self._source.known(
            {TopicPartition(t, n) for t in self._topics.used for n in consumer.partitions_for_topic(t) or ()}
        )
        latest = [tp for tp in bare if self._settings.start_from == "latest" and TopicPartition(*tp) in known]
        # A partition added while we run is read from its beginning, else what came before we saw it would be missed.
        if earliest := [tp for tp in bare if tp not in latest]:
            await consumer.seek_to_beginning(*earliest)
        if latest:
            await consumer.seek_to_end(*latest)
            # Committed at once: a restart before the first real commit must not skip what came in between.
            await self.commit({TopicPartition(*tp): await consumer.position(tp) for tp in latest})
        return {TopicPartition(*tp): await consumer.position(tp) for tp in bare}
