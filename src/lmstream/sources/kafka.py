"""Read records from Kafka by aiokafka, as a supervised member of a consumer group; fixed ranges for `verify` too."""

from typing import Final

from lmstream.abilities import Health, Traits
from lmstream.kafka.claimed_offsets import ClaimedOffsets
from lmstream.kafka.connection import checked
from lmstream.kafka.group.aiokafka_member import AiokafkaMember
from lmstream.kafka.group.supervisor import Supervisor
from lmstream.kafka.range_reader import Range, read_range
from lmstream.kafka.settings import Settings

__all__ = ["TRAITS", "Health", "Kafka", "Range", "Settings", "make", "read_range"]

TRAITS: Final = Traits(placed=True, lanes=True, reads=ClaimedOffsets)


class Kafka(Supervisor):
    """Source of one consumer group. A member that aiokafka lets die is replaced by a new one, from the last commit."""

    def __init__(self, settings: Settings) -> None:
        """Nothing connects before `start` or the first `poll`, but PEM files are read: ConfigError for bad ones."""
        checked(settings)
        super().__init__(settings, AiokafkaMember)


make = Kafka
