"""Read records from Kafka by aiokafka, as a supervised member of a consumer group; fixed ranges for `verify` too."""

from lmstream.sources._aiokafka import AiokafkaMember
from lmstream.sources._kafka import checked
from lmstream.sources._kafka_range import Range, read_range
from lmstream.sources._kafka_settings import Settings
from lmstream.sources._member import Health
from lmstream.sources._supervisor import Supervisor

__all__ = ["Health", "Kafka", "Range", "Settings", "make", "read_range"]


class Kafka(Supervisor):
    """Source of one consumer group. A member that aiokafka lets die is replaced by a new one, from the last commit."""

    def __init__(self, settings: Settings) -> None:
        """Nothing connects before `start` or the first `poll`, but PEM files are read: ConfigError for bad ones."""
        checked(settings)
        super().__init__(settings, AiokafkaMember)


make = Kafka
