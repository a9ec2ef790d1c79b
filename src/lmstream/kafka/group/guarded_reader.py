"""Read partitions of a member beside its client, through the guarded reader: those that the client cannot read, or that
may have killed the process in it."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from msgspec import Struct

from lmstream.delivery.tasks import end
from lmstream.errors import LmstreamError, coded
from lmstream.kafka import connection
from lmstream.kafka._aiokafka_internals import pause_only, positions, readable_end
from lmstream.kafka._record_reader import RecordReader
from lmstream.kafka.group.lost import LostError, log
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.model import Record, TopicPartition

_WAIT: Final = 0.05  # seconds a look may take: the client beside it waits for it
_RETRY: Final = 2.0  # seconds between two tries to connect


def reader_for(source: Supervisor, consumer: AIOKafkaConsumer) -> RecordReader:
    """What takes the records of a consumer that was just connected for a member of this source."""
    settings = source.settings
    return RecordReader(
        consumer,
        settings.batch_bytes,
        skip=settings.on_unreadable == "skip",
        load=source.load,
        journal=source.journal,
        on_trouble=source.held,
    )


class _Part(Struct):
    epoch: int
    next: int
    """The offset behind what was taken; negative is the beginning."""
    until: int | None = None
    """The end of the partition when it was first looked at here: from there on the client reads it again."""


class GuardedReader:
    """Partitions of one member, on one consumer without a group. All of this runs on the event loop."""

    def __init__(self, source: Supervisor) -> None:
        self._source, self._settings = source, source.settings
        self._parts: dict[TopicPartition, _Part] = {}
        self._assigned: Mapping[TopicPartition, _Part] = {}  # as the consumer was told: one begun anew is not yet
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: RecordReader | None = None
        self._connecting: asyncio.Task[AIOKafkaConsumer] | None = None
        self._again = 0.0
        self._changed = False

    @property
    def partitions(self) -> Collection[TopicPartition]:
        """What is read here."""
        return self._parts.keys()

    def begin(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Read a partition here from an offset on (negative: its beginning), up to the end it has by now; once more
        where it is read here already.
        """
        self._parts[tp] = _Part(epoch, offset)
        self._changed = True

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Read these no longer: they are revoked."""
        for tp in partitions:
            self._changed |= self._parts.pop(tp, None) is not None
            self._source.health.unreadable.pop(tp, None)

    async def take(self, room: int, paused: Collection[TopicPartition]) -> list[tuple[int, Record]]:
        """Answer records of about `room` bytes, with the epochs of their partitions. Raises LostError."""
        consumer, reader = await self._ready()
        if consumer is None or reader is None or not self._parts:
            return []
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                if self._changed:
                    await self._assign(consumer, reader)
            pause_only(consumer, {KafkaPartition(*tp) for tp in {*paused, *reader.held}})
            records = await reader.take(room, _WAIT)
        except OffsetOutOfRangeError as error:
            for tp, offset in error.args[0].items():  # the client's to judge
                if (part := self._current(TopicPartition(*tp))) is not None:
                    part.until = part.next = offset
            return []
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            raise LostError("client", f"the guarded reader: {type(error).__name__}: {error}") from error
        found = []
        for record in records:
            if (part := self._current(record.tp)) is not None:
                part.next = record.offset + 1
                found.append((part.epoch, record))
        return found

    def _current(self, tp: TopicPartition) -> _Part | None:
        """What the consumer reads of a partition; None when it was revoked or begun anew while that was awaited."""
        part = self._assigned.get(tp)
        return part if part is not None and self._parts.get(tp) is part else None

    def done(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """Release what was read to its end; answer the epoch, and where the client continues."""
        consumer, reader = self._consumer, self._reader
        if consumer is None or reader is None:
            return {}
        stands = positions(consumer, self._parts)
        done = {}
        for tp, part in self._parts.items():
            kafka = KafkaPartition(*tp)
            if part.until is None and kafka in consumer.assignment():
                part.until = readable_end(consumer, kafka)
            if part.until is None or self._changed or tp in reader.busy:
                continue
            at = max(part.next, stands.get(tp, -1))
            if at >= part.until:
                done[tp] = part.epoch, at
        self.drop(done)
        return done

    async def close(self) -> None:
        """Never raises."""
        self._parts.clear()
        if self._connecting is not None:
            await end(self._connecting, 1)
        if self._consumer is not None:
            await connection.stop(self._consumer)

    async def _ready(self) -> tuple[AIOKafkaConsumer | None, RecordReader | None]:
        loop = asyncio.get_running_loop()
        if self._consumer is None and self._connecting is None and loop.time() >= self._again:
            self._connecting = asyncio.create_task(
                connection.connect(self._settings, group=False, tls=self._source.tls)
            )
        if self._connecting is not None:
            await asyncio.wait({self._connecting}, timeout=_WAIT)
            if self._connecting.done():
                task, self._connecting = self._connecting, None
                try:
                    self._consumer = task.result()
                except LmstreamError as error:
                    self._again = loop.time() + _RETRY
                    text = "the guarded reader cannot connect, next attempt in %.0f s: %s"
                    log.warning(text, _RETRY, error, extra=coded(error.reason))
                else:
                    self._reader = reader_for(self._source, self._consumer)
        return self._consumer, self._reader

    async def _assign(self, consumer: AIOKafkaConsumer, reader: RecordReader) -> None:
        """Begin anew behind what was taken of each: assigning throws away what was fetched."""
        self._changed, self._assigned = False, dict(self._parts)
        reader.forget()
        consumer.assign([KafkaPartition(*tp) for tp in self._parts])
        for tp, part in self._parts.items():
            if part.next >= 0:
                consumer.seek(KafkaPartition(*tp), part.next)
        if bare := [KafkaPartition(*tp) for tp, part in self._parts.items() if part.next < 0]:
            await consumer.seek_to_beginning(*bare)
