"""A topic is divided into other lanes: where the new ones begin, what members of the old ones do, what is refused."""

import asyncio
import logging

import msgspec
import pytest

from lmstream.errors import SinkError
from lmstream.interfaces import Assigned
from lmstream.lake import Claim, WindowPolicy
from lmstream.lake.division import Division, lane_name
from lmstream.model import TopicPartition
from lmstream.testing import run
from support.doubles import bundle, record
from support.lake_world import CALM, LAYOUTS, Group, Member, World, check_chain

QUICK = WindowPolicy(seconds=0.5, object_bytes=10_000)
BEFORE, AFTER = Division(lanes=2), Division(lanes=3, number=1)
TPS = [TopicPartition("t", n) for n in range(4)]
MARKS = "_lmstream/lanes/_/t/_/"


class Calm(World):
    """Four partitions of six records with two rows, and no weather but what a test makes."""

    def __init__(self):
        super().__init__(7)
        self.division = BEFORE
        self.log = {tp: [record(n, bundle(2), partition=tp.partition) for n in range(6)] for tp in TPS}
        self.ends, self.begins = dict.fromkeys(TPS, 6), dict.fromkeys(TPS, 0)
        self.groups = [Group(self, 0), Group(self, 1)]
        self.stormy, self.store.moods = False, CALM

    def more(self, count=4):
        for tp, some in self.log.items():
            some += [record(self.ends[tp] + n, bundle(2), partition=tp.partition) for n in range(count)]
            self.ends[tp] += count

    def member(self, division=BEFORE, group=0, **more):
        self.division = max(division, self.division, key=lambda each: each.number)
        self.groups[group].division = division
        self.names += 1
        more = {"layout": LAYOUTS[0], "budget": 10**6, "policy": QUICK} | more
        member = Member(self, self.groups[group], self.names, **more)
        self.groups[group].members = [member]
        return member

    async def join(self, division=BEFORE, group=0, **more):
        member = self.member(division, group, **more)
        await self.groups[group].assign([member])
        return member

    async def settled(self, group=0):
        async with asyncio.timeout(100):
            while self.groups[group].committed != self.ends:
                for member in self.groups[group].members:
                    member.check()
                await asyncio.sleep(0.1)

    async def ended(self, member):
        async with asyncio.timeout(60):
            await asyncio.wait({member.task})
        return member.task.exception()

    async def claimed(self, **more):
        """A member that is killed between the claims of its first windows and their objects."""
        member = await self.join(**more)
        self.store.script = lambda verb, key: "broken" if verb == "create" and not key.startswith("_") else None
        async with asyncio.timeout(60):
            while sum(claim.kind == "window" for claim in self.claims()) < 2:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.05)
        await member.crash()
        self.store.script = None

    def claims(self, lane=""):
        """Of a lane, or of all; the oldest first."""
        keys = sorted((key for key in self.store.objects if key.startswith("_lmstream/claims/_/t/")), reverse=True)
        found = [msgspec.json.decode(self.store.objects[key][0], type=Claim) for key in keys]
        return [each for each in found if lane in {"", each.lane}]

    def barriers(self):
        return sorted(claim.lane for claim in self.claims() if claim.kind == "barrier")

    def landed(self):
        """See that each row is there once, and how many."""
        check_chain(self)
        rows = self.rows()
        assert set(rows.values()) <= {1}
        return len(rows)


