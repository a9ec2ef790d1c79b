"""Members of a group killed, frozen and joined while they work: `lmstream run` processes on a real broker."""

import asyncio
import random
import signal
import time

import pytest

from faults.checking import seed_of, until
from faults.cluster import SESSION, Cluster

pytestmark = pytest.mark.slow  # seconds each: `make test-faults` runs them


async def test_1_a_member_joins_and_another_leaves_while_records_are_in_flight(tmp_path):
    async with Cluster(tmp_path) as cluster:
        await cluster.publish(100)
        cluster.watch()
        first = await cluster.join()
        await until(lambda: cluster.hose.counters.records > 0, 30, "the first rows")
        await cluster.join()
        publishing = asyncio.create_task(cluster.publish(600, rate=100, seed=2))
        await asyncio.sleep(3)
        assert await first.stop() == 0
        await publishing
        report = await cluster.finish(duplicates=False)  # drained and committed before partitions were given up
        print(report.total)


@pytest.mark.slow
async def test_2_ten_random_kills_over_two_members(tmp_path):
    draw = random.Random(seed_of())
    began = time.monotonic()
    async with Cluster(tmp_path) as cluster:
        members = [await cluster.join() for _ in range(2)]
        cluster.watch()
        publishing = asyncio.create_task(cluster.publish(1500, rate=45))
        await until(lambda: cluster.hose.counters.records > 0, 30, "the first rows")
        for _ in range(10):
            await asyncio.sleep(draw.random() * 2.5)
            at = draw.randrange(2)
            await members[at].kill()
            members[at] = await cluster.join()
        await publishing
        report = await cluster.finish()
        print(
            f"10 kills, lost 0 of {report.total.landed}, duplicates {report.total.duplicate}, {time.monotonic() - began:.1f} s"
        )


@pytest.mark.slow
async def test_3_a_frozen_member_wakes_after_its_session_and_commits_nothing_old(tmp_path):
    async with Cluster(tmp_path) as cluster:
        zombie = await cluster.join()
        cluster.watch()
        publishing = asyncio.create_task(cluster.publish(900, rate=50))
        await until(lambda: cluster.hose.counters.records > 0, 30, "the first rows")
        other = await cluster.join()
        await asyncio.sleep(4)
        zombie.send(signal.SIGSTOP)
        await asyncio.sleep(SESSION + 4)  # the other has taken over
        zombie.send(signal.SIGCONT)
        await publishing
        assert other.alive
        report = await cluster.finish()
        print(f"zombie: duplicates {report.total.duplicate} of {report.total.landed}")
