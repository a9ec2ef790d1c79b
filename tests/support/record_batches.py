"""Record batches of Kafka, built byte by byte: also those that no well-behaved client would send."""

import struct

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

from lmstream.kafka._batch_guard import HEADER

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PACK = {0: bytes, 1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
FIRST = 1_700_000_000_000


def batch(
    codec, values, base=0, headers=None, *, is_transactional=False, producer_id=-1, producer_epoch=-1, base_sequence=-1
):
    """One batch; `headers` by index of the record: (key, value) in bytes, whatever they are."""
    body = b"".join(record(n, value, (headers or {}).get(n, ())) for n, value in enumerate(values))
    head = HEADER.pack(
        base, 0, 0, 2, 0, codec | (0x10 if is_transactional else 0), len(values) - 1, FIRST, FIRST + len(values) - 1,
        producer_id, producer_epoch, base_sequence, len(values),
    )  # fmt: skip
    made = bytearray(head + bytes(PACK[codec](body)))
    struct.pack_into(">i", made, 8, len(made) - 12)
    return signed(made)


def record(n, value, headers=()):
    body = bytearray(b"\0" + varint(n) + varint(n) + varint(-1) + varint(len(value)) + value + varint(len(headers)))
    for key, text in headers:
        body += varint(len(key)) + key + (varint(-1) if text is None else varint(len(text)) + text)
    return varint(len(body)) + bytes(body)


def varint(number):
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def signed(data):
    """The same bytes with the CRC that fits them, where they are long enough to have one."""
    made = bytearray(data)
    if len(made) > 21:
        struct.pack_into(">I", made, 17, calc_crc32c(bytes(made[21:])))
    return bytes(made)


async def publish(bootstrap, topic, *made, partition=0, **security):
    """Put batches into a topic as they are; answer the offset of each. The broker sets their first offsets."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap, **security)
    await client.bootstrap()
    try:
        await client.set_topics([topic])
        found = []
        for each in made:
            node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = ProduceRequest(
                transactional_id=None, required_acks=-1, timeout=10_000, topics=[(topic, [(partition, each)])]
            )
            answer = await client.send(node, request)
            ((_, ((_, code, offset, *_),)),) = answer.topics
            assert code == 0, for_code(code)
            found.append(offset)
        return found
    finally:
        await client.close()
