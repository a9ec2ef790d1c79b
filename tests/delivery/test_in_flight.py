"""What is on its way: the oldest of each partition, what is given back, and that its books balance."""

import logging
from types import SimpleNamespace

import pytest
from msgspec.structs import asdict

from lmstream.delivery.active_partitions import ActivePartitions
from lmstream.delivery.circuit_breaker import BreakerPolicy, CircuitBreakers
from lmstream.delivery.in_flight import REJECTED, InFlight, Submission
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.delivery.settlement import Settlement
from lmstream.interfaces import Batch, LostPart
from lmstream.model import Failure, Kind, Pack, Record, Status
from lmstream.testing import ScriptedLetters, ScriptedSink, run
from support.doubles import REFUSED, ToyEngine, bundle, make, nobody, record


def test_the_oldest_of_each_partition_is_the_one_that_came_first():
    flight = InFlight()
    assert flight.oldest() == {}
    records = [record(5, b"a"), record(3, b"b", partition=1), record(6, b"c"), record(4, b"d", partition=1)]
    tracked = [flight.track(each, Submission(nobody)) for each in records]
    assert flight.oldest() == {records[0].tp: records[0], records[1].tp: records[1]}
    flight.drop(tracked[0])
    assert flight.oldest() == {records[2].tp: records[2], records[1].tp: records[1]}
    flight.drop(tracked[2])
    assert flight.oldest() == {records[1].tp: records[1]}
    assert not flight.holds(records[0].tp)
    assert flight.holds(records[1].tp)


def test_why_records_are_left_is_one_failure_of_each_code():
    submission = Submission(nobody)
    first, other = Failure(Kind.RETRYABLE, "a", "x"), Failure(Kind.RETRYABLE, "b", "y")
    for each in (first, other, Failure(Kind.RETRYABLE, "a", "later")):
        submission.gave_up(each)
    assert submission.failures == {"a": first, "b": other}


def test_a_submission_is_over_from_its_deadline_on_and_never_without_one():
    assert [Submission(nobody, 5.0).is_over(lambda at=at: at) for at in (4.9, 5.0, 5.1)] == [False, True, True]
    assert not Submission(nobody).is_over(lambda: 1e9)


def test_a_record_begins_with_nothing_found_in_it():
    each = InFlight().track(record(0, b"a"), Submission(nobody))
    assert (each.points, each.lines, each.remaining, each.refused) == (0, 0, 0, 0)
    assert (each.rejected, each.parts, each.names, each.detail, each.why, each.epoch) == ((), (), "otlp", "", None, 0)


@pytest.mark.parametrize("wrong", ["records", "rows", "points"])
def test_books_that_do_not_balance_are_told(wrong):
    flight = InFlight()
    assert flight.balanced(0)
    flight.track(record(0, b"a"), Submission(nobody))
    assert flight.balanced(1)
    assert not flight.balanced(0)
    flight.counts.records += 1
    flight.counts.unjudged += 1
    assert flight.balanced(0)
    setattr(flight.counts, wrong, getattr(flight.counts, wrong) + 1)
    assert not flight.balanced(0)


def test_a_record_that_is_given_back_takes_its_refused_rows_along():
    flight = InFlight()
    each = flight.track(record(0, b"a"), Submission(nobody))
    flight.counts.records += 1
    each.remaining, each.refused = 5, 2
    flight.give_back(each)
    assert (flight.counts.given_back, flight.counts.rows_given_back, flight.records) == (1, 7, {})
    again = flight.track(record(1, b"a"), Submission(nobody))
    again.remaining = 1
    flight.give_back(again)
    assert (flight.counts.given_back, flight.counts.rows_given_back) == (2, 8)


def judged(**of):
    """The counts of one record that made no row."""
    flight = InFlight()
    each = flight.track(record(0, b"a"), Submission(nobody))
    out = {
        "rows": 0,
        "points": 0,
        "skipped": {},
        "dropped": {},
        "noted": {},
        "rejected": (),
        "parts": (),
        "unknown": (),
    } | of
    flight.encoded(each, SimpleNamespace(**out), 0)
    c = flight.counts
    return c.understood, c.all_skipped, c.undecodable, c.empty, c.topic_without_row


