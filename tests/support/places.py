"""A topic on the mock cluster, a source of it, and a reader that looks whether what comes is whole."""

import asyncio
import contextlib
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from lmstream.model import TopicPartition
from lmstream.sources import confluent, kafka
from support.mock_kafka import MockKafka
from support.supervised import GROUP, QUICK, TOPIC

each = pytest.mark.parametrize("module", [pytest.param(kafka, id="kafka"), pytest.param(confluent, id="confluent")])
TP = TopicPartition(TOPIC, 0)
ROOM = 1 << 20


async def produce(mock, count, partition=0, topic=TOPIC):
    async with AIOKafkaProducer(bootstrap_servers=mock.bootstrap, acks=1) as producer:
        await asyncio.gather(*[await producer.send(topic, b"%d" % n, partition=partition) for n in range(count)])


@contextlib.asynccontextmanager
async def alone(mock):
    """A consumer of the group that joins it never: it commits, and sees what is committed."""
    async with AIOKafkaConsumer(bootstrap_servers=mock.bootstrap, group_id=GROUP, enable_auto_commit=False) as consumer:
        yield consumer


async def commit(mock, offset, partition=0):
    async with alone(mock) as consumer:
        consumer.assign([KafkaPartition(TOPIC, partition)])
        await consumer.commit({KafkaPartition(TOPIC, partition): offset})


async def committed(mock, partition=0):
    async with alone(mock) as consumer:
        return await consumer.committed(KafkaPartition(TOPIC, partition))


@contextlib.asynccontextmanager
async def cluster(partitions=1, records=20):
    async with MockKafka() as mock:
        mock.create_topic(TOPIC, partitions)
        for partition in range(partitions):
            await produce(mock, records, partition)
        yield mock


@contextlib.asynccontextmanager
async def source(mock, module, on_assign=None, **more):
    usual = {"bootstrap": mock.bootstrap, "topics": (TOPIC,), "group": GROUP}
    made = module.make(module.Settings(**{**usual, **QUICK, **more}))
    made.on_assign = on_assign
    try:
        yield made
    finally:
        await made.close()


class Teller:
    """In place of who knows better: an answer for each time it is asked, the last for all that follow."""

    def __init__(self, *answers):
        self.answers, self.asked, self.told = list(answers), [], 0

    async def __call__(self, stands):
        self.topics = [at.topics for at in stands.values()]
        self.asked.append({tp: at._replace(topics={}) for tp, at in stands.items()})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = {}
        self.told += 1
        return answer


class Reading:
    """What polls brought, and that it is in order: by partition and epoch, without a gap and without a repetition."""

    def __init__(self, consumer):
        self.consumer, self.offsets, self.passed = consumer, {}, {}

    async def poll(self, room=ROOM):
        batch = await self.consumer.poll(room)
        for record in batch.records:
            offsets = self.offsets.setdefault((record.tp, batch.epochs[record.tp]), [])
            assert not offsets or record.offset == offsets[-1] + 1, (offsets, record.offset)
            offsets.append(record.offset)
        for tp, offset in batch.passed.items():
            self.passed[tp, batch.epochs[tp]] = offset
        return batch

    async def until(self, enough, room=ROOM, seconds=20):
        async with asyncio.timeout(seconds):
            while not enough():
                await self.poll(room)

    async def read(self, last, tp=TP, **more):
        """Until the last offset has come in the latest epoch; answer all of that epoch."""
        await self.until(lambda: self.latest(tp)[-1:] == [last], **more)
        return self.latest(tp)

    def latest(self, tp=TP):
        return self.offsets.get((tp, self.consumer.assignment.get(tp)), [])

    async def nothing(self, seconds=0.5, room=ROOM):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            batch = await self.poll(room)
            assert not batch.records
            assert not batch.passed