def test_lanes_are_ended_and_the_new_ones_begin_where_they_end():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled()
        await member.stop()
        assert {key for key in world.store.objects if key.startswith(MARKS)} == {f"{MARKS}0.json"}
        world.more()
        member = await world.join(AFTER)
        await world.settled()
        await member.stop()
        assert world.landed() == 4 * 10 * 2
        assert world.barriers() == ["0of2", "1of2"]
        for lane, partitions in (("0of2", {0, 2}), ("1of2", {1, 3})):
            *_, window, barrier = world.claims(lane)
            assert barrier.next == AFTER.divided
            assert barrier.why == "its offsets continue in division 1: 3 lanes"
            assert {p: (s.start, s.end, s.last) for p, s in barrier.spans.items()} == {
                p: (6, 6, window.spans[p].last) for p in partitions
            }
            assert barrier.done == barrier.sequence, "all before it are there"
        for lane, partitions in (("0of3_1", {0, 3}), ("1of3_1", {1}), ("2of3_1", {2})):
            start = world.claims(lane)[0]
            assert (start.kind, start.spans.keys()) == ("start", partitions)
            assert {(s.start, s.end, s.last.offset) for s in start.spans.values()} == {(6, 6, 5)}
        assert {key.split("/")[-1].split("-")[1] for key in world.store.objects if not key.startswith("_")} == {
            "0of2", "1of2", "0of3_1", "1of3_1", "2of3_1"
        }  # fmt: skip
        assert msgspec.json.decode(world.store.objects[f"{MARKS}1.json"][0]) == {"number": 1, "lanes": 3, "rows": ""}

    run(scenario())


@pytest.mark.parametrize("lanes", [(None, 2), (2, None), (2, 2), (3, 1)])
def test_any_number_of_lanes_may_follow_another_and_come_back(lanes):
    async def scenario():
        world = Calm()
        before, after = lanes
        for number, some in enumerate((before, after, before, after)):
            member = await world.join(Division(lanes=some, number=number))
            await world.settled()
            await member.stop()
            world.more(2)
        assert world.landed() == 4 * 12 * 2

    run(scenario())


def test_a_division_may_be_left_out_and_another_topic_may_begin_with_any():
    async def scenario():
        world = Calm()
        for number in (3, 7):
            member = await world.join(Division(lanes=number, number=number))
            await world.settled()
            await member.stop()
            world.more(2)
        assert world.landed() == 4 * 8 * 2
        assert world.barriers() == ["0of3_3", "1of3_3", "2of3_3"]

    run(scenario())


def test_windows_without_their_objects_are_finished_before_their_lane_ends():
    async def scenario():
        world = Calm()
        await world.claimed()
        assert world.landed() == 0
        member = await world.join(AFTER)
        assert world.landed() == 4 * 6 * 2, "before anything is read"
        await world.settled()
        await member.stop()
        assert world.landed() == 4 * 6 * 2

    run(scenario())


def test_rows_of_an_ended_lane_that_retention_took_are_named(caplog):
    async def scenario():
        world = Calm()
        await world.claimed()
        world.begins[TPS[0]] = 4
        member = await world.join(AFTER)
        await world.settled()
        assert world.landed() == 4 * 6 * 2 - 8
        assert member.pipeline.counts.rows_lost == 8
        assert "t/0of2: claim 1: 8 rows are lost" in caplog.text
        await member.stop()

    run(scenario())


@pytest.mark.parametrize(
    ("more", "reason", "said"),
    [({"budget": 100}, "lake.memory", "set run.budget_bytes to"), ({"reads": False}, "lake.lanes", "is not whole")],
)
def test_a_window_that_cannot_be_finished_is_refused_by_name_and_nothing_new_begins(more, reason, said):
    async def scenario():
        world = Calm()
        await world.claimed()
        before = set(world.store.objects)
        member = world.member(AFTER, **more)
        with pytest.raises(SinkError) as caught:
            await member.outlet.assigned(places(world))
        assert caught.value.reason == reason
        assert said in str(caught.value)
        assert set(world.store.objects) - before == {f"{MARKS}1.json"}
        await member.crash()

    run(scenario())


def places(world, tps=TPS, **more):
    return {tp: Assigned(0, committed=False, begin=0, end=world.ends[tp], topics={"t": len(tps)}, **more) for tp in tps}


