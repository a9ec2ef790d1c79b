"""Readiness: false while nothing settles, with the reason and since when; true again by itself, and it stops nothing."""

import asyncio
import time

import pytest

from lmstream.abilities import Health
from lmstream.behind import Look, Retention
from lmstream.delivery import BreakerPolicy
from lmstream.interfaces import Standing
from lmstream.model import TopicPartition
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import DOWN, ScriptedLetters, ScriptedSink, ScriptedSource, now, run
from support.doubles import MISSING, OBJECTS, bundle, make, record

TP = TopicPartition("t", 0)
WITHIN = 10.0  # two requests of 5 s, the timeout of `make`


class Log(ScriptedSource):
    """One that knows its partition, how far it is committed, and how it is."""

    health = Health(state="running")
    last = None

    def standings(self):
        return {TP: Standing(self.committed.get(TP), len(self.log) if self.last is None else self.last)}


GOOD = (bundle(2),) * 3


def watched(story, *, values=GOOD, sink=None, letters=None, **more):
    """Run a story on a run of `values` that ends with it."""

    async def scenario():
        source = Log([record(n, value) for n, value in enumerate(values)], end=False)
        pipeline = make(sink or ScriptedSink(), letters, **more)
        runtime = Runtime(source, pipeline, clock=now, policy=RuntimePolicy(grace=1))
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(1)
        await story(Readings(runtime), runtime)
        runtime.stop()
        await task

    run(scenario())


def hang(_packs):
    return "hang"


@pytest.mark.parametrize("kind", ["hangs", "fails"])
def test_a_sink_that_takes_nothing_makes_the_run_not_ready_in_two_timeouts_and_ready_again_when_it_does(kind):
    sink = ScriptedSink([hang] * 20 if kind == "hangs" else ())
    sink.down = DOWN if kind == "fails" else None

    async def story(readings, runtime):
        assert readings.ready()[:2] == (True, "running"), "a retry is an everyday thing"
        await asyncio.sleep(WITHIN - 2)
        found = readings.ready()
        assert found.ready
        assert found.why.startswith("running; 3 records in flight, none is settled: ")
        assert found.why.endswith(" for 9 s; not ready after 10 s"), "the bound is said"
        await asyncio.sleep(2)
        found = readings.ready()
        assert not found.ready
        assert found.why.startswith("3 records in flight, none is settled: the sink: ")
        assert ("unknown_outcome" if kind == "hangs" else DOWN.code) in found.why
        assert found.since == pytest.approx(time.time() - 11, abs=1)
        assert str(found).endswith("Z")
        before = len(sink.calls)
        sink.down, sink.script = None, type(sink.script)()
        await asyncio.sleep(60)
        assert len(sink.calls) > before, "readiness says, and stops nothing"
        assert tuple(readings.ready()) == (True, "running", None)
        assert not runtime.snapshot().pipeline.in_flight

    watched(story, sink=sink)


def test_lines_that_are_gathered_for_an_object_are_nothing_that_does_not_settle():
    async def story(readings, runtime):
        assert runtime.pipeline.settles_within == WITHIN + 60
        await asyncio.sleep(55)
        assert runtime.snapshot().pipeline.in_flight
        assert readings.ready().ready

    watched(story, sink=ScriptedSink(limits=OBJECTS))


def test_a_record_after_minutes_of_quiet_does_not_make_it_not_ready():
    sink = ScriptedSink()

    async def story(readings, runtime):
        await asyncio.sleep(300)
        sink.down = DOWN
        runtime.source.todo.append(record(3, bundle(1)))
        await asyncio.sleep(1)
        assert runtime.snapshot().pipeline.in_flight
        assert readings.ready().ready

    watched(story, sink=sink)


def test_dead_letters_that_cannot_be_written_make_it_not_ready_though_other_records_settle():
    values = [b"junk", *[bundle(1)] * 4]

    async def story(readings, runtime):
        assert readings.ready().ready
        at = readings._since["letters"]
        readings._since["letters"] = at - WITHIN
        found = readings.ready()
        assert not found.ready
        assert found.why.startswith("dead letters cannot be written, t/0/0 and 0 more wait: ")
        assert "No space left" in found.why
        runtime.pipeline.letters._sink.script.clear()
        await asyncio.sleep(60)
        assert readings.ready().ready

    watched(story, values=values, letters=ScriptedLetters([True] * 1000))


def test_a_fault_that_is_young_does_not_hide_one_that_is_old():
    sink = ScriptedSink()
    sink.down = DOWN

    async def story(readings, runtime):
        await asyncio.sleep(WITHIN)
        assert runtime.snapshot().pipeline.letters_trouble is not None
        found = readings.ready()  # for the first time: the letters have only just been seen to fail
        assert not found.ready
        assert found.why.startswith("5 records in flight, none is settled: the sink: ")

    watched(story, values=[b"junk", *[bundle(1)] * 4], sink=sink, letters=ScriptedLetters([True] * 1000))


