"""Bombs in the compression of Kafka's batches, on a broker: the process stays small, its neighbours are delivered."""

import asyncio
import re
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from lmstream.dead_letters.form import decode
from lmstream.engine import bundle_id
from lmstream.verification import Expected
from support.checking import TOPIC
from support.cluster import Cluster

MIB = 1 << 20
BOMBS = {"gzip": 300, "snappy": 100, "lz4": 300, "zstd": 300}
"""MiB of zeros in one record. Snappy makes a twentieth of them, which is more than a broker takes by default."""
ABOVE = 100
"""MiB of memory above the quiet process: the 64 that a batch is measured in, and what a run takes anyway."""


def resident(member, name):
    text = Path(f"/proc/{member.process.pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) / 1024


async def send(cluster, codec, value):
    """One record in a batch of its own."""
    big = {"compression_type": codec, "max_request_size": 1 << 30, "max_batch_size": 1 << 26}
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, **big) as producer:
        return await producer.send_and_wait(TOPIC, value, partition=0)


def expect_letter(cluster, sent):
    cluster.expected.append(
        Expected(
            topic=TOPIC,
            partition=sent.partition,
            offset=sent.offset,
            timestamp=sent.timestamp,
            bundle_id=bundle_id("", TOPIC, sent.partition, sent.offset, sent.timestamp),
            points=0,
            poison="limits.batch",
        )
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_bombs_in_batches_become_letters_within_bounded_memory(tmp_path):
    async with Cluster(tmp_path, partitions=1) as cluster:
        member = await cluster.join("--set", "breaker.records=0")
        await cluster.publish(20)
        await cluster.drained(60)
        quiet = resident(member, "VmRSS")
        for codec, size in BOMBS.items():
            sent = await send(cluster, codec, await asyncio.to_thread(bytes, size * MIB))
            expect_letter(cluster, sent)
            await cluster.publish(20, seed=size + len(codec))
            letter = cluster.dead / TOPIC / "0" / f"{sent.offset}.json"
            async with asyncio.timeout(60):
                while not letter.exists():  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.1)
            told = decode(letter.read_bytes())
            assert (told.code, told.reason) == ("LMS-1017", "limits.batch")
            assert told.detail.startswith(f"1 records at offsets {sent.offset} to {sent.offset}, ")
            assert told.value is not None or size == BOMBS["snappy"]
            assert member.alive, member.said()
        # A neighbour that is large and healthy: as much as a broker's largest batch of bundles inflates to.
        await cluster.publish(300, instances=40, devices=50, seed=9)
        peak = resident(member, "VmHWM")
        print(f"{quiet:.0f} MiB when quiet, {peak:.0f} MiB at most")
        await cluster.finish(seconds=90)
        assert peak - quiet < ABOVE
