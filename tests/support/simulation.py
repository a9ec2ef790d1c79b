"""A consumer group in virtual time, every event drawn from one seed: members, rebalances, crashes, a sink with moods.

The runtime, pipeline, delivery and ledger are the real ones. `.venv/bin/python tests/support/simulation.py 60` plays
schedules for so many seconds and says how many a minute.
"""

import asyncio
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from lmstream.delivery import DeliveryPolicy, Pipeline, RollPolicy
from lmstream.interfaces import Batch
from lmstream.model import TopicPartition
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import DOWN, LIMITS, SeededLoop, now, run
from support.doubles import MISSING, OBJECTS, REFUSED, THROTTLED, ToyEngine, bundle, lines_of, record

BAD = bundle(3, bad=1)
VALUES = (bundle(1), bundle(2), bundle(9, paths=3), BAD, b"junk", None)
POLICY = RuntimePolicy(
    commit_interval=0.3, commit_timeout=1, drain_timeout=2, grace=2, close_timeout=1, tick=0.3, progress_interval=100
)
DELIVERY = DeliveryPolicy(timeout=1.5, backoff_base=0.05, backoff_max=1)


class BrokenError(AssertionError):
    """A promise that did not hold."""


class World:
    """Topic, group offsets, landed rows and dead letters: all that outlives a process. Judges each commit."""

    def __init__(self, seed: int) -> None:
        self.draw = draw = Random(seed)
        self.events: list[str] = []
        partitions = draw.randint(1, 3)
        self.log: dict[TopicPartition, list[Any]] = {}
        for partition in range(partitions):
            offset, some = 0, []
            for _ in range(draw.randint(0, 9)):
                some.append(record(offset, draw.choice(VALUES), partition=partition))
                offset += 1 if draw.random() < 0.8 else draw.randint(2, 9)  # gaps, as compaction leaves them
            self.log[TopicPartition("t", partition)] = some
        self.limits = draw.choice([LIMITS, OBJECTS])
        self.committed: dict[TopicPartition, int] = {}
        self.landed: set[bytes] = set()
        self.buried: set[str] = set()
        self.generation = 0
        self.members: list[Member] = []
        self._names = 0
        self.broken: list[str] = []
        self.stormy = True
        self.outage_until = 0.0

    def note(self, what: str) -> None:
        self.events.append(f"{now():.3f} {what}")

    @property
    def ends(self) -> dict[TopicPartition, int]:
        return {tp: some[-1].offset + 1 for tp, some in self.log.items() if some}

    def durable(self, each: Any) -> bool:
        if each.value is None:
            return True
        if each.value == b"junk":
            return each.coordinates in self.buried
        # A permanent refusal puts the whole record into its letter.
        landed = all(line in self.landed for line in lines_of(each))
        return each.coordinates in self.buried or (landed and each.value != BAD)

    def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.note(f"commit {sorted((tp.partition, n) for tp, n in offsets.items())}")
        for tp, offset in offsets.items():
            if offset < self.committed.get(tp, 0):
                self.broken.append(f"commit {offset} of {tp} after {self.committed[tp]}")
            for each in self.log[tp]:
                if self.committed.get(tp, 0) <= each.offset < offset and not self.durable(each):
                    self.broken.append(f"commit {offset} of {tp}, but {each.coordinates} is not durable")
            self.committed[tp] = offset

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


class SimSource:
    """A member's view of the topic; its commits are fenced by the generation, as brokers fence them."""

    def __init__(self, world: World, member: "Member") -> None:
        self.on_revoke: Any = None
        self.owned: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}
        self._world, self._member = world, member
        self._generation = -1
        self._giving = False

    async def give_up(self) -> None:
        self._giving = True
        mine = list(self.owned)
        generation = self._generation
        if mine and self.on_revoke is not None:
            await self.on_revoke(mine)
        if generation == self._generation:
            self.owned = {}

    def assigned(self, tps: Any, generation: int) -> None:
        self._generation = generation
        self.owned = dict.fromkeys(tps, generation)
        self.positions = {tp: self._world.committed.get(tp, 0) for tp in tps}
        self.committed = dict(self.positions)
        self._giving = False

    async def poll(self, room: int, /) -> Batch:
        world, draw = self._world, self._world.draw
        await asyncio.sleep(draw.choice([0.01, 0.1, 0.3]))
        if room <= 0 or self._giving or not self._member.alive:
            return Batch([])
        taken = []
        # A member that missed a rebalance reads on in what it believes to own: its commits are refused then.
        for tp in self.owned:
            some = [each for each in world.log[tp] if each.offset >= self.positions[tp]][: draw.randint(1, 4)]
            if some:
                self.positions[tp] = some[-1].offset + 1
                taken += some
        return Batch(taken, {each.tp: self.owned[each.tp] for each in taken})

    async def commit(self, offsets: Any, /) -> None:
        draw = self._world.draw
        mood = draw.random() if self._world.stormy else 1.0
        before = self._generation
        await asyncio.sleep(draw.choice([0.001, 0.05]))
        if mood < 0.1:
            raise OSError("coordinator is loading")
        if mood < 0.15:
            await asyncio.sleep(10**6)
        alive = self._member.alive and before == self._generation == self._world.generation
        if not alive or not offsets.keys() <= self.owned.keys():
            raise OSError("IllegalGeneration")
        # As the Kafka sources do: what is committed further is not committed again.
        further = {tp: n for tp, n in offsets.items() if n > self.committed.get(tp, -1)}
        self.committed |= further
        self._world.commit(further)
        if mood < 0.2:
            raise OSError("taken, but the answer was lost")

    async def close(self) -> None:
        await asyncio.sleep(0.01)


