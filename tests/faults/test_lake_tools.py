"""Verbs of a lake as processes, on a real broker and a strict S3: two at once, killed and stopped half-way."""

import asyncio
import contextlib
import random
import signal
import sys

import pytest

from support.checking import seed_of
from support.lake_scene import BUCKET, ENV, LakeScene

pytestmark = [pytest.mark.slow]


class Verb:
    """`lmstream` with these arguments, and the configuration of the scene."""

    def __init__(self, scene, *arguments):
        self.scene, self.arguments = scene, arguments

    async def begin(self):
        command = [sys.executable, "-m", "lmstream", *self.arguments, "--config", str(self.scene.config)]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=ENV)
        return self

    async def end(self, seconds=120):
        out, said = await asyncio.wait_for(self.process.communicate(), seconds)
        return self.process.returncode, out.decode(), said.decode()

    async def killed(self, after):
        """SIGSTOP, then SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            await asyncio.sleep(after)
            self.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.3)
            self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()


async def called(scene, *arguments):
    return await (await Verb(scene, *arguments).begin()).end()


async def landed(scene, bundles=60, *more):
    await scene.publish(bundles)
    member = await scene.join(*more)
    await scene.settled()
    await scene.publish(30)  # what comes after says of what was before that it is done
    await scene.settled()
    assert await member.stop() == 0


async def test_repair_compaction_and_replay_leave_each_row_there_once(tmp_path):
    draw = random.Random(seed_of())
    async with LakeScene(tmp_path, partitions=2) as scene:
        await landed(scene)
        rows, twice, lost = await scene.judge()
        assert rows
        assert (twice, lost) == (0, 0)

        # --- repair, killed, and twice at once
        for key in draw.sample(sorted(scene.objects), 8):
            del scene.s3.buckets[BUCKET][key]
        assert (await scene.judge())[2] > 0
        code, _, said = await called(scene, "lake", "repair")
        assert (code, "give --yes" in said) == (0, True), said
        await (await Verb(scene, "lake", "repair", "--yes").begin()).killed(draw.uniform(1.0, 2.5))
        first, second = [await Verb(scene, "lake", "repair", "--yes").begin() for _ in range(2)]
        for code, _, said in (await first.end(), await second.end()):
            assert code == 0, said
        assert await scene.judge() == (rows, 0, 0)

        # --- compaction, stopped and killed, and twice at once
        before = sum(map(bool, map(holds_rows, scene.objects.values())))
        for after in (1.2, 1.6, 2.0):
            await (await Verb(scene, "lake", "compact", "--yes").begin()).killed(after)
            assert (await scene.judge())[2] == 0  # never lost
        first, second = [await Verb(scene, "lake", "compact", "--yes").begin() for _ in range(2)]
        for code, _, said in (await first.end(), await second.end()):
            assert code == 0, said
        assert await scene.judge() == (rows, 0, 0)
        assert sum(map(bool, map(holds_rows, scene.objects.values()))) < before


async def test_letters_land_once_whoever_replays_them(tmp_path):
    draw = random.Random(seed_of())
    async with LakeScene(tmp_path, partitions=2) as scene:
        strict = ("--set", "engine.limits.points=1", "--set", "breaker.records=0")
        await landed(scene, 40, *strict)
        rows, twice, lost = await scene.judge()
        assert twice == 0
        assert lost > 0  # all of them are in letters
        replay = ("dlq", "replay", str(tmp_path / "dead"), "--yes")

        await (await Verb(scene, *replay).begin()).killed(draw.uniform(1.0, 2.0))
        _, twice, still = await scene.judge()
        assert (twice, still <= lost) == (0, True)
        first, second = [await Verb(scene, *replay).begin() for _ in range(2)]
        told = [await each.end() for each in (first, second)]
        assert await scene.judge() == (rows + lost, 0, 0), told

        # Again, after a compaction, and with settings that would make other paths.
        assert (await called(scene, "lake", "compact", "--yes"))[0] == 0
        _, _, said = await called(scene, *replay, "--set", "engine.org_id=other")
        assert " 0 rows landed" in said
        assert "already landed" in said
        assert await scene.judge() == (rows + lost, 0, 0)


def holds_rows(data):
    return len(data) > 40
