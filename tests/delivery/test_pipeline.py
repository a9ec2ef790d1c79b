"""The pipeline: a record that may be acknowledged has every row accepted by the sink, or a durable dead letter."""

import asyncio
import hashlib
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lmstream import Engine, Settings, __version__
from lmstream.delivery import RollPolicy, process_batch
from lmstream.delivery.dead_letter_writer import LETTER_WRITES
from lmstream.delivery.in_flight import OVERHEAD
from lmstream.delivery.memory_budget import QUEUED
from lmstream.interfaces import Batch
from lmstream.model import Record, Status, TopicPartition
from lmstream.testing import DOWN, LIMITS, ScriptedLetters, ScriptedSink, now, run
from support.doubles import BODIES, MISSING, OBJECTS, REFUSED, THROTTLED, bundle, lines_of, make, nobody, record
from support.wait import until

VALUES = st.one_of(
    st.none(),
    st.just(b"junk"),
    st.builds(
        bundle,
        st.integers(0, 14),
        bad=st.sampled_from([0, 0, 0, 2]),
        skipped=st.integers(0, 2),
        paths=st.integers(1, 3),
        fault=st.sampled_from(["", "", "", "memory"]),
    ),
)
STEPS = st.one_of(
    st.none(),
    st.sampled_from([DOWN, THROTTLED, "hang", "short", "lost", REFUSED, MISSING]),
    st.lists(st.sampled_from([False, True, REFUSED]), max_size=4),
    st.sampled_from([OSError("reset"), asyncio.CancelledError()]),
)


def check(each, status, sink, letters):
    """The promise, for one record that may be acknowledged."""
    letter = letters.by_record.get(each.coordinates)
    taken = sink.lines
    if status is Status.TOMBSTONE:
        assert each.value is None
    elif status is Status.DELIVERED:
        assert letter is None
        assert all(taken[line] for line in lines_of(each))
    elif status is Status.DEAD_LETTERED:
        assert letter.value == each.value
        assert letter.sha256 == hashlib.sha256(each.value).hexdigest()
        assert letter.record().tp == each.tp
        # Rejected points alone: the siblings landed. Otherwise the letter stands for the whole record.
        assert letter.rejected == () or all(taken[line] for line in lines_of(each))
        assert letter.rejected or letter.reason in {"decode.json", "limits.size", "sink.permanent"}


@settings(deadline=None, max_examples=150)
@given(
    st.lists(VALUES, max_size=10),
    st.lists(STEPS, max_size=15),
    st.lists(st.booleans(), max_size=5),
    st.sampled_from([LIMITS, OBJECTS]),
    st.one_of(st.none(), st.floats(0, 60)),
    st.sampled_from([50, 1000, 10**6]),
)
def test_process_acknowledges_only_what_is_durable(values, script, faults, limits, deadline, budget):
    async def main():
        sink = ScriptedSink(script, limits=limits, latency=lambda: 0.3)
        letters = ScriptedLetters(faults)
        pipeline = make(sink, letters, seed=len(script), budget=budget)
        sink.on_write = letters.on_write = lambda _: check_balance(pipeline)
        records = [record(at, value) for at, value in enumerate(values)]
        start = now()
        outcome = await process_batch.process(pipeline, Batch(records), None if deadline is None else start + deadline)
        assert len(outcome.statuses) == len(records)
        if deadline is None:
            assert outcome.complete
        else:
            assert now() - start <= deadline
        assert outcome.complete == (not outcome.failures)
        for each, status in zip(records, outcome.statuses, strict=True):
            check(each, status, sink, letters)
        check_balance(pipeline)
        assert (pipeline.snapshot().in_flight, pipeline.snapshot().in_flight_bytes, pipeline._flight.rows) == (0, 0, 0)
        assert outcome.dead_letters == outcome.statuses.count(Status.DEAD_LETTERED)
        assert len(letters.letters) == len(letters.by_record)  # one letter a bundle
        # The next invocation is as good as the first.
        sink.script.clear()
        letters.script.clear()
        again = await process_batch.process(pipeline, Batch([record(99, bundle(3))]))
        assert again.statuses == [Status.DELIVERED]
        assert (again.rows, again.dead_letters, again.skipped) == (3, 0, {})

    run(main())


