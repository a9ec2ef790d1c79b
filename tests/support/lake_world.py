"""A group that lands a lake, in virtual time, every event drawn from one seed: members, kills, members that sleep.

Runtime, pipeline, outlet, claims and ledger are the real ones. `.venv/bin/python tests/support/lake_world.py 60` plays
schedules for so many seconds and says how many a minute.
"""

import asyncio
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.errors import SinkError
from lmstream.interfaces import Assigned, Batch
from lmstream.lake import Claim, Claims, LakeOutlet, Layout, WindowPolicy
from lmstream.lake.claims import name
from lmstream.lake.division import Division, lane_name
from lmstream.lake.formats import Lines
from lmstream.lake.requests import Requests
from lmstream.model import TopicPartition
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.settings import Settings
from lmstream.testing import SeededLoop, now, run
from support.doubles import ToyEngine, bundle, lines_of, record
from support.lake_dimensions import is_dimension, keyed, of_rows, orphans
from support.scripted_store import CALM, Moods, ScriptedStore

BAD = bundle(3, bad=1)
VALUES = (bundle(1), bundle(2), bundle(9, paths=3), bundle(0, skipped=1), BAD, bundle(2, parts=1), b"junk", None)
POLICY = RuntimePolicy(
    commit_interval=0.3, commit_timeout=1, drain_timeout=3, grace=3, close_timeout=1, tick=0.3, progress_interval=100
)
DELIVERY = DeliveryPolicy(timeout=1.5, backoff_base=0.05, backoff_max=1)
EVENTS = ["rebalance", "join", "crash", "crash", "freeze", "wake", "stop", "reset", "retention", "grow", "nothing"]
LAYOUTS = [Layout.of(Settings(org_id=org), "gzip") for org in ("one", "two")]


class BrokenError(AssertionError):
    """A promise that did not hold."""


class LaidOutEngine(ToyEngine):
    """Its paths depend on the settings."""

    def __init__(self, layout: Layout) -> None:
        self.settings = layout.settings

    def fan_out(self, each: Any) -> Any:
        out = super().fan_out(each)
        out.paths = [f"{self.settings.org_id}/{path}" for path in out.paths]
        if self.settings.dimensions:
            out.dimensions = of_rows(out, self.settings.org_id)
        return out


