"""What is on its way: the oldest of each partition, what is given back, and that its books balance."""

import logging
from types import SimpleNamespace

import pytest

from lmstream.delivery.in_flight import REJECTED, InFlight, Submission
from lmstream.delivery.memory_budget import MemoryBudget
from lmstream.engine.output import LostPart
from lmstream.interfaces import Batch
from lmstream.model import Failure, Kind, Status
from support.doubles import ScriptedLetters, ScriptedSink, bundle, make, nobody, record, run


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


def judged(**of):
    """The counts of one record that made no row."""
    flight = InFlight()
    each = flight.track(record(0, b"a"), Submission(nobody))
    out = {"rows": 0, "points": 0, "skipped": {}, "noted": {}, "rejected": (), "parts": (), "unknown": ()} | of
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
    out = {"rows": 0, "points": 2, "skipped": {}, "noted": {}, "rejected": ((0, "a"), (1, "b")), "parts": (lost,)}
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