def test_a_member_that_dies_between_two_barriers_is_followed_by_one_that_makes_the_rest():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled()
        await member.stop()
        world.more()
        dying = world.member(AFTER)

        def told(_, key):
            if "claims" in key and b'"barrier"' in world.store.objects[key][0]:
                dying.alive = False  # nothing leaves it any more

        world.store.told = told
        task = asyncio.ensure_future(dying.outlet.assigned(places(world)))
        await asyncio.sleep(30)
        task.cancel()
        await dying.crash()
        world.store.told = None
        assert 1 <= len(world.barriers()) <= 2
        assert not [each for each in world.claims() if each.lane.endswith("_1")], "no new lane before all have ended"
        member = await world.join(AFTER)
        await world.settled()
        await member.stop()
        assert world.barriers() == ["0of2", "1of2"]
        assert world.landed() == 4 * 10 * 2

    run(scenario())


def test_members_that_end_lanes_at_once_make_one_barrier_each():
    async def scenario():
        world = Calm()
        await world.claimed()
        await asyncio.gather(world.join(AFTER, 0), world.join(AFTER, 1))
        await world.settled(0)
        await world.settled(1)
        assert world.barriers() == ["0of2", "1of2"]
        assert world.landed() == 4 * 6 * 2
        for group in world.groups:
            await group.members[0].stop()

    run(scenario())


def test_a_group_that_is_moved_back_behind_a_barrier_lands_nothing_twice():
    async def scenario():
        world = Calm()
        for division in (BEFORE, AFTER):
            member = await world.join(division)
            await world.settled()
            await member.stop()
            world.more()
        world.groups[0].committed = dict.fromkeys(TPS, 2)
        member = await world.join(AFTER)
        await world.settled()
        await member.stop()
        assert world.landed() == 4 * 14 * 2

    run(scenario())


def test_a_member_that_slept_through_the_change_loses_its_claim_and_stops():
    async def scenario():
        world = Calm()
        old = await world.join()
        await world.settled()
        old.freeze()
        world.more()
        await asyncio.sleep(0.4)  # what it reads it gathers
        member = await world.join(AFTER, 1)
        await world.settled(1)
        old.awake.set()
        error = await world.ended(old)
        assert isinstance(error, SinkError)
        assert error.reason == "lake.lanes"
        assert "t is landed in division 1, 3 lanes" in error.detail
        assert "set sink.lanes = 3 and sink.division = 1" in error.fix
        await member.stop()
        assert world.landed() == 4 * 10 * 2

    run(scenario())


def test_a_claim_that_comes_before_the_barrier_holds_and_its_window_is_finished():
    async def scenario():
        world = Calm()
        old = await world.join()
        await world.settled()
        member, asleep = world.member(AFTER, 1), asyncio.Event()

        def script(verb, key):
            if verb == "stat" and not asleep.is_set():  # it knows the newest claims, and looks for their objects
                member.freeze()
                asleep.set()
            return "broken" if verb == "create" and not key.startswith("_") else None

        world.store.script = script
        joining = asyncio.ensure_future(world.groups[1].assign([member]))
        await asleep.wait()
        before = len(world.claims())
        world.more()
        async with asyncio.timeout(60):
            while len(world.claims()) < before + 2:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.05)
        await old.crash()
        assert world.landed() == 4 * 6 * 2
        world.store.script = None
        member.awake.set()
        await joining
        assert [claim.kind for claim in world.claims("0of2")[-2:]] == ["window", "barrier"]
        await world.settled(1)
        assert world.landed() == 4 * 10 * 2
        await member.stop()

    run(scenario())


def test_a_lane_that_is_begun_while_the_topic_is_divided_anew_gets_no_row():
    async def scenario():
        world = Calm()
        old = world.member()
        asleep = asyncio.Event()

        def script(verb, key):
            # It has seen that nobody has divided the topic anew, and sleeps before its first claims.
            if verb == "names" and key.startswith("_lmstream/claims/") and not asleep.is_set():
                old.freeze()
                asleep.set()

        world.store.script = script
        task = asyncio.ensure_future(old.outlet.assigned(places(world)))
        await asleep.wait()
        member = await world.join(AFTER, 1)
        await world.settled(1)
        old.awake.set()
        with pytest.raises(SinkError) as caught:
            await task
        assert caught.value.reason == "lake.lanes"
        assert {each.kind for each in world.claims() if each.lane.endswith("of2")} == {"start"}
        await old.crash()
        await member.stop()
        assert world.landed() == 4 * 6 * 2

    run(scenario())