class World:
    """Topic, offsets of the group, objects and dead letters: all that is there when no process is."""

    together = False
    """Whether verbs put objects together."""

    def __init__(self, seed: int, *, resets: bool = True, dimensions: bool = False) -> None:
        self.draw = draw = Random(seed)
        self.events: list[str] = []
        self.log: dict[TopicPartition, list[Any]] = {}
        self.lanes: int | None = draw.choice([None, 1, 2])
        self.division = Division(lanes=self.lanes)
        """What members that are told so have: the newest."""
        self.ends: dict[TopicPartition, int] = {}
        self.begins: dict[TopicPartition, int] = {}
        for _ in range(draw.randint(1, 4)):
            self.grow()
        self.resets = resets
        self.divides = draw.random() < 0.5
        self.layouts = [keyed(each) for each in LAYOUTS] if dimensions else LAYOUTS
        self.skipped: dict[TopicPartition, list[tuple[int, int]]] = {}
        self.buried: dict[str, set[int | None]] = {}
        self.groups = [Group(self, n) for n in range(draw.choice([1, 1, 2]))]
        self.sleepers: list[Member] = []
        self.names = 0
        self.broken: list[str] = []
        self.stormy = True
        self.store = ScriptedStore(draw, moods=Moods(slowest=draw.choice([0.05, 0.3, 1.0])))
        self.halves = 0
        """Windows whose dimension rows were there, and not all of their rows, when a member died."""
        if dimensions:
            self.store.told = self.put

    def grow(self) -> None:
        """Partitions are added to a topic."""
        draw, partition = self.draw, len(self.log)
        offset, some = draw.choice([0, 0, 7]), []
        for _ in range(draw.randint(0, 12)):
            some.append(record(offset, draw.choice(VALUES), partition=partition))
            offset += 1 if draw.random() < 0.8 else draw.randint(2, 9)  # gaps, as compaction leaves them
        tp = TopicPartition("t", partition)
        self.log[tp], self.ends[tp], self.begins[tp] = some, some[-1].offset + 1 if some else 0, 0

    def divide(self) -> None:
        """An operator sets another number of lanes."""
        number = self.division.number + 1
        self.division = Division(lanes=self.draw.choice([None, 1, 2, 3]), number=number)
        self.note(f"division {number}: {self.division.divided}")

    def units(self, division: Division) -> list[list[TopicPartition]]:
        """What is assigned whole."""
        lanes: dict[str, list[TopicPartition]] = {}
        for tp in self.log:
            lanes.setdefault(division.lane_of(tp), []).append(tp)
        return list(lanes.values())

    def kept(self, tp: TopicPartition) -> int:
        """The first offset that can be read beside any group."""
        return self.begins[tp]

    async def read(self, topic: str, ranges: Any) -> Any:
        """Records that the topic still has, beside any group."""
        for tp, some in self.log.items():
            for each in some if tp.topic == topic else ():
                start, end = ranges.get(tp.partition, (0, 0))
                if max(start, self.kept(tp)) <= each.offset < end:
                    await asyncio.sleep(0)
                    yield each

    def note(self, what: str) -> None:
        self.events.append(f"{now():.3f} {what}")

    def rows(self) -> Counter[bytes]:
        """Each row as often as it lies in an object."""
        found: Counter[bytes] = Counter()
        for key, (data, _) in self.store.objects.items():
            if not key.startswith("_lmstream/") and not is_dimension(key):
                found.update(data.splitlines(keepends=True))
        return found

    def put(self, verb: str, key: str) -> None:  # noqa: ARG002 - as the store calls it
        """Rows may be read as soon as they are there: what they need must be there before."""
        if key.startswith("_lmstream/") or is_dimension(key):
            return
        if bad := orphans(self.store.objects, key, together=self.together):
            self.broken.append(f"{key}: rows without their dimension row: {bad}")

    def half_landed(self) -> int:
        """Windows of which only dimension rows are there."""
        objects = self.store.objects
        claims = [msgspec.json.decode(objects[key][0], type=Claim) for key in objects if "/claims/" in key]
        there = [
            [{name(c, e, "ndjson.gz") in objects for e in some} for some in (c.dimensions, c.objects)] for c in claims
        ]
        return sum(True in dimensions and False in rows for dimensions, rows in there)

    def is_skipped(self, each: Any) -> bool:
        gone = each.offset < self.begins[each.tp]
        return gone or any(start <= each.offset < end for start, end in self.skipped.get(each.tp, ()))

    def retention(self) -> None:
        """The first records of a partition are deleted."""
        tp = self.draw.choice(list(self.log))
        self.begins[tp] = self.draw.randint(self.begins[tp], self.ends[tp])
        self.note(f"retention: {tp.partition} begins at {self.begins[tp]}")

    def is_durable(self, each: Any) -> bool:
        if each.value is None or self.is_skipped(each):
            return True
        if each.value == b"junk":
            return each.coordinates in self.buried
        good = set(lines_of(each)) <= self.rows().keys()
        return good and (
            b'"bad": 0, "skipped": 0' in each.value or each.value == VALUES[3] or each.coordinates in self.buried
        )

    def bury(self, letter: Any) -> None:
        self.buried.setdefault(letter.record().coordinates, set()).update(n for n, _ in letter.rejected)

    def check(self) -> None:
        for group in self.groups:
            for member in group.members:
                member.check()


