"""Read records from Kafka by librdkafka (confluent-kafka), as a supervised member of a consumer group.

The same seam and settings as `kafka`. Partitions move one by one (cooperative-sticky), so a rebalance stops only those;
the price is a library in C with threads of its own. Members of one group must all be of the same kind.
"""

from typing import Final

from lmstream.abilities import Health, Traits
from lmstream.errors import ConfigError
from lmstream.kafka.claimed_offsets import ClaimedOffsets
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.kafka.rereading import Rereading
from lmstream.kafka.settings import Settings

try:
    from lmstream.kafka.group.librdkafka_member import LibrdkafkaMember, checked
    from lmstream.kafka.librdkafka import PEAK
except ModuleNotFoundError as _error:
    raise ConfigError.missing("the confluent source", "confluent") from _error

TRAITS: Final = Traits(letters=Rereading, unbounded_bytes=PEAK, placed=True, reads=ClaimedOffsets)
__all__ = ["TRAITS", "Confluent", "Health", "Settings", "make"]


class Confluent(Supervisor):
    """Source of one consumer group. librdkafka recovers from most faults; else the member is replaced."""

    def __init__(self, settings: Settings) -> None:
        """Nothing connects before `start` or the first `poll`, but PEM files are read: ConfigError for bad ones."""
        checked(settings)
        super().__init__(settings, LibrdkafkaMember)


make = Confluent