@pytest.mark.parametrize(
    ("of", "wanted"),
    [
        ({}, (0, 0, 0, 1)),
        ({"points": 3, "skipped": {"value.nan": 3}}, (1, 1, 0, 0)),
        ({"points": 1, "rejected": ((0, "value.two"),)}, (1, 0, 0, 0)),
        ({"rejected": ((0, "value.two"),)}, (1, 0, 0, 0)),  # a replay of one point
        ({"skipped": {"value.nan": 1}}, (1, 1, 0, 0)),
        ({"points": 1}, (1, 1, 0, 0)),
    ],
)
def test_a_record_without_a_row_is_in_one_place_of_the_sum(of, wanted):
    *found, topics = judged(**of)
    assert tuple(found) == wanted
    assert list(topics.values()) == [1]


def test_what_a_letter_will_hold_is_held_in_memory_until_then():
    budget = MemoryBudget()
    flight = InFlight(budget)
    each = flight.track(record(0, b"a"), Submission(nobody))
    before, each.detail = budget.held, "d" * 50
    lost = LostPart("$.x", "decode.type", "why")
    out = {
        "rows": 0,
        "points": 2,
        "skipped": {},
        "dropped": {},
        "noted": {},
        "rejected": ((0, "a"), (1, "b")),
        "parts": (lost,),
    }
    flight.encoded(each, SimpleNamespace(**out, unknown=()), 7)
    assert budget.held - before == 7 + 3 * REJECTED + len("$.x") + 50
    flight.drop(each)
    assert budget.held == 0


@pytest.mark.parametrize("full", [False, True])
def test_the_deaths_of_a_record_are_forgotten_when_it_is_settled(caplog, full):
    forgotten, settled = [], []

    class Guard:
        def deaths(self, each):
            return each.offset == 1

        def enter(self, _):
            pass

        def leave(self):
            pass

        def close(self):
            pass

        def forget(self, each):
            forgotten.append(each.offset)
            if full:
                raise OSError(28, "No space left on device")

    async def scenario():
        pipeline = make(ScriptedSink(), ScriptedLetters(), guard=Guard())
        pipeline.submit(Batch([record(n, bundle(1)) for n in range(3)]), lambda *each: settled.append(each[2:]))
        await pipeline.drain()
        await pipeline.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert forgotten == [1]
    assert sorted(settled) == [(n, Status.DELIVERED) for n in range(3)]
    told = [(each.getMessage(), getattr(each, "code", None)) for each in caplog.records]
    what = "t/0/1 is settled, but the crash journal cannot be written: [Errno 28] No space left on device"
    assert told == ([(what, "LMS-4005")] if full else [])


class Noting(ToyEngine):
    """Notes something about each record that is read."""

    def fan_out(self, each):
        out = super().fan_out(each)
        out.noted = {"time.future": 2}
        return out


def counted(values, script=()):
    """What is counted of these records, what their letters say, and who was told of them."""
    told = []

    async def scenario():
        sink, letters = ScriptedSink(script), ScriptedLetters()
        pipeline = make(sink, letters, engine=Noting())
        records = [each if isinstance(each, Record) else record(n, each) for n, each in enumerate(values)]
        pipeline.submit(Batch(records, {records[0].tp: 7}), lambda *each: told.append(each))
        await pipeline.drain()
        await pipeline.close()
        assert pipeline.balanced
        return {name: value for name, value in asdict(pipeline.counts).items() if value}, letters.letters

    counts, letters = run(scenario())
    assert {each[:2] for each in told} == {(record(0, b"").tp, 7)}
    return counts, {each.offset: each for each in letters}, {each[2]: each[3] for each in told}


def test_every_kind_of_record_is_counted_as_what_it_is_each_time():
    whole = [bundle(2), bundle(3)]
    partly = [bundle(1, parts=2), bundle(2, parts=1), bundle(1, bad=1, skipped=1), bundle(2, bad=2, skipped=2)]
    refused = [bundle(0, bad=2), bundle(0, bad=1), bundle(0, parts=1), bundle(0, parts=3), b"junk", b"junk"]
    skipped = [bundle(0, skipped=2), bundle(0, skipped=3)]
    empty = [bundle(0), bundle(0), bundle(0, unknown=2)]
    values = [*whole, *partly, *refused, *skipped, *empty, None, None, None]
    counts, letters, told = counted(values)
    assert counts == {
        "records": 20,
        "understood": 10,
        "empty": 3,
        "undecodable": 4,
        "valueless": 3,
        "all_skipped": 2,
        "parts_undecodable": 7,
        "topic_rows": {"t": 11},
        "topic_without_row": {"t": 11},
        "tombstones": 3,
        "delivered": 7,
        "dead_letters": 10,
        "points": 25,
        "rows": 11,
        "accepted": 11,
        "skipped": {"value.nan": 8, "record.tombstone": 3},
        "rejected": {"value.two": 6},
        "noted": {"time.future": 36},
        "requests": {"ok": 1},
        "packs": 3,
        "bytes": 220,
    }
    assert letters.keys() == {*range(2, 12)}
    assert [letters[n].points for n in range(2, 12)] == [1, 2, 3, 6, 2, 1, 0, 0, 0, 0]
    assert [len(letters[n].rejected) for n in range(2, 12)] == [0, 0, 1, 2, 2, 1, 0, 0, 0, 0]
    assert [len(letters[n].parts) for n in range(2, 12)] == [2, 1, 0, 0, 0, 0, 1, 3, 0, 0]
    kinds = {
        Status.DELIVERED: [0, 1, *range(12, 17)],
        Status.DEAD_LETTERED: range(2, 12),
        Status.TOMBSTONE: [17, 18, 19],
    }
    assert told == {offset: status for status, offsets in kinds.items() for offset in offsets}