class Group:
    """A consumer group: what it has committed, and its members."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        # Groups may begin at different places: what comes before the first of them nobody asked for.
        self.committed: dict[TopicPartition, int] = {}
        self.generation = 0
        self.members: list[Member] = []
        self.division = world.division
        """Of all its members: brokers let no other one in."""

    def commit(self, offsets: dict[TopicPartition, int]) -> None:
        world = self.world
        world.note(f"{self.number} commits {sorted((tp.partition, n) for tp, n in offsets.items())}")
        for tp, offset in offsets.items():
            for each in world.log[tp]:
                if self.committed.get(tp, 0) <= each.offset < offset and not world.is_durable(each):
                    world.broken.append(f"commit {offset} of {tp}, but {each.coordinates} is not durable")
            self.committed[tp] = offset

    def join(self) -> None:
        self.members.append(Member(self.world, self, self.world.names))
        self.world.names += 1

    async def rebalance(self) -> None:
        """Stop the world, as eager assignors do: all give up, then all are assigned anew in a new generation."""
        draw = self.world.draw
        members = [m for m in self.members if m.alive]
        asked = {asyncio.ensure_future(m.source.give_up()): m for m in members}
        patience = 3.5 if draw.random() < 0.8 else 0.5
        done = (await asyncio.wait(asked, timeout=patience))[0] if asked else ()
        hasty = draw.random() < 0.3
        await self.assign([m for each, m in asked.items() if (hasty or each in done) and m.alive])
        if late := [each for each in asked if each not in done]:
            await asyncio.wait(late)
            if not hasty:
                await self.rebalance()
        for each in asked:
            each.result()

    async def assign(self, members: "list[Member]") -> None:
        self.generation += 1
        self.world.note(f"generation {self.number}.{self.generation} of {[m.name for m in members]}")
        units = self.world.units(self.division)
        self.world.draw.shuffle(units)
        waits = [
            m.source.assigned([tp for unit in units[at :: len(members)] for tp in unit], self.generation)
            for at, m in enumerate(members)
        ]
        await asyncio.gather(*waits)

    def reset(self) -> None:
        """An operator moves the group, which has no member now."""
        world = self.world
        for tp in world.log:
            where = world.draw.randint(0, world.ends[tp])
            world.note(f"reset {self.number}: {tp.partition} from {self.committed.get(tp)} to {where}")
            if where > self.committed.get(tp, 0):
                world.skipped.setdefault(tp, []).append((self.committed.get(tp, 0), where))
            self.committed[tp] = where


class SimSource:
    """A member's view of the topic; its commits are fenced by the generation, as brokers fence them."""

    def __init__(self, group: Group, member: "Member") -> None:
        self.on_revoke: Any = None
        self.on_assign: Any = None
        self.owned: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self._world, self._group, self._member = group.world, group, member
        self._generation = -1
        self._epoch = 0
        self._giving = False
        self._moved: dict[TopicPartition, int] = {}

    async def give_up(self) -> None:
        self._giving = True
        mine = list(self.owned)
        generation = self._generation
        if mine and self.on_revoke is not None:
            try:
                await self.on_revoke(mine)
            except SinkError as error:
                if not self._member.stops(error):
                    raise
        if generation == self._generation:
            self.owned = {}

    async def assigned(self, tps: Any, generation: int) -> None:
        self._generation = generation
        self.owned = {}
        world = self._world
        places = {}
        for tp in tps:
            begin, committed = world.begins[tp], self._group.committed.get(tp)
            if committed is not None and committed < begin:  # as on_offset_lost = "earliest" does
                committed = self._group.committed[tp] = begin
            places[tp] = Assigned(
                begin if committed is None else committed,
                committed is not None,
                begin,
                world.ends[tp],
                {"t": len(world.log)},
            )
        begins = {tp: at.next for tp, at in places.items()}
        self._moved = {}
        while self._member.alive:
            try:
                begins |= await asyncio.wait_for(self.on_assign(places), 120)
            except (SinkError, TimeoutError) as error:
                if not self._member.stops(error):
                    world.broken.append(f"not assigned: {error}")
            break
        if not self._member.alive:
            return
        if self._generation == generation:
            self._epoch += 1
            self.owned = dict.fromkeys(tps, self._epoch)
            self.positions = begins
            self._moved = {tp: n for tp, n in begins.items() if n > places[tp].next}
            self._giving = False

    async def seek(self, places: Any, /) -> None:
        mine = {tp: n for tp, n in places.items() if tp in self.owned}
        self._world.note(f"{self._member.name} reads again {sorted((tp.partition, n) for tp, n in mine.items())}")
        self._epoch += 1
        self.positions |= mine
        self.owned |= dict.fromkeys(mine, self._epoch)

    async def poll(self, room: int, /) -> Batch:
        world, draw = self._world, self._world.draw
        owned = self.owned
        await asyncio.sleep(draw.choice([0.01, 0.1, 0.3]))
        if room <= 0 or self._giving or not self._member.alive or owned is not self.owned:
            return Batch([])
        taken, passed = [], self._moved
        self._moved = {}
        # A member that missed a rebalance reads on in what it believes to own: its commits are refused then.
        for tp in self.owned:
            at = max(self.positions[tp], world.begins[tp])
            some = [each for each in world.log[tp] if each.offset >= at][: draw.randint(1, 4)]
            if some:
                self.positions[tp] = some[-1].offset + 1
                taken += some
            elif self.positions[tp] < world.ends[tp] and draw.random() < 0.5:
                self.positions[tp] = passed[tp] = world.ends[tp]
        return Batch(taken, {tp: self.owned[tp] for tp in {each.tp for each in taken} | passed.keys()}, passed=passed)

    async def commit(self, offsets: Any, /) -> None:
        draw = self._world.draw
        mood = draw.random() if self._world.stormy else 1.0
        before = self._generation
        await asyncio.sleep(draw.choice([0.001, 0.05]))
        if mood < 0.1:
            raise OSError("coordinator is loading")
        alive = self._member.alive and before == self._generation == self._group.generation
        if not alive or not offsets.keys() <= self.owned.keys():
            raise OSError("IllegalGeneration")
        self._group.commit({tp: n for tp, n in offsets.items() if n > self._group.committed.get(tp, -1)})
        if mood < 0.2:
            raise OSError("taken, but the answer was lost")

    async def close(self) -> None:
        await asyncio.sleep(0.01)