def test_an_open_circuit_breaker_and_a_sink_that_is_not_there_are_said_at_once():
    async def breaker(readings, _runtime):
        found = readings.ready()
        assert not found.ready
        assert found.why.startswith("paused: LMS-4007 ")

    watched(breaker, values=[b"junk"] * 9, breaker=BreakerPolicy(records=5))
    sink = ScriptedSink()
    sink.down = MISSING

    async def missing(readings, _runtime):
        found = readings.ready()
        assert not found.ready
        assert found.why.startswith("paused: LMS-4004 ")
        assert found.since == pytest.approx(time.time(), abs=5)

    watched(missing, sink=sink)


def test_records_that_wait_and_are_not_read_make_it_not_ready():
    async def story(readings, runtime):
        assert readings.ready().ready
        runtime.source.last = 40  # and the broker gives none of them out
        assert readings.ready().ready
        (kind,) = readings._since
        readings._since[kind] -= WITHIN
        found = readings.ready()
        assert not found.ready
        assert (
            found.why
            == "37 records wait, none is read: the brokers give none out, as for an open transaction or a quota"
        )
        runtime.source.health = Health(state="running", unreadable={TP: "t/0: offsets 3 to 9 are damaged"})
        assert readings.ready().why.endswith("none is read: t/0: offsets 3 to 9 are damaged")

    watched(story)


def test_it_is_said_how_far_it_is_behind_while_reading_goes_on_and_while_it_does_not():
    sink = ScriptedSink()
    sink.down = DOWN

    async def story(readings, runtime):
        (found,) = readings.partitions()
        assert (found.committed, found.records) == (None, 3), "never committed is behind, too"
        assert found.seconds == pytest.approx(100, abs=5)
        assert "retention is unknown: the brokers do not report it" in readings.behind()
        readings.retentions = {"t": Retention(3600.0)}
        readings.looked({TP: Look(0, 160, 0, (0, runtime.source.log[0].timestamp))}, 0)
        (found,) = readings.partitions()
        assert found.records == 160, "the end is asked for while nothing is read"
        assert found.loss == pytest.approx(3500, abs=5)
        assert "1 partition is not settled" in readings.last_words()
        assert readings.last_words().endswith("(in 58.3 min): start again before")
        runtime.source.health = Health(state="running", rebalances=1)
        (found,) = readings.partitions()
        assert (found.records, found.begin) == (3, None), "after a rebalance it may be another topic of that name"

    at = int((time.time() - 100) * 1000)
    values = [record(n, bundle(1), timestamp=at + n) for n in range(3)]

    async def scenario():
        runtime = Runtime(Log(values, end=False), make(sink), clock=now, policy=RuntimePolicy(grace=1))
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(1)
        await story(Readings(runtime), runtime)
        runtime.stop()
        await task

    run(scenario())


def test_a_stop_while_the_brokers_are_away_says_what_was_known_last():
    sink = ScriptedSink()
    sink.down = DOWN

    async def story(readings, runtime):
        assert not readings.ready().ready or readings.behind()
        source = runtime.source
        source.health = Health(state="recreating", last_error="the brokers are away")
        source.standings = dict
        assert not readings.ready().ready
        assert readings.behind() == ""
        assert readings.last_words().startswith("1 partition is not settled")

    watched(story, sink=sink)


def test_a_stop_of_a_run_that_settled_all_it_read_has_no_last_words():
    async def story(readings, runtime):
        await asyncio.sleep(5)
        readings.retentions = {"t": Retention(3600.0)}
        assert readings.behind() == ""
        assert readings.last_words() == ""
        runtime.source.last = 9  # more came a moment ago, as always
        assert readings.behind()
        assert readings.last_words() == ""

    watched(story)


def test_what_is_left_is_looked_at_before_anything_is_closed_also_when_the_run_breaks():
    seen = []

    async def scenario(fault):
        sink = ScriptedSink()
        sink.down = DOWN
        source = Log([record(0, bundle(1))], end=False)
        runtime = Runtime(source, make(sink), clock=now, policy=RuntimePolicy(grace=1))
        readings = Readings(runtime)
        runtime.on_close = lambda: seen.append((source.closed, sink.closed, readings.last_words()))
        task = asyncio.create_task(runtime.run())
        await asyncio.sleep(1)
        if fault:
            source.poll_faults.append(ValueError("a bug of the client"))
        else:
            runtime.stop()
        await asyncio.wait({task})
        assert (task.exception() is not None) == fault
        assert source.closed
        assert sink.closed

    for fault in (False, True):
        run(scenario(fault))
    assert [each[:2] for each in seen] == [(False, False)] * 2
    assert all(each[2].startswith("1 partition is not settled") for each in seen)
