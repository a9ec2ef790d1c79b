"""Brokers that go away, come back with their data, or are reached over a bad network; runs in this process."""

import asyncio
import random
import time

import boto3
import pytest
from moto.server import ThreadedMotoServer

from faults.running import Running, end
from lmstream.delivery import DeliveryPolicy
from support.checking import AWS, seed_of
from support.cluster import SESSION, Cluster
from support.wait import until


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def cluster(tmp_path):
    async with Cluster(tmp_path) as made:
        yield made


@pytest.mark.slow
async def test_all_brokers_away_for_a_minute_and_the_run_goes_on_without_a_restart(cluster):
    await cluster.publish(150)
    async with Running(cluster) as run:
        await run.landed(30)
        cluster.net.refuse = True
        await cluster.net.reset_all()
        await asyncio.sleep(60)
        assert not run.task.done()
        cluster.net.heal()
        began = time.monotonic()
        await cluster.publish(150, seed=2)
        took = await run.landed(60)
        print(f"resumed {took:.1f} s after the publisher was done, {time.monotonic() - began:.1f} s after the brokers")
        await end(cluster, run)


@pytest.mark.slow
async def test_a_wall_clock_that_jumps_by_days_changes_nothing(cluster, monkeypatch):
    draw, honest, honest_ns, jumps = random.Random(seed_of()), time.time, time.time_ns, 0

    def jump():
        nonlocal jumps
        jumps += 1
        return draw.choice((-86_400, 0, 86_400, 1))

    monkeypatch.setenv("TZ", "Pacific/Chatham")  # 12:45 or 13:45 ahead, by season
    time.tzset()
    try:
        await cluster.publish(100)  # stamped by honest clocks: the timestamp is part of a row's id
        monkeypatch.setattr(time, "time", lambda: honest() + jump())
        monkeypatch.setattr(time, "time_ns", lambda: honest_ns() + jump() * 10**9)
        cluster.watch()
        async with Running(cluster) as run:
            took = await run.landed(30)
            await asyncio.sleep(SESSION)  # heartbeats, commits and the AWS client's credentials go on
            summary = await end(cluster, run, duplicates=False)
            print(f"landed after {took:.1f} s with {jumps} looks at a clock that jumps")
        assert jumps > 10
        assert summary.commit_failures == 0
        assert run.source.health.recreations == {}
    finally:
        monkeypatch.undo()
        time.tzset()


BAD_NETWORKS = ("slow", "throttled", "answers lost", "requests lost", "half closed", "cut")


@pytest.mark.slow
async def test_a_bad_network_delays_and_repeats_but_loses_nothing(tmp_path):
    draw = random.Random(seed_of())

    async def suffer(fault):
        async with Cluster(tmp_path / fault.replace(" ", "-")) as cluster:
            await bad_network(cluster, fault, draw.randrange(5_000, 60_000))

    async with asyncio.TaskGroup() as group:  # side by side: they mostly wait
        for fault in BAD_NETWORKS:
            group.create_task(suffer(fault))


async def bad_network(cluster, fault, cut_after):
    await cluster.publish(100)
    net = cluster.net
    async with Running(cluster) as run:
        await until(lambda: run.now.records > 0, 30, "the first records")
        if fault == "slow":
            net.up.delay = net.down.delay = 0.1
        elif fault == "throttled":
            net.down.rate = 60_000
        elif fault == "answers lost":
            net.down.blackhole = True
        elif fault == "requests lost":
            net.up.blackhole = True
        elif fault == "half closed":
            net.half_close("client")
        else:
            net.down.cut_after = cut_after
        if fault in {"slow", "throttled"}:
            await cluster.publish(100, seed=2)
            await run.landed(60)
            net.heal()
        else:
            await asyncio.sleep(SESSION * 1.5)
            net.heal()
            await cluster.publish(100, seed=2)
        print(f"{fault}: all landed {await run.landed(60):.1f} s after the network was well again")
        await end(cluster, run)


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="tansu")
    yield {
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_CONDITIONAL_PUT": "etag",
    }
    server.stop()


@pytest.mark.slow
async def test_a_broker_killed_and_restarted_with_its_data_loses_nothing(tmp_path, bucket):
    async with Cluster(tmp_path, partitions=2, storage="s3://tansu/", env=bucket) as cluster:
        await cluster.publish(60)
        async with Running(cluster) as run:
            await run.landed(60)
            for seed in (2, 3):
                cluster.hose.outage = True  # so that something is in flight when the broker dies
                await cluster.publish(60, seed=seed)
                await until(lambda: run.now.unacked > 0, 30, "records in flight")
                await cluster.broker.kill()
                await asyncio.sleep(1)
                cluster.hose.outage = False
                await asyncio.sleep(1)
                await cluster.broker.restart()
                await cluster.publish(30, seed=seed + 10)
                print(f"resumed in {await run.landed(90):.1f} s")
            await end(cluster, run)
        assert sum(cluster.offsets.values()) == len(cluster.expected)


async def test_a_blocked_event_loop_shorter_than_the_session_keeps_the_membership(cluster):
    await cluster.publish(60)
    async with Running(cluster) as run:
        await run.landed(30)
        before = dict(run.source.assignment)
        time.sleep(SESSION / 2)  # noqa: ASYNC251 - that is the fault
        await cluster.publish(60, seed=2)
        await run.landed(30)
        assert run.source.assignment == before
        await end(cluster, run, duplicates=False)


@pytest.mark.slow
async def test_a_blocked_event_loop_longer_than_the_session_costs_a_rebalance_and_nothing_else(cluster):
    await cluster.publish(100)
    policy = DeliveryPolicy(timeout=2, backoff_base=0.05, backoff_max=0.5)
    async with Running(cluster, delivery=policy) as run:
        await until(lambda: run.now.records > 10, 30, "the first records")
        time.sleep(SESSION * 1.7)  # noqa: ASYNC251 - that is the fault
        await cluster.publish(60, seed=2)
        await run.landed(60)
        await end(cluster, run)
