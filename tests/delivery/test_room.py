"""What a full budget does, what is told of it, and what of a pipeline can be flushed, forgotten and passed over."""

import asyncio

import msgspec
import pytest

from lmstream.delivery import DeliveryPolicy, Pipeline, RollPolicy
from lmstream.delivery.in_flight import OVERHEAD
from lmstream.delivery.memory_budget import QUEUED, RESERVE
from lmstream.delivery.pack_outlet import PackOutlet
from lmstream.delivery.pipeline import YIELD_BYTES
from lmstream.interfaces import Batch, Load
from lmstream.model import KILLS, Status, TopicPartition
from lmstream.testing import DOWN, LIMITS, ScriptedLetters, ScriptedSink, now, run
from support.doubles import BODIES, MISSING, OBJECTS, ToyEngine, bundle, lines_of, make, nobody, record
from support.wait import until

WIDE = msgspec.structs.replace(OBJECTS, pack_bytes=10**6, pack_rows=10**6, request_bytes=10**6)
"""Of an object sink whose objects only their age ends, or that their bytes are wanted."""
LATE = RollPolicy(age=600.0)
FEW = 3 * OVERHEAD
"""A budget for two records of one row, and no third."""


def at(partition):
    return TopicPartition("t", partition)


def one(offset, value=None, **more):
    return Batch([record(offset, bundle(1) if value is None else value, **more)])


def rows(sink):
    """How many rows each request had."""
    return [sum(each.rows for each in packs) for _, packs in sink.calls]


def test_the_load_is_what_records_hold_of_the_budget():
    async def main():
        pipeline = make(ScriptedSink(["hang"]), budget=10**6)
        assert pipeline.load() == Load(0, 10**6)
        (each,) = one(0).records
        pipeline.submit(Batch([each]), nobody)
        assert pipeline.load() == Load(each.size + OVERHEAD, 10**6)
        await asyncio.sleep(1)
        assert pipeline.load() == Load(each.size + OVERHEAD + len(lines_of(each)[0]), 10**6)
        await pipeline.close()

    run(main())


def test_a_flush_sends_what_is_gathered_whatever_its_age_and_nothing_once_it_is_closed():
    async def main():
        sink = ScriptedSink(limits=WIDE)
        pipeline = make(sink, roll=LATE)
        for offset in range(3):
            pipeline.submit(one(offset), nobody)
            await asyncio.sleep(1)
        assert sink.calls == []
        pipeline.flush()
        await asyncio.sleep(1)
        assert rows(sink) == [3]
        pipeline.submit(one(3), nobody)
        await asyncio.sleep(1)
        await pipeline.close()
        pipeline.flush()
        pipeline.tick()
        await asyncio.sleep(1)
        assert rows(sink) == [3]
        assert pipeline.snapshot().in_flight == 1

    run(main())


def test_a_budget_that_is_full_of_gathered_lines_is_emptied_before_their_age():
    async def main():
        sink, settled = ScriptedSink(limits=WIDE), []
        pipeline = make(sink, roll=LATE, budget=FEW)
        began = now()
        pipeline.submit(Batch([record(n, bundle(1)) for n in range(7)]), lambda *each: settled.append(each[2]))
        await pipeline.drain()
        assert now() - began < 1
        assert settled == list(range(7))
        assert pipeline.snapshot().in_flight_bytes == 0

    run(main())


@pytest.mark.parametrize("first", ["sending", "writing"])
def test_gathered_lines_are_not_sent_early_while_something_else_is_about_to_make_room(first):
    async def main():
        sink = ScriptedSink(limits=WIDE, latency=lambda: 4.0)
        letters = ScriptedLetters([True] * 4)
        pipeline = make(sink, letters, roll=LATE, budget=4 * OVERHEAD + 300)
        pipeline.submit(one(0, bundle(1) if first == "sending" else b"junk".ljust(100)), nobody)
        await asyncio.sleep(0)
        pipeline.flush()
        pipeline.submit(one(1), nobody)
        await asyncio.sleep(0)
        pipeline.submit(Batch([record(n, bundle(1)) for n in (2, 3)]), nobody)
        await asyncio.sleep(0)
        assert (pipeline._budget.free < 0, len(pipeline._queue)) == (True, 2)
        await pipeline.drain()  # what waits may still join what is gathered
        assert rows(sink) == ([1, 3] if first == "sending" else [3])

    run(main())