def check_balance(pipeline):
    assert pipeline.balanced, pipeline.counts


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(VALUES, max_size=5), max_size=6),
    st.lists(STEPS, max_size=15),
    st.lists(st.booleans(), max_size=5),
    st.sampled_from([LIMITS, OBJECTS]),
    st.integers(1, 4000),
)
def test_submit_settles_each_record_once_whatever_the_schedule(batches, script, faults, limits, budget):
    async def main():
        latency = Random(budget)
        sink = ScriptedSink(script, limits=limits, latency=latency.random)
        letters = ScriptedLetters(faults)
        pipeline = make(sink, letters, budget=budget)
        sink.on_write = letters.on_write = lambda _: check_balance(pipeline)
        settled = {}
        records = {}

        def on_settled(tp, epoch, offset, status):
            assert (tp.partition, offset) not in settled
            settled[tp.partition, offset] = status
            assert epoch == 3
            check(records[tp.partition, offset], status, sink, letters)  # durable before it is said

        offset = 0
        for values in batches:
            some = [record(offset + at, value, partition=at % 2) for at, value in enumerate(values)]
            offset += len(some)
            records |= {(each.partition, each.offset): each for each in some}
            pipeline.submit(Batch(some, {each.tp: 3 for each in some}), on_settled)
            check_balance(pipeline)
            await asyncio.sleep(latency.random())
            pipeline.tick()
        await pipeline.drain()
        assert settled.keys() == records.keys()
        check_balance(pipeline)
        assert (pipeline.snapshot().in_flight, pipeline.snapshot().in_flight_bytes, pipeline._flight.rows) == (0, 0, 0)
        assert not pipeline.broken

    run(main())


def process(*values, script=(), faults=(), limits=LIMITS, deadline=None, **more):
    async def main():
        sink, letters = ScriptedSink(script, limits=limits), ScriptedLetters(faults)
        pipeline = make(sink, letters, **more)
        records = [v if isinstance(v, Record) else record(at, v) for at, v in enumerate(values)]
        outcome = await process_batch.process(pipeline, Batch(records), deadline and now() + deadline)
        await pipeline.close()
        return outcome, sink, letters, pipeline

    return run(main())


def test_bytes_that_are_no_bundle_are_dead_lettered_and_the_next_record_is_delivered():
    outcome, sink, letters, _ = process(b"junk", bundle(2))
    assert outcome.statuses == [Status.DEAD_LETTERED, Status.DELIVERED]
    assert sink.lines.total() == 2
    (letter,) = letters.letters
    assert (letter.reason, letter.code, letter.detail) == ("decode.json", "LMS-1002", "line 1")
    assert (letter.topic, letter.partition, letter.offset, letter.value) == ("t", 0, 0, b"junk")
    assert letter.version == __version__


def test_bad_points_are_named_in_one_letter_and_their_siblings_are_delivered():
    outcome, sink, letters, _ = process(bundle(7, bad=2, skipped=3))
    assert outcome.statuses == [Status.DEAD_LETTERED]
    assert (outcome.rows, outcome.skipped, outcome.rejected) == (7, {"value.nan": 3}, {"value.two": 2})
    assert sink.lines.total() == 7
    (letter,) = letters.letters
    assert letter.rejected == ((7, "value.two"), (8, "value.two"))
    assert letter.record().only == (7, 8)


def test_a_permanent_refusal_puts_the_whole_record_into_its_one_letter_and_spares_its_neighbours():
    outcome, sink, letters, pipeline = process(bundle(5, bad=1), bundle(5), bundle(5), script=[[REFUSED]])
    assert outcome.statuses == [Status.DEAD_LETTERED, Status.DELIVERED, Status.DELIVERED]
    (letter,) = letters.letters
    assert (letter.reason, letter.rejected, letter.record().only) == ("sink.permanent", (), None)
    assert "InvalidArgumentException: never" in letter.detail
    assert pipeline.counts.rows_dead == 5
    assert sink.lines.total() == 10


