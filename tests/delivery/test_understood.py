"""Understood, or named: what a record counts as, what the breaker makes of it, and what its letter says."""

import asyncio
import contextlib
import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.delivery import BreakerPolicy, process, transform
from lmstream.delivery.in_flight import REJECTED, InFlight, Submission
from lmstream.errors import SinkError
from lmstream.interfaces import PARTS, Batch
from lmstream.lab.generator import Generator
from lmstream.model import Status
from lmstream.rules import Conditions, Rule
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import ScriptedLetters, ScriptedSink, ScriptedSource, now, run
from support.doubles import REFUSED, ToyEngine, ToyOut, bundle, make, nobody, record

TEN = BreakerPolicy(records=10)
KINDS = {
    "rows": bundle(2),
    "rows and parts": bundle(1, parts=2),
    "partly rejected": bundle(1, bad=1, skipped=1),
    "all rejected": bundle(0, bad=2),
    "rejected and skipped": bundle(0, bad=1, skipped=3),
    "all skipped": bundle(0, skipped=2),
    "empty": bundle(0),
    "empty but for unknown members": bundle(0, unknown=2),
    "parts alone": bundle(0, parts=1),
    "skipped and parts": bundle(0, skipped=1, parts=1),
    "too many parts": bundle(3, parts=PARTS + 1),
    "junk": b"junk",
    "tombstone": None,
}
REFUSALS = {"all rejected", "rejected and skipped", "parts alone", "skipped and parts", "too many parts", "junk"}
NO_VERDICT = {"all skipped", "empty", "empty but for unknown members", "tombstone"}


def runtime_of(values, *, breaker=None, sink=None, letters=None):
    source = ScriptedSource([record(n, value) for n, value in enumerate(values)])
    pipeline = make(sink or ScriptedSink(), letters or ScriptedLetters(), breaker=breaker)
    return pipeline, Runtime(source, pipeline, clock=now, policy=RuntimePolicy(fatal_patience=1, grace=5))


def summary_of(values, **more):
    async def scenario():
        pipeline, runtime = runtime_of(values, **more)
        summary = await runtime.run()
        assert pipeline.balanced
        return summary, pipeline.counts

    return run(scenario())


def trips(values):
    """What the breaker says when it trips over them; else nothing."""

    async def scenario():
        pipeline, runtime = runtime_of(values, breaker=TEN)
        with contextlib.suppress(SinkError):
            await runtime.run()
        assert pipeline.balanced
        return pipeline.snapshot().tripped.message if pipeline.snapshot().tripped else ""

    return run(scenario())


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=30))
def test_records_and_points_add_up_whatever_comes(kinds):
    summary, counts = summary_of([KINDS[kind] for kind in kinds])
    many = {kind: kinds.count(kind) for kind in KINDS}
    assert summary.records == len(kinds)
    assert summary.tombstones == many["tombstone"]
    assert summary.empty == many["empty"] + many["empty but for unknown members"]
    assert summary.undecodable == many["junk"] + many["too many parts"] + many["parts alone"]
    assert summary.all_skipped == many["all skipped"]
    assert summary.records == summary.understood + summary.empty + summary.undecodable + summary.tombstones
    assert summary.parts_undecodable == (2 * many["rows and parts"] + many["parts alone"] + many["skipped and parts"])
    points = sum(
        ToyEngine().fan_out(record(0, KINDS[kind])).points for kind in kinds if kind not in {"junk", "too many parts"}
    )
    skipped = sum(n for reason, n in summary.skipped.items() if reason != "record.tombstone")
    assert points == counts.rows + skipped + sum(summary.rejected.values())
    without = len(kinds) - many["tombstone"] - many["rows"] - many["rows and parts"] - many["partly rejected"]
    assert counts.topic_without_row.get("t", 0) == without
    assert counts.topic_rows.get("t", 0) == counts.rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_topic_of_one_kind_trips_the_breaker_exactly_when_its_records_are_refused(kind):
    assert bool(trips([KINDS[kind]] * 40)) == (kind in REFUSALS)


@pytest.mark.parametrize("kind", sorted(NO_VERDICT))
def test_nine_stale_records_to_one_good_one_stop_nothing(kind):
    assert not trips(([KINDS[kind]] * 9 + [KINDS["rows"]]) * 30)
    # And with some that are refused it is the share among those that can be judged.
    assert not trips(([KINDS[kind]] * 8 + [KINDS["rows"], KINDS["junk"]]) * 30)