def test_who_drains_a_partition_does_not_wait_for_records_of_others_for_which_there_is_no_room():
    async def main():
        sink = ScriptedSink(["hang"], limits=WIDE)
        pipeline = make(sink, roll=LATE, budget=4 * OVERHEAD + 300)
        pipeline.submit(one(0, partition=1), nobody)
        await asyncio.sleep(0)
        pipeline.flush()
        pipeline.submit(one(0), nobody)
        await asyncio.sleep(0)
        pipeline.submit(Batch([record(n, bundle(1), partition=1) for n in (1, 2)]), nobody)
        await asyncio.sleep(0)
        assert (pipeline._budget.free < 0, len(pipeline._queue)) == (True, 2)
        await asyncio.wait_for(pipeline.drain([at(0)]), 1)
        assert list(sink.lines) == lines_of(record(0, bundle(1)))
        await pipeline.close()

    run(main())


@pytest.mark.parametrize(("limits", "share"), [(LIMITS, 1.0), (BODIES, 1 - RESERVE)])
def test_lines_are_made_while_the_budget_has_room_beside_what_is_kept_for_bodies(limits, share):
    async def main():
        sink = ScriptedSink(limits=limits)
        sink.down = DOWN
        pipeline = make(sink, budget=100 * OVERHEAD)
        for offset in range(400):
            if pipeline.room <= 0:
                break
            pipeline.submit(one(offset), nobody)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        held = pipeline._budget._records
        assert share * 0.9 <= held / (100 * OVERHEAD) <= share + 0.02
        await pipeline.close()

    run(main())


def test_an_outlet_of_its_own_gets_records_and_no_share_of_the_budget_is_kept_for_bodies():
    async def main():
        sink = ScriptedSink()
        pipeline = make(lambda parts: PackOutlet(parts, sink, RollPolicy()), budget=10**6)
        assert pipeline._budget.free == 10**6
        pipeline.submit(one(0), nobody)
        await pipeline.drain()
        assert rows(sink) == [1]

    run(main())


@pytest.mark.parametrize(("limits", "seconds", "offsets"), [(LIMITS, 10.0, 0), (WIDE, 610.0, 3)])
def test_a_record_settles_within_two_requests_after_its_lines_are_gathered(limits, seconds, offsets):
    async def main():
        policy = DeliveryPolicy(timeout=5.0)
        pipeline = make(ScriptedSink(limits=limits), policy=policy, roll=LATE, budget=OVERHEAD - 1)
        assert (pipeline.settles_within, pipeline.offsets) == (seconds, offsets)

    run(main())


def test_without_a_policy_the_defaults_hold_and_half_of_a_small_budget_may_be_gathered():
    async def main():
        sink = ScriptedSink(limits=WIDE)
        pipeline = make(sink, policy=None, budget=20_000)
        assert pipeline.settles_within == 2 * DeliveryPolicy().timeout + RollPolicy().age
        value = bundle(100)
        line = len(lines_of(record(0, value))[0])
        gathered = sum(map(len, lines_of(record(0, value))))
        assert 100 * line < gathered < 5_000 < 4 * gathered
        for offset in range(12):
            pipeline.submit(one(offset, value), nobody)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if sink.calls:
                break
        # One path: past half of the budget all of it goes.
        assert 10_000 < len(sink.calls[0][1][0].data) <= 10_000 + 2 * gathered
        await pipeline.drain()

    run(main())


@pytest.mark.parametrize("more", [{}, {"partitions": 0}])
def test_memory_that_is_full_before_a_deadline_has_everything_given_back_and_not_one_row_twice(more):
    async def main():
        sink = ScriptedSink()
        pipeline = make(sink, budget=FEW, policy=DeliveryPolicy(timeout=5.0, **more))
        submission = pipeline.submit(Batch([record(n, bundle(1)) for n in range(9)]), nobody, now() + 1)
        await pipeline.drain()
        assert pipeline.snapshot().in_flight == 9  # no request could end in time
        assert set(submission.failures) == {"not_tried"}
        assert pipeline.counts.records == 1  # for the others there was no room
        await pipeline.give_back()
        assert (sink.calls, pipeline.snapshot().in_flight, pipeline.balanced) == ([], 0, True)

    run(main())


