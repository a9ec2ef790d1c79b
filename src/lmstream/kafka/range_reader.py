"""Read fixed ranges of offsets without a consumer group: for `verify` and `inspect`. Commits nothing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import connection
from lmstream.kafka._aiokafka_internals import readable_end
from lmstream.kafka._record_reader import RecordReader
from lmstream.kafka.settings import Settings
from lmstream.kafka.topics import no_partition
from lmstream.model import Record
from lmstream.settings import MIB

_WAIT: Final = 0.2  # seconds the client may wait for records at a time
_ROOM: Final = 4 * MIB  # bytes of records taken at a time

Range = tuple[int | None, int | None]
"""(first offset, offset to stop before); None is the beginning, and the end as it is when reading starts."""


@dataclass(frozen=True)
class Span:
    """Offsets to read, by partition: from the first, to before the last."""

    start: Mapping[int, int]
    stop: Mapping[int, int]
    only: bool = False
    """Whether other partitions than those named are left out."""


async def read_topic(settings: Settings, span: Span) -> AsyncGenerator[Record]:
    """Read the offsets of `span` of the one topic of `settings`."""
    (topic,) = settings.topics
    if span.only:
        partitions = set(span.start) | set(span.stop)
    else:
        async with connection.connected(settings) as consumer:
            partitions = set(consumer.partitions_for_topic(topic) or ())
        if unknown := sorted((set(span.start) | set(span.stop)) - partitions):
            raise ConfigError("config.invalid", f"--from, --to: topic {topic} has no partition {unknown[0]}")
    ranges: dict[int, Range] = {p: (span.start.get(p), span.stop.get(p)) for p in partitions}
    async for record in read_range(settings, topic, ranges):
        yield record


async def read_range(
    settings: Settings, topic: str, ranges: Mapping[int, Range], *, idle: float = 30.0
) -> AsyncGenerator[Record]:
    """Read records of fixed offsets, in offset order per partition.

    A partition ends at its `to`, or at the end the topic had when it was first read. Raises SourceError, also after
    `idle` seconds in which nothing moved: a reader that counts must not take silence for the end. What cannot be read
    comes as a record that is `closed`, as a run with source.on_unreadable = "skip" has it.
    """
    loop = asyncio.get_running_loop()
    async with connection.connected(msgspec.structs.replace(settings, topics=(topic,))) as consumer:
        reader = RecordReader(consumer, settings.batch_bytes, skip=True)
        parts = {KafkaPartition(topic, n): bounds for n, bounds in ranges.items()}
        await _place(consumer, topic, parts, idle)
        ends: dict[KafkaPartition, int] = {}
        moved = loop.time()
        while parts:
            async with asyncio.timeout(idle):
                found = await reader.take(_ROOM, _WAIT, *parts)
            for tp, bounds in parts.items():
                if tp not in ends and (end := _end(consumer, tp, bounds)) is not None:
                    ends[tp] = end
            moved = loop.time() if found or reader.busy else moved
            for record in found:
                if record.offset < ends[KafkaPartition(*record.tp)]:
                    yield record
            for tp in await _finished(consumer, reader, ends):
                consumer.pause(tp)
                parts.pop(tp, None)
            if parts and loop.time() - moved > idle:
                detail = f"{topic}: no data for {idle:.0f} s, {len(parts)} partitions were not read to their end"
                raise SourceError("source.unreachable", detail)


async def ends(settings: Settings, topic: str, partition: int) -> tuple[int, int]:
    """The first offset that a partition still has, and the one that its next record will have. Raises SourceError."""
    async with connection.connected(msgspec.structs.replace(settings, topics=(topic,))) as consumer:
        if partition not in (known := consumer.partitions_for_topic(topic) or ()):
            raise no_partition(topic, [partition], known)
        tp = KafkaPartition(topic, partition)
        return (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]


async def _place(consumer: AIOKafkaConsumer, topic: str, parts: Mapping[KafkaPartition, Range], idle: float) -> None:
    known = consumer.partitions_for_topic(topic) or ()
    if missing := sorted({tp.partition for tp in parts} - set(known)):
        raise no_partition(topic, missing, known)
    if not parts:
        return
    consumer.assign(list(parts))
    for tp, (first, _) in parts.items():
        if first is not None:
            consumer.seek(tp, first)
    if whole := [tp for tp, (first, _) in parts.items() if first is None]:
        async with asyncio.timeout(idle):
            await consumer.seek_to_beginning(*whole)


async def _finished(
    consumer: AIOKafkaConsumer, reader: RecordReader, ends: Mapping[KafkaPartition, int]
) -> list[KafkaPartition]:
    return [tp for tp, end in ends.items() if tp not in reader.busy and await consumer.position(tp) >= end]


def _end(consumer: AIOKafkaConsumer, tp: KafkaPartition, bounds: Range) -> int | None:
    """Find the offset to stop before, once a fetch has said where the partition ends."""
    end = readable_end(consumer, tp)
    if end is None:
        return None
    first, last = bounds
    if first is not None and first > end:
        what = f"{tp.topic}/{tp.partition}/{first}, the topic ends at {end}"
        raise SourceError("source.offset", what, "name an offset below the end of the partition")
    return end if last is None else min(last, end)
