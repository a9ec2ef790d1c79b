"""Schedules of a consumer group in virtual time, every event drawn from one seed: members, rebalances, kills, zombies,
refusals.

Runtime, pipeline, engine and ledger are the real ones; sink and place of dead letters may be. A seed plays its schedule
again. `python -m lmstream.testing.schedules 60` plays schedules for so many seconds, and says how many a minute.
"""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from lmstream.delivery import DeliveryPolicy, Pipeline, RollPolicy
from lmstream.engine import Engine
from lmstream.interfaces import Limits
from lmstream.model import DeadLetter, Failure, Pack, Record, TopicPartition
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.settings import Settings
from lmstream.testing.samples import JUNK, SETTINGS, bundle, dimensions_of, lines_of, record
from lmstream.testing.virtual_time import SeededLoop, now, quiet, run
from lmstream.testing.weather import Burier, SimLetters, SimSink, SimSource, Taker

BAD: Final = bundle(3, bad=1)
VALUES: Final = (bundle(1), bundle(2), bundle(9, metrics=3), BAD, JUNK, None)
POLICY: Final = RuntimePolicy(
    commit_interval=0.3, commit_timeout=1, drain_timeout=2, grace=2, close_timeout=1, tick=0.3, progress_interval=100
)
DELIVERY: Final = DeliveryPolicy(timeout=1.5, backoff_base=0.05, backoff_max=1)
PACKS: Final = Limits(pack_bytes=3_000, pack_rows=5, request_packs=4, request_bytes=9_000)
OBJECTS: Final = Limits(pack_bytes=6_000, pack_rows=10, request_packs=1, request_bytes=6_000, by_path=True)


class BrokenError(AssertionError):
    """A promise that did not hold."""


