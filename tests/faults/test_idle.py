"""A topic on which nothing comes for many sessions, and then much at once."""

import asyncio

import pytest

from faults.running import Running, end
from support.checking import AWS
from support.cluster import Cluster

IDLE = 13.0
"""Seconds: over four sessions, three times what a client may say nothing, and past the AWS client's pause (12 s) after
which it closes its connections."""
BUDGET = 400_000


@pytest.mark.slow
async def test_a_long_idle_is_no_alarm_and_the_burst_after_it_is_held_back(tmp_path, monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    async with Cluster(tmp_path) as cluster:
        await cluster.publish(40)
        # By default the client closes what was idle for nine minutes: here after a third of the time.
        async with Running(cluster, budget=BUDGET, client={"connections_max_idle_ms": int(IDLE / 3 * 1000)}) as run:
            await run.landed(30)
            before = dict(run.source.assignment)
            await asyncio.sleep(IDLE)
            assert run.source.health.recreations == {}
            assert run.now.trouble is None
            sent = await cluster.publish(1500, seed=2)
            took = await run.landed(60)
            held = max(each.in_flight_bytes for each in run.seen)
            print(
                f"{sent.acknowledged} records, all landed {took:.1f} s after the last; {held} bytes in flight at most"
            )
            assert dict(run.source.assignment) == before  # epochs too: not one rebalance
            assert run.source.health.recreations == {}
            assert held <= 2 * BUDGET  # and not the many megabytes of the burst
            summary = await end(cluster, run, duplicates=False)
            assert summary.commit_failures == 0