class SimStore:
    """The store as one member sees it: nothing leaves a process that is dead, and nothing comes while it sleeps."""

    def __init__(self, world: World, member: "Member") -> None:
        self.name = "s3://scripted"
        self._world, self._member = world, member

    async def _begin(self) -> None:
        await self._member.awake.wait()
        if not self._member.alive:
            await asyncio.sleep(10**6)

    async def create(self, key: str, data: bytes, meta: Any, /) -> bool:
        await self._begin()
        return await self._world.store.create(key, data, meta)

    async def get(self, key: str, most: int, /) -> bytes | None:
        await self._begin()
        return await self._world.store.get(key, most)

    async def stat(self, key: str, /) -> Any:
        await self._begin()
        return await self._world.store.stat(key)

    async def tagged(self, key: str, /) -> Any:
        await self._begin()
        return await self._world.store.tagged(key)

    async def replace(self, key: str, data: bytes, meta: Any, tag: str, /) -> bool:
        await self._begin()
        return await self._world.store.replace(key, data, meta, tag)

    async def names(self, prefix: str, most: int, /) -> Any:
        await self._begin()
        return await self._world.store.names(prefix, most)

    async def folders(self, prefix: str, most: int, /) -> Any:
        await self._begin()
        return await self._world.store.folders(prefix, most)

    async def close(self) -> None:
        pass


class SimLetters:
    """Keeps dead letters in the world, when it can."""

    largest = sys.maxsize

    def __init__(self, world: World, member: "Member") -> None:
        self._world, self._member = world, member

    async def write(self, letters: Any, /) -> None:
        await asyncio.sleep(0.01)
        if not self._member.alive or (self._world.stormy and self._world.draw.random() < 0.3):
            raise OSError(28, "No space left on device")
        for each in letters:
            self._world.bury(each)

    async def close(self) -> None:
        await asyncio.sleep(0.01)


class Member:
    """One process: a real runtime over the world's source, store and letters."""

    def __init__(
        self,
        world: World,
        group: Group,
        name: int,
        *,
        layout: Layout | None = None,
        budget: int = 0,
        policy: WindowPolicy | None = None,
        reads: bool = True,
    ) -> None:
        """What is not given is drawn. With `reads` it can read records of lanes that are none of its own."""
        self.alive = True
        self.awake = asyncio.Event()
        self.awake.set()
        self.name = name
        self.source = SimSource(group, self)
        self.division = group.division
        self._world = world
        drawn = world.draw.choice(world.layouts)
        layout = layout or drawn
        seconds, size = world.draw.choice([0.2, 0.7, 2.0]), world.draw.choice([30, 100, 1000])
        policy = policy or WindowPolicy(seconds=seconds, object_bytes=size)

        def outlet(parts: Any) -> LakeOutlet:
            requests = Requests(SimStore(world, self), parts.attempts, parts.flight.counts)
            self.outlet = LakeOutlet(
                parts,
                requests,
                Claims(requests, "_lmstream/", ""),
                {"gzip": Lines("ndjson.gz", bytes)},
                layout,
                policy,
                writer=f"member {name}",
                wall=lambda: int(now() * 1000),
                division=self.division,
                engine=LaidOutEngine,  # type: ignore[arg-type]
                read=self._read if reads else None,
            )
            return self.outlet

        self.pipeline = Pipeline(
            LaidOutEngine(layout),  # type: ignore[arg-type]
            outlet,
            SimLetters(world, self),
            clock=now,
            sleep=asyncio.sleep,
            random=world.draw.random,
            policy=DELIVERY,
            budget=budget or world.draw.choice([8_000, 40_000, 10**6]),
        )
        self.runtime = Runtime(self.source, self.pipeline, clock=now, policy=POLICY)
        self.task = asyncio.ensure_future(self.runtime.run())

    async def _read(self, topic: str, ranges: Any) -> Any:
        async for each in self._world.read(topic, ranges):
            await self.awake.wait()
            if not self.alive:
                await asyncio.sleep(10**6)
            yield each

    def stops(self, error: BaseException) -> bool:
        """Whether this is why members of a division that is over end, or those that do not know of all partitions;
        then this one has ended."""
        if not isinstance(error, SinkError) or error.reason != "lake.lanes":
            return False
        over = self.division.number < self._world.division.number
        if not over and "not assigned with the others" not in error.detail:
            return False
        self.alive = False
        self._world.note(f"{self.name} stops: {error.detail}")
        return True

    async def crash(self) -> None:
        """Die: from now on nothing it does has an effect outside; the tasks are only cleared away."""
        self.alive = False
        self._world.note(f"crash {self.name}")
        self._world.halves += self._world.half_landed()
        self.task.cancel()
        await asyncio.wait({self.task})
        if not self.task.cancelled():
            self.task.exception()  # of one that nobody looks at any more

    def freeze(self) -> None:
        """SIGSTOP, as far as a loop that all share can: what is under way gets no answer, and nothing new begins."""
        self._world.note(f"freeze {self.name}")
        self.awake.clear()

    async def stop(self) -> None:
        """SIGTERM."""
        self._world.note(f"stop {self.name}")
        self.awake.set()
        self.runtime.stop()
        await asyncio.wait({self.task})
        self.alive = False
        self.check()

    def check(self) -> None:
        """Raise what went wrong inside."""
        if self._world.broken:
            raise BrokenError(self._world.broken[0])
        if self.task.done() and not self.task.cancelled() and (error := self.task.exception()) is not None:
            if self.stops(error):
                return
            raise error
        if not self.pipeline.balanced:
            raise BrokenError("the counters are not balanced")


