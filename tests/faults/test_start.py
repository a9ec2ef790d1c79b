"""Processes that start side by side over the same folders do not trip over each other's checks."""

import asyncio

from lmstream.dead_letters import letters
from lmstream.sinks import local


async def test_starts_at_the_same_moment_find_their_folders_well(tmp_path):
    async def starts():
        for _ in range(25):
            sink = letters.make(letters.Settings(root=str(tmp_path / "dead")))
            await sink.check()
            await local.make(local.Settings(root=str(tmp_path / "landed"))).check()

    await asyncio.gather(*(starts() for _ in range(4)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
