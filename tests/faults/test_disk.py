"""A landing disk that is full, read-only or gone in the middle of a run: nothing is committed, and it goes on after."""

import asyncio
import shutil
import subprocess
import time

import pytest

from lmstream.config import Config
from lmstream.config.lake import lake_outlet
from lmstream.interfaces import Assigned
from lmstream.sinks import local
from support.checking import SETTINGS, LogSource, Scene
from support.wait import until


@pytest.fixture
def disk(tmp_path):
    """A landing folder on a disk of 1 MB of its own."""
    mount = tmp_path / "landed"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield mount
    subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
    subprocess.run(["umount", str(mount)], check=True)


class Full:
    def __init__(self, disk):
        self._filler = disk / ".filler"

    def begin(self):
        with pytest.raises(OSError, match="No space"):
            self._filler.write_bytes(b"f" * 2_000_000)

    def end(self):
        self._filler.unlink()


class ReadOnly:
    def __init__(self, disk):
        self._disk = disk

    def begin(self):
        until = time.monotonic() + 20
        # Refused while the run has a file open for writing.
        while subprocess.run(
            ["mount", "-o", "remount,ro", str(self._disk)], check=False, capture_output=True
        ).returncode:
            assert time.monotonic() < until

    def end(self):
        subprocess.run(["mount", "-o", "remount,rw", str(self._disk)], check=True)


class Gone:
    """The folder's path is that of a file for a while: no rights are needed to show this one."""

    def __init__(self, disk):
        self._disk, self._aside = disk, []

    def begin(self):
        while True:
            self._aside.append(self._disk.with_name(f"aside-{len(self._aside)}"))
            self._disk.rename(self._aside[-1])
            try:
                self._disk.write_bytes(b"")
            except IsADirectoryError:  # a writer was quicker, and made the folder again: that one is put aside too
                continue
            return

    def end(self):
        self._disk.unlink()
        for folder in self._aside:
            shutil.copytree(folder, self._disk, dirs_exist_ok=True)


class Placed(LogSource):
    """A log whose reader asks where to begin."""

    def __init__(self, records, **more):
        super().__init__(records, **more)
        self.on_assign = None
        self._tps = {record.tp for record in records}

    async def poll(self, room):
        if self._tps:
            stands = {tp: Assigned(0, committed=False, begin=0, end=1 << 40) for tp in self._tps}
            self._tps = set()
            assert set((await self.on_assign(stands)).values()) == {0}
        return await super().poll(room)

    async def seek(self, places):
        raise AssertionError(places)  # nobody else lands here


async def suffer(scene, fault):
    records = scene.records(120)
    source, seen = Placed(records, step=4, end=False), []
    sink = lake_outlet(
        Config(engine=SETTINGS), local.make(local.Settings(root=str(scene.store.root), window_seconds=0.05))
    )
    runtime = scene.runtime(source, sink=sink, on_progress=seen.append, budget=200_000)
    running = asyncio.create_task(runtime.run())
    try:
        await until(lambda: source.committed, 10, "the first commit")
        fault.begin()
        await until(lambda: seen and seen[-1].trouble, 10, "the trouble")
        await asyncio.sleep(0.5)
        held = dict(source.committed)
        await asyncio.sleep(1)
        assert seen[-1].unacked > 0
        assert source.committed == held  # nothing more is committed,
        assert seen[-1].dead_letters == sum(bool(each.poison) for each in scene.expected)  # or given up on
        fault.end()
        await until(lambda: seen[-1].records == len(records) and not seen[-1].unacked, 20, "everything")
    finally:
        runtime.stop()
        summary = await asyncio.wait_for(running, 20)
    assert summary.unacked == 0
    assert sum(source.committed.values()) == len(records)
    assert not [path for path in scene.store.root.rglob("*") if path.name.endswith((".tmp", ".part"))]
    await scene.judge()


@pytest.mark.parametrize("kind", [Full, ReadOnly])
async def test_a_disk_that_is_full_or_read_only_stalls_the_run_and_loses_nothing(disk, tmp_path, kind):
    async with Scene(tmp_path) as scene:
        await suffer(scene, kind(disk))


async def test_a_landing_folder_that_is_gone_stalls_the_run_and_loses_nothing(tmp_path):
    async with Scene(tmp_path) as scene:
        await suffer(scene, Gone(scene.store.root))