def test_a_pack_that_holds_lines_of_two_records_blames_both():
    outcome, _, letters, _ = process(bundle(2), bundle(2), bundle(3), script=[[REFUSED, False]])
    assert outcome.statuses == [Status.DEAD_LETTERED, Status.DEAD_LETTERED, Status.DELIVERED]
    assert len(letters.letters) == 2


def test_a_replay_of_single_points_that_fails_again_stays_one_of_those_points():
    outcome, _, letters, _ = process(record(0, bundle(2), only=(0, 1)), script=[REFUSED])
    assert outcome.statuses == [Status.DEAD_LETTERED]
    assert letters.letters[0].record().only == (0, 1)


def test_a_record_too_large_for_memory_is_a_dead_letter_and_a_bug_is_not():
    outcome, _, letters, _ = process(bundle(2, fault="memory"))
    assert outcome.statuses == [Status.DEAD_LETTERED]
    assert letters.letters[0].reason == "limits.size"
    with pytest.raises(ZeroDivisionError):
        process(bundle(2), bundle(2, fault="bug"))
    with pytest.raises(RuntimeError, match="t/0/0: 3 rows were made"):
        process(bundle(3, fault="short"))


def test_after_a_bug_the_next_batch_starts_anew():
    async def main():
        pipeline = make(ScriptedSink())
        with pytest.raises(ZeroDivisionError):
            await process_batch.process(pipeline, Batch([record(0, bundle(1)), record(1, bundle(1, fault="bug"))]))
        assert (await process_batch.process(pipeline, Batch([record(0, bundle(1))]))).complete
        assert pipeline.balanced

    run(main())


def test_the_letter_is_durable_before_the_record_is_called_dead_lettered():
    outcome, _, letters, _ = process(b"junk", faults=[1] * 10)
    assert outcome.statuses == [Status.DEAD_LETTERED]
    outcome, _, letters, _ = process(b"junk", bundle(1), faults=[1] * 1000, deadline=30)
    assert outcome.statuses == [Status.PENDING, Status.DELIVERED]
    assert letters.letters == []
    assert "No space left" in outcome.failures[0].message


def test_an_outage_past_the_deadline_leaves_records_pending_and_says_why():
    outcome, _, _, pipeline = process(None, bundle(30), bundle(1), script=[DOWN] * 1000, deadline=60)
    assert outcome.statuses == [Status.TOMBSTONE, Status.PENDING, Status.PENDING]
    assert DOWN in outcome.failures
    assert (pipeline.counts.given_back, pipeline.counts.rows_given_back) == (2, 31)


def test_a_deadline_too_short_for_any_request_gives_everything_back():
    outcome, sink, _, _ = process(bundle(3), deadline=4)
    assert outcome.statuses == [Status.PENDING]
    assert [each.code for each in outcome.failures] == ["not_tried"]
    assert sink.calls == []


def test_a_budget_that_is_full_when_the_deadline_ends_all_tries_does_not_hang():
    outcome, *_ = process(bundle(3), bundle(3), bundle(3), budget=50, deadline=4)
    assert outcome.statuses == [Status.PENDING] * 3


def test_a_wrong_configuration_is_never_a_dead_letter():
    outcome, _, letters, _ = process(bundle(3), script=[MISSING] * 9, deadline=600)
    assert outcome.statuses == [Status.PENDING]
    assert outcome.failures == [MISSING]
    assert letters.letters == []


def test_an_object_sink_gets_whole_paths_across_records():
    _, sink, _, _ = process(bundle(4, paths=2), bundle(4, paths=2), limits=OBJECTS)
    assert [(each.path, each.rows) for each in sink.accepted] == [("p0/", 4), ("p1/", 4)]


def test_object_sinks_gather_across_batches_until_the_age():
    async def main():
        sink = ScriptedSink(limits=OBJECTS)
        pipeline = make(sink, roll=RollPolicy(age=60))
        settled = []

        def told(*what):
            settled.append(what)

        for at in range(3):
            pipeline.submit(Batch([record(at, bundle(1))]), told)
            await asyncio.sleep(10)
            pipeline.tick()
        assert sink.calls == []
        await asyncio.sleep(30)
        pipeline.tick()
        await asyncio.sleep(1)
        assert [each.rows for each in sink.accepted] == [3]
        assert [what[2] for what in settled] == [0, 1, 2]

    run(main())


