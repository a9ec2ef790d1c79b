"""A topic on a broker, a strict Firehose or a folder behind it, and the command line between: for verbs that act on a
verdict."""

import asyncio
import contextlib
import gzip
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from lmstream import Engine, Record, Settings
from lmstream.lab import FirehoseLab, KafkaLab, S3Lab, S3Store, StreamConfig
from lmstream.lab.generator import Generator
from lmstream.lab.s3 import S3Object
from support.lakes import Landed

TOPIC, GROUP, ORG, STREAM = "lm", "g", "acme", "rows"
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | {
    "COLUMNS": "200",
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": "lab",
    "AWS_DEFAULT_REGION": "us-east-1",
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
}
START = 1_764_400_000_000
"""Milliseconds: the time of the first record."""


class Scene:
    """`async with Scene(tmp_path) as scene`: records in `scene.records`, the configuration in `scene.config`."""

    def __init__(self, folder, *, count=12, sink="folder", source="kafka", partitions=1, bad=(), start=START):
        self.folder, self.count, self.sink, self.source = folder, count, sink, source
        self.partitions, self.bad, self.start = partitions, bad, start
        self.landed, self.dead = folder / "landed", folder / "dead"
        self.config = folder / "lmstream.toml"
        self.records = []
        self.stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        self.kafka = await self.stack.enter_async_context(KafkaLab())
        await self.kafka.create_topic(TOPIC, self.partitions)
        if self.sink in {"lake", "bucket"}:
            self.s3 = await self.stack.enter_async_context(S3Lab("lake", "lab"))
        if self.sink in {"firehose", "bucket"}:
            stream = StreamConfig.for_settings(STREAM, Settings(org_id=ORG), speed_up=600)
            store = self.landed
            if self.sink == "bucket":
                store = S3Store("lab", endpoint_url=self.s3.endpoint_url, credentials=("lab", "lab"))
            self.hose = await self.stack.enter_async_context(FirehoseLab(stream, store))
        self.config.write_text(self._toml())
        await self.publish(self.count)
        return self

    async def __aexit__(self, *error):
        await self.stack.__aexit__(*error)

    def _toml(self):
        sink = f'type = "{"plain_folder" if self.sink == "folder" else self.sink}"\nroot = "{self.landed}"'
        if self.sink == "lake":
            sink = f'type = "s3"\nbucket = "lake"\nregion = "us-east-1"\nendpoint_url = "{self.s3.endpoint_url}"'
        if self.sink in {"firehose", "bucket"}:
            sink = f'type = "firehose"\nstream = "{STREAM}"\nregion = "us-east-1"'
            sink += f'\nendpoint_url = "{self.hose.endpoint_url}"'
        return f"""
            [engine]
            org_id = "{ORG}"
            [source]
            type = "{self.source}"
            bootstrap = "{self.kafka.bootstrap}"
            topics = ["{TOPIC}"]
            group = "{GROUP}"
            [sink]
            {sink}
            [rolling]
            age = 0.2
            [dead_letters]
            root = "{self.dead}"
        """

    async def publish(self, count, start=None):
        """Put so many more bundles into the topic, a second apart, partition after partition."""
        start = self.start if start is None else start
        first = len(self.records)
        bundles = list(islice(Generator(instances=2, seed=3).bundles(), first + count))[first:]
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap) as producer:
            for number, bundle in enumerate(bundles, first):
                value = b"junk" if number in self.bad else bundle.payload
                partition, at = number % self.partitions, start + 1000 * number
                key, headers = b"key-%d" % number, (("n", b"1"),)
                sent = await producer.send_and_wait(
                    TOPIC, value, partition=partition, timestamp_ms=at, key=key, headers=list(headers)
                )
                about = {"partition": partition, "offset": sent.offset, "timestamp": at, "key": key}
                self.records.append(Record(topic=TOPIC, value=value, headers=headers, **about))

    async def commit(self, **offsets):
        """What the group of the run has committed: all, or p0=OFFSET."""
        ends = {p: sum(each.partition == p for each in self.records) for p in range(self.partitions)}
        ends |= {int(name[1:]): offset for name, offset in offsets.items()}
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap, group_id=GROUP, enable_auto_commit=False
        ) as consumer:
            consumer.assign([KafkaPartition(TOPIC, p) for p in ends])
            await consumer.commit({KafkaPartition(TOPIC, p): offset for p, offset in ends.items()})

    async def committed(self, partition=0):
        """What the group has committed; None for nothing."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap, group_id=GROUP, enable_auto_commit=False
        ) as consumer:
            consumer.assign([KafkaPartition(TOPIC, partition)])
            return await consumer.committed(KafkaPartition(TOPIC, partition))

    async def call(self, *args, code=None, stdin=None):
        """Run `lmstream ARGS --config ...`; with `code` it has to end so."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", *map(str, args), "--config", str(self.config)),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENV,
            cwd=self.folder,
        )
        async with asyncio.timeout(60):
            out, err = (each.decode() for each in await process.communicate())
        assert code is None or process.returncode == code, (process.returncode, out, err)
        return Said(process.returncode, out, err)

    async def deliver(self):
        """All that is in the topic, as a run does. `local` and `lake` land by claims, `folder` without."""
        if self.sink in {"lake", "local"}:
            lake = await asyncio.to_thread(lambda: Landed().land(self.records, Settings(org_id=ORG)))
        if self.sink == "local":
            for key, (data, _) in lake.store.objects.items():
                path = self.landed / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return
        if self.sink == "lake":
            some = {
                key: S3Object(data, meta, "binary/octet-stream") for key, (data, meta) in lake.store.objects.items()
            }
            self.bucket.update(some)
            return
        ends = [sum(each.partition == p for each in self.records) for p in range(self.partitions)]
        flags = [flag for p, end in enumerate(ends) for flag in ("--offsets", f"{TOPIC}/{p}=0..{end}")]
        await self.call("run", *flags, code=0)
        await self.flush()

    async def flush(self):
        """Have the Firehose write what it buffers."""
        if self.sink in {"firehose", "bucket"}:
            await self.hose.flush()

    @property
    def bucket(self):
        """The objects of the lake, or of what the Firehose says is its bucket, by key."""
        return self.s3.buckets["lake" if self.sink == "lake" else "lab"]

    @property
    def lake_objects(self):
        """Keys of the objects with rows."""
        return sorted(key for key in self.bucket if key.endswith(".gz") and "/_" not in key)

    # What is expected, and what is there

    @property
    def rows(self):
        """Each row that the records become, by its id."""
        engine = Engine(Settings(org_id=ORG))
        good = [each for number, each in enumerate(self.records) if number not in self.bad]
        lines = [line for each in good for line in engine.fan_out(each).ndjson().splitlines()]
        return {json.loads(line)["rowId"]: line for line in lines}

    @property
    def objects(self):
        """Files with rows, in order."""
        some = sorted(path for path in self.landed.rglob("*") if path.is_file())
        return [
            path
            for path in some
            if not path.name.startswith((".", "_")) and not {"errors", "_lmstream"} & {*path.parts}
        ]

    @property
    def there(self):
        """Each line that lies there, as often as it does."""
        return [line for path in self.objects for line in lines_of(path)]


class Said:
    """What a verb said."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit {self.code}\n{self.out}\n{self.err}"


def lines_of(path):
    """The lines of an object."""
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines()


def rewrite(path, lines):
    """Put other lines into an object."""
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.read_bytes()[:2] == b"\x1f\x8b" else data)
