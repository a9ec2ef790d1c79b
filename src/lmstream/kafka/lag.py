"""Ask the brokers how far a consumer group is behind: for `lmstream lag`, and for a run that does not read."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition as KafkaPartition

from lmstream.behind import Behind, Look, Retention, behind
from lmstream.kafka import connection
from lmstream.kafka._aiokafka_internals import positions, readable_end
from lmstream.kafka._record_reader import RecordReader
from lmstream.kafka.admin import admin, committed, retentions
from lmstream.kafka.settings import Settings, group_of
from lmstream.kafka.tls import Tls
from lmstream.model import TopicPartition
from lmstream.settings import MIB

_LOOK: Final = 64 * 1024  # bytes of a partition fetched to see its oldest unread record; one batch comes in any case
# Of a batch, inflated. One that swells further is seen closed, by its offset: a run that asks holds one of its own.
_OPENED: Final = 8 * MIB
_PATIENCE: Final = 10.0  # seconds for all partitions to answer
_POLL_MS: Final = 200


async def lag(settings: Settings, *, retention: float | None = None) -> list[Behind]:
    """Ask for every partition of the topics. Joins no group and commits nothing.

    `retention` in seconds stands in for that of the topics. Raises ConfigError or SourceError.
    """
    group, tls = group_of(settings), Tls(settings)
    async with connection.connected(_small(settings), tls=tls) as consumer:
        topics = connection.topics_of(consumer, settings)
        partitions = [
            KafkaPartition(topic, p) for topic in topics for p in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        async with admin(settings, tls) as client:
            commits = await committed(client, group, partitions)
            kept = dict.fromkeys(topics, Retention(retention)) if retention else await retentions(client, topics)
        looks = await _look(consumer, settings, tls, {tp: commits.get(tp, 0) for tp in partitions})
    # A group that never ran begins at the end if it is told so. Once it has run, a partition without a commit is read
    # from its beginning.
    ran = {tp.topic for tp in commits} if settings.start_from == "latest" else set(topics)
    now = time.time()
    return [
        behind(
            TopicPartition(*tp),
            settled=commits.get(tp) if tp.topic in ran else looks[tp].end,
            committed=commits.get(tp),
            look=looks[tp],
            retention=kept.get(tp.topic),
            now=now,
        )
        for tp in partitions
    ]


async def look(settings: Settings, start: Mapping[TopicPartition, int]) -> dict[TopicPartition, Look]:
    """See where partitions begin and end, and which record comes first from each of these offsets on. Raises
    ConfigError or SourceError."""
    tls = Tls(settings)
    async with connection.connected(_small(settings), tls=tls) as consumer:
        found = await _look(consumer, settings, tls, {KafkaPartition(*tp): offset for tp, offset in start.items()})
    return {TopicPartition(*tp): each for tp, each in found.items()}


async def _look(
    consumer: Any, settings: Settings, tls: Tls, start: Mapping[KafkaPartition, int]
) -> dict[KafkaPartition, Look]:
    begins, found = await _oldest(consumer, start, settings)
    stands = {KafkaPartition(*tp): n for tp, n in positions(consumer, (TopicPartition(*tp) for tp in start)).items()}
    ends = {tp: consumer.highwater(tp) for tp in start}
    # Behind a transaction that is open records wait which nobody may read yet: they are unread all the same.
    if barred := {tp: n for tp, n in stands.items() if tp not in found and n < (ends[tp] or 0)}:
        async with connection.connected(_small(settings), tls=tls, uncommitted=True) as open_one:
            found |= (await _oldest(open_one, barred, settings))[1]
    return {
        tp: Look(begins.get(tp) or 0, ends[tp], max(offset, stands.get(tp, 0)), found.get(tp))
        for tp, offset in start.items()
    }


def _small(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, partition_bytes=min(settings.partition_bytes, _LOOK))


async def _oldest(
    consumer: Any, start: Mapping[KafkaPartition, int], settings: Settings
) -> tuple[Mapping[KafkaPartition, int], dict[KafkaPartition, tuple[int, int]]]:
    """Where the logs begin; and (offset, timestamp in ms) of the first record from `start` on, nothing for those where
    none waits.

    A fetch, not ListOffsets: it answers with the end too, and with the right one also on brokers whose list is wrong.
    """
    reader = RecordReader(consumer, min(settings.batch_bytes, _OPENED), skip=True)
    partitions = list(start)
    consumer.assign(partitions)
    begins = await consumer.beginning_offsets(partitions)
    for tp in partitions:
        # What retention took cannot be asked for: the group will begin at what is left.
        consumer.seek(tp, max(start[tp], begins.get(tp) or 0))
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
    return begins, found