@pytest.mark.parametrize("kind", sorted(NO_VERDICT))
@pytest.mark.parametrize("refused", sorted(REFUSALS))
def test_records_without_a_verdict_do_not_hide_that_all_others_are_refused(kind, refused):
    assert trips([KINDS[kind], KINDS[refused]] * 10)
    assert not trips([KINDS[kind], KINDS[refused]] * 9)  # a full window of refusals and no less


def test_what_tripped_it_is_in_the_message_and_each_record_up_to_there_has_its_letter():
    letters = ScriptedLetters()

    async def scenario():
        pipeline, runtime = runtime_of([bundle(0, bad=2)] * 40, breaker=TEN, letters=letters)
        with pytest.raises(SinkError) as e:
            await runtime.run()
        assert pipeline.balanced
        return str(e.value)

    text = run(scenario())
    assert "no row could be made from 10 of the last 10 records, the last is t/0/9: value.two: 2 data points" in text
    assert "metric m, $.points[0]: two values" in text
    assert [each.offset for each in letters.letters] == list(range(10))


def test_what_a_sink_refuses_for_good_is_quoted_too():
    sink = ScriptedSink()
    sink.down = REFUSED
    with pytest.raises(SinkError, match=r"the sink refused .* the last is t/0/\d+: sink\.permanent: Invalid.*never"):
        summary_of([bundle(1)] * 40, breaker=TEN, sink=sink)


def letters_of(*values, **more):
    letters = ScriptedLetters()

    async def scenario():
        pipeline = make(ScriptedSink(), letters)
        outcome = await process(pipeline, Batch([record(n, v, **more) for n, v in enumerate(values)]))
        assert pipeline.balanced
        assert pipeline.snapshot().in_flight_bytes == 0
        assert set(outcome.statuses) <= {Status.DEAD_LETTERED, Status.DELIVERED}
        return outcome

    return letters.letters, run(scenario())


def test_a_letter_names_points_and_parts_and_says_of_the_first_where_it_is_and_why():
    both, points, parts = letters_of(bundle(1, bad=2, parts=2), bundle(1, bad=1), bundle(1, parts=1))[0]
    assert both.rejected == ((1, "value.two"), (2, "value.two"))
    assert both.parts == (("$.parts[0]", "decode.type"), ("$.parts[1]", "decode.type"))
    assert (both.reason, both.code) == ("value.two", "LMS-1104")
    assert both.detail == (
        "2 data points produced no row, the first is number 1: metric m, $.points[1]: two values; "
        "2 parts in which no points can be counted, the first is $.parts[0]: 0 is no part"
    )
    assert (points.parts, points.record().below, points.record().only) == ((), (), (1,))
    assert points.detail.startswith("1 data point produced no row, the first is number 1: metric m")
    assert (parts.reason, parts.code, parts.rejected) == ("decode.type", "LMS-1006", ())
    assert (parts.record().only, parts.record().below) == ((), ("$.parts[0]",))


def test_a_point_that_became_nothing_is_a_bug_and_acknowledges_nothing():
    class Forgetful(ToyEngine):
        def fan_out(self, each):
            out = super().fan_out(each)
            out.points += 1
            return out

    async def scenario():
        pipeline = make(ScriptedSink(), ScriptedLetters())
        pipeline.outlet._transform.engine = Forgetful()
        with pytest.raises(
            RuntimeError, match="t/0/0: 4 points were read, but 3 became a row, skipped, dropped or rejected"
        ):
            await process(pipeline, Batch([record(0, bundle(1, bad=1, skipped=1))]))
        assert pipeline.counts.delivered == pipeline.counts.dead_letters == 0
        # Of a replay the rest has been judged before.
        await process(pipeline, Batch([record(0, bundle(1, bad=1), only=(0,))]))

    run(scenario())


@pytest.mark.parametrize("error", [MemoryError(), KeyError("count"), RecursionError()])
def test_words_that_fail_cost_no_letter(error, monkeypatch):
    def why(*_):
        raise error

    monkeypatch.setattr(ToyOut, "why", why)
    (letter,), outcome = letters_of(bundle(1, bad=1))
    assert (letter.rejected, outcome.rows) == (((1, "value.two"),), 1)
    assert letter.detail.endswith(f"number 1: its place is unknown ({type(error).__name__})")


