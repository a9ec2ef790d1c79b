"""A member of the consumer group by aiokafka: what it does, and the ways in which it dies without saying so."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from lmstream.errors import LmstreamError, SourceError, coded
from lmstream.interfaces import Batch, Standing
from lmstream.kafka import connection
from lmstream.kafka.aiokafka_inside import fence, generation, positions
from lmstream.kafka.group.member import LostError, log, next_epoch
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.kafka.taking import Taker
from lmstream.kafka.topics import TopicWatch
from lmstream.model import Record, TopicPartition

_WAIT: Final = 0.2  # seconds a poll waits for records
_BUSY_WAIT: Final = 0.02  # seconds a poll waits when there is no room: room may come at any moment
_NOWHERE: Final = KafkaPartition("", -1)  # asking for it takes nothing, and tells the group that we are alive


class AiokafkaMember:
    """One AIOKafkaConsumer from its start to its end."""

    def __init__(self, source: Supervisor) -> None:
        self._source = source
        self._settings = source.settings
        self._consumer: AIOKafkaConsumer | None = None
        self._fetching: asyncio.Task[tuple[int, list[Record]]] | None = None
        self._asked = 0.0  # when the fetch under way began
        self._idle = False  # whether it takes nothing
        self._held: deque[Record] = deque()
        self._taker: Taker | None = None
        self._epoch = 0
        self._owned: dict[TopicPartition, int] = {}
        self._paused: Collection[TopicPartition] = ()
        self._frozen: set[TopicPartition] = set()  # moved by on_offset_lost: what was settled before is history
        self._revoking = False
        self._committed: dict[TopicPartition, int] = {}
        self._read: dict[TopicPartition, int] = {}  # newest timestamp handed out
        self._handed: dict[TopicPartition, int] = {}  # the offset behind what was handed out, or where it begins
        self._topics = TopicWatch(source, self._look, self._subscribe, keep=True)
        self._generation = -1  # of the group, when the partitions that are ours were assigned
        self._failure: Exception | None = None

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._owned)

    @property
    def joined(self) -> bool:
        return self._epoch > 0

    async def start(self) -> None:
        self._consumer = await connection.connect(self._settings, group=True, tls=self._source.tls)
        fence(self._consumer, lambda: self._generation)
        self._taker = connection.taker(
            self._consumer,
            self._settings,
            skip=self._settings.on_unreadable == "skip",
            load=self._source.load,
            journal=self._source.journal,
            on_trouble=self._source.held,
        )
        self._consumer._fetcher._client.throttled = self._source.throttled  # noqa: SLF001 - a Guard, since `taker`
        await self._topics.start(connection.topics_of(self._consumer, self._settings))

    async def _look(self, ask: bool) -> Collection[str] | None:  # noqa: FBT001 - as TopicWatch calls it
        wanted, used = self._topics.wanted, self._topics.used
        if self._consumer is None:
            return None
        # What is not subscribed to, the client does not know.
        return await connection.topics_there(
            self._consumer, None if wanted.patterns or not wanted.named <= used else wanted.named, ask=ask
        )

    async def _subscribe(self, topics: frozenset[str]) -> None:
        if self._consumer is not None:
            self._consumer.subscribe(sorted(topics), listener=_Listener(self))

    async def poll(self, room: int, /) -> Batch:
        if self._failure is not None:
            raise self._failure
        if not self._topics.used:
            await asyncio.sleep(_WAIT)  # no topic is there yet
            return Batch(records=())
        if room <= 0:
            await self._fetch(0, _BUSY_WAIT)
            return Batch(records=())
        if not self._held:
            await self._fetch(room, _WAIT)
        records = self._take(room)
        last = {record.tp: record for record in records}
        for tp, record in last.items():
            self._read[tp], self._handed[tp] = record.timestamp, record.offset + 1
        passed = self._passed()
        epochs = {tp: self._owned[tp] for tp in last.keys() | passed.keys()}
        cramped = self._taker is not None and self._taker.cramped
        return Batch(records, epochs=epochs, passed=passed, cramped=cramped)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        usable = self._owned.keys() - self._frozen
        mine = {tp: n for tp, n in offsets.items() if tp in usable and n > self._committed.get(tp, -1)}
        if self._consumer is None or not mine:
            return
        epoch = self._epoch
        await self._commit(mine)
        if epoch == self._epoch:
            self._committed.update(mine)

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        assert self._consumer is not None  # noqa: S101 - for the type checker
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                await self._consumer.commit({KafkaPartition(*tp): n for tp, n in offsets.items()})
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            what = ", ".join(f"{tp.topic}/{tp.partition}={n}" for tp, n in list(offsets.items())[:3])
            raise SourceError("source.commit", f"{what}: {type(error).__name__} {error}".rstrip()) from error

    def standings(self) -> Mapping[TopicPartition, Standing]:
        consumer = self._consumer
        if consumer is None:
            return {}
        found = {}
        assigned = consumer.assignment()
        for tp in self._owned:
            kafka = KafkaPartition(*tp)
            end = consumer.highwater(kafka) if kafka in assigned else None
            found[tp] = Standing(self._committed.get(tp), end, self._read.get(tp))
        return found

    def pause(self, partitions: Collection[TopicPartition], /) -> None:
        self._paused = partitions  # taken up before the next getmany()

    async def close(self) -> None:
        self._topics.stop()
        consumer, self._consumer = self._consumer, None
        self._owned, self._held = {}, deque()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching}, timeout=1)
            if self._fetching.done() and not self._fetching.cancelled():
                self._fetching.exception()  # seen, so that the loop does not report it
        if consumer is not None:
            await connection.stop(consumer)

    # --- reading -------------------------------------------------------------------------------------------------

    async def _fetch(self, room: int, wait: float) -> None:
        """Let the client answer for up to `wait` seconds. `room` 0 takes nothing and shows that we are alive.

        getmany() does not keep its timeout while the group rebalances, and a cancelled one may lose what it took: so
        it runs in a task that lives on until a later poll.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            if self._fetching is None:
                # Paused and resumed only between two getmany(): one that meets a paused partition throws away what
                # was fetched of it, and it is fetched again.
                self._apply_pauses(all_of_them=room == 0)
                self._asked, self._idle = loop.time(), room == 0
                self._fetching = asyncio.create_task(self._getmany(room, wait))
            task, idle = self._fetching, self._idle
            await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
            if not task.done():
                self._check_patience(loop.time() - self._asked)
                return
            self._fetching = None
            await self._hold(task)
            if not idle or not room or loop.time() >= until:
                return

    def _check_patience(self, waited: float) -> None:
        patience = (self._settings.rebalance_timeout_ms + self._settings.stuck_timeout_ms) / 1000
        if self._revoking:
            patience += self._settings.drain_timeout_ms / 1000  # ours, and bounded by itself
        if waited > patience:
            raise self._fail(LostError("silent", f"no answer from the consumer group for {patience:.0f} s"))

    async def _hold(self, task: asyncio.Task[tuple[int, list[Record]]]) -> None:
        if task.cancelled():
            raise self._fail(LostError("client", "the client was cancelled from inside"))
        error = task.exception()
        if error is None:
            epoch, taken = task.result()
            if epoch == self._epoch and not self._revoking:  # else never handed out: the new owner reads them again
                self._held.extend(taken)
        elif isinstance(error, OffsetOutOfRangeError):
            try:
                await self._lost_offsets({TopicPartition(*tp): at for tp, at in error.args[0].items()})
            except (LmstreamError, LostError) as verdict:
                raise self._fail(verdict) from error
        elif not isinstance(error, NoOffsetForPartitionError):  # that: a new partition, about to be placed
            raise self._fail(connection.lost(error)) from error

    async def _getmany(self, room: int, wait: float) -> tuple[int, list[Record]]:
        consumer, taker = self._consumer, self._taker
        assert consumer is not None and taker is not None  # noqa: S101, PT018 - for the type checker: start() came first
        fetcher = consumer._fetcher  # noqa: SLF001 - getmany() does not say when its background task has died
        if fetcher.error_future.done():
            raise LostError("client", f"the client stopped reading: {fetcher.error_future.exception()!r}")
        if not room:
            await consumer.getmany(_NOWHERE, timeout_ms=int(wait * 1000))
            return self._epoch, []
        taken = await taker.take(room, wait)
        if stray := {record.tp for record in taken} - self._owned.keys():
            raise LostError("client", f"records of partitions that are not ours: {sorted(stray)}")
        return self._epoch, taken

    def _take(self, room: int) -> list[Record]:
        taken: list[Record] = []
        while self._held and not self._revoking:
            size = self._held[0].size
            if taken and size > room:
                break
            room -= size
            taken.append(self._held.popleft())
        return taken

    def _passed(self) -> dict[TopicPartition, int]:
        """Answer where the client stands behind what was handed out: only offsets without a record lie between."""
        # Of a call that is under way, or of what is held, the client's position says nothing yet.
        if self._consumer is None or self._held or self._fetching is not None or self._revoking:
            return {}
        stands = positions(self._consumer, self._owned)
        busy = self._taker.busy if self._taker is not None else ()
        passed = {tp: at for tp, at in stands.items() if at > self._handed.get(tp, at) and tp not in busy}
        self._handed.update(passed)
        return passed

    def _apply_pauses(self, *, all_of_them: bool) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        assigned, already = consumer.assignment(), consumer.paused()
        held = self._taker.held if self._taker is not None else set()
        wanted = assigned if all_of_them else {KafkaPartition(*tp) for tp in {*self._paused, *held}} & assigned
        if more := wanted - already:
            consumer.pause(*more)
        if fewer := already - wanted:
            consumer.resume(*fewer)

    def _fail(self, error: Exception) -> Exception:
        """Be over: what was taken and not handed out is gone from this consumer, the next reads it again."""
        self._failure = error
        return error

    async def _lost_offsets(self, places: Mapping[TopicPartition, int]) -> None:
        """Find where to go on when offsets are gone, make that the group's, and let a new member begin there."""
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - for the type checker
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                asked = [KafkaPartition(*tp) for tp in places]
                begins, ends = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
        except (KafkaError, TimeoutError) as error:
            raise LostError("client", f"the ends of the topic cannot be had: {error!r}") from error
        before = self._source.health.lost_by_retention
        targets = {
            tp: self._source.gone(tp, at, begins[KafkaPartition(*tp)], ends[KafkaPartition(*tp)])
            for tp, at in places.items()
        }
        self._frozen |= targets.keys()
        try:
            await self._commit(targets)
        except SourceError as error:
            self._source.health.lost_by_retention = before  # found again, and counted then
            raise LostError("offset", f"cannot go on at the earliest offset: {error.detail}") from error
        raise LostError("offset", f"going on at the earliest offset of {len(targets)} partitions")

    # --- the group -----------------------------------------------------------------------------------------------

    async def _revoked(self, partitions: Iterable[KafkaPartition]) -> None:
        self._revoking = True
        self._forget()  # never handed out, so never committed: the next owner reads them
        try:
            await self._source.given_up([TopicPartition(*tp) for tp in partitions])
        finally:
            self._owned = {}

    async def _assigned(self, partitions: Iterable[KafkaPartition]) -> None:
        # Before the first await: from here on records may arrive, and they belong to this epoch.
        self._epoch = next_epoch()
        self._owned = {TopicPartition(*tp): self._epoch for tp in partitions}
        self._generation = -1 if self._consumer is None else generation(self._consumer)
        self._committed, self._read, self._handed, self._revoking = {}, {}, {}, False
        self._forget()
        self._source.health.rebalances += 1
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await self._place(list(partitions))
        except (KafkaError, TimeoutError, LmstreamError) as error:
            log.warning("partitions were assigned and cannot be placed: %r", error, extra=coded("source.stuck"))
            self._fail(connection.lost(error))

    def _forget(self) -> None:
        self._held.clear()
        self._source.health.unreadable.clear()
        if self._taker is not None:
            self._taker.forget()

    async def _place(self, partitions: list[KafkaPartition]) -> None:
        """Put partitions for which the group has no commit where the settings say."""
        consumer = self._consumer
        if consumer is None:
            return  # closed meanwhile
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
        begins = {TopicPartition(*tp): await consumer.position(tp) for tp in bare} | self._committed
        self._handed = begins | self._handed


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """Passes the group's news on."""

    def __init__(self, member: AiokafkaMember) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        await self._member._revoked(revoked)  # noqa: SLF001 - one class in two, because aiokafka wants this one

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        await self._member._assigned(assigned)  # noqa: SLF001 - as above
