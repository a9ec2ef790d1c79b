"""Everything at once for minutes: kills, rebalances, partial failures, throttling, cut connections, and an outage.

    .venv/bin/python tests/soak/soak.py --minutes 2
    .venv/bin/python tests/soak/soak.py --long          50 kills, an outage of ten minutes

Two members of a group (`lmstream run` as processes) read from a broker behind a bad network and write to a Firehose
that fails and has the service's quota: full rate is what that allows, so that the verdict is about lmstream and not
about how busy the machine is. Ends with one JSON line and exit 0 only when nothing is lost or made up, no commit was ahead of what is
durable, memory stayed within its bound and the rate came back after the outage.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import deque
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from weather import Weather, resident

from lmstream.delivery.memory_budget import BUDGET as DEFAULT
from lmstream.errors import LmstreamError
from lmstream.hosts.container.signals import AGAIN
from lmstream.lab import Quota
from support.cluster import Cluster, Member

MIB = 1 << 20
BUDGET = 16 * MIB
"""Byte budget of each member in the short form, so that a short outage fills it; the long form has the default."""
FACTOR = 2.5
"""Resident memory of a member may be this many budgets, all of the process, when the budget is the default or more. With
less it may be this many above the quiet process, of which libraries and interpreter alone are more than that."""
RECOVERY = 30.0
"""Seconds after the outage within which the rate must be back..."""
BURST_BUNDLE = 60_000
"""Bytes of a bundle in a burst, about."""
SHARE = 0.8
"""...to this share of what it was before."""
WINDOW = 4.0
"""Seconds over which a rate is taken."""
ROW = 800
"""Bytes of a row, about: how long a backlog lasts at the quota."""


class Soak:
    """One run of it, in phases of stated length."""

    def __init__(self, cluster: Cluster, seed: int, *, storm: float, outage: float, kills: int, budget: int) -> None:
        self.cluster = cluster
        self.budget = budget
        self.draw = random.Random(seed)
        self.storm, self.outage, self.kills = storm, outage, kills
        self.weather = Weather(random.Random(seed + 1))
        cluster.hose.faults = self.weather
        cluster.hose.quota = self.quota = Quota()
        self.rss: list[tuple[float, int]] = []
        self.began = self.away_at = time.monotonic()
        self.baseline = 0
        self.told: dict[str, object] = {"seed": seed}

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", file=sys.stderr, flush=True)

    async def sample(self) -> None:
        """Look at the members' memory once a second."""
        while True:
            sizes = [resident(m.process.pid) for m in self.cluster.members if m.alive]
            if sizes:
                self.rss.append((time.monotonic(), max(sizes)))
            await asyncio.sleep(1)

    async def publish(self, rate: float) -> None:
        """Publish in bursts until cancelled. A bad network may make the producer send twice: the topic then tells."""
        for seed in range(10**6):
            try:
                await self.cluster.publish(int(rate * 2), rate=rate, seed=seed, instances=4)
            except Exception as e:  # noqa: BLE001 - the network is bad on purpose; what was acknowledged is in the log
                self.say(f"publisher: {type(e).__name__}")
                await asyncio.sleep(0.5)

    async def two(self) -> list[Member]:
        """The members that are alive, two at least: one that starts while broker or Firehose do not answer its first
        question ends, for its host to start again, and here that is we."""
        for _ in range(2 - sum(m.alive for m in self.cluster.members)):
            await self.join()
        return [m for m in self.cluster.members if m.alive]

    async def join(self) -> Member:
        # The embedded broker knows no bound for a partition: each may have a whole fetch waiting. Apache Kafka keeps to 1 MiB.
        return await self.cluster.join("--set", f"run.budget_bytes={self.budget}", "--set", f"source.fetch_bytes={MIB}")

    async def keep_two(self) -> None:
        """See to it that there are two members, every other second."""
        while True:
            await self.two()
            await asyncio.sleep(2)

    async def storms(self) -> None:
        """Kills, rebalances and cut connections at random moments, while the Firehose fails."""
        self.weather.stormy = True
        gap = self.storm / (self.kills + 1)
        killed = joined = cuts = 0
        for _ in range(self.kills):
            await asyncio.sleep(gap * self.draw.uniform(0.4, 1.0))
            if self.draw.random() < 0.4:
                cuts += await self.cluster.net.reset_all()
            if self.draw.random() < 0.35:
                extra = await self.join()
                await asyncio.sleep(gap * 0.3)
                # 75: the Firehose failed for longer than the grace; what is left comes again.
                assert await extra.stop() in {0, AGAIN}, extra.said()
                self.cluster.members.remove(extra)
                joined += 1
            await self.draw.choice(await self.two()).kill()
            await self.two()
            killed += 1
        self.weather.stormy = False
        self.told |= {"kills": killed, "joined_and_left": joined, "connections_cut": cuts}
        self.say(f"storm over: {killed} kills, {joined} members came and went, {cuts} connections cut")

    async def best_rate(self, seconds: float, enough: float = float("inf")) -> tuple[float, float]:
        """The best bytes a second that the Firehose took over a window within `seconds`, and after how many seconds;
        ends as soon as it is `enough`."""
        began, best, after = time.monotonic(), 0.0, 0.0
        seen = deque([(began, self.quota.allowed)])
        while time.monotonic() - began < seconds and best < enough:
            await asyncio.sleep(0.5)
            now, taken = time.monotonic(), self.quota.allowed
            seen.append((now, taken))
            while now - seen[0][0] > WINDOW + 0.6:
                seen.popleft()
            if now - seen[0][0] >= WINDOW and (rate := (taken - seen[0][1]) / (now - seen[0][0])) > best:
                best, after = rate, now - began
        return best, after

    async def settled(self) -> None:
        """Wait for the last takeover: two members, and rows that arrive again."""
        await asyncio.sleep(8)
        taken = self.quota.allowed
        async with asyncio.timeout(90):
            while self.quota.allowed < taken + MIB // 4:  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.2)

    async def burst(self, size: int) -> None:
        """Publish so many bytes as fast as the broker takes them; again what a busy one did not acknowledge in time."""
        left = size // BURST_BUNDLE
        for _ in range(20):
            before = len(self.cluster.expected)
            try:
                return await self.cluster.publish(left, instances=40, seed=self.draw.randrange(10**6))
            except Exception as e:  # noqa: BLE001 - as in `publish`
                self.say(f"burst: {type(e).__name__}: {e}")
                left -= min(left, len(self.cluster.expected) - before)
                await asyncio.sleep(1)
        raise AssertionError("the broker does not take the burst")

    async def outages(self) -> None:
        """Let the Firehose be away while more than the budgets hold is published; then see the rate come back."""
        self.baseline = max((size for at, size in self.rss if at > time.monotonic() - 5), default=0)
        burst = asyncio.create_task(self.burst(self.budget))
        full = 0.0
        for _ in range(8):  # on a busy machine the broker may have to recover from the storm first
            full = max(full, (await self.best_rate(15))[0])
            if full >= SHARE * self.quota.bytes:
                break
        assert full > 0, "nothing arrives before the outage"
        await burst
        self.away_at = time.monotonic()
        self.cluster.hose.outage = True
        self.say(f"outage begins; full rate {full / MIB:.2f} MiB/s; {self.baseline / MIB:.0f} MiB when it was quiet")
        burst = asyncio.create_task(self.burst(3 * self.budget))
        await asyncio.sleep(self.outage)
        await burst
        self.cluster.hose.outage = False
        self.say("outage ends")
        after, seconds = await self.best_rate(RECOVERY, SHARE * full)
        self.told |= {
            "outage_seconds": round(self.outage),
            "full_mib_a_second": round(full / MIB, 2),
            "after_mib_a_second": round(after / MIB, 2),
            "recovered_seconds": round(seconds, 1),
        }
        self.say(f"back to {after / MIB:.2f} MiB/s after {seconds:.0f} s")
        assert after >= SHARE * full, (
            f"{after / MIB:.2f} MiB/s {RECOVERY:g} s after the outage, {full / MIB:.2f} before"
        )

    def remember(self) -> None:
        """The most memory a member had from the outage on, also while it made good what had waited."""
        peak = max(size for at, size in self.rss if at >= self.away_at)
        bound = FACTOR * self.budget + (0 if self.budget >= DEFAULT else self.baseline)
        step = max(1, len(self.rss) // 20)
        self.told |= {
            "budget_mib": self.budget // MIB,
            "baseline_mib": round(self.baseline / MIB),
            "outage_peak_mib": round(peak / MIB),
            "bound_mib": round(bound / MIB),
            "rss_mib": [round(size / MIB) for _, size in self.rss[::step]],
        }
        self.say(f"peak {peak / MIB:.0f} MiB resident from the outage on, the bound is {bound / MIB:.0f}")
        assert peak <= bound, f"{peak / MIB:.0f} MiB resident, the bound is {bound / MIB:.0f}"

    async def topic(self) -> None:
        """Expect what the topic holds; a broker that is busy is asked again."""
        for _ in range(5):
            try:
                return await self.cluster.expect_topic()
            except LmstreamError as e:
                self.say(f"reading the topic: {e}")
                await asyncio.sleep(2)
        raise AssertionError("the topic cannot be read")

    async def run(self, rate: float) -> None:
        """All phases, and the verdict."""
        cluster = self.cluster
        await self.two()
        cluster.watch(1.0)
        sampling = asyncio.create_task(self.sample())
        publishing = asyncio.create_task(self.publish(rate))
        keeping = None
        try:
            await asyncio.sleep(6)
            await self.storms()
            keeping = asyncio.create_task(self.keep_two())
            await self.settled()
            await self.outages()
            await end(publishing)
            await self.topic()
            missing = cluster.rows_expected - await cluster.landed()
            self.say(f"{len(cluster.expected):,} bundles in the topic; waiting for {missing:,} rows")
            await end(keeping)
            await cluster.drained(90 + 3 * missing * ROW / self.quota.bytes)
            self.remember()
        finally:
            for task in (publishing, sampling, keeping):
                if task is not None:
                    await end(task)
        report = await cluster.finish(committed=False)  # a last commit may fail in this weather
        self.told |= {
            "bundles": report.total.bundles,
            "landed": report.total.landed,
            "lost": report.total.lost,
            "phantom": report.total.phantom,
            "duplicates": report.total.duplicate,
        }


async def end(task: asyncio.Task) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait({task})


async def soak(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Run it; the figures."""
    seconds = arguments.minutes * 60
    kills = 50 if arguments.long else max(3, int(seconds / 12))
    storm = 50 * 6.0 if arguments.long else seconds * 0.45
    budget = arguments.budget_mib * MIB if arguments.budget_mib else 64 * MIB if arguments.long else BUDGET
    outage = arguments.outage or (600.0 if arguments.long else seconds * 0.2)
    # In a storm the Firehose's rows of one bundle wait for no clock: the checker asks for them.
    async with Cluster(folder, partitions=4) as cluster:
        work = Soak(cluster, arguments.seed, storm=storm, outage=outage, kills=kills, budget=budget)
        async with asyncio.timeout(storm + outage + (1500 if budget > BUDGET else 400)):
            await work.run(arguments.rate)
        return work.told


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="length, about (default 2)")
    parser.add_argument("--long", action="store_true", help="50 kills and an outage of ten minutes")
    parser.add_argument(
        "--outage", type=float, default=0.0, help="seconds without the Firehose (default: by the length)"
    )
    parser.add_argument("--budget-mib", type=int, default=0, help="byte budget of a member (default 16, long 64)")
    parser.add_argument("--rate", type=float, default=60.0, help="bundles published a second (default 60)")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("LMSTREAM_SEED") or time.time_ns() % 10**6))
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    arguments = parser.parse_args()
    os.environ.pop("LMSTREAM_SEED", None)  # no setting of lmstream
    folder = Path(tempfile.mkdtemp(prefix="lmstream-soak-"))
    print(f"seed {arguments.seed}: LMSTREAM_SEED={arguments.seed} draws the same; folder {folder}", file=sys.stderr)
    try:
        told = asyncio.run(soak(folder, arguments))
    except (AssertionError, TimeoutError) as e:
        traceback.print_exc()
        print(f"FAILED: {type(e).__name__}: {e}\nfolder kept: {folder}", file=sys.stderr)
        return 1
    print(json.dumps(told))
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