def test_more_parts_than_a_letter_names_refuse_the_whole_record_and_nothing_of_it_lands():
    letters, outcome = letters_of(bundle(1, parts=PARTS), bundle(1, parts=PARTS + 1))
    most, over = sorted(letters, key=lambda each: each.offset)
    assert len(most.parts) == PARTS
    assert outcome.rows == 1
    assert (over.parts, over.rejected, over.reason) == ((), (), "decode.type")
    assert "all of the record is refused" in over.detail
    assert "$.parts[0]: 0 is no part" in over.detail
    assert over.record().only is None


def test_a_replay_that_is_refused_as_a_whole_keeps_what_its_letter_was_about():
    (letter,), _ = letters_of(b"junk", only=(3,), below=("$.parts[4]",))
    assert letter.rejected == ((3, "decode.json"),)
    assert letter.parts == (("$.parts[4]", "decode.json"),)


def test_parts_are_held_against_the_budget_until_their_letter_is_durable():
    async def scenario():
        letters = ScriptedLetters([True])
        pipeline = make(ScriptedSink(), letters)
        held = []
        letters.on_write = lambda _: held.append(pipeline.snapshot().in_flight_bytes)
        await process(pipeline, Batch([record(0, bundle(0, skipped=1, parts=500))]))
        assert held[0] >= 500 * (REJECTED + len("$.parts[0]"))
        assert pipeline.snapshot().in_flight_bytes == 0

    run(scenario())


def test_a_letter_with_many_parts_leaves_its_value_out_rather_than_growing_over_its_place():
    (plain,), _ = letters_of(msgspec.json.encode({**msgspec.json.decode(bundle(1, parts=900)), "x": "y" * 4000}))
    assert plain.value is not None
    letters = ScriptedLetters()
    letters.largest = 100_000
    run(process(make(ScriptedSink(), letters), Batch([record(0, bundle(1, parts=900))])))
    assert letters.letters[0].value is None
    assert len(letters.letters[0].parts) == 900


def test_unknown_members_are_told_of_once_by_name_with_a_record_that_has_them(caplog):
    caplog.set_level(logging.WARNING)
    summary, _ = summary_of([bundle(1), bundle(1, unknown=2), bundle(1, unknown=30), bundle(1, unknown=3)])
    assert summary.unknown == [f"$.items[{n}].odd{n}" for n in range(10)]
    (line,) = [r for r in caplog.records if r.name == "lmstream.runtime.loop"]
    assert line.message.startswith("t/0/1: fields that OTLP metrics do not define")
    assert "$.items[0].odd0, $.items[1].odd1" in line.message
    assert (line.code, line.reason) == ("LMS-1018", "decode.not_understood")


def test_the_same_unknown_member_at_many_places_is_one_name():
    flight = InFlight()
    for n in range(20):
        out = ToyEngine().fan_out(record(n, bundle(1)))
        out.unknown = (f"$.metrics[{n}].intGauge", f"$.metrics[{n}].odd{n % 3}")
        flight.encoded(flight.track(record(n, b""), Submission(nobody)), out, 0)
    assert flight.unknown == {
        "$.metrics[0].intGauge": "t/0/0",
        "$.metrics[0].odd0": "t/0/0",
        "$.metrics[1].odd1": "t/0/1",
        "$.metrics[2].odd2": "t/0/2",
    }


def test_a_record_that_kills_its_processes_is_neither_understood_nor_undecodable():
    class Deadly:
        def deaths(self, _):
            return 3

        def forget(self, _):
            pass

        def close(self):
            pass

    async def scenario():
        pipeline = make(ScriptedSink(), ScriptedLetters(), guard=Deadly())
        await process(pipeline, Batch([record(0, bundle(1))]))
        c = pipeline.counts
        assert (c.records, c.killers, c.understood, c.undecodable) == (1, 1, 0, 0)
        assert pipeline.balanced
        await asyncio.sleep(0)

    run(scenario())


def test_rules_that_apply_to_nothing_are_told_once_with_a_code(caplog, monkeypatch):
    monkeypatch.setattr(transform, "IDLE_AFTER", 2)
    rule = Rule(name="misspelled", when=Conditions(metric="CpuUsgae"), drop=True)
    engine = Engine(Settings(org_id="acme", rules=(rule,)))
    payload = next(Generator().bundles()).payload

    async def scenario():
        pipeline = make(ScriptedSink(), ScriptedLetters(), engine=engine)
        for offset in range(3):
            await process(pipeline, Batch([record(offset, payload)]))

    run(scenario())
    told = [(each.getMessage(), each.code) for each in caplog.records if "engine.rules" in each.getMessage()]
    assert [code for _, code in told] == ["LMS-2001"]
    assert "misspelled" in told[0][0]
