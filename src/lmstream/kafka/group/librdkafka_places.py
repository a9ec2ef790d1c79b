"""Where a librdkafka consumer begins in partitions that were just assigned. All of it runs in the client's thread.

It runs inside a callback of the client, where not every call is allowed: confluent-kafka 2.16 remembers who polls in
one place (`CallState`), which `list_topics`, `list_groups`, `poll`, `consume` and `close` clear when they return.
Whatever the client says next in that same poll, a line of its log is enough, then aborts the process:
`CallState_get: cs != NULL`.
"""

from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from msgspec import Struct

from lmstream.interfaces import Assigned
from lmstream.kafka.settings import Settings
from lmstream.model import TopicPartition


class Placed(Struct, frozen=True):
    """Where partitions begin by the group's commits and by the settings."""

    places: Mapping[TopicPartition, int]
    """Negative: its beginning."""
    pinned: Collection[TopicPartition]
    """Those of which the group has to be told."""
    stands: Mapping[TopicPartition, Assigned]
    """What is told of them to who may know better; empty when nobody is asked."""
    aside: bool
    """Whether they are read through the guarded reader first."""


def placed(
    consumer: Consumer,
    partitions: Sequence[KafkaPartition],
    settings: Settings,
    known: Collection[TopicPartition],
    *,
    told: Mapping[str, int] | None,
    aside: bool,
) -> Placed:
    """Ask the group for its commits. `known` are the partitions that there were at the first assignment. With `told`,
    the partitions that each topic had when it was last asked for, ask the brokers for what is told to who may know
    better. Raises KafkaException.
    """
    timeout = min(settings.request_timeout_ms, settings.rebalance_timeout_ms) / 1000
    places: dict[TopicPartition, int] = {}
    stands: dict[TopicPartition, Assigned] = {}
    pinned = []
    counts = dict(told or {})
    for each in partitions:  # it may have grown since
        counts[each.topic] = max(counts.get(each.topic, 0), each.partition + 1)
    for found in consumer.committed(list(partitions), timeout=timeout) if partitions else ():
        if found.error is not None:
            raise KafkaException(found.error)
        tp, offset = TopicPartition(found.topic, found.partition), found.offset
        bare = offset < 0
        latest = bare and settings.start_from == "latest" and tp in known
        if latest or told is not None:
            begin, stop = consumer.get_watermark_offsets(KafkaPartition(*tp), timeout=timeout)
            if told is not None:
                stands[tp] = Assigned(stop if latest else begin if bare else offset, not bare, begin, stop, counts)
            if latest:
                offset = stop
                pinned.append(tp)
        # A partition added while we run is read from its beginning, else what came before would be missed.
        places[tp] = offset if offset >= 0 else OFFSET_BEGINNING
    return Placed(places, pinned, stands, aside)
