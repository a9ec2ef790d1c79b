"""A backlog of many hours against a strict Firehose with its quota of partitions: no row astray, and nothing waits long."""

import asyncio
import json

import pytest

from lmstream.delivery import DeliveryPolicy
from lmstream.model import Record
from lmstream.runtime import RuntimePolicy
from support.checking import AWS, LogSource, Scene
from support.wait import until

HOURS, METRICS = 12, 6
QUOTA = 20
SPEED = 100  # a buffer of 60 s is written after 0.6


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


def backlog():
    """Hours of bundles in two partitions, one of them hours behind the other."""
    for n in range(HOURS * 4):
        partition = n % 2
        hour = (n // 4 + 5 * partition) % HOURS
        point = {"timeUnixNano": str((1_715_212_800 + 3600 * hour) * 10**9 + n), "asInt": str(n)}
        metrics = [{"name": f"m{at}", "gauge": {"dataPoints": [point]}} for at in range(METRICS)]
        value = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()
        yield Record(topic="lm", partition=partition, offset=n // 2, timestamp=n, value=value)


@pytest.mark.parametrize("bound", [QUOTA, 0])
async def test_hours_of_an_outage_do_not_pass_the_quota_of_partitions(tmp_path, bound):
    async with Scene(tmp_path, active_partitions=QUOTA, buffer_seconds=60, speed_up=SPEED) as scene:
        delivery = DeliveryPolicy(partitions=bound, partition_seconds=1.2, timeout=5)
        policy = RuntimePolicy(commit_interval=0.05, tick=0.02, grace=5)
        runtime = scene.runtime(LogSource(backlog()), delivery=delivery, policy=policy)
        summary = await asyncio.wait_for(runtime.run(), 60)
        await scene.hose.flush()
        assert (summary.unacked, summary.dead_letters) == (0, 0)
        assert summary.rows == HOURS * 4 * METRICS
        if bound:
            assert scene.hose.counters.error_rows == 0
            assert len(scene.store.ids) == summary.rows
        else:  # as it was: the strict Firehose of the lab shows it
            assert scene.hose.counters.error_rows > 0


@pytest.mark.slow
async def test_it_is_said_and_no_stall(tmp_path, caplog):
    async with Scene(tmp_path, active_partitions=QUOTA, speed_up=SPEED) as scene:
        delivery = DeliveryPolicy(partitions=QUOTA, partition_seconds=2, timeout=5)
        runtime = scene.runtime(LogSource(backlog()), delivery=delivery)
        running = asyncio.create_task(runtime.run())
        await until(lambda: "wait until older hours are written" in caplog.text, 20, "the warning")
        assert runtime.pipeline.snapshot().waiting_records > 0
        await asyncio.wait_for(running, 60)
        assert "no hour waits for room any more" in caplog.text
