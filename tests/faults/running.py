"""A run in this process on a broker, and the verdict that ends it."""

import asyncio
import time

from lmstream.runtime import RuntimePolicy
from support.wait import until


class Running:
    """A run in this process on the cluster's topic."""

    def __init__(self, cluster, *, client=None, **more):
        self.seen = []
        self.cluster = cluster
        policy = RuntimePolicy(
            commit_interval=0.1, commit_timeout=1.5, drain_timeout=3, grace=8, tick=0.05, progress_interval=0.05
        )
        self.source = cluster.kafka_source(commit_timeout_ms=1500, client=client or {})
        self.runtime = cluster.runtime(self.source, policy=policy, on_progress=self.seen.append, **more)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.runtime.run())
        return self

    async def __aexit__(self, kind, *_):
        if kind is None:
            await self.stop()
        else:
            self.task.cancel()
            await asyncio.wait({self.task})

    async def stop(self):
        if not self.task.done():
            self.runtime.stop()
        return await asyncio.wait_for(self.task, 40)

    @property
    def now(self):
        return self.runtime.progress()

    async def landed(self, seconds):
        """Wait until all expected rows have landed; seconds it took."""
        began = time.monotonic()
        await until(
            lambda: self.task.done() or (self.now.records >= len(self.cluster.expected) and not self.now.unacked),
            seconds,
            f"all of {len(self.cluster.expected)} records (at {self.now})",
        )
        assert not self.task.done(), self.task
        return time.monotonic() - began


async def end(cluster, run, *, duplicates=True):
    """The verdict: all that was acknowledged is committed, nothing is lost."""
    summary = await run.stop()
    assert summary.unacked == 0
    await cluster.look()
    assert not cluster.wrong
    report = await cluster.judge(duplicates=duplicates)
    print(f"commit failures {summary.commit_failures}, late {summary.late}, {report.total}")
    return summary
