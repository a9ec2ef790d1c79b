"""What aiokafka knows and does not say in public: where it stands in a partition, and whether it is still a member."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import CommitFailedError

from lmstream.model import TopicPartition


def positions(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
    """Answer the next offset to read of those partitions that have one. No request is made.

    It stands behind the markers of transactions and behind aborted records, for which no record is handed out.
    """
    subscription = consumer._subscription.subscription  # noqa: SLF001 - position() may wait, and is a task each
    assignment = None if subscription is None else subscription.assignment
    if assignment is None:
        return {}
    found = {}
    for tp in partitions:
        kafka = KafkaPartition(*tp)
        if kafka in assignment.tps and (state := assignment.state_value(kafka)).has_valid_position:
            found[tp] = state.position
    return found


def readable_end(consumer: AIOKafkaConsumer, tp: KafkaPartition) -> int | None:
    """Answer where reading a partition ends for now, once a fetch has said it; None before. No request is made.

    Never end_offsets(): brokers exist that answer it wrongly. What a fetch says is what can be fetched. Records of a
    transaction that is still open are no part of the topic yet.
    """
    end: int | None = consumer.highwater(tp)
    stable: int | None = consumer.last_stable_offset(tp)
    return end if end is None or stable is None or stable < 0 else min(end, stable)


def generation(consumer: AIOKafkaConsumer) -> int:
    """Answer the generation of the group in which this consumer is a member; -1 when it is none."""
    found: int = consumer._coordinator.generation  # noqa: SLF001 - there is no public way to it
    return found


def fence(consumer: AIOKafkaConsumer, expected: Callable[[], int]) -> None:
    """Refuse commits of a consumer that is no longer the member it was when its partitions were assigned.

    aiokafka continues with generation -1 and no member id once its membership is gone, and Kafka takes such a commit
    for any group without members: an offset would go back. Looked at where the request is built, so that nothing can
    come between, and again at each of the client's own repetitions. `expected` answers the generation of the
    assignment that is committed for.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - there is no public place between a commit and its request
    inner = coordinator._do_commit_offsets  # noqa: SLF001 - as above

    async def guarded(assignment: Any, offsets: Any) -> None:
        # No await before the request is built: what is looked at here is what is sent.
        now = coordinator.generation
        if now < 0 or now != expected():
            raise CommitFailedError("this consumer is no longer in the group, and only a member may commit")
        await inner(assignment, offsets)

    coordinator._do_commit_offsets = guarded  # noqa: SLF001 - as above


def heartbeat(consumer: AIOKafkaConsumer) -> None:
    """Let heartbeats begin now, within the listener that is told of partitions: aiokafka begins them when it returns,
    and a listener that takes longer than the session would lose the membership.
    """
    consumer._coordinator._start_heartbeat_task()  # noqa: SLF001 - there is no public way to it


def pause_only(consumer: AIOKafkaConsumer, wanted: Collection[KafkaPartition]) -> None:
    """Let these partitions be paused, of those that are assigned, and no others."""
    stopped, already = consumer.assignment() & set(wanted), consumer.paused()
    if more := stopped - already:
        consumer.pause(*more)
    if fewer := already - stopped:
        consumer.resume(*fewer)