def test_partitions_that_are_added_at_the_same_time_begin_where_they_have_claims_or_where_the_group_stands():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled()
        # One that the old lanes still land, and one that they never see.
        for n in (4, 5):
            tp = TopicPartition("t", n)
            world.log[tp] = [record(offset, bundle(2), partition=n) for offset in range(6)]
            world.ends[tp], world.begins[tp] = 6, 0
            if n == 4:
                await world.groups[0].rebalance()
                await world.settled()
                await member.stop()
        world.more()
        member = await world.join(AFTER)
        await world.settled()
        await member.stop()
        assert world.landed() == 6 * 10 * 2
        assert world.claims("1of3_1")[0].spans[4].start == 6
        assert world.claims("2of3_1")[0].spans[5].start == 0

    run(scenario())


def test_a_member_that_does_not_know_of_a_partition_that_has_landed_begins_nothing():
    async def scenario():
        world = Calm()
        member = await world.join()
        await world.settled()
        await member.stop()
        late = world.member(AFTER)
        with pytest.raises(SinkError, match=r"t/0of3_1: its partitions \[3\] were not assigned with the others"):
            await late.outlet.assigned(places(world, TPS[:3]))
        assert world.claims("0of3_1")[0].spans[3].start == 6, "and whoever knows it begins where it ends"
        await late.crash()

    run(scenario())


@pytest.mark.parametrize("division", [BEFORE, Division(lanes=3), Division(lanes=2, number=1), Division(number=1)])
def test_another_division_is_refused_before_anything_is_claimed(division):
    async def scenario(forgotten):
        world = Calm()
        for each in (BEFORE, AFTER):
            member = await world.join(each)
            await world.settled()
            await member.stop()
        if forgotten:  # as by a lifecycle rule
            for key in [key for key in world.store.objects if key.startswith(MARKS)]:
                world.store.remove(key)
        claims = world.claims()
        member = world.member(division)
        with pytest.raises(SinkError) as caught:
            await member.outlet.assigned(places(world))
        assert caught.value.reason == "lake.lanes"
        assert "t is landed in division 1, 3 lanes" in caught.value.detail
        assert f"this process has division {division.number}, {division.divided}" in caught.value.detail
        assert "to divide it anew, set another sink.lanes and sink.division = 2" in caught.value.fix
        assert world.claims() == claims
        await member.crash()

    run(scenario(forgotten=False))
    run(scenario(forgotten=True))


def test_names_of_lanes_say_where_they_belong():
    for division in (
        Division(),
        BEFORE,
        AFTER,
        Division(number=2),
        Division(lanes=8, incarnation="a_b-c"),
        Division(lanes=8, incarnation="1of2_3", number=4),
    ):
        for partition in range(20):
            name = lane_name(division.lane_of(TopicPartition("t", partition)))
            assert name.divided == division.divided
            assert name.incarnation == division.incarnation
            assert [n for n in range(20) if name.has(n)] == sorted(
                division.partitions(TopicPartition("t", partition), 20)
            )
    assert lane_name("of2") is None


def test_another_incarnation_has_divisions_of_its_own():
    async def scenario():
        world = Calm()
        for each in (BEFORE, AFTER, Division(lanes=1, incarnation="again")):
            member = await world.join(each)
            await world.settled()
            await member.stop()
            world.more()
        assert world.landed() == 4 * 14 * 2
        assert "_lmstream/lanes/_/t/again/0.json" in world.store.objects

    run(scenario())


@pytest.fixture(autouse=True)
def _loud():
    logging.disable(logging.NOTSET)
