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
import contextlib
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

from faults.cluster import Cluster
from lmstream.lab import Fault, Quota

MIB = 1 << 20
BUDGET = 16 * MIB
"""Byte budget of each member in the short form, so that a short outage fills it; the long form has the default."""
OUTSIDE = 40 * MIB
"""What no budget counts: the engine's caches (32 MiB) and what the client fetches ahead (1 MiB of each partition)."""
FACTOR = 2.5
"""Resident memory above the quiet process and OUTSIDE may be this many budgets."""
RECOVERY = 30.0
"""Seconds after the outage within which the rate must be back..."""
BURST_BUNDLE = 60_000
"""Bytes of a bundle in a burst, about."""
SHARE = 0.8
"""...to this share of what it was before."""
WINDOW = 4.0
"""Seconds over which a rate is taken."""
LINES = 3.2
"""Bytes of lines that a byte of the bursts' payload becomes, about: how long a backlog lasts at the quota."""


class Weather(deque):
    """Faults of the Firehose, drawn for each call while there is a storm."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__([Fault()])  # never empty, so that each call asks
        self._draw = draw
        self.stormy = False

    def popleft(self) -> Fault:
        if not self.stormy:
            return Fault()
        what = self._draw.random()
        if what < 0.30:
            return Fault.some(0.3, self._draw.randrange(10**9))
        if what < 0.40:
            return Fault.unavailable()
        if what < 0.42:
            return Fault.accept_then_reset()
        if what < 0.44:
            return self._draw.choice([Fault.html(), Fault.short_answer(), Fault.reset(), Fault.server_error()])
        return Fault.slow(0.3) if what < 0.46 else Fault()


def resident(pid: int) -> int:
    """Bytes of resident memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


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
        self.began = time.monotonic()
        self.told: dict[str, object] = {"seed": seed}
        self.publishing: asyncio.Task | None = None

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

    async def kill_one(self) -> None:
        """SIGKILL a member, and start another."""
        alive = [m for m in self.cluster.members if m.alive]
        victim = self.draw.choice(alive)
        await victim.kill()
        # Two again: one that starts while the Firehose does not answer its first question ends, for its host to restart.
        for _ in range(2 - sum(m.alive for m in self.cluster.members)):
            await self.cluster.join("--set", f"run.budget_bytes={self.budget}")

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
                extra = await self.cluster.join("--set", f"run.budget_bytes={self.budget}")
                await asyncio.sleep(gap * 0.3)
                assert await extra.stop() == 0, extra.said()
                joined += 1
            await self.kill_one()
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
        for _ in range(2 - sum(m.alive for m in self.cluster.members)):
            await self.cluster.join("--set", f"run.budget_bytes={self.budget}")
        taken = self.quota.allowed
        async with asyncio.timeout(90):
            while self.quota.allowed < taken + MIB // 4:  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.2)

    async def burst(self, size: int) -> None:
        """Publish so many bytes as fast as the broker takes them."""
        await self.cluster.publish(size // BURST_BUNDLE, instances=40, seed=self.draw.randrange(10**6))

    async def outages(self) -> None:
        """Let the Firehose be away while more than the budgets hold is published; then see the rate come back."""
        baseline = max((size for at, size in self.rss if at > time.monotonic() - 5), default=0)
        burst = asyncio.create_task(self.burst(self.budget))
        full, _ = await self.best_rate(15)
        assert full > 0, "nothing arrives before the outage"
        await burst
        began = time.monotonic()
        self.cluster.hose.outage = True
        self.say(
            f"outage begins; full rate {full / MIB:.2f} MiB/s; {baseline / MIB:.0f} MiB resident when it was quiet"
        )
        burst = asyncio.create_task(self.burst(3 * self.budget))
        await asyncio.sleep(self.outage)
        await burst
        self.cluster.hose.outage = False
        self.say("outage ends")
        after, seconds = await self.best_rate(RECOVERY, SHARE * full)
        peak = max(size for at, size in self.rss if at >= began)
        bound = baseline + OUTSIDE + FACTOR * self.budget
        self.told |= {
            "outage_seconds": round(self.outage),
            "full_mib_a_second": round(full / MIB, 2),
            "after_mib_a_second": round(after / MIB, 2),
            "recovered_seconds": round(seconds, 1),
            "budget_mib": self.budget // MIB,
            "baseline_mib": round(baseline / MIB),
            "outage_peak_mib": round(peak / MIB),
            "bound_mib": round(bound / MIB),
        }
        self.say(f"back to {after / MIB:.2f} MiB/s after {seconds:.0f} s; peak {peak / MIB:.0f} MiB resident")
        assert after >= SHARE * full, (
            f"{after / MIB:.2f} MiB/s {RECOVERY:g} s after the outage, {full / MIB:.2f} before"
        )
        assert peak <= bound, f"{peak / MIB:.0f} MiB resident, the bound is {bound / MIB:.0f}"

    async def run(self, rate: float) -> None:
        """All phases, and the verdict."""
        cluster = self.cluster
        for _ in range(2):
            await cluster.join("--set", f"run.budget_bytes={self.budget}")
        cluster.watch(1.0)
        sampling = asyncio.create_task(self.sample())
        publishing = asyncio.create_task(self.publish(rate))
        try:
            await asyncio.sleep(6)
            await self.storms()
            await self.settled()
            await self.outages()
        finally:
            publishing.cancel()
            await asyncio.wait({publishing})
            sampling.cancel()
            await asyncio.wait({sampling})
        await cluster.expect_topic()
        self.say(f"{len(cluster.expected):,} bundles in the topic; waiting for the last rows")
        left = 4 * LINES * self.budget / self.quota.bytes
        report = await cluster.finish(seconds=90 + 2 * left, committed=False)  # a last commit may fail in this weather
        sizes = [size for _, size in self.rss]
        step = max(1, len(sizes) // 20)
        self.told |= {
            "bundles": report.total.bundles,
            "landed": report.total.landed,
            "lost": report.total.lost,
            "phantom": report.total.phantom,
            "duplicates": report.total.duplicate,
            "rss_mib": [round(size / MIB) for size in sizes[::step]],
        }


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
        async with asyncio.timeout(storm + outage + (900 if budget > BUDGET else 400)):
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
