"""Whole runs in this process: members of a group with slow sinks in memory, a publisher, and the verdict of it all."""

import asyncio
import contextlib
import random
import time
from itertools import takewhile

from lmstream import Engine, Settings
from lmstream.dead_letters.letters import Letters
from lmstream.dead_letters.letters import Settings as LetterSettings
from lmstream.delivery import Pipeline
from lmstream.lab.generator import Generator
from lmstream.lab.publisher import Publisher
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.sources import kafka
from lmstream.testing import Memory
from lmstream.verification import Checker, log_entries
from support.kafka_scenarios import settings


class Slow(Memory):
    """Takes its time, so that something is always in flight; shared by the members of a group."""

    def __init__(self, pause=0.03):
        super().__init__()
        self._pause = pause

    async def write(self, packs, /):
        await asyncio.sleep(self._pause)
        return await super().write(packs)


class Run:
    """One topic, its publisher and the members that read it, all into one sink."""

    def __init__(self, cluster, module, topic, folder):
        self.cluster, self.module, self.topic = cluster, module, topic
        self.sink = Slow()
        self._folder = folder
        self._log = folder / "published.jsonl"
        self._members = {}

    def join(self):
        """Answer the source of one more member."""
        small = {"partition_bytes": 32 << 10, "fetch_bytes": 64 << 10}  # most of the topic still waits in the broker
        source = self.module.make(settings(self.cluster, self.module, self.topic, **small))
        pipeline = Pipeline(
            Engine(Settings(org_id="acme")),
            self.sink,
            Letters(LetterSettings(root=str(self._folder / "dead-letters"))),
            clock=time.monotonic,
            sleep=asyncio.sleep,
            random=random.random,
            budget=256 << 10,
        )
        runtime = Runtime(source, pipeline, clock=time.monotonic, policy=RuntimePolicy(commit_interval=0.2))
        self._members[source] = runtime, asyncio.create_task(runtime.run())
        return source

    async def leave(self, source):
        """Stop a member as SIGTERM would; answer its summary."""
        runtime, task = self._members.pop(source)
        runtime.stop()
        async with asyncio.timeout(40):
            return await task

    async def until(self, condition, seconds, what):
        """Wait for a condition, a plain or an asynchronous one, and answer how long it took. No member may end."""
        began = time.monotonic()
        while True:
            true = condition()
            if asyncio.iscoroutine(true):
                true = await true
            for _, task in self._members.values():
                if task.done():
                    task.result()
                    raise AssertionError("a member ended")
            if true:
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, f"not in {seconds} s: {what}"
            await asyncio.sleep(0.05)

    async def publish(self, count=None, *, rate=0.0, while_=lambda: True):
        """Publish bundles, logged when they are acknowledged; none may be refused."""
        with self._log.open("ab") as log:
            sender = Publisher(settings(self.cluster, kafka, self.topic), log)
            bundles = takewhile(lambda _: while_(), Generator(instances=2, start_ms=1_700_000_000_000).bundles())
            await sender.send((b for _, b in zip(range(count or 1 << 30), bundles, strict=False)), rate=rate)
        assert not sender.failed

    def report(self):
        checker = Checker()
        for entry in log_entries(self._log):
            checker.expect(entry)
        for line in self.sink.lines:
            checker.found(line)
        return checker.report()

    async def all_committed(self):
        """Whether the group's commit stands behind the last record of every partition that has one."""
        ends = {}
        for entry in log_entries(self._log):
            ends[entry.partition] = max(ends.get(entry.partition, 0), entry.offset + 1)
        stands = {p: n for (_, p), n in (await self.cluster.commits(self.topic)).items()}
        assert all(n <= ends[p] for p, n in stands.items())
        return stands == ends

    async def close(self):
        for source in list(self._members):
            with contextlib.suppress(Exception):
                await self.leave(source)


@contextlib.asynccontextmanager
async def running(cluster, module, topic, folder):
    run = Run(cluster, module, topic, folder)
    try:
        yield run
    finally:
        await run.close()