async def schedule(world: World) -> None:
    """A storm of events, then fair weather until all is committed; then every row lies there once."""
    await storm(world)
    await fair_weather(world)
    await asyncio.sleep(60)  # what was late is there by then
    found = world.rows()
    if twice := [row for row, n in found.items() if n > 1]:
        raise BrokenError(f"duplicate: {twice}")
    good = {line for some in world.log.values() for each in some if each.value != b"junk" for line in lines_of(each)}
    if phantom := found.keys() - good:
        raise BrokenError(f"phantom rows: {phantom}")
    for some in world.log.values():
        for each in some:
            if not world.is_durable(each):
                raise BrokenError(f"lost: {each.coordinates}")
    if world.broken:
        raise BrokenError(world.broken[0])
    check_chain(world)
    check_order(world)


def check_order(world: World) -> None:
    """Rows of an object lie by partition, offset and ordinal, and so do the objects of a path in a window."""
    places = {
        line: (tp.partition, each.offset, n)
        for tp, some in world.log.items()
        for each in some
        if each.value != b"junk"
        for n, line in enumerate(lines_of(each))
    }
    pieces: dict[str, list[tuple[int, int, int]]] = {}
    for key in sorted(world.store.objects):
        if not key.startswith("_lmstream/") and not is_dimension(key):
            found = [places[line] for line in world.store.objects[key][0].splitlines(keepends=True)]
            pieces.setdefault(key.rpartition("-")[0], []).extend(found)
    for window, found in pieces.items():
        if found != sorted(found):
            raise BrokenError(f"{window}: rows are not in the order of records")


def check_chain(world: World) -> None:
    """The claims of each lane follow one another, and what they say is there, is there."""
    lanes: dict[str, list[Claim]] = {}
    for key in sorted(world.store.objects, reverse=True):
        if key.startswith("_lmstream/claims/"):
            claim = msgspec.json.decode(world.store.objects[key][0], type=Claim)
            lanes.setdefault(claim.lane, []).append(claim)
    for lane, chain in lanes.items():
        for n, claim in enumerate(chain):
            if claim.sequence != n:
                raise BrokenError(f"lane {lane}: claim {claim.sequence} in place {n}")
            for partition, span in claim.spans.items():
                before = chain[n - 1].spans.get(partition) if n else None
                if before is not None and before.end != span.start:
                    raise BrokenError(f"lane {lane}: claim {n} does not begin where the one before ends")
            if n and chain[n - 1].kind == "barrier":
                raise BrokenError(f"lane {lane}: claim {n} comes behind a barrier")
    check_divisions(lanes)


