"""How far a consumer group is behind, asked from the brokers: records, time, and the time until rows are lost."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition as KafkaPartition
from msgspec import Struct

from lmstream.kafka import connection
from lmstream.kafka._aiokafka_internals import positions, readable_end
from lmstream.kafka._record_reader import RecordReader
from lmstream.kafka.admin import admin, committed, retentions
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls
from lmstream.model import TopicPartition

_LOOK: Final = 64 * 1024  # bytes of a partition fetched to see its oldest unread record; one batch comes in any case
_PATIENCE: Final = 10.0  # seconds for all partitions to answer
_POLL_MS: Final = 200


class Lag(Struct, frozen=True, kw_only=True):
    """One partition. Times are in seconds; what cannot be known is None."""

    topic: str
    partition: int
    committed: int | None
    """Next offset of the group; None when it has committed nothing."""
    end: int | None
    """Offset that the next record will have; None when the partition did not answer."""
    records: int | None
    """Records that are not committed."""
    seconds: float | None
    """Age of the oldest of them, 0 when there is none."""
    loss: float | None
    """Until retention takes the oldest of them."""
    retention: float | None


async def lag(settings: Settings, *, retention: float | None = None) -> list[Lag]:
    """Ask for every partition of the topics. Joins no group and commits nothing.

    `retention` in seconds stands in for that of the topics. Raises ConfigError or SourceError.
    """
    tls = Tls(settings)
    small = msgspec.structs.replace(settings, partition_bytes=min(settings.partition_bytes, _LOOK))
    async with connection.connected(small, tls=tls) as consumer:
        topics = connection.topics_of(consumer, settings)
        partitions = [
            KafkaPartition(topic, p) for topic in topics for p in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        async with admin(settings, tls) as client:
            commits = await committed(client, settings.group, partitions)
            kept = {} if retention is not None else await retentions(client, topics)
        oldest = await _oldest(consumer, partitions, commits, settings)
        stands = dict(positions(consumer, (TopicPartition(*tp) for tp in partitions)))
        # Behind a transaction that is open records wait which nobody may read yet: they are unread all the same.
        ends = {tp: consumer.highwater(tp) or 0 for tp in partitions}
        if barred := [tp for tp in partitions if tp not in oldest and tp in stands and stands[tp] < ends[tp]]:
            async with connection.connected(small, tls=tls, uncommitted=True) as open_one:
                oldest |= await _oldest(open_one, barred, stands, settings)
        now = time.time()
        return [_of(consumer, tp, commits, oldest, stands, retention or kept.get(tp.topic), now) for tp in partitions]


def _of(
    consumer: Any,
    tp: KafkaPartition,
    commits: Mapping[KafkaPartition, int],
    oldest: Mapping[KafkaPartition, tuple[int, int]],
    stands: Mapping[KafkaPartition, int],
    retention: float | None,
    now: float,
) -> Lag:
    end, at = consumer.highwater(tp), commits.get(tp)
    first = oldest.get(tp)
    # Where the group has nothing, or what it has is gone, it begins at what is there; what lies before the first record
    # (markers of transactions, aborted records) nobody waits for.
    begin = first[0] if first is not None else max(at or 0, stands.get(tp, 0))
    records = None if end is None else max(0, end - begin) if at is not None or first is not None else 0
    age = 0.0 if records == 0 else None if first is None or first[1] < 0 else max(0.0, now - first[1] / 1000)
    loss = retention - age if records and age is not None and retention is not None else None
    return Lag(
        topic=tp.topic,
        partition=tp.partition,
        committed=at,
        end=end,
        records=records,
        seconds=age,
        loss=loss,
        retention=retention,
    )


async def ends(settings: Settings, known: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Where these partitions end now; `known` is where they ended before. Raises ConfigError or SourceError."""
    small = msgspec.structs.replace(settings, partition_bytes=min(settings.partition_bytes, _LOOK))
    partitions = [KafkaPartition(*tp) for tp in known]
    async with connection.connected(small) as consumer:
        await _oldest(consumer, partitions, dict(zip(partitions, known.values(), strict=True)), small)
        return {tp: end for tp in known if (end := consumer.highwater(KafkaPartition(*tp))) is not None}


async def _oldest(
    consumer: Any, partitions: list[KafkaPartition], start: Mapping[KafkaPartition, int], settings: Settings
) -> dict[KafkaPartition, tuple[int, int]]:
    """(offset, timestamp in ms) of the first record from `start` on; nothing for those where none waits.

    A fetch, not ListOffsets: it answers with the end too, and with the right one also on brokers whose list is wrong.
    """
    reader = RecordReader(consumer, settings.batch_bytes, skip=True)
    consumer.assign(partitions)
    begins = await consumer.beginning_offsets(partitions)
    for tp in partitions:
        # What retention took cannot be asked for: the group will begin at what is left.
        consumer.seek(tp, max(start.get(tp, 0), begins.get(tp) or 0))
    found: dict[KafkaPartition, tuple[int, int]] = {}
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE
    while loop.time() < until:
        # One record at a time: to see the first of a batch nothing else of it has to be kept.
        for record in await reader.take(1, _POLL_MS / 1000):
            tp = KafkaPartition(*record.tp)
            found.setdefault(tp, (record.offset, record.timestamp))
            consumer.pause(tp)
            reader.forget(record.tp)
        stands = positions(consumer, (TopicPartition(*tp) for tp in partitions))
        ends = {tp: readable_end(consumer, tp) for tp in partitions if tp not in found}
        if not any(end is None or tp in reader.busy or stands.get(tp, 0) < end for tp, end in ends.items()):
            break
    return found
