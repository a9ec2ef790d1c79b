"""What a lake does in each case that can be told apart: what it refuses, what it names, what it waits for."""

import asyncio
import contextlib
import sys

import msgspec
import pytest
from msgspec import structs

from lmstream.delivery.in_flight import OVERHEAD
from lmstream.delivery.window_length import Bounds, Flow, window, windows_hold
from lmstream.errors import SinkError, SourceError
from lmstream.lake import Claim, Layout, WindowPolicy, objects, outlet
from lmstream.lake.claims import name
from lmstream.lake.division import Division
from lmstream.model import TopicPartition
from lmstream.settings import Settings
from lmstream.testing import run
from support.doubles import bundle, lines_of, record
from support.lake_world import LAYOUTS, Group, Member, World
from support.scripted_store import CALM

TP = TopicPartition("t", 0)
QUICK = WindowPolicy(seconds=0.5, object_bytes=10_000)


class Calm(World):
    """One partition with ten records of two rows, and no weather but what a test makes."""

    def __init__(self) -> None:
        super().__init__(7)
        self.division = Division()
        self.fill(10)
        self.groups = [Group(self, 0)]
        self.stormy, self.store.moods = False, CALM

    def fill(self, count, *, key=None):
        self.log = {TP: [record(n, bundle(2), key=key) for n in range(count)]}
        self.ends, self.begins = {TP: count}, {TP: 0}

    async def join(self, **more):
        group = self.groups[0]
        member = Member(self, group, self.names, **({"layout": LAYOUTS[0], "budget": 10**6, "policy": QUICK} | more))
        self.names += 1
        group.members = [member]
        await group.assign([member])
        return member

    async def leave(self, member):
        self.groups[0].members.remove(member)
        await member.crash()

    def claims(self):
        """Of the only lane, the oldest first."""
        keys = sorted((key for key in self.store.objects if key.startswith("_lmstream/claims/")), reverse=True)
        return [msgspec.json.decode(self.store.objects[key][0], type=Claim) for key in keys]

    async def claimed(self, count, **more):
        """Wait for so many claims, and no object of the last: its member is then killed."""
        member = await self.join(**more)
        self.store.script = lambda verb, key: "broken" if verb == "create" and not key.startswith("_") else None
        while len(self.claims()) < count:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        await self.leave(member)
        self.store.script = None

    async def settled(self, member):
        async with asyncio.timeout(60):
            while self.groups[0].committed.get(TP) != self.ends[TP]:
                if member.task.done():
                    await member.task
                await asyncio.sleep(0.1)

    async def ended(self, member):
        """What ends a run that is refused."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.wait({member.task})
        assert member.task.done()
        return member.task.exception()


def test_rows_that_retention_took_before_they_landed_are_named_and_the_rest_lands(caplog):
    async def scenario():
        world = Calm()
        await world.claimed(2)
        assert world.claims()[1].rows == 20
        world.begins[TP] = 4
        member = await world.join()
        await world.settled(member)
        assert sum(world.rows().values()) == 12
        assert member.pipeline.counts.rows_lost == 8
        assert "t/0: claim 1: 8 rows are lost" in caplog.text
        assert [each.code for each in caplog.records if each.levelname == "ERROR"] == ["LMS-4025"]
        assert member.pipeline.balanced

    run(scenario())


def test_a_topic_that_was_made_again_under_its_name_is_refused_before_a_row_of_it_lands():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled(member)
        await member.stop()
        before = dict(world.store.objects)
        world.fill(20, key=b"another")
        again = await world.join()
        error = await world.ended(again)
        assert isinstance(error, SinkError)
        assert error.reason == "lake.incarnation"
        assert "t/0/9 is another record" in str(error)
        assert world.store.objects == before

    run(scenario())


def test_a_topic_that_was_made_again_and_is_shorter_is_refused_where_it_cannot_be_read():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled(member)
        # Sent to its last record, it was out of range there: the source has moved the group to the beginning.
        world.fill(3, key=b"another")
        world.groups[0].committed[TP] = 0
        assert await member.outlet.assigned({TP: _place(world)}) == {TP: 9}
        with pytest.raises(SinkError) as caught:
            await member.outlet.assigned({TP: _place(world)})
        assert caught.value.reason == "lake.incarnation"
        assert "ends at 3, but records up to 10 have landed" in str(caught.value)

    run(scenario())


def _place(world):
    from lmstream.interfaces import Assigned

    return Assigned(world.groups[0].committed[TP], committed=True, begin=0, end=world.ends[TP])


def test_a_window_larger_than_the_memory_of_its_next_owner_is_refused_by_its_size():
    async def scenario():
        world = Calm()
        await world.claimed(2)
        held = world.claims()[1].held
        member = Member(world, world.groups[0], 99, layout=LAYOUTS[0], budget=held // 2, policy=QUICK)
        with pytest.raises(SinkError) as caught:
            await member.outlet.assigned({TP: _place_new(world)})
        assert caught.value.reason == "lake.memory"
        assert f"run.budget_bytes to {held:,} or more" in caught.value.fix
        await member.crash()

    run(scenario())


def _place_new(world):
    from lmstream.interfaces import Assigned

    return Assigned(0, committed=False, begin=0, end=world.ends[TP])


@pytest.mark.parametrize("rows", [500, 1_000])
def test_a_window_that_memory_ended_is_made_again_with_the_same_budget(rows):
    async def scenario():
        world = Calm()
        world.log = {TP: [record(n, bundle(rows)) for n in range(60)]}
        world.ends = {TP: 60}
        more = {"policy": WindowPolicy(seconds=20.0), "budget": rows * 500}
        await world.claimed(2, **more)
        assert world.claims()[1].held > rows * 500 * 0.75
        member = await world.join(**more)
        await world.settled(member)
        assert sum(world.rows().values()) == len(world.rows()) == 60 * rows
        await member.stop()

    run(scenario())


@pytest.mark.parametrize("others", [1, 2])
def test_whatever_objects_lie_there_by_other_rows_one_error_says_so(others):
    async def scenario():
        world = Calm()
        world.log = {TP: [record(n, bundle(6, paths=3)) for n in range(4)]}
        world.ends = {TP: 4}
        await world.claimed(2)
        for entry in world.claims()[1].objects[:others]:
            key = name(world.claims()[1], entry, "ndjson.gz")
            world.store.objects[key] = b"other\n", {"digest": "0" * 32, "rows": "1"}
        error = await world.ended(await world.join())
        assert type(error) is SinkError, "no group of errors"
        assert error.reason == "lake.object"

    run(scenario())


def test_several_puts_that_fail_at_once_are_one_error_and_the_others_end(monkeypatch):
    ended = []

    async def put(_claims, _claim, each, _layout):
        try:
            await asyncio.sleep(each)
        finally:
            ended.append(each)
        raise SinkError("lake.object", "other rows")

    async def scenario():
        with pytest.raises(SinkError, match="other rows"):
            await objects._put_some(None, None, [1, 1, 1, 1_000], None)
        assert ended == [1, 1, 1, 1_000]

    monkeypatch.setattr(objects, "put", put)
    run(scenario())


def test_other_rows_than_the_claim_says_stop_before_anything_of_the_window_is_put():
    async def scenario():
        world = Calm()
        await world.claimed(2)
        before = set(world.store.objects)
        # The same settings and version, but the records become other rows now: code that was changed in its place.
        world.log[TP] = [record(n, bundle(3)) for n in range(10)]
        member = await world.join()
        error = await world.ended(member)
        assert isinstance(error, SinkError)
        assert error.reason == "lake.code"
        assert "claim 1 was made by lmstream" in error.detail
        assert set(world.store.objects) == before

    run(scenario())


def test_rows_of_another_version_are_refused_by_name():
    async def scenario():
        world = Calm()
        await world.claimed(2, layout=structs.replace(LAYOUTS[0], rows=0, version="0.0.9"))
        member = Member(world, world.groups[0], 99, layout=LAYOUTS[0], budget=10**6, policy=QUICK)
        with pytest.raises(SinkError) as caught:
            await member.outlet.assigned({TP: _place_new(world)})
        assert caught.value.reason == "lake.code"
        assert "run lmstream 0.0.9" in caught.value.fix
        await member.crash()

    run(scenario())


def test_the_code_of_a_dotted_module_is_part_of_a_layout(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "made_codec.py"
    settings = Settings(org_id="acme", format="made_codec.of")
    (tmp_path / "made_codec").mkdir()
    module = tmp_path / "made_codec" / "of.py"
    (tmp_path / "made_codec" / "__init__.py").write_text("")
    hashes = []
    for text in ("A = 1\n", "A = 1\n", "A = 2\n"):
        module.write_text(text)
        hashes.append(Layout.of(settings, "gzip").hash)
    assert hashes[0] == hashes[1] != hashes[2]
    sys.modules.pop("made_codec", None)


def test_the_newest_claim_of_a_quiet_lane_is_renewed_before_a_lifecycle_rule_removes_it(monkeypatch):
    assert outlet.RENEWAL == 7 * 86_400_000 // 2
    monkeypatch.setattr(outlet, "RENEWAL", 20_000)

    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled(member)
        await asyncio.sleep(15)
        assert world.claims()[-1].kind == "window"
        await asyncio.sleep(10)
        renewed, window = world.claims()[-1], world.claims()[-2]
        assert renewed.spans[0].start == renewed.spans[0].end == window.spans[0].end == 10
        # The next owner still compares the last record that landed.
        assert renewed.spans[0].last == window.spans[0].last
        await member.stop()
        again = await world.join()
        await asyncio.sleep(5)
        assert not again.task.done()
        assert sum(world.rows().values()) == 20

    run(scenario())


def test_a_store_that_denies_pauses_the_run_and_nothing_becomes_a_letter():
    async def scenario():
        world = Calm()
        member = await world.join()
        world.store.script = lambda verb, key: "denied" if verb == "create" and not key.startswith("_") else None
        while member.outlet.way.fatal is None:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        assert member.outlet.way.fatal.code == "AccessDenied"
        assert member.pipeline.room == 0
        world.store.script = None
        await world.settled(member)
        assert member.outlet.way.fatal is None
        assert not world.buried
        assert sum(world.rows().values()) == 20
        await member.stop()

    run(scenario())


def test_another_number_of_lanes_is_refused_by_name():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled(member)
        await member.stop()
        for lanes, said in ((2, "2 lanes"), (1, "1 lanes")):
            world.groups[0].division = Division(lanes=lanes)
            await world.leave(await world.join())
            refused = world.broken.pop()
            assert "t is landed in division 0, a lane for each partition" in refused
            assert f"and this process has division 0, {said}" in refused
            assert "leave sink.lanes out and sink.division = 0; to divide it anew" in refused
        assert sum(world.rows().values()) == 20, "nothing was read"
        world.groups[0].division = Division()
        member = await world.join()
        await world.settled(member)
        await member.stop()

    run(scenario())


def test_a_lane_of_which_a_part_is_assigned_is_refused_by_name():
    async def scenario():
        world = Calm()
        world.groups[0].division = Division(lanes=2)
        world.log |= {TopicPartition("t", n): [] for n in range(1, 5)}
        world.ends, world.begins = dict.fromkeys(world.log, 0), dict.fromkeys(world.log, 0)
        member = Member(world, world.groups[0], 0, layout=LAYOUTS[0], budget=10**6, policy=QUICK)
        with pytest.raises(SourceError, match=r"t/0of2: its partitions \[4\] were not assigned with the others"):
            await member.source.assigned([TP, TopicPartition("t", 2)], 1)
        assert not world.store.objects, "nothing was claimed"
        await member.crash()

    run(scenario())


@pytest.mark.parametrize(
    ("age", "objects", "due"), [(10, 1, False), (60, 10, True), (60, 10_000, False), (900, 10_000, True)]
)
def test_a_window_is_stretched_while_its_objects_would_cost_more_than_their_share(age, objects, due):
    # Ten dollars a month are 2 million requests, 46 a minute.
    assert WindowPolicy(seconds=60, longest=900, dollars=10.0).is_due(age, objects, 1) is due
    assert WindowPolicy(seconds=60, longest=900, dollars=80.0).is_due(age, objects, 8) is due, "for all lanes together"
    assert WindowPolicy(seconds=60).is_due(age, objects, 1) is (age >= 60)


@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("budget", [100_000, 400_000])
def test_memory_ends_a_window_where_its_price_says_that_it_does(rows, budget):
    async def scenario():
        world = Calm()
        world.log = {TP: [record(n, bundle(rows)) for n in range(1_000)]}
        world.ends = {TP: 1_000}
        member = await world.join(policy=WindowPolicy(seconds=900.0), budget=budget)
        async with asyncio.timeout(900):
            while len(world.claims()) < 3:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
        await member.crash()
        line = sum(map(len, lines_of(world.log[TP][100]))) / rows
        flow = Flow(rows=10.0, line_bytes=line, landed_bytes=line, held_bytes=line + OVERHEAD / rows)
        priced = window(flow, Bounds(seconds=900, memory=windows_hold(budget)))
        assert priced.ended_by == "memory"
        for claim in world.claims()[1:3]:
            assert claim.rows == pytest.approx(priced.rows, rel=0.15)

    run(scenario())
