"""What a run says of its lag and of the time to data loss while the sink is away: what is durable counts, not what was
read, and the end is asked for while nothing is read."""

import asyncio
import time

import pytest

from faults.running import Running, end
from lmstream.behind import Retention
from lmstream.delivery import DeliveryPolicy
from lmstream.hosts.container.watching import ask_ends
from lmstream.observability.readings import Readings
from support.checking import AWS
from support.cluster import Cluster
from support.wait import until

KEPT = 60.0


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
async def test_the_clock_runs_from_the_oldest_record_that_is_not_durable(tmp_path):
    async with Cluster(tmp_path) as cluster:
        delivery = DeliveryPolicy(backoff_base=0.02, backoff_max=0.2, timeout=5)
        async with Running(cluster, delivery=delivery, budget=300_000) as run:
            readings = Readings(run.runtime, retentions={"lm": Retention(KEPT)})
            cluster.hose.outage = True
            first = time.time()
            await cluster.publish(20)
            await until(lambda: run.now.unacked, 30, "records in flight")
            for n in range(3):  # little traffic: the newest record read is always young
                await asyncio.sleep(1)
                await cluster.publish(5, seed=n + 2)
            await asyncio.sleep(1)
            if not run.runtime.snapshot().reading:
                await ask_ends(readings)
            away = time.time() - first
            stands = [each for each in readings.partitions() if each.records]
            assert stands, "a group without a commit has a lag too"
            # All but what was settled without the sink: dead letters at the beginning of a partition.
            assert 25 <= sum(each.records for each in stands) <= 35
            assert min(each.loss for each in stands) < KEPT - away + 2
            assert max(each.seconds for each in stands) > away - 2
            # Now so much that reading stops: the end that the client knows is that of its last fetch.
            while run.runtime.snapshot().reading:
                await cluster.publish(100, seed=9)
            await asyncio.sleep(1)
            before = sum(each.records for each in readings.partitions())
            await cluster.publish(300, seed=10)
            await ask_ends(readings)
            assert sum(each.records for each in readings.partitions()) >= before + 300
            cluster.hose.outage = False
            await run.landed(60)
            await until(lambda: not any(each.records for each in readings.partitions()), 20, "no lag")
            assert all(each.loss is None for each in readings.partitions())
            await end(cluster, run)
