"""Members of a group killed, frozen and joined while they work: `lmstream run` processes on a real broker."""

import asyncio
import random
import signal
import textwrap
import time

import pytest
from aiokafka import AIOKafkaProducer

from support.checking import TOPIC, seed_of
from support.cluster import ENV, SESSION, Cluster
from support.wait import until

pytestmark = pytest.mark.slow  # seconds each: `make test-faults` runs them


async def test_a_member_joins_and_another_leaves_while_records_are_in_flight(tmp_path):
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
async def test_ten_random_kills_over_two_members(tmp_path):
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
async def test_a_frozen_member_wakes_after_its_session_and_commits_nothing_old(tmp_path):
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


ENDS = {"a bug": ("raise RuntimeError('planted')", 1), "killed": ("os.kill(os.getpid(), signal.SIGKILL)", 137)}


@pytest.mark.parametrize(("how", "code"), ENDS.values(), ids=ENDS.keys())
async def test_one_of_three_workers_ends_and_stops_the_others_and_the_next_run_goes_on(
    tmp_path, monkeypatch, how, code
):
    codec = f"""
        import os, signal
        from lmstream.codecs.otlp_json import Codec as Real

        class Codec(Real):
            def decode(self, payload, /):
                if b"ENDS" in payload:
                    {how}
                return super().decode(payload)
    """
    (tmp_path / "ending").mkdir()
    (tmp_path / "ending" / "codec.py").write_text(textwrap.dedent(codec))
    monkeypatch.setitem(ENV, "PYTHONPATH", str(tmp_path))
    async with Cluster(tmp_path, partitions=3) as cluster:
        cluster.watch()
        run = await cluster.join("--workers", "3", "--set", "engine.format=ending.codec")
        await cluster.publish(60)
        await cluster.drained()
        async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap) as producer:
            await producer.send_and_wait(TOPIC, b'{"ENDS":1,"resourceMetrics":[]}', partition=1)
        await cluster.publish(150, seed=2)
        async with asyncio.timeout(30):
            assert await run.process.wait() == code
        said = run.log.read_text("utf-8")
        assert "stopping the others" in said, said
        ended = said.partition(" ended with exit code")[0].rpartition("\n")[2]
        assert {name for name in ("worker 1", "worker 2", "worker 3") if f"{name}: done in" in said} == {
            "worker 1", "worker 2", "worker 3"
        } - {ended}, said  # fmt: skip
        cluster.members.clear()
        await cluster.expect_topic()
        await cluster.join("--workers", "3")
        print((await cluster.finish()).total)
