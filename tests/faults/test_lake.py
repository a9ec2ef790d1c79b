"""Members of a lake killed, frozen and moved while they land: `lmstream run` processes, a real broker, S3 over HTTP."""

import asyncio
import gzip
import json
import random
import signal

import pytest

from support.checking import TOPIC, seed_of
from support.lake_scene import SESSION, LakeScene
from support.s3_servers import missing
from support.wait import until

pytestmark = pytest.mark.slow  # seconds each: `make test-faults` runs them


def on(store, *more):
    """A parameter that is left out, by name, where the server is not installed."""
    why = "" if store == "lab" else missing(store)
    return pytest.param(*more, store, marks=pytest.mark.skipif(bool(why), reason=why))


on_each_store = pytest.mark.parametrize("store", [on("lab"), on("seaweedfs")])


async def storm(scene, draw, rounds, members):
    """Kill one, or stop it until its partitions have another owner, and let it continue."""
    for _ in range(rounds):
        await asyncio.sleep(draw.random() * 2)
        at = draw.randrange(len(members))
        if draw.random() < 0.6:
            await members[at].kill()
            members[at] = await scene.join()
        else:
            members[at].send(signal.SIGSTOP)
            await asyncio.sleep(SESSION + 1 + draw.random())
            members[at].send(signal.SIGCONT)
    for at, member in enumerate(members):
        if not member.alive:
            members[at] = await scene.join()


@pytest.mark.parametrize(
    ("client", "store"),
    [
        *(on(store, client) for client in ("kafka", "confluent") for store in ("lab", "seaweedfs")),
        on("ministack", "kafka"),
    ],
)
async def test_no_row_is_lost_or_there_twice_after_kills_and_members_that_slept(tmp_path, client, store):
    draw = random.Random(seed_of())
    async with LakeScene(tmp_path, client=client, store=store) as scene:
        members = [await scene.join() for _ in range(2)]
        publishing = asyncio.create_task(scene.publish(900, rate=40))
        await until(lambda: bool(scene.landed), 40, "the first object")
        await storm(scene, draw, 8, members)
        await publishing
        await scene.settled()
        for member in members:
            assert await member.stop() == 0, member.said()
        rows, duplicate, lost = await scene.judge()
        print(f"{rows} rows in {len(scene.landed)} objects")
        assert (duplicate, lost) == (0, 0)
        assert rows > 1000


@on_each_store
async def test_a_group_that_is_moved_back_lands_nothing_twice(tmp_path, store):
    async with LakeScene(tmp_path, store=store) as scene:
        await scene.publish(200)
        member = await scene.join()
        await scene.settled()
        assert await member.stop() == 0
        before = dict(scene.objects)
        again = await scene.join("--group", "another")  # begins at the beginning, beside the chain of the first
        await asyncio.sleep(4)
        await scene.publish(50, seed=2)
        await until(lambda: len(scene.landed) > len(before) + 4, 40, "rows of the other group")
        assert await again.stop() == 0, again.said()
        rows, duplicate, lost = await scene.judge()
        assert (duplicate, lost) == (0, 0)
        assert before.items() <= scene.objects.items()
        assert rows > 1000


async def test_lanes_are_divided_anew_while_members_are_killed(tmp_path):
    async with LakeScene(tmp_path, partitions=4, lanes=2) as scene:
        # In a group of its own: that of the other lanes begins at once, before the session of one that sleeps has ended.
        slept, killed = await scene.join("--group", "before"), await scene.join("--group", "before")
        publishing = asyncio.create_task(scene.publish(600, rate=40))
        await until(lambda: bool(scene.objects), 40, "the first object")
        slept.send(signal.SIGSTOP)
        await killed.kill()
        scene.configure(lanes=3, division=1)
        first = await scene.join()
        await until(lambda: any("/0of3_1/" in key for key in scene.keys), 40, "a lane of the new division")
        await first.kill()
        await scene.join()
        slept.send(signal.SIGCONT)
        await publishing
        await scene.settled()
        assert await asyncio.wait_for(slept.process.wait(), 40) != 0
        assert "LMS-4027" in slept.said()
        scene.configure(lanes=2, division=0)
        old = await scene.join("--group", "another")
        assert await asyncio.wait_for(old.process.wait(), 40) != 0
        assert "lm is landed in division 1, 3 lanes" in old.said()
        rows, duplicate, lost = await scene.judge()
        assert rows > 500
        assert (duplicate, lost) == (0, 0)
        lanes = {key.rpartition("/")[2].split("-")[-3] for key in scene.objects}
        assert {"0of3_1", "1of3_1", "2of3_1"} < lanes <= {"0of2", "1of2", "0of3_1", "1of3_1", "2of3_1"}


