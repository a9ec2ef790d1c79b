"""A whole run on the mock cluster, and the one check that ends every fault test: nothing lost, no commit ahead."""

import asyncio
import contextlib
from time import monotonic

from aiokafka import AIOKafkaProducer

from lmstream.delivery import DeliveryPolicy
from lmstream.errors import SourceError
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import ScriptedSink
from support.doubles import ToyEngine, bundle, make
from support.mock_kafka import MockKafka

QUICK = {
    "session_timeout_ms": 3000,
    "heartbeat_interval_ms": 100,
    "rebalance_timeout_ms": 2000,
    "request_timeout_ms": 4000,
    "commit_timeout_ms": 1000,
    "stuck_timeout_ms": 1500,
    "drain_timeout_ms": 1500,
    "restart_backoff_ms": 100,
    "restart_backoff_max_ms": 1000,
    "startup_timeout_ms": 3000,
}
POLICY = RuntimePolicy(commit_interval=0.05, commit_timeout=2, drain_timeout=1, grace=3, close_timeout=8, tick=0.02)
TOPIC, GROUP = "t", "g"


class Run:
    """One source under a real Runtime, with records that a toy engine makes rows of, and a trace of commits."""

    def __init__(self, kafka, module, **more):
        self.kafka = kafka
        usual = {"bootstrap": kafka.bootstrap, "topics": (TOPIC,), "group": GROUP}
        self.source = module.make(module.Settings(**{**usual, **QUICK, **more}))
        self.sink = ScriptedSink()
        self.pipeline = make(self.sink, engine=ToyEngine(), policy=DeliveryPolicy(timeout=5))
        self.runtime = Runtime(self.source, self.pipeline, clock=asyncio.get_running_loop().time, policy=POLICY)
        self.sent = {}
        self.commits = []
        self.inner, self.source.commit = self.source.commit, self.commit
        self.task = None
        self.wrong = []
        self.gone = set()  # offsets of partition 0 that retention took

    async def commit(self, offsets):
        """What reaches the broker must be settled by then. Noted, because a run outlives a commit that raises."""
        epochs = dict(self.source.assignment)
        for tp, offset in offsets.items():
            ahead = [n for n in range(offset if self.sent else 0) if not self.landed(tp.partition, n)]
            if ahead:
                self.wrong.append(f"commit of {offset} is ahead of {ahead[:3]}")
        await self.inner(offsets)
        self.commits += [(tp, epochs.get(tp), offset) for tp, offset in offsets.items()]

    def landed(self, partition, offset):
        if partition == 0 and offset in self.gone:
            return True
        return self.sink.lines[b'{"rowId":"%b:0"}\n' % f"{TOPIC}/{partition}/{offset}".encode()]

    async def produce(self, count, partition=0):
        async with asyncio.timeout(10):
            async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, acks=1) as producer:
                sent = [await producer.send(TOPIC, bundle(), partition=partition) for _ in range(count)]
                await asyncio.gather(*sent)
        self.sent[partition] = self.sent.get(partition, 0) + count

    async def until(self, condition, seconds=15):
        begin = monotonic()
        while not condition():
            if self.task.done():
                await self.task
                raise AssertionError("the run ended by itself")
            assert monotonic() - begin < seconds, self.report()
            await asyncio.sleep(0.01)
        return monotonic() - begin

    async def settled(self, seconds=15):
        """Wait until everything sent has landed and is committed; answer how long that took."""

        def done():
            last = {tp.partition: offset for tp, _, offset in self.commits}
            return all(
                last.get(p) == n and all(self.landed(p, each) for each in range(n)) for p, n in self.sent.items()
            )

        return await self.until(done, seconds)

    def check(self):
        for partition, count in self.sent.items():
            lost = [n for n in range(count) if not self.landed(partition, n)]
            assert not lost, f"lost {partition}: {lost[:5]}"
        phantom = [
            line for line in self.sink.lines if int(line.split(b"/")[2].split(b":")[0]) >= max(self.sent.values())
        ]
        assert not phantom
        assert not self.wrong, self.wrong[:3]
        last = {}
        for tp, epoch, offset in self.commits:
            assert offset > last.get((tp, epoch), -1), "a commit went back"
            last[tp, epoch] = offset
        assert self.runtime.ledger.balanced
        assert self.pipeline.balanced

    def duplicates(self):
        return sum(count - 1 for count in self.sink.lines.values())

    def report(self):
        health = self.source.health
        return f"{health} landed {len(self.sink.lines)} of {self.sent} commits {self.commits[-2:]} {self.source.assignment}"


@contextlib.asynccontextmanager
async def running(module, *, brokers=1, partitions=1, **more):
    """A run that has read and committed 20 records of each partition; its end is checked."""
    async with MockKafka(brokers) as kafka:
        kafka.create_topic(TOPIC, partitions)
        run = Run(kafka, module, **more)
        for partition in range(partitions):
            await run.produce(20, partition)
        run.task = asyncio.create_task(run.runtime.run())
        try:
            await run.settled()
            yield run
        finally:
            run.runtime.stop()
            with contextlib.suppress(SourceError):
                async with asyncio.timeout(20):
                    await run.task
