"""A broker behind a bad network, members of a group as real processes, and a look at what they commit."""

import asyncio
import contextlib
import os
import signal
import sys
from itertools import islice

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition as KafkaPartition

from lmstream.engine import Engine
from lmstream.lab import Broker, TcpFaults
from lmstream.lab.generator import Generator
from lmstream.lab.publisher import Publisher
from lmstream.model import Record
from lmstream.sources.kafka import Kafka, Settings, read_range
from lmstream.verification import Expected, expectation
from support.checking import AWS, SETTINGS, STREAM, TOPIC, Scene

GROUP = "g"
SESSION = 3.0
"""Seconds. Tests wait for takeovers: production has 45."""
GROUP_SETTINGS = {
    "session_timeout_ms": int(SESSION * 1000),
    "heartbeat_interval_ms": 300,
    "rebalance_timeout_ms": 4_000,
    "request_timeout_ms": 8_000,
    "startup_timeout_ms": 20_000,
    "stuck_timeout_ms": 4_000,
    "restart_backoff_ms": 200,
    "restart_backoff_max_ms": 1_000,
    "restart_limit": 1_000,
}
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | AWS


class Member:
    """One `lmstream run` as a process."""

    def __init__(self, scene: "Cluster", number: int, *more: str):
        self.number = number
        self.log = scene.folder / f"member-{number}.log"
        self._scene, self._more = scene, more
        self.process: asyncio.subprocess.Process | None = None

    async def start(self):
        scene = self._scene
        settings = {f"source.{k}": v for k, v in GROUP_SETTINGS.items()}
        settings |= {
            "source.group": GROUP,
            "source.topics": [TOPIC],
            "runtime.commit_interval": 0.2,
            "runtime.drain_timeout": 3,
            "runtime.grace": 10,
            "delivery.backoff_max": 1,
            "run.report_seconds": 5,
        }
        command = [sys.executable, "-m", "lmstream", "run", "--bootstrap", scene.bootstrap, "--topic", TOPIC]
        command += ["--org", "acme", "--stream", STREAM, "--region", "us-east-1", "--dead-letters", str(scene.dead)]
        command += ["--endpoint-url", scene.hose.endpoint_url]
        command += [
            part
            for key, value in settings.items()
            if not isinstance(value, list)
            for part in ("--set", f"{key}={value}")
        ]
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *command, *self._more, stdout=out, stderr=out, stdin=asyncio.subprocess.DEVNULL, env=ENV
            )
        return self

    def send(self, number: int):
        if self.alive:
            self.process.send_signal(number)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def well(self) -> bool:
        """Runs, ended in order or was killed. Or had read nothing yet: nobody listened for SIGTERM, or the Firehose or
        the broker did not answer its first question."""
        code = self.process.returncode
        if code not in {1, -signal.SIGTERM}:
            return code in {None, 0, -signal.SIGKILL}
        said = self.said()
        refused = "LMS-4002" in said or "LMS-3001" in said
        return " records, " not in said and (code == -signal.SIGTERM or refused)

    async def kill(self):
        self.send(signal.SIGKILL)
        await self.process.wait()

    async def stop(self, seconds=25.0) -> int:
        """SIGTERM, and its exit code."""
        self.send(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"member {self.number} did not stop in {seconds} s: {self.said()}") from None
        return 0 if self.well else code

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


class _Log:
    """The log of a Sender, as expectations: each as soon as the broker has acknowledged it."""

    def __init__(self, cluster: "Cluster"):
        self._cluster = cluster
        self._decoder = msgspec.json.Decoder(Expected)

    def write(self, line: bytes):
        each = self._decoder.decode(line)
        self._cluster.expected.append(each)
        self._cluster._unseen.append(each)

    def flush(self):
        pass


