"""One definition of behind: which record is the oldest that is not settled, and when retention takes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.behind import Behind, Look, Retention, behind, farewell, said, worst
from lmstream.model import TopicPartition

TP = TopicPartition("lm", 3)
NOW = 1_764_383_000.0
DAY = Retention(86_400.0)


def ms(age):
    """Kafka's timestamp of a record of this age."""
    return int((NOW - age) * 1000)


def judged(**more):
    return behind(TP, **{"settled": 5, "committed": 5, "look": None, "retention": DAY, "now": NOW} | more)


def test_a_record_in_flight_is_the_measure_whatever_was_read_after_it():
    found = judged(end=900, oldest=(5, ms(18.4)))
    assert (found.records, found.seconds, found.oldest) == (895, pytest.approx(18.4), pytest.approx(NOW - 18.4))
    assert found.loss == pytest.approx(86_400 - 18.4)


def test_a_record_that_is_in_the_topic_alone_is_known_from_the_brokers():
    found = judged(look=Look(begin=0, end=40, next=5, first=(5, ms(600))))
    assert (found.records, found.seconds) == (35, pytest.approx(600))


def test_what_the_brokers_said_of_a_record_that_is_settled_since_says_nothing():
    found = judged(settled=6, end=40, look=Look(begin=0, end=40, next=5, first=(5, ms(600))))
    assert (found.records, found.seconds, found.loss) == (34, None, None)
    assert found.waits


def test_without_a_commit_a_partition_is_behind_since_the_beginning_of_its_log():
    found = judged(settled=None, committed=None, look=Look(begin=100, end=140, next=100, first=(100, ms(7200))))
    assert (found.records, found.gone, found.seconds) == (40, 0, pytest.approx(7200))
    unread = judged(settled=None, committed=None, end=140)
    assert (unread.records, unread.seconds) == (None, None)
    assert said([unread, found], NOW).endswith("; 1 of 2 partitions have not answered yet")


def test_the_end_is_the_furthest_that_anybody_saw():
    assert judged(end=40, look=Look(begin=0, end=160, next=5, first=(5, ms(1)))).records == 155
    assert judged(end=200, look=Look(begin=0, end=160, next=5, first=(5, ms(1)))).records == 195


def test_markers_and_aborted_records_are_nothing_that_waits():
    found = judged(look=Look(begin=0, end=32, next=32, first=None))
    assert (found.records, found.seconds, found.loss, found.waits) == (0, 0.0, None, False)


def test_what_retention_has_taken_is_counted_and_no_time_is_left():
    found = judged(look=Look(begin=19, end=40, next=19, first=(19, ms(10))))
    assert (found.records, found.gone, found.loss, found.soon) == (21, 14, 0.0, True)
    found = judged(oldest=(5, ms(90_000)), look=Look(begin=19, end=40, next=19, first=(19, ms(10))))
    assert (found.records, found.gone, found.loss) == (35, 14, pytest.approx(-3_600))
    unknown = judged(retention=None, look=Look(begin=19, end=40, next=19, first=(19, ms(10))))
    assert (unknown.loss, unknown.soon) == (0.0, True)


@pytest.mark.parametrize(
    ("retention", "clause"),
    [
        (DAY, "retention takes it at 2025-11-30T02:13:20Z (in 23.8 h)"),
        (
            Retention(86_400.0, 1 << 30),
            "retention takes it at 2025-11-30T02:13:20Z (in 23.8 h), or earlier by size (retention.bytes = 1,073,741,824)",
        ),
        (
            Retention(None, 1 << 30),
            "retention is by size alone (retention.bytes = 1,073,741,824): the time that is left is unknown",
        ),
        (Retention(None), "retention never takes it"),
        (None, "retention is unknown: the brokers do not report it"),
        (Retention(600.0), "retention (10.0 min) takes it at any moment"),
    ],
)
def test_the_sentence_says_when_retention_takes_it_and_never_guesses(retention, clause):
    found = judged(end=40, oldest=(5, ms(600)), retention=retention)
    assert said([found], NOW) == (
        f"1 partition is not settled; the oldest record is of 2025-11-29T02:13:20Z (10.0 min old, lm/3); {clause}"
    )


def test_the_sentence_is_about_the_partition_that_retention_reaches_first():
    old = judged(end=40, oldest=(5, ms(7200)))
    soon = behind(
        TopicPartition("brief", 0),
        settled=1,
        committed=1,
        end=2,
        oldest=(1, ms(60)),
        look=None,
        retention=Retention(120.0),
        now=NOW,
    )
    level = judged(end=5)
    assert worst([level, old, soon]) is soon
    assert said([level, old, soon], NOW).startswith("2 partitions are not settled; the oldest record is of")
    assert "brief/0" in said([level, old, soon], NOW)
    assert worst([level]) is None
    assert said([level], NOW) == ""


@pytest.mark.parametrize(
    ("retention", "age", "end"),
    [
        (DAY, 600, "(in 23.8 h): start again before"),
        (Retention(600.0), 900, "takes it at any moment: start again now"),
        (None, 600, "the brokers do not report it; start again soon"),
        (Retention(None, 1 << 20), 600, "is unknown; start again soon"),
        (Retention(None), 600, "retention never takes it"),
    ],
)
def test_the_last_words_of_a_run_say_what_to_do(retention, age, end):
    found = judged(end=40, oldest=(5, ms(age)), retention=retention)
    assert farewell([found, judged(end=5)], NOW).endswith(end)
    assert farewell([judged(end=5), judged(settled=None, committed=None)], NOW) == ""


def test_a_record_without_a_time_has_no_age_and_that_is_said():
    found = judged(end=40, oldest=(5, -1))
    assert (found.records, found.seconds, found.loss) == (35, None, None)
    assert "the age of the oldest record is unknown (lm/3)" in said([found], NOW)
    assert "retention takes it 24.0 h after its time" in said([found], NOW)


OFFSETS = st.integers(0, 50)
MAYBE = st.none() | OFFSETS
LOOKS = st.builds(
    lambda begin, more, at: Look(
        begin, begin + more, begin + min(at, more), (begin + at, ms(at)) if at < more else None
    ),
    OFFSETS,
    OFFSETS,
    OFFSETS,
)


@given(
    settled=MAYBE,
    end=MAYBE,
    oldest=st.none() | st.tuples(OFFSETS, st.integers(-1, ms(0))),
    look=st.none() | LOOKS,
    retention=st.none() | st.builds(Retention, st.none() | st.floats(1, 1e6), st.none() | OFFSETS),
)
def test_whatever_is_known_nothing_that_is_not_settled_looks_well(settled, end, oldest, look, retention):
    found: Behind = judged(settled=settled, end=end, oldest=oldest, look=look, retention=retention)
    last = max((each for each in (end, None if look is None else look.end) if each is not None), default=None)
    if oldest is not None and last is not None and last > oldest[0]:
        assert found.waits
    if found.seconds is None or found.seconds > 0:
        assert found.waits or found.records is None
    if found.loss is not None:
        assert found.waits
        assert found.gone or retention is not None
    if found.gone:
        assert found.loss <= 0
    assert bool(said([found], NOW)) == (found.waits or found.records is None)
