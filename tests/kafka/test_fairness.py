"""Partitions beside each other: one that is stalled or has much to say does not keep the others from being read."""

import asyncio

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from lmstream.sources import confluent, kafka
from support.doubles import bundle
from support.mock_kafka import MockKafka
from support.supervised import POLICY, TOPIC, Run

pytestmark = pytest.mark.slow  # seconds each: `make test-faults` runs them

each = pytest.mark.parametrize("module", [pytest.param(kafka, id="kafka"), pytest.param(confluent, id="confluent")])


async def produce(mock, partition, values):
    async with AIOKafkaProducer(bootstrap_servers=mock.bootstrap, acks=1) as producer:
        await asyncio.gather(*[await producer.send(TOPIC, value, partition=partition) for value in values])


@each
async def test_a_stalled_partition_is_paused_and_the_others_go_on(module, monkeypatch):
    async with MockKafka() as mock:
        mock.create_topic(TOPIC, 2)
        # Of partition 0 none is settled, because its first letter cannot be written.
        monkeypatch.setattr("support.supervised.POLICY", msgspec.structs.replace(POLICY, held_offsets=5000))
        run = Run(mock, module)
        run.pipeline.letters._sink.script.extend([True] * 1000)
        await produce(mock, 0, [b"junk"] + [bundle()] * 7999)
        run.task = asyncio.create_task(run.runtime.run())
        await run.until(lambda: run.runtime.assignments.paused)
        await produce(mock, 1, [bundle()] * 500)
        await run.until(lambda: any(tp.partition == 1 and offset == 500 for tp, _, offset in run.commits))
        assert not any(tp.partition == 0 for tp, _, _ in run.commits)
        assert run.runtime.ledger.held < 5000
        run.pipeline.letters._sink.script.clear()
        await run.until(lambda: any(tp.partition == 0 and offset == 8000 for tp, _, offset in run.commits), 45)
        assert len(run.sink.lines) == 8499
        run.runtime.stop()
        await run.task


@each
async def test_a_partition_with_much_to_say_does_not_starve_the_others(module):
    kilobyte = 1024
    async with MockKafka() as mock:
        mock.create_topic(TOPIC, 2)
        await produce(mock, 0, [b"x" * 10 * kilobyte] * 800)
        await produce(mock, 1, [b"y" * 10 * kilobyte] * 20)
        run = Run(mock, module, partition_bytes=64 * kilobyte)
        much, few = 0, 0
        async with asyncio.timeout(20):
            while few < 20:
                for record in (await run.source.poll(200 * kilobyte)).records:
                    if record.partition == 0:
                        much += 1
                    else:
                        few += 1
        await run.source.close()
        assert much < 400, f"{much} records of one partition before 20 of the other"
