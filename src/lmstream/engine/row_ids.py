"""What a bundle is called in the ids of its rows."""

import struct
from hashlib import blake2b
from typing import Final

COORDINATES: Final = struct.Struct(">iqq")
"""Partition, offset, and Kafka's timestamp or the stamp of a content."""


def bundle_id(source_id: str, topic: str, partition: int, offset: int, timestamp: int) -> str:
    """32 hex digits that name a bundle: the same for the same Kafka coordinates in every host, run and version.
    `timestamp` is Kafka's in ms, -1 when unknown; for content of files see Identity, whose members these are. Frozen:
    tests/codecs/test_oracle_golden.py and tests/corpus/identity hold golden vectors.
    """
    seed = bundle_seed(source_id, topic)
    seed.update(COORDINATES.pack(partition, offset, timestamp))
    return seed.hexdigest()


def bundle_seed(source_id: str, topic: str) -> blake2b:
    """A bundle's id before the coordinates: the same for all records of a topic."""
    return blake2b(b"lmstream1\0%b\0%b\0" % (source_id.encode(), topic.encode()), digest_size=16)