class Cluster(Scene):
    """`net` is between the broker and everybody: publish before it breaks, or take the topic's word for it."""

    def __init__(self, folder, *, partitions=4, storage=None, env=None, **more):
        super().__init__(folder, **more)
        self.broker: Broker | None = None
        self.net = TcpFaults()
        self.partitions = partitions
        self.members: list[Member] = []
        self.wrong: list[str] = []
        self.offsets: dict[int, int] = {}
        self._broker = {"storage": storage, "env": env} if storage else {}
        self._watching: asyncio.Task | None = None
        self._looking = asyncio.Lock()
        self._numbers = iter(range(1, 10**6))
        self._unseen: list[Expected] = []  # expected, and not yet committed when we looked last

    async def __aenter__(self):
        await super().__aenter__()
        try:
            await self.net.start()
            self.broker = Broker(advertised_port=self.net.port, **self._broker)
            await self.broker.start()
            self.net.upstream_port = self.broker.port
            await self.broker.create_topic(TOPIC, self.partitions, bootstrap=self.bootstrap)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        for member in self.members:
            if member.alive:
                await member.kill()
        if self.broker is not None:
            await self.broker.close()
        await self.net.close()
        await super().__aexit__()

    @property
    def bootstrap(self) -> str:
        return self.net.address

    def source_settings(self, **more) -> Settings:
        return Settings(**{"bootstrap": self.bootstrap, "topics": (TOPIC,), "group": GROUP, **GROUP_SETTINGS, **more})

    def kafka_source(self, **more) -> Kafka:
        return Kafka(self.source_settings(**more))

    async def publish(self, count, *, rate=0.0, **generator):
        """Publish bundles; what the broker acknowledged is expected from then on."""
        made = Generator(**({"instances": 2, "devices": 20, "chaos": 0.01, "poison": 0.02} | generator))
        sender = Publisher(self.source_settings(), _Log(self))
        await sender.send(islice(made.bundles(), count), rate=rate)
        assert not sender.failed, sender.failed
        return sender

    async def expect_topic(self):
        """Expect what the topic holds: where the network was bad, a producer may have sent a bundle twice."""
        engine = Engine(SETTINGS)
        settings = self.source_settings(request_timeout_ms=20_000)
        ranges = dict.fromkeys(range(self.partitions), (None, None))
        told = {(each.partition, each.offset): each for each in self.expected}
        found = []
        async for record in read_range(settings, TOPIC, ranges):
            assert isinstance(record, Record)
            known = told.pop((record.partition, record.offset), None)
            found.append(known or expectation(engine, record, ""))
        assert not told, f"the broker lost {len(told)} records that it had acknowledged"
        self.expected = found

    async def join(self, *more: str) -> Member:
        member = Member(self, next(self._numbers), *more)
        self.members.append(member)
        return await member.start()

    async def drained(self, seconds=60.0):
        """Wait until every expected row has landed."""
        async with asyncio.timeout(seconds):
            while await self.landed() < self.rows_expected:
                for member in self.members:
                    assert member.well, (member.process.returncode, member.said())
                await asyncio.sleep(0.1)

    async def finish(self, *, seconds=60.0, duplicates=True, committed=True):
        """All rows have landed; the members stop in order; the verdict. `committed`: with the very last commits."""
        try:
            await self.drained(seconds)
        except TimeoutError:
            said = "\n".join(f"member {m.number}: {m.said()}" for m in self.members if m.alive)
            missing = self.rows_expected - len(self.store.ids)
            raise AssertionError(f"{missing} rows did not land in {seconds} s. {said}") from None
        codes = await asyncio.gather(*(member.stop() for member in self.members if member.alive))
        await self.look()
        assert not self.wrong, self.wrong[:5]
        report = await self.judge(duplicates=duplicates)
        assert set(codes) <= {0}, (codes, [m.said() for m in self.members])
        ends: dict[int, int] = {}
        for each in self.expected:
            ends[each.partition] = max(ends.get(each.partition, 0), each.offset + 1)
        for _ in range(5):  # the broker may be too busy to answer at once
            if self.offsets == ends or not committed:
                break
            await self.look()
        assert self.offsets == ends, (
            f"committed {self.offsets}, acknowledged {ends}: {[m.said() for m in self.members]}"
        )
        return report

    # Commits

    def watch(self, every=0.3):
        """Look at the group's offsets again and again: never back, never ahead of what is durable."""

        async def watching():
            while True:
                await self.look()
                await asyncio.sleep(every)

        self._watching = asyncio.create_task(watching())

    async def look(self):
        async with self._looking:  # one after the other: an older answer must not be taken for a commit that went back
            await self._look()

    async def _look(self):
        committed = await self.committed()
        if committed is None:
            return
        await self.hose.flush()  # what is durable only grows: to look at it second makes no false alarm
        for partition, offset in committed.items():
            if offset < self.offsets.get(partition, 0):
                self.wrong.append(f"partition {partition}: committed {offset} after {self.offsets[partition]}")
            self.offsets[partition] = max(offset, self.offsets.get(partition, 0))
        waiting = []
        for each in self._unseen:
            if each.offset >= committed.get(each.partition, 0):
                waiting.append(each)
            elif not self.durable(each):
                self.wrong.append(f"{each.partition}/{each.offset} is committed and not durable")
        self._unseen = waiting

    def durable(self, each) -> bool:
        if each.rejected or not each.points:
            letter = self.dead / TOPIC / str(each.partition) / f"{each.offset}.json"
            if not letter.exists():
                return False
        absent = set(each.absent)
        return all(f"{each.bundle_id}:{n}" in self.store.ids for n in range(each.points) if n not in absent)

    async def committed(self):
        """The group's offsets; None when the broker cannot be asked just now."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
                try:
                    await admin.start()
                    tps = [KafkaPartition(TOPIC, p) for p in range(self.partitions)]
                    found = await admin.list_consumer_group_offsets(GROUP, partitions=tps)
                    return {tp.partition: meta.offset for tp, meta in found.items() if meta.offset >= 0}
                finally:
                    await admin.close()
        return None
