"""Commit a later offset for a group without members: the one place where an offset moves past what was not settled."""

import asyncio
from typing import Final

import msgspec
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import CommitFailedError, IllegalGenerationError, KafkaError, UnknownMemberIdError
from msgspec import Struct

from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import connection
from lmstream.kafka.settings import Settings, group_of
from lmstream.kafka.topics import no_partition

_MEMBERS: Final = (CommitFailedError, IllegalGenerationError, UnknownMemberIdError)


class Skipped(Struct, frozen=True, kw_only=True):
    """What a group skips in one partition."""

    group: str
    topic: str
    partition: int
    first: int
    """Where the group stood: its commit, or the beginning of the partition when it has none."""
    next: int
    """Where it continues."""
    offsets: int
    """How many lie between."""
    committed: bool
    """Whether that was made so."""


async def skip(settings: Settings, partition: int, to: int, *, dry_run: bool) -> Skipped:
    """Move the commit of `settings.group` in a partition of its one topic on to `to`.

    Raises ConfigError for an offset behind the group's, or past the end of the partition; SourceError when the group
    has members, or brokers do not answer.
    """
    (topic,) = settings.topics
    where = f"{topic}/{partition}"
    group_of(settings)
    consumer = await connection.connect(msgspec.structs.replace(settings, topics=(topic,)), group=True)
    try:
        async with asyncio.timeout(settings.commit_timeout_ms / 1000):
            tp = KafkaPartition(topic, partition)
            if partition not in (known := consumer.partitions_for_topic(topic) or ()):
                raise no_partition(topic, [partition], known)
            consumer.assign([tp])  # of this process alone: it joins no group
            committed = await consumer.committed(tp)
            (begin,) = (await consumer.beginning_offsets([tp])).values()
            (end,) = (await consumer.end_offsets([tp])).values()
            first = begin if committed is None else committed
            if to < first:
                what = f"--to {to}: group {settings.group} is at {first} of {where}, and a commit never goes back"
                raise ConfigError("config.invalid", what)
            if to > end:
                raise ConfigError("config.invalid", f"--to {to}: {where} ends at {end}")
            moved = to > first and not dry_run
            if moved:
                await consumer.commit({tp: to})
    except _MEMBERS as error:
        what = f"{where}: group {settings.group} has members. Stop all of them, then run again: {type(error).__name__}"
        raise SourceError("source.commit", what) from error
    except (KafkaError, TimeoutError) as error:
        raise SourceError("source.commit", f"{where}={to}: {type(error).__name__} {error}".rstrip()) from error
    finally:
        await connection.stop(consumer)
    return Skipped(
        group=settings.group,
        topic=topic,
        partition=partition,
        first=first,
        next=to,
        offsets=to - first,
        committed=moved,
    )
