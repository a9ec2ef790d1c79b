"""Read records from Kafka: as a member of a consumer group, or a fixed range of offsets for `verify` and `inspect`."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError

from lmstream.errors import LmstreamError, SourceError
from lmstream.interfaces import Batch, Drain
from lmstream.model import Record, TopicPartition
from lmstream.sources import _kafka
from lmstream.sources._kafka_range import Range, read_range
from lmstream.sources._kafka_settings import Settings, addresses, ssl_context

__all__ = ["Kafka", "Range", "Settings", "make", "read_range"]

log = logging.getLogger(__name__)

_WAIT: Final = 0.2  # seconds a poll waits for records
_BUSY_WAIT: Final = 0.02  # seconds a poll waits when there is no room: room may come at any moment
_RECORDS: Final = 2_000  # records taken from the client at a time
_TYPICAL: Final = 32 * 1024  # bytes of a record, until we know better
_STUCK: Final = 15.0  # seconds past every legitimate wait after which a silent consumer counts as dead
_EPOCHS: Final = itertools.count(1)  # of the process: a source made anew must not use those of the one before
_NOWHERE: Final = KafkaPartition("", -1)  # asking for it takes nothing, and tells the group that we are alive


class Kafka:
    """Source of one consumer group. Commits only what it is told, and only for partitions it still owns.

    A consumer that cannot go on raises SourceError from `poll`: then this object is of no more use, close it.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing connects before `start` or the first `poll`, but PEM files are read: ConfigError for bad ones."""
        ssl_context(settings)
        addresses(settings.bootstrap)
        self.on_revoke: Drain | None = None
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()
        self._fetching: asyncio.Task[tuple[int, list[Record]]] | None = None
        self._asked = 0.0  # when the fetch under way began
        self._idle = False  # whether it takes nothing
        self._held: deque[Record] = deque()
        self._typical = _TYPICAL
        self._epoch = 0
        self._owned: dict[TopicPartition, int] = {}
        self._revoking = False
        self._committed: dict[TopicPartition, int] = {}
        self._known: set[TopicPartition] | None = None  # partitions there were at the first assignment
        self._failure: LmstreamError | None = None

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        """Partitions owned now, with their assignment epochs."""
        return dict(self._owned)

    async def start(self) -> None:
        """Connect and join the group, as `poll` does too. Raises ConfigError or SourceError in the start-up timeout."""
        async with self._starting:
            if self._consumer is None and self._failure is None:
                consumer = await _kafka.connect(self._settings, group=True)
                consumer.subscribe(list(self._settings.topics), listener=_Listener(self))
                self._consumer = consumer

    async def poll(self, room: int, /) -> Batch:
        """Wait up to 200 ms for records of at most about `room` bytes; at least one when there is any room."""
        if self._failure is not None:
            raise self._failure
        if self._consumer is None:
            await self.start()
        if room <= 0:
            await self._fetch(0, _BUSY_WAIT)
            return Batch(records=())
        if not self._held:
            await self._fetch(max(1, min(_RECORDS, room // self._typical)), _WAIT)
        records = self._take(room)
        return Batch(records=records, epochs={tp: self._owned[tp] for tp in {record.tp for record in records}})

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Commit these of partitions we own and have not committed further. Raises SourceError `source.commit`."""
        mine = {tp: n for tp, n in offsets.items() if tp in self._owned and n > self._committed.get(tp, -1)}
        if self._consumer is None or not mine:
            return
        epoch = self._epoch
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                await self._consumer.commit({KafkaPartition(*tp): n for tp, n in mine.items()})
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            what = ", ".join(f"{tp.topic}/{tp.partition}={n}" for tp, n in list(mine.items())[:3])
            raise SourceError("source.commit", f"{what}: {type(error).__name__} {error}".rstrip()) from error
        if epoch == self._epoch:
            self._committed.update(mine)

    async def close(self) -> None:
        """Leave the group. Never raises; takes some seconds at most, brokers or not."""
        async with self._starting:
            consumer, self._consumer = self._consumer, None
            self._failure = self._failure or SourceError("source.unreachable", "the source was closed")
            self._owned, self._held = {}, deque()
            if self._fetching is not None:
                self._fetching.cancel()
                await asyncio.wait({self._fetching}, timeout=1)
            if consumer is not None:
                await _kafka.stop(consumer)

    # --- reading -------------------------------------------------------------------------------------------------

    async def _fetch(self, records: int, wait: float) -> None:
        """Let the client answer for up to `wait` seconds. `records` 0 takes nothing and shows that we are alive.

        getmany() does not keep its timeout while the group rebalances, and a cancelled one may lose what it took: so
        it runs in a task that lives on until a later poll.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            if self._fetching is None:
                # Paused and resumed only between two getmany(): one that meets a paused partition throws away what
                # was fetched of it, and it is fetched again.
                self._pause(records == 0)
                self._asked, self._idle = loop.time(), records == 0
                self._fetching = asyncio.create_task(self._getmany(records, wait))
            task, idle = self._fetching, self._idle
            await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
            if not task.done():
                self._check_patience(loop.time() - self._asked)
                return
            self._fetching = None
            self._hold(task)
            if not idle or not records or loop.time() >= until:
                return

    def _check_patience(self, waited: float) -> None:
        patience = (self._settings.session_timeout_ms + self._settings.rebalance_timeout_ms) / 1000 + _STUCK
        if waited > patience:
            raise self._fail("source.unreachable", f"no answer from the consumer group for {patience:.0f} s", None)

    def _hold(self, task: asyncio.Task[tuple[int, list[Record]]]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            epoch, taken = task.result()
            if epoch == self._epoch and not self._revoking:  # else never handed out: the new owner reads them again
                self._held.extend(taken)
        elif not isinstance(error, NoOffsetForPartitionError):  # that: a new partition, about to be placed
            raise self._translated(error)

    async def _getmany(self, records: int, wait: float) -> tuple[int, list[Record]]:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - for the type checker: start() came first
        fetcher = consumer._fetcher  # noqa: SLF001 - getmany() does not say when its background task has died
        if fetcher.error_future.done():
            raise SourceError("source.unreachable", f"the client stopped reading: {fetcher.error_future.exception()!r}")
        if not records:
            await consumer.getmany(_NOWHERE, timeout_ms=int(wait * 1000))
            return self._epoch, []
        found = await consumer.getmany(timeout_ms=int(wait * 1000), max_records=records)
        # No await from here on: what was taken is handed over whole.
        taken = [_kafka.record(message) for messages in found.values() for message in messages]
        if stray := {record.tp for record in taken} - self._owned.keys():
            raise SourceError("source.unreachable", f"records of partitions that are not ours: {sorted(stray)}")
        if taken:
            self._typical = max(1, sum(len(record.value or b"") for record in taken) // len(taken))
        return self._epoch, taken

    def _take(self, room: int) -> list[Record]:
        taken: list[Record] = []
        while self._held and not self._revoking:
            size = len(self._held[0].value or b"")
            if taken and size > room:
                break
            room -= size
            taken.append(self._held.popleft())
        return taken

    def _pause(self, paused: bool) -> None:  # noqa: FBT001 - a state, not an option
        consumer = self._consumer
        if consumer is None:
            return
        if paused:
            consumer.pause(*consumer.assignment())
        elif held := consumer.paused():
            consumer.resume(*held)

    def _translated(self, error: BaseException) -> LmstreamError:
        """End with an error of the client, whatever it is.

        After one that came in the middle of a getmany(), records it had already taken are gone from it, and only a new
        consumer reads them again from the last commit.
        """
        if isinstance(error, LmstreamError):
            return self._fail(error.reason, error.detail, error)
        return self._fail(*_kafka.explained(error), error)

    def _fail(self, reason: str, detail: str, cause: BaseException | None) -> LmstreamError:
        self._failure = SourceError(reason, detail)
        self._failure.__cause__ = cause
        return self._failure

    # --- the group -----------------------------------------------------------------------------------------------

    async def _revoked(self, partitions: Iterable[KafkaPartition]) -> None:
        self._revoking = True
        self._held.clear()  # never handed out, so never committed: the next owner reads them
        given = [TopicPartition(*tp) for tp in partitions]
        try:
            if given and self.on_revoke is not None:
                async with asyncio.timeout(self._settings.drain_timeout_ms / 1000):
                    await self.on_revoke(given)
        except TimeoutError:
            log.warning("what is in flight was not settled in time; its rows may come twice")
        finally:
            self._owned = {}

    async def _assigned(self, partitions: Iterable[KafkaPartition]) -> None:
        # Before the first await: from here on records may arrive, and they belong to this epoch.
        self._epoch = next(_EPOCHS)
        self._owned = {TopicPartition(*tp): self._epoch for tp in partitions}
        self._committed, self._revoking = {}, False
        self._held.clear()
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await self._place(list(partitions))
        except (KafkaError, TimeoutError, LmstreamError) as error:
            self._translated(error)

    async def _place(self, partitions: list[KafkaPartition]) -> None:
        """Put partitions for which the group has no commit where the settings say."""
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - for the type checker: the listener is called by it
        offsets = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
        self._committed = {TopicPartition(*tp): n for tp, n in zip(partitions, offsets, strict=True) if n is not None}
        bare = [tp for tp, n in zip(partitions, offsets, strict=True) if n is None]
        if self._known is None:
            self._known = {
                TopicPartition(t, n) for t in self._settings.topics for n in consumer.partitions_for_topic(t) or ()
            }
        latest = [tp for tp in bare if self._settings.start_from == "latest" and TopicPartition(*tp) in self._known]
        # A partition added while we run is read from its beginning, else what came before we saw it would be missed.
        if earliest := [tp for tp in bare if tp not in latest]:
            await consumer.seek_to_beginning(*earliest)
        if latest:
            await consumer.seek_to_end(*latest)
            # Committed at once: a restart before the first real commit must not skip what came in between.
            await self.commit({TopicPartition(*tp): await consumer.position(tp) for tp in latest})


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """Passes the group's news on."""

    def __init__(self, source: Kafka) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        await self._source._revoked(revoked)  # noqa: SLF001 - one class in two, because aiokafka wants this one

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        await self._source._assigned(assigned)  # noqa: SLF001 - as above


make = Kafka
