"""The loop for hosts that pull: what is committed is durable, at any fault, revoke, stop or crash."""

import asyncio
from functools import partial
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstream.delivery import RollPolicy
from lmstream.errors import SinkError, SourceError
from lmstream.model import Failure, Kind, TopicPartition
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import DOWN, LIMITS, ScriptedLetters, ScriptedSink, ScriptedSource, now, run, told_to_run
from support import wait
from support.doubles import MISSING, OBJECTS, bundle, lines_of, make, record

TP = TopicPartition("t", 0)


def log_of(many, **more):
    return [record(at, bundle(2, **more)) for at in range(many)]


def start(source, sink=None, letters=None, *, policy=None, on_progress=None, **more):
    pipeline = make(sink or ScriptedSink(), letters, **more)
    return Runtime(source, pipeline, clock=now, policy=policy, on_progress=on_progress)


until = partial(wait.until, seconds=1000)  # virtual: they cost nothing


def all_lines(log):
    return {line for each in log for line in lines_of(each)}


@pytest.mark.parametrize("limits", [LIMITS, OBJECTS])
def test_a_run_ends_by_itself_when_the_source_has_ended_and_everything_is_settled(limits):
    async def main():
        log = [*log_of(20), record(20, b"junk"), record(21, None)]
        source, sink, letters = ScriptedSource(log), ScriptedSink(limits=limits), ScriptedLetters()
        summary = await start(source, sink, letters).run()
        assert set(sink.lines) == all_lines(log[:20])
        assert source.committed == {TP: 22}
        assert source.closed
        assert sink.closed
        assert letters.closed
        assert (summary.records, summary.rows, summary.dead_letters, summary.tombstones) == (22, 40, 1, 1)
        assert (summary.unacked, summary.skipped) == (0, {"record.tombstone": 1})
        assert summary.commits >= 1
        assert 0 < summary.duration < 5

    run(main())


def test_nothing_is_committed_before_it_is_durable_and_at_most_once_a_second():
    async def main():
        sink = ScriptedSink(latency=lambda: 0.3)
        source = ScriptedSource(log_of(300), step=2)
        commit = source.commit
        times = []

        async def watched(offsets, /):
            times.append(now())
            with told_to_run():
                assert all(sink.lines[line] for line in all_lines(source.log[: offsets[TP]]))
            await commit(offsets)

        source.commit = watched
        runtime = start(source, sink)
        await runtime.run()
        assert source.committed == {TP: 300}
        values = [each[TP] for each in source.commits]
        assert values == sorted(set(values))
        assert len(times) > 3
        assert all(b - a >= 1.0 for a, b in pairwise(times[:-1]))
        assert runtime.ledger.balanced

    run(main())


def test_a_sink_outage_pauses_reading_and_recovery_delivers_everything():
    async def main():
        log = log_of(200)
        source, sink = ScriptedSource(log), ScriptedSink()
        sink.down = DOWN
        seen = []
        runtime = start(source, sink, budget=2000, on_progress=seen.append)
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(600)
        assert source.commits == []
        assert source.rooms[-1] <= 0  # paused, and still polling: the group keeps this member
        polls = len(source.rooms)
        await asyncio.sleep(60)
        assert len(source.rooms) > polls
        assert len(source.todo) > 100  # what it did not read, Kafka keeps
        assert seen[-1].trouble is DOWN
        sink.down = None
        summary = await task
        assert set(sink.lines) == all_lines(log)
        assert source.committed == {TP: 200}
        assert (summary.trouble, summary.unacked) == (None, 0)

    run(main())


def test_a_commit_failure_is_logged_counted_and_covered_by_the_next(caplog):
    async def main():
        source = ScriptedSource(log_of(60), end=False)
        source.commit_faults.extend([OSError("coordinator moved"), "hang", RuntimeError("odd")])
        runtime = start(source)
        task = asyncio.create_task(runtime.run())
        await until(lambda: source.committed == {TP: 60})
        runtime.stop()
        summary = await task
        assert (summary.commit_failures, summary.commits) == (3, 1)
        assert "coordinator moved" in caplog.text

    run(main())


def test_stop_settles_what_is_in_flight_commits_and_closes_the_source_last():
    async def main():
        log = log_of(100)
        source, sink = ScriptedSource(log, end=False), ScriptedSink(latency=lambda: 3.0)
        runtime = start(source, sink)
        task = asyncio.create_task(runtime.run())
        await until(lambda: sink.busy > 0)
        closed = []
        for part, name in ((sink, "sink"), (source, "source")):
            close = part.close

            async def note(name=name, close=close):
                closed.append(name)
                await close()

            part.close = note
        read = 100 - len(source.todo)
        runtime.stop()
        summary = await task
        assert closed == ["sink", "source"]
        assert source.committed == {TP: 100 - len(source.todo)}
        assert 100 - len(source.todo) <= read + 3
        assert summary.unacked == 0

    run(main())