def check_divisions(lanes: dict[str, list[Claim]]) -> None:
    """Offsets of a partition lie in one division after the other, without a gap."""
    spans: dict[int, dict[int, tuple[int, int]]] = {}
    for lane, chain in lanes.items():
        number = lane_name(lane).divided.number  # type: ignore[union-attr]
        for partition, last in chain[-1].spans.items():
            first = next(claim.spans[partition] for claim in chain if partition in claim.spans)
            if first.start < last.end:
                spans.setdefault(partition, {})[number] = first.start, last.end
    for partition, found in spans.items():
        ends = [found[number] for number in sorted(found)]
        for before, after in pairwise(ends):
            if before[1] != after[0]:
                raise BrokenError(f"partition {partition}: a division ends at {before[1]}, and the next is at {after}")


async def storm(world: World) -> None:  # noqa: C901, PLR0912 - one storm, read top to bottom
    """Members come and go, sleep and wake, partitions move, the store fails: as the seed draws."""
    draw = world.draw
    if len(world.groups) > 1 and draw.random() < 0.7:
        world.groups[0].reset()
    for group in world.groups:
        for _ in range(draw.randint(1, 2)):
            group.join()
    await asyncio.gather(*(group.rebalance() for group in world.groups))
    for _ in range(draw.randint(0, 8)):
        await asyncio.sleep(draw.random() * 1.5)
        group = draw.choice(world.groups)
        what = draw.choice([*EVENTS, "divide", "divide", "divide"] if world.divides else EVENTS)
        world.check()
        group.members = [member for member in group.members if member.alive]
        if what == "join" and len(group.members) < 3:
            group.join()
        if what in {"crash", "stop", "freeze"} and group.members:
            gone = group.members.pop(draw.randrange(len(group.members)))
            if what == "freeze":
                gone.freeze()
                world.sleepers.append(gone)
            else:
                await (gone.crash() if what == "crash" else gone.stop())
        if what == "wake":
            for each in world.sleepers:
                world.note(f"wake {each.name}")
                each.awake.set()
        if what == "retention" and draw.random() < 0.3:
            world.retention()
        if what == "reset" and world.resets:
            while group.members:
                await group.members.pop().crash()
            group.reset()
            group.join()
        if what == "grow" and len(world.log) < 6:
            world.grow()
        if what == "divide":
            await divide(world, group)
        if what != "nothing":
            await group.rebalance()


async def divide(world: World, group: Group) -> None:
    """All members of a group are replaced, orderly or not, by some with other lanes. Groups follow one another."""
    if group.division.number == world.division.number:
        world.divide()
    for member in group.members:
        what = world.draw.choice(["stop", "crash", "freeze"]) if world.stormy else "stop"
        if what == "freeze":
            member.freeze()
            world.sleepers.append(member)
        elif member.alive:
            await (member.crash() if what == "crash" else member.stop())
    group.members, group.division = [], world.division
    for _ in range(world.draw.randint(1, 2)):
        group.join()


async def begin_again(world: World, group: Group) -> None:
    """See that a group has members, of the newest division."""
    group.members = [member for member in group.members if member.alive]
    if group.division != world.division:
        await divide(world, group)
    if not group.members:
        group.join()
    await group.rebalance()


async def fair_weather(world: World) -> None:
    """Nothing fails any more: whoever is left commits everything, soon, and stops."""
    world.stormy, world.store.moods = False, CALM
    for each in world.sleepers:
        each.awake.set()
    ends = {tp: n for tp, n in world.ends.items() if n > world.begins[tp]}  # of an empty one nothing is committed
    for group in world.groups:
        await begin_again(world, group)
    for group in world.groups:
        async with asyncio.timeout(200):
            while any(group.committed.get(tp) != n for tp, n in ends.items()):
                world.check()
                await asyncio.sleep(0.2)
                if not all(member.alive for member in group.members):  # whoever runs it starts it again
                    await begin_again(world, group)
    for group in world.groups:
        for member in group.members:
            await member.stop()
    for each in world.sleepers:
        await each.crash()


def play(seed: int, *, resets: bool = True, dimensions: bool = False) -> World:
    """Play the schedule of a seed; whatever is wrong is raised, with the seed."""
    world = World(seed, resets=resets, dimensions=dimensions)
    try:
        run(schedule(world), lambda: SeededLoop(seed))
    except BaseException as e:
        e.add_note(f"LMSTREAM_SEED={seed} replays this schedule; its events: " + "; ".join(world.events[-60:]))
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