@pytest.mark.parametrize(
    ("short", "pauses"), [([], [4, 8, 12]), ([3, 8], [5, 10])], ids=["to the byte", "a byte short"]
)
def test_a_long_batch_pauses_for_the_others_each_time_so_many_bytes_were_transformed(short, pauses):
    async def main():
        paused = []

        async def sleep(seconds):
            paused.append((seconds, pipeline.counts.records))
            await asyncio.sleep(seconds)

        pipeline = Pipeline(
            ToyEngine(), ScriptedSink(), ScriptedLetters(), clock=now, sleep=sleep, random=lambda: 0.5, budget=10**9
        )
        size = YIELD_BYTES // 4 - 1024
        many = [record(n, bundle(1).ljust(size - (n in short))) for n in range(13)]
        assert many[0].size == size
        pipeline.submit(Batch(many), nobody)
        await pipeline.drain()
        assert paused == [(0, n) for n in pauses]
        assert pipeline.counts.delivered == 13

    run(main())


@pytest.mark.parametrize(("over", "requests"), [(0, [1, 1]), (1, [2])])
def test_lines_are_made_until_the_budget_is_full_to_the_byte(over, requests):
    async def main():
        sink = ScriptedSink()
        two = [record(n, bundle(1)) for n in range(2)]
        held = sum(each.size + OVERHEAD for each in two) + len(lines_of(two[0])[0])
        pipeline = make(sink, budget=held + over)
        pipeline.submit(Batch(two), nobody)
        await pipeline.drain()
        assert rows(sink) == requests

    run(main())


def test_one_task_transforms_however_many_batches_come_and_none_for_an_empty_one():
    async def main():
        sink = ScriptedSink(["hang"] * 9)
        pipeline = make(sink, budget=FEW)
        pipeline.submit(Batch([]), nobody)
        assert len(asyncio.all_tasks()) == 1
        for offset in range(6):
            pipeline.submit(one(offset), nobody)
        pipeline.submit(Batch([]), nobody)
        assert len(asyncio.all_tasks()) == 2
        await pipeline.close()

    run(main())


class Passing(PackOutlet):
    """Keeps what it is told of offsets without a record."""

    def __init__(self, parts, sink):
        super().__init__(parts, sink, RollPolicy())
        self.told = []

    def passed(self, tp, epoch, offset):
        self.told.append((tp.partition, epoch, offset))


def test_an_outlet_is_told_of_passed_offsets_once_no_record_of_the_partition_waits():
    async def main():
        pipeline = make(lambda parts: Passing(parts, ScriptedSink()))
        told = pipeline.outlet.told
        pipeline.submit(one(4), nobody)
        pipeline.passed({at(0): 5, at(1): 9}, {at(0): 3})
        assert told == [(1, 0, 9)]
        pipeline.passed({at(0): 8}, {at(0): 4})  # the later word counts
        pipeline.passed({at(2): 1}, {at(2): 7})
        pipeline.tick()
        assert told == [(1, 0, 9), (2, 7, 1)]
        await pipeline.drain()
        pipeline.tick()
        pipeline.tick()
        assert told == [(1, 0, 9), (2, 7, 1), (0, 4, 8)]
        await pipeline.close()
        pipeline.passed({at(3): 1}, {})
        assert len(told) == 3

    run(main())


def test_whoever_asks_a_broken_pipeline_is_told_what_went_wrong():
    async def main():
        pipeline = make(ScriptedSink(limits=WIDE), roll=LATE)
        assert not pipeline.broken
        pipeline.submit(one(0, bundle(1, fault="bug")), nobody)
        await asyncio.sleep(1)
        assert pipeline.broken
        assert pipeline.room == 0
        for ask in (pipeline.tick, lambda: pipeline.passed({}, {}), lambda: pipeline.submit(one(1), nobody)):
            with pytest.raises(ZeroDivisionError):
                ask()
        await pipeline.close()

    run(main())


def test_nothing_is_taken_once_it_is_closed():
    async def main():
        pipeline = make(ScriptedSink())
        await pipeline.close()
        with pytest.raises(RuntimeError, match=r"^the pipeline is closed$"):
            pipeline.submit(one(0), nobody)
        await pipeline.drain()  # has nothing to wait for

    run(main())


def test_nothing_is_read_while_an_operator_must_act_and_it_is_again_when_they_did():
    async def main():
        sink = ScriptedSink()
        sink.down = MISSING
        pipeline = make(sink)
        full = pipeline.room
        assert full == QUEUED
        pipeline.submit(one(0), nobody)
        await until(lambda: pipeline.snapshot().fatal is not None)
        assert pipeline.room == 0
        sink.down = None
        await pipeline.drain()
        assert pipeline.room == full

    run(main())