def test_stop_in_an_outage_waits_for_the_grace_and_says_what_is_unacknowledged():
    async def main():
        source, sink = ScriptedSource(log_of(30), end=False), ScriptedSink(latency=lambda: 0.01)
        runtime = start(source, sink)
        task = asyncio.create_task(runtime.run())
        await until(lambda: source.committed == {TP: 30})
        source.todo.extend(record(at, bundle(1)) for at in range(30, 36))
        sink.down = DOWN
        await until(lambda: not source.todo)
        await asyncio.sleep(1)
        before = now()
        runtime.stop()
        summary = await task
        assert 25 <= now() - before < 36
        assert summary.unacked == 6
        assert source.committed == {TP: 30}
        assert source.closed

    run(main())


def test_stop_is_heard_while_a_poll_hangs():
    async def main():
        source = ScriptedSource(log_of(3), end=False)
        source.poll_faults.extend([None, "hang"])
        runtime = start(source)
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(500)
        assert source.committed == {TP: 3}  # commits, ages and progress do not wait for the poll
        runtime.stop()
        await task
        assert now() < 1510

    run(main())


def test_partitions_are_given_up_only_after_their_records_are_settled_and_committed():
    async def main():
        log = [record(at // 2, bundle(2), partition=at % 2) for at in range(100)]
        source, sink = ScriptedSource(log, step=7), ScriptedSink(latency=lambda: 0.5)
        runtime = start(source, sink)
        task = asyncio.create_task(runtime.run())
        for _ in range(3):
            await asyncio.sleep(0.17)
            await source.revoke()
            assert runtime.ledger.committable() == {}
        summary = await task
        assert set(sink.lines) == all_lines(log)
        assert source.committed == {TP: 50, TopicPartition("t", 1): 50}
        assert summary.late == 0
        assert sink.lines.total() <= len(all_lines(log)) + 4 * 2 * 7 * 2

    run(main())


def test_a_revoke_in_an_outage_gives_up_in_time_and_late_settlements_are_dropped(caplog):
    async def main():
        log = log_of(12)
        source, sink = ScriptedSource(log, end=False), ScriptedSink()
        sink.down = DOWN
        runtime = start(source, sink)
        task = asyncio.create_task(runtime.run())
        await until(lambda: len(sink.calls) > 12)
        before = now()
        await source.revoke()
        assert now() - before == pytest.approx(45, abs=1)
        assert "revoked with records in flight" in caplog.text
        await until(lambda: not source.todo)  # the new epoch reads them again
        sink.down = None
        await until(lambda: source.committed == {TP: 12})
        runtime.stop()
        summary = await task
        assert summary.late == 12
        assert set(sink.lines.values()) == {2}  # repeated, which the row id makes harmless; not lost
        assert runtime.ledger.balanced

    run(main())


@pytest.mark.parametrize("latency", [0.01, 2.0])
def test_records_of_an_assignment_that_has_ended_are_not_taken(latency):
    async def main():
        log = log_of(30)
        source, sink = (
            ScriptedSource(log, end=False),
            ScriptedSink(latency=lambda: latency),
        )
        runtime = start(source, sink)
        task = asyncio.create_task(runtime.run())
        await until(lambda: sink.calls)
        left = len(source.todo)
        await runtime.assignments.revoke([TP])  # the partition went away, but the source goes on with the old epoch
        before = dict(source.committed)
        await until(lambda: not source.todo)
        await asyncio.sleep(5)
        runtime.stop()
        summary = await task
        assert summary.stale == left > 0
        assert source.committed == before
        assert 0 < before[TP] <= 30 - left

    run(main())


def test_records_that_wait_are_dropped_at_a_revoke_and_those_on_their_way_stay_counted():
    async def main():
        source, sink = ScriptedSource(log_of(60), end=False, step=60), ScriptedSink()
        sink.down = DOWN
        runtime = start(source, sink, budget=4000)
        task = asyncio.create_task(runtime.run())
        await until(lambda: not source.todo)
        pipeline = runtime.pipeline
        await until(lambda: pipeline.counts.records)
        await asyncio.sleep(1)
        on_their_way = pipeline.counts.records
        assert on_their_way < 60
        assert pipeline.snapshot().in_flight == 60
        revoke = asyncio.create_task(source.revoke())
        await asyncio.sleep(1)
        assert pipeline.snapshot().in_flight == on_their_way
        sink.down = None
        await revoke
        await until(lambda: source.committed == {TP: 60})
        runtime.stop()
        await task

    run(main())


def test_an_older_commit_cannot_land_after_a_newer_one():
    async def main():
        source = ScriptedSource(log_of(400), end=False, step=1)
        landed = source.commits
        slow = asyncio.Event()
        commit = source.commit

        async def first_slow(offsets, /):
            if not slow.is_set():
                slow.set()
                await asyncio.sleep(8)
            await commit(offsets)

        source.commit = first_slow
        runtime = start(source)
        task = asyncio.create_task(runtime.run())
        await slow.wait()
        await asyncio.sleep(0.5)
        await source.revoke()
        await asyncio.sleep(30)
        assert source.committed == {TP: 400}
        runtime.stop()
        await task
        values = [each[TP] for each in landed]
        assert values == sorted(values)

    run(main())


def test_a_source_that_breaks_is_raised_after_what_it_brought_is_delivered():
    async def main():
        source, sink = ScriptedSource(log_of(20)), ScriptedSink(latency=lambda: 2.0)
        source.poll_faults.extend([None, None, SourceError("source.unreachable", "no route to broker")])
        with pytest.raises(SourceError, match="no route"):
            await start(source, sink).run()
        assert source.committed == {TP: 6}
        assert sink.closed
        assert source.closed

    run(main())


def test_a_source_that_breaks_in_an_outage_is_raised_after_the_grace():
    async def main():
        source, sink = ScriptedSource(log_of(20)), ScriptedSink()
        sink.down = DOWN
        source.poll_faults.extend([None, None, SourceError("source.unreachable", "no route to broker")])
        before = now()
        with pytest.raises(SourceError, match="no route"):
            await start(source, sink).run()
        assert 25 <= now() - before < 36
        assert source.commits == []

    run(main())


@pytest.mark.parametrize("fault", [asyncio.CancelledError(), OSError("gone")])
def test_a_source_that_cannot_close_keeps_nothing_from_closing(fault, caplog):
    async def main():
        source, sink = ScriptedSource(log_of(4)), ScriptedSink()
        source.close_fault = fault
        summary = await start(source, sink).run()
        assert summary.unacked == 0
        assert sink.closed
        assert "source" in caplog.text

    run(main())


def test_a_poll_cancelled_from_inside_is_an_error_of_the_source():
    async def main():
        source = ScriptedSource(log_of(4))
        source.poll_faults.append(asyncio.CancelledError())
        with pytest.raises(SourceError, match="client library cancelled"):
            await start(source).run()

    run(main())


@pytest.mark.parametrize("end", [True, False])
def test_a_bug_is_raised_not_swallowed_and_nothing_after_it_is_committed(end):
    async def main():
        log = log_of(9)
        log[4] = record(4, bundle(1, fault="bug"))
        source, sink = ScriptedSource(log, end=end, step=2), ScriptedSink()
        with pytest.raises(ZeroDivisionError):
            await start(source, sink).run()
        assert source.committed.get(TP, 0) <= 4
        assert source.closed

    run(main())


def test_a_missing_stream_ends_a_command_and_keeps_a_service_waiting(caplog):
    async def main():
        for code, reason in (
            ("ResourceNotFoundException", "sink.missing"),
            ("AccessDeniedException", "sink.denied"),
            ("sink.denied", "sink.denied"),
        ):
            source, sink = ScriptedSource(log_of(9)), ScriptedSink()
            sink.down = Failure(Kind.FATAL_CONFIG, code, "stream lm")
            before = now()
            with pytest.raises(SinkError) as e:
                await start(source, sink, policy=RuntimePolicy(fatal_patience=5)).run()
            assert e.value.reason == reason
            assert now() - before < 20
            assert source.commits == []
            assert source.closed

        caplog.clear()
        source, sink = ScriptedSource(log_of(90)), ScriptedSink()
        sink.down = MISSING
        runtime = start(source, sink)
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(600)
        assert runtime.progress().fatal is MISSING
        assert source.rooms[-1] == 0
        sink.down = None
        assert (await task).rows == 180
        # One alarm, under the code that its text has, and one all-clear.
        alarm, clear = [each for each in caplog.records if each.name == "lmstream.runtime.loop"]
        assert (alarm.reason, alarm.code, "LMS-4004" in alarm.message) == ("sink.missing", "LMS-4004", True)
        assert clear.message.startswith("the sink accepts rows again after")

    run(main())


def test_lines_of_a_quiet_topic_land_by_age():
    async def main():
        source, sink = ScriptedSource(log_of(1), end=False), ScriptedSink(limits=OBJECTS)
        runtime = start(source, sink, roll=RollPolicy(age=60))
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(59)
        assert sink.calls == []
        await until(lambda: source.committed == {TP: 1}, seconds=4)
        runtime.stop()
        await task

    run(main())


def test_one_record_that_stays_stuck_ends_reading_ahead_at_a_bound():
    async def main():
        log = [record(0, b"junk"), *log_of(500)[1:]]
        source, letters = ScriptedSource(log, step=5, end=False), ScriptedLetters([1] * 10**6)
        runtime = start(source, ScriptedSink(), letters, policy=RuntimePolicy(held_offsets=50))
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(600)
        assert 50 <= runtime.ledger.held <= 55
        assert source.committed == {}
        assert "No space left" in runtime.progress().trouble.message
        letters.script.clear()
        await until(lambda: source.committed == {TP: 500})
        runtime.stop()
        await task

    run(main())


def test_progress_is_told_a_few_times_a_second_and_at_the_end():
    async def main():
        seen = []
        source = ScriptedSource(log_of(300), step=1)
        runtime = start(source, on_progress=lambda p: seen.append((now(), p)))
        summary = await runtime.run()
        times = [at for at, _ in seen]
        assert 5 < len(seen) < 4 * summary.duration + 2
        assert all(b - a >= 0.25 for a, b in pairwise(times[:-1]))
        assert seen[-1][1] == summary
        rows = [p.rows for _, p in seen]
        assert rows == sorted(rows)

    run(main())


def test_cancelling_a_run_closes_everything():
    async def main():
        source, sink = ScriptedSource(log_of(9), end=False), ScriptedSink()
        task = asyncio.create_task(start(source, sink).run())
        await asyncio.sleep(3.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.closed
        assert sink.closed
        assert len(asyncio.all_tasks()) == 1

    run(main())


FAULTS = st.lists(
    st.one_of(
        st.none(),
        st.sampled_from([DOWN, "hang", "short", "lost", MISSING]),
        st.lists(st.booleans(), max_size=4),
        st.just(OSError("reset")),
    ),
    max_size=12,
)


class World:
    """A topic of two partitions and what is durable outside of any process: commits, landed rows, dead letters."""

    def __init__(self, values, seed, limits):
        self.random = Random(seed)
        self.limits = limits
        self.log = [record(at // 2, value, partition=at % 2) for at, value in enumerate(values)]
        self.committed = {}
        self.landed: set[bytes] = set()
        self.buried: set[str] = set()

    def check(self, committed):
        """Whatever is committed has landed, or is in a dead letter."""
        for each in self.log:
            if each.offset >= committed.get(each.tp, 0) or each.value is None:
                continue
            if each.value in {b"junk", BAD}:
                assert each.coordinates in self.buried
            if each.value != b"junk":
                assert all(line in self.landed for line in lines_of(each))

    async def life(self, script, seconds):
        """One process, from what is committed; it crashes after some seconds, or runs to the end."""
        random = self.random
        sink = ScriptedSink(script, limits=self.limits, latency=random.random)
        letters = ScriptedLetters(random.random() < 0.3 for _ in range(9))
        source = ScriptedSource(self.log, step=random.randint(1, 9), committed=self.committed)
        source.commit_faults.extend(random.choice([None, None, OSError("x"), "hang"]) for _ in range(3))
        commit = source.commit

        async def watched(offsets, /):
            await commit(offsets)
            self.look(sink, letters)
            with told_to_run():
                self.check(self.committed)

        source.commit = watched
        budget = random.choice([500, 4000, 10**6])
        runtime = start(source, sink, letters, seed=random.random(), budget=budget, roll=RollPolicy(age=3))
        task = asyncio.create_task(runtime.run())
        try:
            async with asyncio.timeout(seconds):
                while not task.done():
                    await asyncio.wait({task}, timeout=random.random() * 3)
                    if seconds is not None and random.random() < 0.3 and not source.closed:
                        await source.revoke()
        except TimeoutError:
            if random.random() < 0.5:
                runtime.stop()
            # A crash: nothing is flushed, nobody is asked.
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
            await asyncio.wait({task})
        else:
            assert (await task).unacked == 0
            assert runtime.ledger.balanced
            assert runtime.pipeline.balanced
        self.look(sink, letters)
        self.check(self.committed)

    def look(self, sink, letters):
        self.landed.update(sink.lines)
        self.buried.update(letters.by_record)


BAD = bundle(3, bad=1)
VALUES = st.sampled_from([bundle(1), bundle(9, paths=3), BAD, b"junk", None])


@settings(deadline=None, max_examples=120)
@given(
    st.lists(VALUES, min_size=1, max_size=30),
    st.lists(st.tuples(FAULTS, st.floats(0.01, 12)), max_size=4),
    st.sampled_from([LIMITS, OBJECTS]),
    st.integers(0, 10**6),
)
def test_no_record_is_lost_over_crashes_revokes_and_faults(values, lives, limits, seed):
    world = World(values, seed, limits)
    for script, seconds in lives:
        run(world.life(script, seconds))
    run(world.life([], None))
    ends = {each.tp: each.offset + 1 for each in world.log}
    assert all(offset <= ends[tp] for tp, offset in world.committed.items())
    world.check(ends)  # and what only the last commit missed