class LockedFor(ScriptedLetters):
    """Cannot write the letters of some partitions: refuses them, or does not answer at all."""

    def __init__(self, partitions, *, hang=False):
        super().__init__()
        self.locked, self.hang = set(partitions), hang
        self.busy = self.most_busy = 0

    async def write(self, letters, /):
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            if self.locked & {each.partition for each in letters}:
                await asyncio.sleep(10**6 if self.hang else 0.01)
                raise PermissionError(13, "Permission denied")
            await super().write(letters)
        finally:
            self.busy -= 1


@pytest.mark.parametrize("hang", [False, True])
def test_letters_that_cannot_be_written_hold_only_their_own_partition(hang):
    async def main():
        letters = LockedFor(range(20), hang=hang)
        pipeline = make(ScriptedSink(), letters)
        settled = {}

        def told(tp, _epoch, offset, _status):
            settled.setdefault(tp.partition, []).append(offset)

        for offset in range(3):
            pipeline.submit(Batch([record(offset, b"junk", partition=n) for n in range(21)]), told)
        await until(lambda: settled == {20: [0, 1, 2]}, 120)
        assert (pipeline.snapshot().oldest_letter, pipeline.snapshot().letters_waiting) == ("t/0/0", 60)
        assert pipeline.letters.trouble is not None
        assert letters.most_busy <= LETTER_WRITES
        assert pipeline.balanced
        letters.locked.clear()
        await pipeline.drain()
        assert settled == {n: [0, 1, 2] for n in range(21)}  # in order, each once
        assert len(letters.letters) == 63
        assert pipeline.letters.trouble is None
        assert (pipeline.snapshot().oldest_letter, pipeline.snapshot().letters_waiting) == ("", 0)

    run(main())


def test_packs_never_span_batches():
    async def main():
        sink = ScriptedSink()
        pipeline = make(sink)
        for at in range(3):
            pipeline.submit(Batch([record(2 * at, bundle(1)), record(2 * at + 1, bundle(1))]), nobody)
        await pipeline.drain()
        assert [each.rows for each in sink.accepted] == [2, 2, 2]

    run(main())


@pytest.mark.parametrize("limits", [LIMITS, BODIES, OBJECTS])
def test_bytes_in_flight_stay_within_the_budget_and_one_record(limits):
    """A record over the budget is still processed, alone: stopping for good would be worse."""

    async def main():
        sink = ScriptedSink(limits=limits, latency=lambda: 1.0)
        budget = 3000 + 10 * OVERHEAD
        pipeline = make(sink, budget=budget)
        most = 0
        offset = 0
        largest = len(bundle(40)) + sum(map(len, lines_of(record(1000, bundle(40))))) + OVERHEAD
        while offset < 60:
            while pipeline.room > 0 and offset < 60:
                pipeline.submit(Batch([record(offset, bundle(40 if offset % 7 == 0 else 4))]), nobody)
                offset += 1
                most = max(most, pipeline.snapshot().in_flight_bytes)
            await asyncio.sleep(0.05)
            most = max(most, pipeline.snapshot().in_flight_bytes)
        await pipeline.drain()
        assert pipeline.counts.delivered == 60
        body = limits.request_bytes if limits.base64 else 0  # one may always go
        assert budget // 2 < most <= budget + largest + body
        assert pipeline.room == budget // 4

    run(main())


def test_requests_go_side_by_side_only_while_their_bodies_fit_into_the_budget():
    async def main():
        sink = ScriptedSink(limits=BODIES)
        sink.down = DOWN
        pipeline = make(sink, budget=40 * OVERHEAD)
        offset, most = 0, 0
        end = now() + 60
        while now() < end:
            while pipeline.room > 0:
                pipeline.submit(Batch([record(offset, bundle(4))]), nobody)
                offset += 1
            await asyncio.sleep(0.05)
            most = max(most, pipeline.snapshot().body_bytes)
        free = pipeline.snapshot().budget - (pipeline.snapshot().in_flight_bytes - pipeline.snapshot().body_bytes)
        assert 0 < most <= free  # nothing is read into the part of the budget that is kept for bodies
        assert free >= pipeline.snapshot().budget // 5
        sink.down = None
        await pipeline.drain()
        assert pipeline.counts.delivered == offset
        assert pipeline.snapshot().body_bytes == 0

    run(main())


