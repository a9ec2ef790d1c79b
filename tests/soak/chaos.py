"""Kills, freezes and a Firehose that fails in every way it can, while a topic is read; then every landed byte is judged.

    .venv/bin/python tests/soak/chaos.py                      aiokafka, 26,000 records, 28 kills
    .venv/bin/python tests/soak/chaos.py --client confluent

Three members of a group (`lmstream run` as processes) read a topic while it is filled. SIGKILL falls at random moments,
some of them during a SIGTERM; SIGSTOP lasts up to four sessions. Of the Firehose's answers half are faults: refused
records, connections cut after the records were taken, throttling, 500, answers that never come, HTML, answers that are
too short. Ends with one JSON line, and exit 0 only when no row is lost or made up, each copy of a row has the bytes
and the path that the engine makes of its record, and each dead letter is there.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from lmstream.engine import Engine
from lmstream.errors import DecodeError
from lmstream.lab import Fault
from lmstream.model import Record
from lmstream.sources.kafka import read_range
from support.checking import SETTINGS, TOPIC
from support.cluster import SESSION, Cluster, Member

MEMBERS = 3
HANG = 30.0
"""Seconds until an answer that nobody waits for any more."""


class Faults(deque):
    """A fault, or none, drawn for each call."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__([Fault()])  # never empty, so that each call asks
        self._draw = draw
        self.calm = False
        self.drawn: Counter[str] = Counter()

    def popleft(self) -> Fault:
        if self.calm:
            return Fault()
        at = self._draw.random()
        for share, name, make in (
            (0.30, "partial", lambda: Fault.some(0.3, self._draw.randrange(10**9))),
            (0.05, "reset after taking", Fault.accept_then_reset),
            (0.06, "throttled", Fault.throttled),
            (0.05, "500", Fault.server_error),
            (0.03, "hang", lambda: Fault.slow(HANG)),
            (0.02, "html", Fault.html),
            (0.02, "short", Fault.short_answer),
        ):
            if at < share:
                self.drawn[name] += 1
                return make()
            at -= share
        self.drawn["good"] += 1
        return Fault()