def test_rows_that_are_refused_are_dead_with_their_records_and_the_first_reason_is_told():
    later = Failure(Kind.PERMANENT, "Other", "later")
    counts, letters, told = counted([bundle(2), bundle(3, bad=1), bundle(7)], [[REFUSED, later, REFUSED]])
    assert (counts["rows"], counts["rows_dead"], counts["dead_letters"]) == (12, 12, 3)
    assert "accepted" not in counts
    assert {each.reason for each in letters.values()} == {"sink.permanent"}
    never, other = "InvalidArgumentException: never", "Other: later"  # the last record is in two packs
    assert {n: each.detail for n, each in letters.items()} == {0: never, 1: never, 2: other}
    assert set(told.values()) == {Status.DEAD_LETTERED}


def test_of_a_replay_the_points_that_it_judges_are_counted():
    counts, _, _ = counted([record(0, bundle(2, bad=2, skipped=3), only=(0, 1))])
    assert counts["points"] == 7
    counts, _, _ = counted([record(n, bundle(1, bad=1, skipped=2), below=("$.x",)) for n in range(2)])
    assert counts["points"] == 8
    flight = InFlight()
    out = {
        "rows": 1,
        "points": 9,
        "skipped": {"value.nan": 1},
        "dropped": {},
        "noted": {},
        "rejected": ((0, "a"),),
        "parts": (),
    }
    for more in ({"only": (0,)}, {"below": ("$.x",)}):
        each = flight.track(record(0, b"a", **more), Submission(nobody))
        flight.encoded(each, SimpleNamespace(**out, unknown=()), 0)
    assert flight.counts.points == 6
    flight.encoded(flight.track(record(1, b"a"), Submission(nobody)), SimpleNamespace(**out, unknown=()), 0)
    assert flight.counts.points == 15


def test_a_field_that_is_unknown_is_named_once_whatever_its_index_and_ten_are_named():
    flight = InFlight()
    empty = {"rows": 0, "points": 0, "skipped": {}, "dropped": {}, "noted": {}, "rejected": (), "parts": ()}
    for offset, names in enumerate([("$.a[0].x", "$.a[1].x"), ("$.a[7].x", "$.b"), [f"$.c.n{n}" for n in range(9)]]):
        each = flight.track(record(offset, b"a"), Submission(nobody))
        flight.encoded(each, SimpleNamespace(**empty, unknown=names), 0)
    first = {"$.a[0].x": "t/0/0", "$.b": "t/0/1"}
    assert flight.unknown == first | {f"$.c.n{n}": "t/0/2" for n in range(8)}


def settlement_of(flight):
    """A settlement without letters."""
    letters = SimpleNamespace(durable=None, add=nobody)
    breakers, active = CircuitBreakers(BreakerPolicy()), ActivePartitions()
    return Settlement(flight, letters, breakers, active, guard=None, clock=lambda: 0.0, changed=nobody)


def test_why_records_are_left_is_told_to_their_own_submission():
    down = Failure(Kind.RETRYABLE, "InternalFailure", "no luck")
    flight = InFlight()
    first, second = Submission(nobody, 1.0), Submission(nobody, 1.0)
    _, each, _ = (flight.track(record(n, b"a"), of) for n, of in enumerate((first, second, first)))
    each.remaining = 2
    settlement_of(flight).judged(Pack(b"x", 2, "", ((each.number, 2),)), down)
    assert (first.failures, second.failures, each.remaining) == ({}, {"InternalFailure": down}, 2)