def test_a_request_larger_than_all_of_the_budget_goes_alone():
    async def main():
        sink = ScriptedSink(limits=BODIES)
        pipeline = make(sink, budget=OVERHEAD)
        for offset in range(20):
            pipeline.submit(Batch([record(offset, bundle(4))]), nobody)
        async with asyncio.timeout(60):
            await pipeline.drain()
        assert pipeline.counts.delivered == 20
        assert sink.most_busy == 1

    run(main())


def test_the_next_batch_is_transformed_while_the_last_one_is_delivered():
    async def main():
        sink = ScriptedSink(latency=lambda: 1.0)
        pipeline = make(sink)
        pipeline.submit(Batch([record(0, bundle(1))]), nobody)
        await asyncio.sleep(0.1)
        pipeline.submit(Batch([record(1, bundle(1))]), nobody)
        await asyncio.sleep(0.1)
        assert (len(sink.calls), sink.accepted) == (2, [])

    run(main())


def test_drain_of_some_partitions_does_not_wait_for_the_others():
    async def main():
        sink = ScriptedSink([lambda packs: "hang" if b"t/1/" in packs[0].data else None] * 9)
        pipeline = make(sink)
        pipeline.submit(Batch([record(0, bundle(1), partition=1)]), nobody)
        pipeline.submit(Batch([record(0, bundle(1))]), nobody)
        await pipeline.drain([TopicPartition("t", 0)])
        assert pipeline.counts.delivered == 1
        assert pipeline.snapshot().in_flight == 1
        pipeline.forget([TopicPartition("t", 1)])  # too late: it is being delivered, and stays counted
        assert pipeline.snapshot().in_flight == 1
        await pipeline.close()

    run(main())


def test_records_that_wait_are_forgotten_when_their_partition_goes():
    async def main():
        sink = ScriptedSink()
        pipeline = make(sink)
        pipeline.submit(Batch([record(0, bundle(1), partition=1), record(0, bundle(1))]), nobody)
        pipeline.forget([TopicPartition("t", 1)])
        await pipeline.drain()
        assert list(sink.lines) == lines_of(record(0, bundle(1)))
        assert (pipeline.snapshot().in_flight, pipeline.snapshot().in_flight_bytes, pipeline.balanced) == (0, 0, True)
        assert pipeline.room == QUEUED

    run(main())


def test_a_bug_in_the_background_is_raised_to_whoever_asks_next():
    async def main():
        pipeline = make(ScriptedSink())
        pipeline.submit(Batch([record(0, bundle(1, fault="bug"))]), nobody)
        with pytest.raises(ZeroDivisionError):
            await pipeline.drain()
        with pytest.raises(ZeroDivisionError):
            pipeline.submit(Batch([record(1, bundle(1))]), nobody)
        assert pipeline.room == 0

    run(main())


def test_a_bug_behind_a_verdict_is_raised_as_it_is():
    async def main():
        def broken(*_):
            raise LookupError("a bug in the host")

        pipeline = make(ScriptedSink())
        pipeline.submit(Batch([record(0, bundle(9))]), broken)
        with pytest.raises(LookupError):
            await pipeline.drain()

    run(main())


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 10), st.lists(STEPS, max_size=6), st.booleans())
def test_cancelling_process_leaves_nothing_running_and_the_pipeline_usable(when, script, by_path):
    async def main():
        sink = ScriptedSink(script, limits=OBJECTS if by_path else LIMITS, latency=lambda: 0.5)
        pipeline = make(sink)
        task = asyncio.create_task(process_batch.process(pipeline, Batch([record(at, bundle(5)) for at in range(6)])))
        await asyncio.sleep(when)
        task.cancel()
        await asyncio.wait({task})
        assert len(asyncio.all_tasks()) == 1
        assert (pipeline.snapshot().in_flight, pipeline.snapshot().in_flight_bytes, pipeline.balanced) == (0, 0, True)
        sink.script.clear()
        assert (await process_batch.process(pipeline, Batch([record(9, bundle(5))]))).complete

    run(main())