class Chaos:
    """One run of it."""

    def __init__(self, cluster: Cluster, seed: int, client: str) -> None:
        self.cluster = cluster
        self.client = client
        self.draw = random.Random(seed)
        self.faults = Faults(random.Random(seed + 1))
        cluster.hose.faults = self.faults
        self.began = time.monotonic()
        self.done: Counter[str] = Counter()
        self.thawing: set[asyncio.Task] = set()

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", file=sys.stderr, flush=True)

    async def refill(self) -> list[Member]:
        """The members that are alive; as many as there should be."""
        for _ in range(MEMBERS - sum(m.alive for m in self.cluster.members)):
            await self.cluster.join("--set", f"source.type={self.client}")
        return [m for m in self.cluster.members if m.alive]

    async def strike(self) -> None:
        """Kill a member, at once or while it stops."""
        victim = self.draw.choice(await self.refill())
        if self.draw.random() < 0.3:
            victim.send(signal.SIGTERM)
            await asyncio.sleep(self.draw.uniform(0, 1.5))
            self.done["in a SIGTERM"] += 1
        await victim.kill()
        self.done["kills"] += 1

    async def freeze(self) -> None:
        """Stop a member's clock for up to four sessions; the others go on meanwhile."""
        victim = self.draw.choice(await self.refill())
        victim.send(signal.SIGSTOP)
        await asyncio.sleep(self.draw.uniform(1, 4 * SESSION))
        victim.send(signal.SIGCONT)
        self.done["freezes"] += 1

    async def storm(self, kills: int, seconds: float) -> None:
        """All of them, spread over some seconds."""
        for number in range(kills):
            await asyncio.sleep(seconds / kills * self.draw.uniform(0.5, 1.5))
            if self.draw.random() < 0.3:
                self.thawing.add(asyncio.create_task(self.freeze()))
            await self.strike()
            await self.refill()
            if not (number + 1) % 7:
                self.say(f"{number + 1} kills, {len(self.cluster.store.ids):,} rows landed")
        await asyncio.gather(*self.thawing)

    async def keep(self) -> None:
        """See to it that all members are there."""
        while True:
            await self.refill()
            await asyncio.sleep(1)

    async def run(self, records: int, kills: int, seconds: float) -> dict[str, object]:
        """All of it, and the verdict."""
        cluster = self.cluster
        await self.refill()
        cluster.watch(1.0)
        made = {"instances": 2, "devices": 2, "seed": self.draw.randrange(10**6)}
        await asyncio.gather(cluster.publish(records, rate=records / seconds, **made), self.storm(kills, seconds))
        self.faults.calm = True
        self.say(f"storm over: {dict(self.done)}; answers: {dict(self.faults.drawn)}")
        keeping = asyncio.create_task(self.keep())
        await cluster.expect_topic()
        await cluster.drained(300)
        keeping.cancel()
        await asyncio.wait({keeping})
        report = await cluster.finish(committed=False)
        return {
            "client": self.client,
            **self.done,
            "answers": dict(self.faults.drawn),
            "records": len(cluster.expected),
            "rows": report.total.landed,
            "lost": report.total.lost,
            "phantom": report.total.phantom,
            "duplicates": report.total.duplicate,
            **await self.bytes_judged(),
        }

    async def bytes_judged(self) -> dict[str, int]:
        """Each landed line, all copies of it, against what the engine makes of the topic again."""
        engine = Engine(SETTINGS)
        right: dict[bytes, str] = {}
        ranges = dict.fromkeys(range(self.cluster.partitions), (None, None))
        async for record in read_range(self.cluster.source_settings(request_timeout_ms=20_000), TOPIC, ranges):
            assert isinstance(record, Record)
            with contextlib.suppress(DecodeError):
                for group in engine.fan_out(record).groups:
                    right |= dict.fromkeys(group.data.splitlines(), group.path)
        wrong: Counter[str] = Counter(wrong_bytes=0, wrong_paths=0, copies=0)
        for file in self.cluster.store.root.rglob("*"):
            key = file.relative_to(self.cluster.store.root).as_posix()
            if not file.is_file() or key.startswith("errors/"):
                continue
            body = file.read_bytes()
            for line in (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).splitlines():
                wrong["copies"] += 1
                if (path := right.get(line)) is None:
                    wrong["wrong_bytes"] += 1
                elif not key.startswith(path):
                    wrong["wrong_paths"] += 1
        return dict(wrong)


async def chaos(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Run it; the figures."""
    async with Cluster(folder, partitions=6) as cluster, asyncio.timeout(arguments.seconds + 600):
        work = Chaos(cluster, arguments.seed, arguments.client)
        return await work.run(arguments.records, arguments.kills, arguments.seconds)


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=("kafka", "confluent"), default="kafka")
    parser.add_argument("--records", type=int, default=26_000)
    parser.add_argument("--kills", type=int, default=28)
    parser.add_argument("--seconds", type=float, default=240.0, help="length of the storm (default 240)")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("LMSTREAM_SEED") or time.time_ns() % 10**6))
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    arguments = parser.parse_args()
    os.environ.pop("LMSTREAM_SEED", None)  # no setting of lmstream
    folder = Path(tempfile.mkdtemp(prefix="lmstream-chaos-"))
    print(f"seed {arguments.seed}: LMSTREAM_SEED={arguments.seed} draws the same; folder {folder}", file=sys.stderr)
    try:
        told = asyncio.run(chaos(folder, arguments))
    except (AssertionError, TimeoutError) as e:
        traceback.print_exc()
        print(f"FAILED: {type(e).__name__}: {e}\nfolder kept: {folder}", file=sys.stderr)
        return 1
    print(json.dumps(told))
    failed = [name for name in ("lost", "phantom", "wrong_bytes", "wrong_paths") if told[name]]
    if failed:
        print(f"FAILED: {', '.join(failed)}\nfolder kept: {folder}", file=sys.stderr)
        return 1
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
