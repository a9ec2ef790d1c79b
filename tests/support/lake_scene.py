"""A real broker, a real S3 over HTTP and members of a group as processes: what lies in the bucket is judged at the end."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition as KafkaPartition

from lmstream.engine import Engine
from lmstream.lab import Broker, S3Lab
from lmstream.lab.generator import Generator
from lmstream.lab.publisher import Publisher
from lmstream.sources.kafka import Settings, read_range
from support.checking import AWS, SETTINGS, TOPIC
from support.s3_servers import client, served
from support.wait import catches, until

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | AWS
BUCKET = "lake"
SESSION = 3.0
"""Seconds."""
GROUP = {
    "session_timeout_ms": int(SESSION * 1000),
    "heartbeat_interval_ms": 300,
    "rebalance_timeout_ms": 6_000,
    "drain_timeout_ms": 4_000,
    "request_timeout_ms": 8_000,
    "startup_timeout_ms": 20_000,
    "restart_backoff_ms": 200,
    "restart_backoff_max_ms": 1_000,
}


class _Nowhere:
    def write(self, line: bytes) -> None:
        """Nobody reads the publisher's log: the topic is read instead."""

    def flush(self) -> None: ...


class LakeMember:
    """One `lmstream run` as a process."""

    def __init__(self, scene: "LakeScene", number: int, *more: str) -> None:
        self.log = scene.folder / f"member-{number}.log"
        self._scene, self._more = scene, more
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> "LakeMember":
        command = [sys.executable, "-m", "lmstream", "run", "--config", str(self._scene.config), *self._more]
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=out, stderr=out, stdin=asyncio.subprocess.DEVNULL, env=ENV
            )
        return self

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def send(self, number: int) -> None:
        if self.alive:
            self.process.send_signal(number)

    async def kill(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        await self.process.wait()

    async def stop(self, seconds: float = 40) -> int:
        self.send(signal.SIGCONT)
        await until(
            lambda: not self.alive or catches(self.process.pid, signal.SIGTERM), seconds, "it listens for SIGTERM"
        )
        self.send(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), seconds)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


class LabBucket:
    """That of the lab's S3, which runs in this process and fails on demand."""

    def __init__(self, s3: S3Lab) -> None:
        self._s3 = s3
        self.start, self.close = s3.start, s3.close

    @property
    def endpoint_url(self) -> str:
        return self._s3.endpoint_url

    def keys(self) -> list[str]:
        return list(self._s3.buckets[BUCKET])

    def read(self, keys: list[str]) -> dict[str, bytes]:
        return {key: self._s3.buckets[BUCKET][key].data for key in keys}


class ServedBucket:
    """That of another maker's server, which is a process."""

    def __init__(self, name: str) -> None:
        self.name, self.endpoint_url = name, ""
        self._open = contextlib.ExitStack()
        self._listed: tuple[float, list[str]] = (-1.0, [])

    async def start(self) -> None:
        self.endpoint_url = await asyncio.to_thread(self._open.enter_context, served(self.name, BUCKET))
        self._s3 = self._open.enter_context(client(self.endpoint_url))

    async def close(self) -> None:
        await asyncio.to_thread(self._open.close)

    def keys(self) -> list[str]:
        """As of half a second ago at most: who waits for something asks all the time."""
        if time.monotonic() - self._listed[0] > 0.5:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            self._listed = time.monotonic(), [each["Key"] for page in pages for each in page.get("Contents", ())]
        return self._listed[1]

    def read(self, keys: list[str]) -> dict[str, bytes]:
        with ThreadPoolExecutor(8) as threads:
            found = threads.map(lambda key: self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(), keys)
            return dict(zip(keys, found, strict=True))


def _toml(value) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