@pytest.mark.parametrize("limits", [LIMITS, OBJECTS])
def test_cancelling_process_in_the_middle_of_transforming_leaves_nothing_behind(limits):
    async def main():
        sink, letters = ScriptedSink(limits=limits), ScriptedLetters()
        pipeline = make(sink, letters)
        values = [b"junk", bundle(1), bundle(1, bad=1)] * 300
        for steps in range(6):
            task = asyncio.create_task(
                process_batch.process(pipeline, Batch([record(at, v) for at, v in enumerate(values)]))
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert (pipeline.snapshot().in_flight, pipeline.snapshot().in_flight_bytes, pipeline.balanced) == (
                0,
                0,
                True,
            )
            fresh = [record(10_000 + steps, bundle(1)), record(20_000 + steps, b"junk")]
            outcome = await process_batch.process(pipeline, Batch(fresh))
            assert outcome.statuses == [Status.DELIVERED, Status.DEAD_LETTERED]
            assert [each.rows for each in sink.accepted[-1:]] == [1]
            assert letters.letters[-1].offset == 20_000 + steps

    run(main())


def test_one_batch_at_a_time():
    async def main():
        pipeline = make(ScriptedSink())
        task = asyncio.create_task(process_batch.process(pipeline, Batch([record(0, bundle(5))])))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one batch at a time"):
            await process_batch.process(pipeline, Batch([]))
        assert (await task).complete

    run(main())


def test_close_closes_both_even_when_one_fails():
    async def main():
        sink, letters = ScriptedSink(), ScriptedLetters()

        async def broken():
            raise OSError("gone")

        letters.close = broken
        pipeline = make(sink, letters)
        with pytest.raises(OSError, match="gone"):
            await pipeline.close()
        assert sink.closed
        with pytest.raises(RuntimeError, match="closed"):
            pipeline.submit(Batch([]), nobody)

    run(main())


def test_the_real_engine_gives_the_same_rows_through_both_kinds_of_sink():
    point = b'{"timeUnixNano":"171526355836%d000000","asInt":"%d"}'
    value = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"cpu","gauge":{"dataPoints":[%b]}}]}]}]}'
    one = value % b",".join(point % (n % 10, n) for n in range(12))
    engine = Engine(Settings(org_id="acme"))
    wanted = sorted(engine.fan_out(record(0, one)).ndjson().splitlines())
    wide = {"pack_bytes": 3000, "pack_rows": 500, "request_bytes": 10_000}
    for limits in (LIMITS, OBJECTS):
        outcome, sink, _, _ = process(one, engine=engine, limits=replace(limits, **wide))
        assert outcome.statuses == [Status.DELIVERED]
        assert sorted(line for each in sink.accepted for line in each.data.splitlines()) == wanted
        assert all((each.path == "") == (limits is LIMITS) for each in sink.accepted)


@pytest.mark.parametrize(
    ("value", "header", "kept"),
    [(30_000, 10, (True, True)), (90_000, 10, (False, True)), (90_000, 90_000, (False, False))],
)
def test_a_letter_is_never_larger_than_its_sink_takes(value, header, kept):
    """A larger one would be tried again for ever, and its partition would stand still."""

    async def main():
        sink, letters = ScriptedSink(), ScriptedLetters()
        letters.largest = 80_000
        pipeline = make(sink, letters)
        whole = b"junk".ljust(value)
        outcome = await process_batch.process(
            pipeline, Batch([record(0, whole, key=b"k", headers=(("h", b"x" * header),)), record(1, bundle(2))])
        )
        assert outcome.statuses == [Status.DEAD_LETTERED, Status.DELIVERED]
        (letter,) = letters.letters
        assert (letter.value is not None, bool(letter.headers)) == kept
        assert letter.sha256 == hashlib.sha256(whole).hexdigest()
        assert len(msgspec.json.encode(letter)) <= letters.largest

    run(main())