def test_what_is_forgotten_is_of_the_partitions_that_go_and_their_waiting_records_are_never_settled():
    async def main():
        sink, settled = ScriptedSink(), []
        pipeline = make(sink)
        batch = Batch([record(n, bundle(1), partition=n % 3) for n in range(9)])
        pipeline.submit(batch, lambda tp, _, offset, status: settled.append((tp.partition, offset, status)))
        pipeline.forget(at(n) for n in (0, 2))
        assert pipeline.snapshot().in_flight == 3
        assert pipeline.load().held == sum(batch.records[n].size + OVERHEAD for n in (1, 4, 7))
        await pipeline.drain()
        assert settled == [(1, n, Status.DELIVERED) for n in (1, 4, 7)]
        assert pipeline.balanced
        assert pipeline.counts.records == 3

    run(main())


def test_who_drains_a_partition_that_is_forgotten_meanwhile_waits_no_longer():
    async def main():
        sink = ScriptedSink(["hang"])
        pipeline = make(sink, budget=FEW)
        pipeline.submit(Batch([record(n, bundle(1)) for n in range(3)]), nobody)
        pipeline.submit(one(0, partition=1), nobody)
        await asyncio.sleep(1)
        drained = asyncio.create_task(pipeline.drain([at(1)]))
        await asyncio.sleep(1)
        assert not drained.done()
        pipeline.forget([at(1)])
        await asyncio.wait_for(drained, 1)
        assert pipeline.snapshot().in_flight == 3
        await pipeline.close()

    run(main())


def test_records_are_unjudged_until_the_outlet_knows_what_they_became():
    class Later(PackOutlet):
        def make(self, each):
            pass

    async def main():
        pipeline = make(lambda parts: Later(parts, ScriptedSink(), RollPolicy()))
        pipeline.submit(Batch([record(n, bundle(1)) for n in range(3)]), nobody)
        await asyncio.sleep(1)
        assert (pipeline.counts.records, pipeline.counts.unjudged, pipeline.balanced) == (3, 3, True)
        await pipeline.give_back()
        await pipeline.close()

    run(main())


def test_an_outlet_that_waits_for_more_records_gets_them_although_the_budget_is_full():
    class Hungry(PackOutlet):
        hungry = True

        def make(self, each):
            pass

    async def main():
        pipeline = make(lambda parts: Hungry(parts, ScriptedSink(), RollPolicy()), budget=FEW)
        pipeline.submit(Batch([record(n, bundle(1)) for n in range(9)]), nobody)
        await asyncio.sleep(1)
        assert pipeline.counts.records == 9
        assert pipeline.room > 0
        await pipeline.give_back()
        await pipeline.close()

    run(main())


class Watch:
    """A guard that knows of the deaths over each offset, and notes what it sees."""

    def __init__(self, deaths, sees):
        self.by, self.sees, self.seen = deaths, sees, []

    def deaths(self, each):
        return self.by.get(each.offset, 0)

    def enter(self, each):
        self.seen.append((each.offset, self.sees()))

    def leave(self):
        self.seen.append("left")

    def forget(self, each):
        self.seen.append(("forgotten", each.offset))

    def close(self):
        self.seen.append("closed")


def test_a_record_over_which_a_process_died_is_transformed_alone_and_after_three_deaths_not_at_all():
    async def main():
        sink, letters = ScriptedSink(latency=lambda: 1.0), ScriptedLetters()
        guard = Watch({1: 2, 3: 3, 5: 4}, lambda: sum(sink.lines.values()))
        pipeline = make(sink, letters, guard=guard)
        pipeline.submit(Batch([record(n, bundle(1)) for n in range(6)]), nobody)
        await pipeline.drain()
        await pipeline.close()
        # Record 1 begins when all before it has landed.
        assert [each for each in guard.seen if each not in ("left", "closed")][:3] == [(0, 0), (1, 1), (2, 1)]
        assert [each[0] for each in guard.seen if each != "left" and isinstance(each[0], int)] == [0, 1, 2, 4]
        assert guard.seen.count("left") == 4
        assert {("forgotten", 1), ("forgotten", 3)} <= {*guard.seen}
        assert guard.seen[-1] == "closed"
        assert [(each.offset, each.reason, each.value) for each in letters.letters] == [
            (3, KILLS, None),
            (5, KILLS, None),
        ]
        assert (pipeline.counts.killers, pipeline.counts.topic_without_row, pipeline.balanced) == (2, {"t": 2}, True)
        assert sum(sink.lines.values()) == 4

    run(main())