class LakeScene:
    """`async with`: a broker and a bucket; `join` starts members."""

    def __init__(self, folder, *, partitions=4, client="kafka", store="lab", **sink) -> None:
        self.folder, self.config = folder, folder / "lake.toml"
        self.partitions, self.client = partitions, client
        self.s3 = S3Lab(BUCKET)
        self.bucket = LabBucket(self.s3) if store == "lab" else ServedBucket(store)
        self.members: list[LakeMember] = []
        self._sink = {"window_seconds": 1.0, **sink}
        self._engine = {"org_id": "acme"}
        self._numbers = iter(range(1, 10**6))

    async def __aenter__(self) -> Self:
        self.broker = Broker()
        await self.broker.start()
        await self.broker.create_topic(TOPIC, self.partitions)
        await self.bucket.start()
        self.configure()
        return self

    def configure(self, *, rules=(), dimensions=False, **sink) -> None:
        """Write the settings of members that join from now on."""
        self._sink |= sink
        self._engine |= {"rules": list(rules), "dimensions": dimensions}
        source = {
            "type": self.client, "bootstrap": self.broker.bootstrap, "topics": [TOPIC], "group": "lake", **GROUP
        }  # fmt: skip
        sink = {
            "type": "s3", "bucket": BUCKET, "region": "us-east-1", "endpoint_url": self.bucket.endpoint_url, **self._sink
        }  # fmt: skip
        tables = {
            "source": source,
            "engine": self._engine,
            "sink": sink,
            "dead_letters": {"root": str(self.folder / "dead")},
            "delivery": {"backoff_max": 1.0},
            "runtime": {"commit_interval": 0.2, "drain_timeout": 3.0, "grace": 10.0},
            "endpoints": {"address": "off"},
        }
        lines = []
        for table, settings in tables.items():
            lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in settings.items())]
        self.config.write_text("\n".join(lines))

    async def __aexit__(self, *_) -> None:
        for member in self.members:
            if member.alive:
                await member.kill()
        await self.broker.close()
        await self.bucket.close()

    async def publish(self, count: int, *, rate: float = 0.0, **generator) -> None:
        made = Generator(**({"instances": 2, "devices": 20, "chaos": 0.01, "poison": 0.02} | generator))
        sender = Publisher(self._settings(), _Nowhere())
        await sender.send(islice(made.bundles(), count), rate=rate)
        assert not sender.failed

    async def join(self, *more: str) -> LakeMember:
        member = await LakeMember(self, next(self._numbers), *more).start()
        self.members.append(member)
        return member

    async def lag(self) -> int:
        """Records that are not committed."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        await admin.start()
        try:
            tps = [KafkaPartition(TOPIC, p) for p in range(self.partitions)]
            committed = await admin.list_consumer_group_offsets("lake", partitions=tps)
        finally:
            await admin.close()
        settings = self._settings()
        ends = Counter()
        async for record in read_range(settings, TOPIC, dict.fromkeys(range(self.partitions), (None, None))):
            ends[record.partition] = record.offset + 1
        return sum(
            max(0, end - max(0, getattr(committed.get(KafkaPartition(TOPIC, p)), "offset", 0)))
            for p, end in ends.items()
        )

    async def settled(self, seconds: float = 60) -> None:
        """Wait until all of the topic is committed."""
        left = 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while left := await self.lag():  # noqa: ASYNC110 - another process commits
                    await asyncio.sleep(0.5)
        assert not left, f"{left} records are not committed: {[m.said() for m in self.members if m.alive]}"

    @property
    def keys(self) -> list[str]:
        """Of all that lies in the bucket."""
        return self.bucket.keys()

    @property
    def landed(self) -> list[str]:
        """Keys of objects with rows."""
        return [key for key in self.keys if not key.startswith("_lmstream/")]

    @property
    def objects(self) -> dict[str, bytes]:
        """Those with rows, by key."""
        return self.bucket.read(self.landed)

    @property
    def claims(self) -> int:
        """Claims of all lanes."""
        return sum(key.startswith("_lmstream/claims/") for key in self.keys)

    @property
    def contested(self) -> int:
        """How often a member found its claim made by another."""
        return sum(member.log.read_text(errors="replace").count("LMS-4026") for member in self.members)

    def rows(self) -> Counter:
        """Each row id as often as it lies in an object."""
        found = Counter()
        for data in self.objects.values():
            rows = map(json.loads, gzip.decompress(data).splitlines())
            found.update(row["rowId"] for row in rows if "dimension" not in row)
        return found

    async def verify(self, *flags: str) -> tuple[int, dict]:
        """What `lmstream verify` says: its exit code, and its report."""
        command = [sys.executable, "-m", "lmstream", "verify", "--config", str(self.config), "--json", *flags]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=ENV)
        said, _ = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode, json.loads(said)

    async def judge(self) -> tuple[int, int, int]:
        """(rows, duplicate, lost); whatever nobody made is an error."""
        engine = Engine(SETTINGS)
        wanted = set()
        async for record in read_range(self._settings(), TOPIC, dict.fromkeys(range(self.partitions), (None, None))):
            with contextlib.suppress(Exception):  # a poison record has no row
                wanted |= {json.loads(line)["rowId"] for line in engine.fan_out(record).ndjson().splitlines()}
        found = self.rows()
        assert not found.keys() - wanted, "rows that no record makes"
        return len(found), sum(found.values()) - len(found), len(wanted - found.keys())

    def _settings(self) -> Settings:
        return Settings(bootstrap=self.broker.bootstrap, topics=(TOPIC,), group="judge")