class SimSink:
    """Lands rows in the world, or not, or says so or not."""

    def __init__(self, world: World, member: "Member") -> None:
        self.limits = world.limits
        self._world, self._member = world, member

    async def write(self, packs: Any, /) -> Any:
        world, draw = self._world, self._world.draw
        await asyncio.sleep(draw.choice([0.001, 0.02, 0.2, 1.0]))
        if not self._member.alive:
            raise ConnectionResetError
        if now() < world.outage_until:
            return [draw.choice([DOWN, THROTTLED, MISSING])] * len(packs)
        mood = draw.random() if world.stormy else 1.0
        if mood < 0.1:
            raise ConnectionResetError("before anything was taken")
        if mood < 0.15:
            await asyncio.sleep(10**6)
        refuse = [draw.random() < 0.3 for _ in packs] if mood < 0.4 else [False] * len(packs)
        for each, no in zip(packs, refuse, strict=True):
            if not no:
                world.landed.update(each.data.splitlines(keepends=True))
        if mood > 0.97 and world.stormy:
            raise ConnectionResetError("after everything was taken")
        if 0.94 < mood <= 0.97:
            return [None] * (len(packs) - 1)
        failure = REFUSED if mood < 0.02 else draw.choice([DOWN, THROTTLED])
        return [failure if no else None for no in refuse]

    async def close(self) -> None:
        await asyncio.sleep(0.01)


class SimLetters:
    """Keeps dead letters in the world, when it can."""

    largest = sys.maxsize

    def __init__(self, world: World, member: "Member") -> None:
        self._world, self._member = world, member

    async def write(self, letters: Any, /) -> None:
        await asyncio.sleep(0.01)
        if not self._member.alive or (self._world.stormy and self._world.draw.random() < 0.3):
            raise OSError(28, "No space left on device")
        self._world.buried.update(each.record().coordinates for each in letters)

    async def close(self) -> None:
        await asyncio.sleep(0.01)


class Member:
    """One process: a real runtime over the world's source, sink and letters."""

    def __init__(self, world: World, name: int) -> None:
        self.alive = True
        self.name = name
        self.source = SimSource(world, self)
        self._world = world
        self.pipeline = Pipeline(
            ToyEngine(),  # type: ignore[arg-type]
            SimSink(world, self),
            SimLetters(world, self),
            clock=now,
            sleep=asyncio.sleep,
            random=world.draw.random,
            policy=DELIVERY,
            roll=RollPolicy(age=0.5),
            budget=world.draw.choice([5_000, 40_000, 10**6]),
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
    lines = {line for some in world.log.values() for each in some for line in lines_of_good(each)}
    if phantom := world.landed - lines:
        raise BrokenError(f"phantom rows: {phantom}")
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
    async with asyncio.timeout(120):
        while world.committed != world.ends:
            world.check()
            await asyncio.sleep(0.2)
    for member in world.members:
        await member.stop()


def lines_of_good(each: Any) -> list[bytes]:
    return [] if each.value == b"junk" else lines_of(each)


def play(seed: int) -> World:
    """Play the schedule of a seed; whatever is wrong is raised, with the seed."""
    world = World(seed)
    try:
        run(schedule(world), lambda: SeededLoop(seed))
    except BaseException as e:
        e.add_note(f"LMSTREAM_SEED={seed} replays this schedule; its events: " + "; ".join(world.events[-40:]))
        raise
    return world


def main() -> None:
    """Play schedules for some seconds, from a seed on."""
    import logging

    logging.disable(logging.CRITICAL)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began, played = time.process_time(), 0
    while (took := time.process_time() - began) < seconds:
        play(first + played)
        played += 1
    print(f"{played} schedules in {took:.1f} s of one core: {played / took * 60:,.0f} a minute")


if __name__ == "__main__":
    main()
