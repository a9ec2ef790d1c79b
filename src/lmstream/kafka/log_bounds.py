"""Where the log of a topic begins, and up to where a group has committed: what a reader of the past may judge."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from aiokafka import TopicPartition as KafkaPartition

from lmstream.kafka import connection
from lmstream.kafka.admin import admin, committed
from lmstream.kafka.lag import look
from lmstream.kafka.range_reader import read_range
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls
from lmstream.model import TopicPartition

_SECONDS: Final = 30.0  # for all partitions to answer


class Bounds(NamedTuple):
    """One partition."""

    begin: int
    """The first offset that the log still has."""
    committed: int | None
    """Next offset of the group; None when it has committed nothing."""


async def log_bounds(settings: Settings, topic: str, since: int | None = None) -> Mapping[int, Bounds]:
    """The bounds of every partition. Commits are asked for first: what is below them was durable before anything else
    was looked at. With `since`, in ms since 1970, the log begins at the first record that is not older.

    Raises ConfigError or SourceError.
    """
    tls = Tls(settings)
    async with connection.connected(settings, tls=tls) as consumer:
        partitions = [KafkaPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        async with asyncio.timeout(_SECONDS):
            async with admin(settings, tls) as client:
                commits = await committed(client, settings.group, partitions)
            begins = await consumer.beginning_offsets(partitions)
            if since is not None:
                later = await consumer.offsets_for_times(dict.fromkeys(partitions, since))
                ends = await consumer.end_offsets(partitions)
                begins = {
                    tp: max(begin, ends[tp] if later.get(tp) is None else later[tp].offset)
                    for tp, begin in begins.items()
                }
    if since is not None:
        begins = await _not_older(settings, begins, since)
    return {tp.partition: Bounds(begins[tp], commits.get(tp)) for tp in partitions}


async def _not_older(settings: Settings, begins: Mapping[KafkaPartition, int], since: int) -> dict[KafkaPartition, int]:
    """Where records are indeed not older. Brokers exist that find times by batches, or answer a time behind the end
    with the begin: the first record at each place is looked at, and where it is older, the log is read on from there.
    """
    found = dict(begins)
    looks = await look(settings, {TopicPartition(*tp): begin for tp, begin in begins.items()})
    for place, each in looks.items():
        tp = KafkaPartition(*place)
        if each.first is None or each.first[1] >= since:
            continue
        found[tp] = begins[tp] if each.end is None else each.end
        records = read_range(settings, tp.topic, {tp.partition: (begins[tp], None)})
        async with contextlib.aclosing(records):
            async for record in records:
                if record.timestamp >= since:
                    found[tp] = record.offset
                    break
    return found