@on_each_store
async def test_members_with_lanes_of_several_partitions_land_each_row_once_when_one_is_killed(tmp_path, store):
    async with LakeScene(tmp_path, partitions=4, lanes=2, store=store) as scene:
        await scene.join()
        second = await scene.join()
        await scene.publish(100)
        async with asyncio.timeout(40):
            while not scene.landed:  # noqa: ASYNC110 - another process makes them
                await asyncio.sleep(0.2)
        await second.kill()
        await scene.publish(60)
        await scene.settled()
        rows, duplicate, lost = await scene.judge()
        assert rows > 500
        assert (duplicate, lost) == (0, 0)
        assert {key.rpartition("/")[2].split("-")[1] for key in scene.landed} == {"0of2", "1of2"}


async def test_windows_of_members_that_were_killed_are_made_again_by_the_rules_of_their_claims(tmp_path):
    """Each killed member had other rules than the one that makes its windows again."""
    first = [
        {"name": "no-threads", "when": {"metric": "ThreadCnt"}, "drop": True},
        {"name": "env", "set": {"resource": {"env": "one"}}},
    ]
    second = [
        {"name": "no-cpu", "when": {"metric": ["CpuUsage", "cpuUsage*"]}, "drop": True},
        {"name": "env", "set": {"resource": {"env": "two"}}},
    ]
    async with LakeScene(tmp_path) as scene:
        scene.configure(rules=first)
        member = await scene.join()
        publishing = asyncio.create_task(scene.publish(600, rate=40))
        for turn in range(5):
            before = scene.claims
            await until(lambda before=before: scene.claims > before, 40, "a claim")  # whose objects are on their way
            await member.kill()
            scene.configure(rules=(second, first)[turn % 2])
            member = await scene.join()
        await publishing
        await scene.settled()
        assert await member.stop() == 0, member.said()
        found = [json.loads(line) for data in scene.objects.values() for line in gzip.decompress(data).splitlines()]
        assert len({row["rowId"] for row in found}) == len(found)
        env = [row.get("resource", {}).get("env") for row in found]
        assert set(env) == {"one", "two"}
        for row, by in zip(found, env, strict=True):
            assert row["metric"] != "ThreadCnt" if by == "one" else not row["metric"].lower().startswith("cpuusage")
        code, report = await scene.verify("--topic", TOPIC)
        assert code == 0, report


async def test_rows_with_keys_have_their_dimension_rows_whoever_is_killed(tmp_path):
    draw = random.Random(seed_of())
    async with LakeScene(tmp_path) as scene:
        scene.configure(dimensions=True)
        members = [await scene.join() for _ in range(2)]
        publishing = asyncio.create_task(scene.publish(600, rate=40))
        await until(lambda: bool(scene.landed), 40, "the first object")
        await storm(scene, draw, 5, members)
        await publishing
        await scene.settled()
        for member in members:
            assert await member.stop() == 0, member.said()
        rows, duplicate, lost = await scene.judge()
        assert (duplicate, lost) == (0, 0)
        code, report = await scene.verify("--topic", TOPIC)
        assert code == 0, report
        sums = report["lake"]
        assert (report["total"]["landed"], sums["orphans"], sums["dimensions_wrong"]) == (rows, 0, 0)
        assert sums["dimensions"] > 100
        assert sums["not_compared"] == {}
