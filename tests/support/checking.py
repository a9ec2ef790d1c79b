"""The one verdict of every fault test: nothing lost, nothing from nowhere, no commit ahead of what is durable."""

import asyncio
import gzip
import os
import random
import time
from collections import Counter, deque
from heapq import heappop, heappush
from pathlib import Path

from lmstream.dead_letters import letters
from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.engine import Engine, bundle_id
from lmstream.interfaces import Batch
from lmstream.lab import FirehoseLab, FolderStore, StreamConfig
from lmstream.lab.generator import Generator
from lmstream.model import Record, TopicPartition
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.settings import Settings
from lmstream.sinks import firehose
from lmstream.verification import Expected, Report, verify
from lmstream.verification.landed import row_id

TOPIC = "lm"
STREAM = "rows"
SETTINGS = Settings(org_id="acme")
AWS = {
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": "lab",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
"""For the AWS client of a run: made-up keys, nothing of the user's."""


def seed_of(default: int = 1) -> int:
    """The seed of a test: LMSTREAM_SEED replays the one that a failure printed."""
    seed = int(os.environ.get("LMSTREAM_SEED") or default)
    print(f"seed {seed}: LMSTREAM_SEED={seed} replays it")
    return seed


class Landing(FolderStore):
    """The folder behind the lab's Firehose, which also remembers the ids of the rows in it."""

    def __init__(self, root):
        super().__init__(root)
        self.ids: set[str] = set()
        self.rows = 0
        self.log: list[tuple[float, int]] = []  # (time, distinct rows) after each object

    async def put(self, key, body, *, gzip):
        await super().put(key, body, gzip=gzip)
        if not key.startswith("errors/"):
            await asyncio.to_thread(self._note, body, zipped=gzip)

    def _note(self, body, *, zipped):
        lines = (gzip.decompress(body) if zipped else body).splitlines()
        self.ids.update(b":".join(row_id(line)).decode() for line in lines)
        self.rows += len(lines)
        self.log.append((time.monotonic(), len(self.ids)))


class Scene:
    """A strict Firehose with its landing folder, dead letters, and what must come of the records."""

    def __init__(self, folder: Path, *, stream: str = STREAM, **config):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.dead = folder / "dead"
        self.store = Landing(folder / "landed")
        self.stream = stream
        self.hose = FirehoseLab(StreamConfig.for_settings(stream, SETTINGS, **config), self.store)
        self.expected: list[Expected] = []
        self.traces: list[Trace] = []

    async def __aenter__(self):
        await self.hose.start()
        return self

    async def __aexit__(self, *_):
        await self.hose.close()

    # What goes in

    def records(self, count, *, partitions=2, **generator):
        """Records of generated bundles, spread over partitions, and what must come of them."""
        made = []
        bundles = Generator(**({"instances": 2, "devices": 5} | generator)).bundles()
        for number, bundle in zip(range(count), bundles, strict=False):
            record = Record(
                topic=TOPIC,
                partition=number % partitions,
                offset=number // partitions,
                timestamp=1_700_000_000_000 + number,
                value=bundle.payload,
            )
            made.append(record)
            self.expected.append(
                Expected(
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    timestamp=record.timestamp,
                    bundle_id=bundle_id("", *record.tp, record.offset, record.timestamp),
                    points=bundle.points,
                    absent=bundle.absent,
                    rejected=bundle.rejected,
                    poison=bundle.poison,
                )
            )
        return made

    # What runs

    def sink(self, **more):
        return firehose.make(
            firehose.Settings(
                **{"stream": self.stream, "region": "us-east-1", "endpoint_url": self.hose.endpoint_url} | more
            )
        )

    def runtime(self, source, *, sink=None, policy=None, delivery=None, on_progress=None, seed=1, **more):
        """A whole run in this process, watched: see Trace."""
        pipeline = Pipeline(
            Engine(SETTINGS),
            sink or self.sink(),
            letters.make(letters.Settings(root=str(self.dead))),
            clock=time.monotonic,
            sleep=asyncio.sleep,
            random=random.Random(seed).random,
            policy=delivery or DeliveryPolicy(backoff_base=0.02, backoff_max=0.2, timeout=5),
            **more,
        )
        runtime = Runtime(
            source,
            pipeline,
            clock=time.monotonic,
            policy=policy or RuntimePolicy(commit_interval=0.05, grace=5, tick=0.02),
            on_progress=on_progress,
        )
        self.traces.append(Trace(runtime, source, pipeline))
        return runtime

    # What came out

    @property
    def rows_expected(self) -> int:
        return sum(each.points - len(each.absent) for each in self.expected)

    async def landed(self) -> int:
        """Distinct rows that the Firehose has, all of them written out first."""
        await self.hose.flush()
        return len(self.store.ids)

    async def judge(self, *, duplicates: bool = False) -> Report:
        """The verdict. `duplicates` says whether the fault may make any."""
        await self.hose.flush()
        dead = self.dead if self.dead.is_dir() else None
        report = await asyncio.to_thread(verify, self.expected, self.store.root, dead)
        total = report.total
        assert report.ok, f"lost {report.lost} phantom {report.phantom} letters {report.letters_missing}"
        assert total.lost == total.phantom == total.letters_missing == total.in_error_prefix == 0
        assert total.landed == self.rows_expected, "a healthy row was dead-lettered"
        assert duplicates or total.duplicate == 0, f"{total.duplicate} duplicates where none may be"
        for trace in self.traces:
            trace.judge()
        return report


class Trace:
    """Listens to one run: what is committed was settled before, commits never go back, the counters add up."""

    def __init__(self, runtime, source, pipeline):
        self.wrong: list[str] = []
        self.commits = 0
        self._runtime, self._pipeline = runtime, pipeline
        self._open: dict[TopicPartition, list[int]] = {}  # heap of offsets in flight
        self._done: dict[TopicPartition, Counter] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._submit, self._commit = pipeline.submit, source.commit
        pipeline.submit, source.commit = self.submit, self.commit

    def submit(self, batch: Batch, settled, deadline=None):
        for record in batch.records:
            epoch = batch.epochs.get(record.tp, 0)
            if self._epochs.get(record.tp) != epoch:
                self._epochs[record.tp] = epoch
                self._open[record.tp], self._done[record.tp] = [], Counter()
            heappush(self._open[record.tp], record.offset)

        def watched(tp, epoch, offset, status):
            if self._epochs.get(tp) == epoch:
                self._done[tp][offset] += 1
            settled(tp, epoch, offset, status)
            self._balance()

        return self._submit(batch, watched, deadline)

    async def commit(self, offsets, /):
        for tp, offset in offsets.items():
            heap, done = self._open.get(tp, []), self._done.get(tp, Counter())
            while heap and done[heap[0]]:
                done[heappop(heap)] -= 1
            if heap and heap[0] < offset:
                self.wrong.append(f"commit {offset} of {tp}, but {heap[0]} is not settled")
            if offset < self._committed.get(tp, 0):
                self.wrong.append(f"commit {offset} of {tp} after {self._committed[tp]}")
        await self._commit(offsets)
        self.commits += 1
        for tp, offset in offsets.items():
            self._committed[tp] = max(offset, self._committed.get(tp, 0))

    def _balance(self):
        # Records of one write settle one by one, so that rows may be open in between: the records' counts never are.
        if not self._runtime.ledger.balanced:
            self.wrong.append("the ledger is not balanced")

    def judge(self):
        """Raise what was seen."""
        assert not self.wrong, self.wrong[:5]
        assert self._pipeline.balanced
        assert self._runtime.ledger.balanced


class LogSource:
    """A topic in memory for one run: hands out records from the committed offsets on, as fast as there is room."""

    def __init__(self, log, *, step=8, end=True, committed=None):
        self.on_revoke = None
        self.committed: dict[TopicPartition, int] = {} if committed is None else committed
        self.epoch = 1
        self.polls = 0
        self._log, self._step, self._end = list(log), step, end
        self._seek()

    def _seek(self):
        self._todo = deque(each for each in self._log if each.offset >= self.committed.get(each.tp, 0))

    @property
    def left(self) -> int:
        return len(self._todo)

    async def poll(self, room, /):
        self.polls += 1
        taken = []
        while self._todo and room > 0 and len(taken) < self._step:
            taken.append(self._todo.popleft())
            room -= len(taken[-1].value or b"")
        await asyncio.sleep(0 if taken else 0.01)
        return Batch(taken, {each.tp: self.epoch for each in taken}, end=self._end and not self._todo)

    async def commit(self, offsets, /):
        self.committed.update(offsets)

    async def close(self):
        pass