class Ground:
    """Where rows and letters end up, and what takes them there: here, sets. Suites put real parts in its place."""

    settings: Settings = SETTINGS
    """Of the engine that makes the rows. With `dimensions`, the dimension rows that rows need are due with them."""

    def __init__(self) -> None:
        self._landed: set[bytes] = set()
        self._buried: set[str] = set()
        self.limits: Limits = PACKS

    def begin(self, draw: Random) -> None:
        """Choose what the seed has to choose."""
        self.limits = draw.choice([PACKS, OBJECTS])

    def taker(self) -> Taker:
        """The sink of a new member."""
        return self

    def burier(self) -> Burier:
        """The place of dead letters of a new member."""
        return self

    def landed(self) -> set[bytes]:
        """All lines that are durable."""
        return self._landed

    def buried(self) -> set[str]:
        """Coordinates of the records whose letter is durable."""
        return self._buried

    def take(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Land them."""
        for each in packs:
            self._landed.update(each.data.splitlines(keepends=True))
        return [None] * len(packs)

    def cut(self, packs: Sequence[Pack], steps: int, /) -> None:
        """Land as many as a process does that is killed meanwhile."""
        self.take(packs[:steps])

    def bury(self, letters: Sequence[DeadLetter], /) -> None:
        """Bury them."""
        self._buried.update(each.record().coordinates for each in letters)

    def close(self) -> None:
        """Nothing to close."""


class World:
    """Topic, group offsets, landed rows and dead letters: all that outlives a process. Judges each commit."""

    def __init__(self, seed: int, ground: Ground | None = None) -> None:
        self.draw: Random = Random(seed)
        self.ground: Ground = ground or Ground()
        self.ground.begin(self.draw)
        self.engine: Engine = Engine(self.ground.settings)
        self.events: list[str] = []
        """What happened, with its time: for the note of a schedule that failed."""
        self.log: dict[TopicPartition, list[Record]] = {
            TopicPartition("t", partition): self._partition(partition) for partition in range(self.draw.randint(1, 3))
        }
        self.lines: dict[str, list[bytes]] = {
            each.coordinates: [*lines_of(self.engine, each), *dimensions_of(self.engine, each)]
            for some in self.log.values()
            for each in some
        }
        self.committed: dict[TopicPartition, int] = {}
        self.generation: int = 0
        self.members: list[Member] = []
        self.broken: list[str] = []
        """Promises that did not hold."""
        self.stormy: bool = True
        self.outage_until: float = 0.0
        self._names = 0
        self._landed: set[bytes] = set()
        self._buried: set[str] = set()

    def _partition(self, partition: int) -> list[Record]:
        draw, offset, some = self.draw, 0, []
        for _ in range(draw.randint(0, 9)):
            some.append(record(offset, draw.choice(VALUES), partition=partition))
            offset += 1 if draw.random() < 0.8 else draw.randint(2, 9)  # gaps, as compaction leaves them
        return some

    def note(self, what: str) -> None:
        """Remember an event."""
        self.events.append(f"{now():.3f} {what}")

    @property
    def ends(self) -> dict[TopicPartition, int]:
        """Next offset of each partition that has records."""
        return {tp: some[-1].offset + 1 for tp, some in self.log.items() if some}

    def durable(self, each: Record) -> bool:
        """Whether all that is due to a record is durable."""
        if each.value is None:
            return True
        # A permanent refusal puts the whole record into its letter.
        if self._has_letter(each.coordinates):
            return True
        if each.value in (JUNK, BAD):
            return False
        lines = self.lines[each.coordinates]
        if not self._landed.issuperset(lines):
            self._landed = self.ground.landed()
        return self._landed.issuperset(lines)

    def _has_letter(self, coordinates: str) -> bool:
        if coordinates not in self._buried:
            self._buried = self.ground.buried()
        return coordinates in self._buried

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take a commit, and note what of it is not durable."""
        self.note(f"commit {sorted((tp.partition, n) for tp, n in offsets.items())}")
        for tp, offset in offsets.items():
            if offset < self.committed.get(tp, 0):
                self.broken.append(f"commit {offset} of {tp} after {self.committed[tp]}")
            for each in self.log[tp]:
                if self.committed.get(tp, 0) <= each.offset < offset and not self.durable(each):
                    self.broken.append(f"commit {offset} of {tp}, but {each.coordinates} is not durable")
            self.committed[tp] = offset

    def late(self, taker: Taker, packs: Sequence[Pack]) -> None:
        """A request of long ago arrives, perhaps of a member that is dead; nobody hears the answer."""
        self.note(f"a late request of {len(packs)} packs arrives")
        try:
            taker.take(packs)
        except Exception as error:  # noqa: BLE001 - whatever a sink raises: it was to nobody
            self.note(f"which raised {error!r}")

    def join(self) -> None:
        self.members.append(Member(self, self._names))
        self._names += 1

    def check(self) -> None:
        for member in self.members:
            member.check()

    async def rebalance(self) -> None:
        """Stop the world, as eager assignors do: all give up, then all are assigned anew in a new generation."""
        members = [m for m in self.members if m.alive]
        asked = {asyncio.ensure_future(m.source.give_up()): m for m in members}
        # The group does not wait for ever: who is late reads and commits on, fenced, until it has given up and joins.
        patience = 2.5 if self.draw.random() < 0.8 else 0.5
        done = (await asyncio.wait(asked, timeout=patience))[0] if asked else ()
        # A client that lost its place may also come back before what it had is settled.
        hasty = self.draw.random() < 0.3
        self.assign([m for each, m in asked.items() if (hasty or each in done) and m.alive])
        if late := [each for each in asked if each not in done]:
            await asyncio.wait(late)
            if not hasty:
                await self.rebalance()
        for each in asked:
            each.result()

    def assign(self, members: "list[Member]") -> None:
        self.generation += 1
        self.note(f"generation {self.generation} of {[m.name for m in members]}")
        tps = list(self.log)
        self.draw.shuffle(tps)
        for at, member in enumerate(members):
            member.source.assigned(tps[at :: len(members)], self.generation)


class Member:
    """One process: a real runtime over the world's source, sink and letters."""

    def __init__(self, world: World, name: int) -> None:
        self.alive = True
        self.name = name
        self.source = SimSource(world, self)
        self._world = world
        self.pipeline = Pipeline(
            world.engine,
            SimSink(world, self, world.ground.taker()),
            SimLetters(world, self, world.ground.burier()),
            clock=now,
            sleep=asyncio.sleep,
            random=world.draw.random,
            policy=DELIVERY,
            roll=RollPolicy(age=0.5),
            budget=world.draw.choice([20_000, 160_000, 4 * 10**6]),
        )

        def watched(*_: Any) -> None:
            if not self.runtime.ledger.balanced:
                world.broken.append("the ledger is not balanced")

        self.runtime = Runtime(self.source, self.pipeline, clock=now, policy=POLICY, on_settled=watched)
        self.task = asyncio.ensure_future(self.runtime.run())

    async def crash(self) -> None:
        """Die: from now on nothing it does has an effect outside; the tasks are only cleared away."""
        self.alive = False
        self._world.note(f"crash {self.name}")
        self.task.cancel()
        await asyncio.wait({self.task})

    async def stop(self) -> None:
        """SIGTERM."""
        self._world.note(f"stop {self.name}")
        self.runtime.stop()
        await asyncio.wait({self.task})
        self.alive = False
        self.check()

    def check(self) -> None:
        """Raise what went wrong inside."""
        if self._world.broken:
            raise BrokenError(self._world.broken[0])
        if self.task.done() and not self.task.cancelled() and self.task.exception() is not None:
            raise self.task.exception() or AssertionError
        if not self.pipeline.balanced:
            raise BrokenError("the counters are not balanced")


async def schedule(world: World) -> None:
    """A storm of events, then fair weather until all is committed; then everything must have landed."""
    await storm(world)
    await fair_weather(world)
    phantom = world.ground.landed().difference(*world.lines.values())
    if phantom:
        raise BrokenError(f"{len(phantom)} rows landed that no record has, the first is {min(phantom)[:200]!r}")
    for some in world.log.values():
        for each in some:
            if not world.durable(each):
                raise BrokenError(f"lost: {each.coordinates}")


async def storm(world: World) -> None:
    """Members come and go, partitions move, the sink fails: in an order and at times that the seed draws."""
    draw = world.draw
    for _ in range(draw.randint(1, 2)):
        world.join()
    await world.rebalance()
    for _ in range(draw.randint(0, 7)):
        await asyncio.sleep(draw.random() * 1.5)
        what = draw.choice(["outage", "rebalance", "join", "crash", "stop", "nothing"])
        world.note(what)
        world.check()
        if what == "outage":
            world.outage_until = now() + draw.random() * 4
        if what in {"outage", "nothing"}:
            continue
        if what == "join" and len(world.members) < 3:
            world.join()
        if what in {"crash", "stop"} and world.members:
            gone = world.members.pop(draw.randrange(len(world.members)))
            await (gone.crash() if what == "crash" else gone.stop())
        await world.rebalance()


async def fair_weather(world: World) -> None:
    """Nothing fails any more: whoever is left commits everything, soon, and stops."""
    world.stormy, world.outage_until = False, 0.0
    if not world.members:
        world.join()
    await world.rebalance()
    until = now() + 120
    while world.committed != world.ends:
        world.check()
        if now() > until:
            left = sorted((tp.partition, world.committed.get(tp, 0), end) for tp, end in world.ends.items())
            raise BrokenError(f"after 120 s of fair weather not all is committed: (partition, committed, end) {left}")
        await asyncio.sleep(0.2)
    for member in world.members:
        await member.stop()


def play(seed: int, ground: Ground | None = None) -> World:
    """Play the schedule of a seed; whatever is wrong is raised, with the seed."""
    world = World(seed, ground)
    try:
        with quiet():
            run(schedule(world), lambda: SeededLoop(seed))
    except BaseException as e:
        e.add_note(f"LMSTREAM_SEED={seed} replays this schedule; its events: " + "; ".join(world.events[-40:]))
        raise
    return world


def main() -> None:
    """Play schedules for some seconds, from a seed on."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began, played = time.process_time(), 0
    while (took := time.process_time() - began) < seconds:
        play(first + played)
        played += 1
    sys.stdout.write(f"{played} schedules in {took:.1f} s of one core: {played / took * 60:,.0f} a minute\n")


if __name__ == "__main__":
    main()
