"""The breaker: poison goes to the dead letters, a fault of ours or of the producer does not take the topic with it."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.delivery import BreakerPolicy, process
from lmstream.delivery.circuit_breaker import CircuitBreaker
from lmstream.errors import SinkError
from lmstream.interfaces import Batch
from lmstream.model import Status, TopicPartition
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import ScriptedLetters, ScriptedSink, ScriptedSource, now, run
from support.doubles import REFUSED, bundle, make, record
from support.wait import until

TP = TopicPartition("t", 0)
TEN = BreakerPolicy(records=10)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 12), st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_it_trips_exactly_when_a_full_window_holds_more_refusals_than_its_share(verdicts, size, share):
    breaker = CircuitBreaker(BreakerPolicy(records=size, share=share), "nobody took")
    expected = None
    for at, refused in enumerate(verdicts, 1):
        breaker.saw(refused=refused)
        window = verdicts[max(0, at - size) : at]
        if expected is None and size and at >= size and sum(window) > share * size:
            expected = f"nobody took {sum(window)} of the last {size} records"
        assert (breaker.tripped.message if breaker.tripped else None) == expected


def log_of(count, poison):
    return [record(n, b"junk" if poison(n) else bundle(2)) for n in range(count)]


def started(source, sink, letters, *, patience=None, breaker=TEN):
    pipeline = make(sink, letters, breaker=breaker)
    policy = RuntimePolicy(fatal_patience=patience, commit_interval=0.05, grace=5)
    return pipeline, Runtime(source, pipeline, clock=now, policy=policy)


def test_poison_below_the_share_goes_on_for_ever():
    async def scenario():
        source = ScriptedSource(log_of(300, lambda n: n % 2))
        pipeline, runtime = started(source, ScriptedSink(), ScriptedLetters())
        summary = await runtime.run()
        assert (summary.records, summary.dead_letters, summary.unacked, summary.fatal) == (300, 150, 0, None)
        assert source.committed == {TP: 300}
        assert pipeline.balanced

    run(scenario())


def test_a_topic_of_bad_records_stops_reading_alarms_and_keeps_what_was_not_dead_lettered(caplog):
    caplog.set_level(logging.ERROR)

    async def scenario():
        source = ScriptedSource(log_of(1000, lambda n: n >= 50), end=False)
        letters = ScriptedLetters()
        pipeline, runtime = started(source, ScriptedSink(), letters, patience=20)
        began = now()
        with pytest.raises(
            SinkError, match=r"LMS-4007 no row could be made from 6 of the last 10 records.*breaker"
        ) as e:
            await runtime.run()
        assert e.value.reason == "dead_letters.breaker"
        assert 20 <= now() - began < 25
        assert len(letters.letters) <= 6  # the topic was not dumped
        assert pipeline.counts.records < 100  # and reading had stopped
        # Committed is what is settled and not a record more: each that is behind is delivered or has its letter.
        dead = {each.offset for each in letters.letters}
        assert source.committed[TP] == 50 + len(dead)
        assert dead == set(range(50, 50 + len(dead)))
        assert pipeline.balanced
        assert pipeline.snapshot().in_flight > 0
        assert source.rooms[-1] <= 0

    run(scenario())
    (line,) = [r.message for r in caplog.records if r.name == "lmstream.runtime.loop"]
    assert "reading is paused until an operator acts: LMS-4007 no row could be made from 6 of the last 10" in line


def test_a_service_waits_paused_and_a_restart_after_the_mend_loses_nothing():
    async def scenario():
        log = log_of(120, lambda n: n >= 50)
        letters, sink = ScriptedLetters(), ScriptedSink()
        source = ScriptedSource(log, end=False)
        pipeline, runtime = started(source, sink, letters)
        running = asyncio.create_task(runtime.run())
        await until(lambda: pipeline.snapshot().tripped is not None)
        await asyncio.sleep(20)
        seen, committed = pipeline.counts.records, dict(source.committed)
        await asyncio.sleep(20)
        assert (pipeline.counts.records, source.committed) == (seen, committed)  # paused, and nothing moves
        assert runtime.progress().fatal.code == "dead_letters.breaker"
        runtime.stop()
        summary = await running
        assert summary.unacked > 0
        # The mend: those bytes are bundles now.
        mended = [record(n, bundle(2)) for n in range(120)]
        again = ScriptedSource(mended, committed=source.committed)
        sink.closed = letters.closed = False
        _, runtime = started(again, sink, letters)
        await runtime.run()
        assert again.committed == {TP: 120}
        dead = {each.offset for each in letters.letters}
        landed = {line.split(b":")[1].split(b"/")[2] for line in sink.lines}
        assert {int(n) for n in landed} | dead == set(range(120))

    run(scenario())


def test_points_without_a_row_count_as_refused_only_when_nothing_of_the_record_is_left():
    async def scenario():
        rejecting = [record(n, bundle(0, bad=3)) for n in range(40)]  # as when no organization is set
        source = ScriptedSource(rejecting)
        _, runtime = started(source, ScriptedSink(), ScriptedLetters(), patience=1)
        with pytest.raises(SinkError, match=r"dead_letters\.breaker"):
            await runtime.run()
        partly = ScriptedSource([record(n, bundle(1, bad=3)) for n in range(40)])
        _, runtime = started(partly, ScriptedSink(), ScriptedLetters())
        assert (await runtime.run()).dead_letters == 40
        empty = ScriptedSource([record(n, None if n % 2 else bundle(0, skipped=1)) for n in range(40)])
        _, runtime = started(empty, ScriptedSink(), ScriptedLetters())
        assert (await runtime.run()).records == 40

    run(scenario())


def test_a_sink_that_refuses_everything_for_good_does_not_dump_the_topic():
    async def scenario():
        sink, letters = ScriptedSink(), ScriptedLetters()
        sink.down = REFUSED
        source = ScriptedSource(log_of(400, lambda _: False), end=False)
        pipeline, runtime = started(source, sink, letters, patience=5)
        with pytest.raises(
            SinkError, match=r"the sink refused 6 of the last 10 records|the sink refused 10 of the last"
        ):
            await runtime.run()
        assert len(letters.letters) <= 10
        assert source.committed.get(TP, 0) == len(letters.letters)
        assert pipeline.balanced

    run(scenario())


def test_good_records_in_flight_are_still_delivered_and_revoke_is_not_held_up():
    async def scenario():
        sink = ScriptedSink(latency=lambda: 30.0)
        log = [record(n, bundle(1), partition=1) for n in range(9)] + [record(n, b"junk") for n in range(40)]
        source = ScriptedSource(log, step=49, end=False)
        pipeline, runtime = started(source, sink, ScriptedLetters(), patience=None)
        attempts = pipeline.outlet.way._attempts
        pipeline.outlet.way._attempts = attempts._replace(policy=type(attempts.policy)(timeout=60))
        running = asyncio.create_task(runtime.run())
        await until(lambda: pipeline.snapshot().tripped is not None)
        began = now()
        await source.revoke()
        assert now() - began < 45
        assert source.committed.get(TopicPartition("t", 1)) == 9
        runtime.stop()
        await running

    run(scenario())


def test_a_host_that_is_called_has_no_breaker_unless_it_asks_and_then_gives_the_rest_back():
    async def scenario():
        bad = Batch([record(n, b"junk") for n in range(200)])
        letters = ScriptedLetters()
        assert (await process(make(ScriptedSink(), letters), bad)).complete
        assert len(letters.letters) == 200
        letters = ScriptedLetters()
        pipeline = make(ScriptedSink(), letters, breaker=TEN)
        outcome = await process(pipeline, bad)
        assert [each.code for each in outcome.failures] == ["dead_letters.breaker"]
        assert outcome.statuses.count(Status.DEAD_LETTERED) == len(letters.letters) <= 10
        assert outcome.statuses.count(Status.PENDING) == 200 - len(letters.letters)
        assert pipeline.balanced
        assert pipeline.snapshot().in_flight == 0

    run(scenario())


def test_a_dead_letter_sink_that_is_down_is_announced_with_coordinates_and_its_return_too(caplog):
    caplog.set_level(logging.WARNING)

    async def scenario():
        log = [record(3, b"junk"), record(4, b"junk"), *(record(n, bundle(1), partition=1) for n in range(30))]
        letters = ScriptedLetters([True] * 6)
        source = ScriptedSource(log, end=False)
        pipeline, runtime = started(source, ScriptedSink(), letters)
        seen = []
        letters.on_write = lambda _: seen.append(runtime.progress().trouble)
        running = asyncio.create_task(runtime.run())
        await until(lambda: len(letters.letters) == 2 and source.committed.get(TopicPartition("t", 1)) == 30)
        assert "No space left on device" in seen[-1].message
        await asyncio.sleep(1)
        runtime.stop()
        summary = await running
        assert (summary.unacked, summary.trouble, source.committed[TP]) == (0, None, 5)
        assert pipeline.balanced

    run(scenario())
    down, back = [r.message for r in caplog.records if r.name == "lmstream.runtime.loop"]
    assert "dead letters cannot be written, t/0/3 and 1 more wait" in down
    assert back == "dead letters are durable again"


def stopped_by(values, *, down=None):
    """What a host that is called is told of the records that stopped it, and how many letters were written."""

    async def scenario():
        sink, letters = ScriptedSink(), ScriptedLetters()
        sink.down = down
        pipeline = make(sink, letters, breaker=TEN)
        for n, value in enumerate(values):
            await process(pipeline, Batch([record(n, value)]))
        assert pipeline.counts.records == 10  # none is begun after that
        tripped = pipeline.snapshot().tripped
        return (tripped.message if tripped else ""), len(letters.letters)

    return run(scenario())


def test_the_message_quotes_the_last_refusal_if_a_refusal_stopped_it():
    said, letters = stopped_by([bundle(1)] * 4 + [b"junk"] * 8)
    assert (said, letters) == (
        "no row could be made from 6 of the last 10 records, the last is t/0/9: decode.json: line 1",
        6,
    )
    said, letters = stopped_by([b"junk"] * 6 + [bundle(1)] * 4)
    assert (said, letters) == ("no row could be made from 6 of the last 10 records", 6)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_sink_that_refuses_is_quoted_too_however_few_rows_a_record_has(rows):
    said, letters = stopped_by([bundle(rows)] * 12, down=REFUSED)
    why = "t/0/9: sink.permanent: InvalidArgumentException: never"
    assert (said, letters) == (f"the sink refused 10 of the last 10 records, the last is {why}", 10)


def test_a_full_window_that_ends_with_a_row_taken_says_no_more_than_how_many_were_refused():
    async def scenario():
        sink = ScriptedSink([REFUSED] * 6)
        pipeline = make(sink, breaker=TEN)
        for n in range(10):
            await process(pipeline, Batch([record(n, bundle(1))]))
        return pipeline.snapshot().tripped.message

    assert run(scenario()) == "the sink refused 6 of the last 10 records"
