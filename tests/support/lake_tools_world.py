"""A lake that is repaired, compacted and replayed into while its members land, die and sleep; all from one seed.

`.venv/bin/python tests/support/lake_tools_world.py 60` plays schedules for so many seconds.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from lmstream.delivery.counts import Counts
from lmstream.delivery.dead_letter import letter as letter_of
from lmstream.delivery.retry import Attempts
from lmstream.engine.row_digest import of_lines, text
from lmstream.errors import DecodeError
from lmstream.interfaces import LostPart
from lmstream.lake import Claim, Claims, Layout, again, compacting, objects, repair, replaying
from lmstream.lake.chains import Chains
from lmstream.lake.compactions import Compaction, Compactions, Replaced
from lmstream.lake.contents import LineContents
from lmstream.lake.formats import Lines
from lmstream.lake.requests import ReplacingRequests
from lmstream.settings import Settings
from lmstream.testing import SeededLoop, now, run
from support.doubles import ToyOut, bundle, lines_of, record
from support.lake_dimensions import keyed, of_rows
from support.lake_world import CALM, DELIVERY, LAYOUTS, BrokenError, LaidOutEngine, SimStore, World, fair_weather, storm

EXTENSION = "ndjson.gz"


CONTENTS = {EXTENSION: LineContents(bytes, bytes)}
FORMATS = {"gzip": Lines(EXTENSION, bytes)}
REPLAYS = [
    Layout.of(Settings(org_id=org), "gzip") for org in ("again.strict", "again.half", "again.good", "other.good")
]
WHAT = ("compact", "repair", "replay")


def points_of(each: Any) -> dict[int, bytes]:
    """The rows that the letter of a record may give, by ordinal."""
    if each.value == b"junk":
        ordinals = [0, 1]
    else:
        what = json.loads(each.value or b'{"rows":0,"bad":0,"parts":0}')
        ordinals = [what["rows"] + n for n in range(what["bad"] + what["parts"])]
    return {n: b'{"rowId":"%b:%d"}\n' % (each.coordinates.encode(), n) for n in ordinals}


class ReplayEngine(LaidOutEngine):
    """Makes rows of what was refused: of nothing, of the first point, or of all, as the organization says."""

    def fan_out(self, each: Any) -> Any:
        whole = each.only is None and not each.below
        if whole and each.value != b"junk":
            return super().fan_out(each)
        given = points_of(each)
        parts = [LostPart(path, "decode.type", "is no part") for path in each.below]
        wanted = sorted(given) if whole else sorted(each.only)
        if whole and not self.settings.org_id.endswith((".half", ".good")):
            raise DecodeError("decode.json", "line 1")
        good = {".half": wanted[:1], ".good": wanted}.get(self.settings.org_id[-5:], [])
        if self.settings.org_id.endswith(".good") and parts:
            good, parts = [*good, *list(given)[-len(parts) :]], []
        paths = [f"{self.settings.org_id}/p{n % 2}/" for n in range(len(good))]
        out = ToyOut([given[n] for n in good], paths, {}, tuple((n, "value.two") for n in wanted if n not in good))
        out.points = len(wanted)
        out.parts = tuple(parts)
        if self.settings.dimensions:
            out.dimensions = of_rows(out, self.settings.org_id)
        return out


class ToolsWorld(World):
    """A World whose letters can be replayed."""

    together = True

    def __init__(self, seed: int, *, dimensions: bool = False) -> None:
        super().__init__(seed, dimensions=dimensions)
        self.letters: dict[Any, Any] = {}
        self.tools: list[Tool] = []
        self.store.told = self.half_way
        layouts = self.draw.choice([LAYOUTS, LAYOUTS[:1], LAYOUTS[:1]])
        self.layouts = [keyed(each) for each in layouts] if dimensions else layouts
        self.replays = [keyed(each) for each in REPLAYS] if dimensions else REPLAYS
        self.dimensions = dimensions

    def half_way(self, verb: str, key: str) -> None:
        """Kill a verb right after it has said what it means to do, or while it empties."""
        if self.dimensions:
            self.put(verb, key)
        if not self.stormy or self.draw.random() > 0.15:
            return
        busy = [each for each in self.tools if each.alive and not each.task.done()]
        if key.startswith(("_lmstream/replays/", "_lmstream/compactions/")):
            writer = json.loads(self.store.objects[key][0])["writer"].rpartition(" ")[0]
            busy = [each for each in busy if each.name == writer]
        else:
            busy = [each for each in busy if verb == "replace" and each.what == "compact"]
        for each in busy[:1]:
            self.note(f"{each.name} is killed by {verb} {key}")
            each.alive = False
            asyncio.get_running_loop().call_soon(each.task.cancel)

    def bury(self, letter: Any) -> None:
        super().bury(letter)
        each = letter.record()
        self.letters[each.coordinates, each.only, each.below] = letter

    def more_records(self) -> None:
        """Windows are known to be done by the claim of the one after them."""
        for group in self.groups:
            group.members.clear()  # which have stopped
        for tp, some in self.log.items():
            some.append(record(self.ends[tp], bundle(1), partition=tp.partition))
            self.ends[tp] += 1

    def kept(self, tp: Any) -> int:  # noqa: ARG002 - as of the world
        return 0  # lost rows are not what these schedules are about

    @property
    def data(self) -> list[str]:
        return [key for key in self.store.objects if not key.startswith("_lmstream/")]


class Tool:
    """One process of a verb."""

    def __init__(self, world: ToolsWorld, what: str, layout: Layout) -> None:
        self.alive = True
        self.awake = asyncio.Event()
        self.awake.set()
        self.world, self.what, self.layout = world, what, layout
        self.name = f"{what} {len(world.tools)}"
        world.tools.append(self)
        world.note(f"{self.name} begins")
        attempts = Attempts(DELIVERY, now, asyncio.sleep, world.draw.random)
        self.requests = ReplacingRequests(SimStore(world, self), attempts, Counts())  # type: ignore[arg-type]
        self.claims = Claims(self.requests, "_lmstream/", "")
        self.maker = again.Maker(FORMATS, ReplayEngine)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(getattr(self, what)())

    async def compact(self) -> None:
        chains, paths = Chains(self.claims), {}
        for topic, lane in await chains.lanes():
            found = [claim async for claim in chains.claims(topic, lane)]
            for claim in found:
                for path, each in landed_of(claim) if claim.sequence < found[-1].done else ():
                    paths.setdefault(path, []).append(each)
        size = self.world.draw.choice([60, 200, 10_000])
        compactions = Compactions(self.claims)
        work = compacting.Compacting(self.requests, compactions, CONTENTS, rows="", writer=self.name, size=size)
        for path in sorted(paths):
            await work.path(path, EXTENSION, paths[path])

    async def repair(self) -> None:
        chains = Chains(self.claims)
        work = repair.Repair(self.claims, self.maker, CONTENTS, self.world.read, budget=10**6)
        async for done in work.all(chains, await chains.lanes(), dry=False):
            self.world.note(f"{self.name}: {done}")
            if done.lost:
                raise BrokenError(f"rows are lost of a claim whose records are there: {done}")

    async def replay(self) -> None:
        work = replaying.Replaying(
            self.claims,
            Chains(self.claims),
            self.maker,
            self.layout,
            self._bury,
            writer=self.name,
        )
        for letter in list(self.world.letters.values()):
            done = await work.land(letter.record())
            self.world.note(f"{self.name} {letter.record().coordinates} {letter.record().only}: {done}")

    async def _bury(self, each: Any) -> None:
        await asyncio.sleep(0.01)
        if not self.alive:
            await asyncio.sleep(10**6)
        self.world.bury(letter_of(each, 1 << 20))

    def freeze(self) -> None:
        self.world.note(f"freeze {self.name}")
        self.awake.clear()

    def wake(self) -> None:
        self.awake.set()

    async def crash(self) -> None:
        self.alive = False
        self.world.note(f"crash {self.name}")
        self.task.cancel()
        await asyncio.wait({self.task})

    def check(self) -> None:
        if self.task.done() and not self.task.cancelled() and self.task.exception() is not None:
            raise self.task.exception() or AssertionError


def landed_of(claim: Claim) -> list[tuple[str, Replaced]]:
    return [
        (entry.path, Replaced(key=claims_name(claim, entry), rows=entry.rows, digest=entry.digest))
        for entry in claim.every
    ]


def claims_name(claim: Claim, entry: Any) -> str:
    from lmstream.lake.claims import name

    return name(claim, entry, EXTENSION)


async def tool_storm(world: ToolsWorld, most: int) -> None:
    """Verbs begin, die, sleep and wake."""
    draw = world.draw
    for _ in range(draw.randint(1, most)):
        await asyncio.sleep(draw.random())
        busy = [each for each in world.tools if each.alive and not each.task.done()]
        what = draw.choice(["begin", "begin", "twice", "crash", "freeze", "wake"])
        if what in {"begin", "twice"}:
            kind = draw.choice(WHAT)
            for _ in range(2 if what == "twice" else 1):
                Tool(world, kind, draw.choice(world.replays))
        elif busy and what == "crash":
            await draw.choice(busy).crash()
        elif busy and what == "freeze":
            draw.choice(busy).freeze()
        elif busy:
            draw.choice(busy).wake()
        for each in world.tools:
            each.check()


def damage(world: ToolsWorld) -> None:
    """Somebody removes objects with rows, or restores an older, shorter one."""
    draw = world.draw
    for key in [key for key in world.data if "replay-" not in key and "compacted-" not in key]:
        data, meta = world.store.objects[key]
        rows = data.splitlines(keepends=True)
        if draw.random() < 0.3:
            world.note(f"remove {key}")
            world.store.remove(key)
        elif len(rows) > 1 and "compacted" not in meta and draw.random() < 0.3:
            world.note(f"shorten {key}")
            meta = {"digest": text(of_lines(rows[1:])), "rows": str(len(rows) - 1), objects.SHORT: "1"}
            world.store.objects[key] = b"".join(rows[1:]), meta


async def finish(world: ToolsWorld) -> None:
    """Everybody who sleeps wakes, and ends; then each verb is run once more, in fair weather."""
    for each in world.tools:
        each.wake()
    async with asyncio.timeout(2_000):
        await asyncio.gather(*(each.task for each in world.tools if each.alive))
    for what in ("repair", "compact", "replay", "compact", "replay"):
        await Tool(world, what, world.replays[2]).task
    await asyncio.sleep(60)


async def schedule(world: ToolsWorld) -> None:
    """A storm of members and verbs; members that slept through all of it, and a compaction; damage; verbs again."""
    verbs = asyncio.ensure_future(tool_storm(world, 8))
    await storm(world)
    sleepers, world.sleepers = world.sleepers, []
    await fair_weather(world)
    world.more_records()
    await fair_weather(world)
    await verbs
    check_rows(world, {})
    if world.draw.random() < 0.7:
        await Tool(world, "compact", world.replays[2]).task
    for each in sleepers:
        world.note(f"wake {each.name}")
        each.awake.set()
    await asyncio.sleep(30)
    for each in sleepers:
        await each.crash()
    check_rows(world, {})
    world.stormy, world.store.moods = True, world.moods
    damage(world)
    await tool_storm(world, 12)
    world.stormy, world.store.moods = False, CALM
    await finish(world)
    check_rows(world, listed(world))


def listed(world: ToolsWorld) -> dict[str, set[bytes]]:
    """Rows that letters which a claim lists give in the end, by record."""
    records = {each.coordinates: each for some in world.log.values() for each in some}
    found: dict[str, set[bytes]] = {}
    for key, (data, _) in world.store.objects.items():
        if key.startswith("_lmstream/claims/"):
            claim = msgspec.json.decode(data, type=Claim)
            for each in claim.letters:
                at = f"{claim.topic}/{each.partition}/{each.offset}"
                found[at] = set(points_of(records[at]).values())
    return found


def check_rows(world: ToolsWorld, letters: dict[str, set[bytes]]) -> None:
    if world.broken:
        raise BrokenError(world.broken[0])
    found = world.rows()
    doubled = {row for row, n in found.items() if n > 1}
    if doubled and (letters or not half_done(world, doubled)):
        raise BrokenError(f"duplicate: {sorted(doubled)}")
    known: Counter[bytes] = Counter()
    for some in world.log.values():
        for each in some:
            known.update(points_of(each).values())
            known.update(lines_of(each) if each.value != b"junk" else ())
            if not world.is_durable(each):
                raise BrokenError(f"lost: {each.coordinates}")
            if missing := letters.get(each.coordinates, set()) - found.keys():
                raise BrokenError(f"letter without rows: {sorted(missing)}")
    if phantom := found.keys() - known.keys():
        raise BrokenError(f"phantom rows: {phantom}")


def half_done(world: ToolsWorld, doubled: set[bytes]) -> bool:
    """Whether these rows lie twice for a compaction that is not finished: what its manifest says."""
    meant: Counter[bytes] = Counter()
    for key, (data, _) in world.store.objects.items():
        if key.startswith("_lmstream/compactions/"):
            compaction = msgspec.json.decode(data, type=Compaction)
            if compaction.key in world.store.objects:
                for each in compaction.replaces:
                    meant.update(world.store.objects.get(each.key, (b"", {}))[0].splitlines(keepends=True))
    return doubled <= meant.keys()


def play(seed: int, *, dimensions: bool = False) -> ToolsWorld:
    """Play the schedule of a seed; whatever is wrong is raised, with the seed."""
    world = ToolsWorld(seed, dimensions=dimensions)
    world.moods = world.store.moods
    try:
        run(schedule(world), lambda: SeededLoop(seed))
    except BaseException as e:
        e.add_note(f"LMSTREAM_SEED={seed} replays this schedule; its events: " + "; ".join(world.events[-80:]))
        raise
    return world


def main() -> None:
    """Play schedules for some seconds, from a seed on."""
    import logging
    import time

    logging.disable(logging.CRITICAL)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began, played = time.process_time(), 0
    made: Counter[str] = Counter()
    while (took := time.process_time() - began) < seconds:
        world = play(first + played)
        played += 1
        made.update(key.split("/")[1] for key in world.store.objects if key.startswith("_lmstream/"))
        made["emptied"] += len(world.store.replaced)
        made["supplements"] += sum("s1." in key for key in world.store.created)
        made["refused"] += len(world.store.refused)
    print(f"{played} schedules in {took:.1f} s of one core: {played / took * 60:,.0f} a minute; {dict(made)}")


if __name__ == "__main__":
    main()
