"""Restarts of a member in virtual time: how long the next one waits, and when there is no next one."""

from hypothesis import given
from hypothesis import strategies as st

from lmstream.kafka.group.restart_policy import RestartPolicy
from lmstream.kafka.settings import Settings

HOUR = 3600.0


def policy(**more):
    usual = {"restart_backoff_ms": 1000, "restart_backoff_max_ms": 60_000, "restart_limit": 3}
    return RestartPolicy(Settings(bootstrap="b:9092", topics=("t",), restart_window_ms=600_000, **{**usual, **more}))


def test_the_first_member_is_due_at_once_and_each_further_one_waits_twice_as_long_up_to_the_most():
    made, now = policy(), 5.0
    assert made.wait(now) <= 0
    waits = []
    for _ in range(9):
        made.back_off(now)
        waits.append(made.wait(now))
        assert made.delay == made.wait(now)
        now += made.wait(now)
        assert made.wait(now) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_member_that_ran_well_for_long_begins_another_story():
    for ran, expected in ((59.9, 4), (60.0, 1)):
        made, now = policy(), 100.0
        for _ in range(2):
            made.back_off(now)
        made.joined(now)
        assert made.lost(now + ran, assigned=True)
        made.back_off(now + ran)
        assert made.delay == expected


def test_a_member_that_never_had_an_assignment_did_not_run_well():
    made = policy()
    made.back_off(0.0)
    made.started(0.0)
    assert made.lost(HOUR, assigned=False)
    made.back_off(HOUR)
    assert made.delay == 2


def test_the_time_without_a_member_runs_from_the_first_loss_to_the_next_assignment():
    made = policy()
    assert made.joined(10.0) is None
    made.lost(20.0, assigned=True)
    made.lost(30.0, assigned=True)
    assert made.joined(45.0) == 25.0
    assert made.joined(50.0) is None


def test_losses_within_the_window_are_made_good_up_to_the_limit():
    made = policy()
    assert [made.lost(now, assigned=True) or made.joined(now) for now in (0.0, 1.0, 2.0)] == [True, True, True]
    made.joined(2.5)
    assert not made.lost(3.0, assigned=True)
    made.joined(3.5)
    # The first two have left the window: one more is the third in it.
    assert made.lost(601.5, assigned=True)
    made.joined(601.8)
    assert not made.failed(601.9)


def test_a_whole_window_without_an_assignment_is_the_end_however_few_losses_there_are():
    for seconds, goes_on in ((600.0, True), (600.1, False)):
        made = policy()
        made.joined(0.0)
        assert made.lost(HOUR, assigned=True)
        assert made.failed(HOUR + seconds) is goes_on
    made = policy()
    made.lost(HOUR, assigned=True)
    made.joined(HOUR + 1)
    assert made.failed(HOUR + 601)  # there was a member in between


def test_a_clock_that_begins_at_zero_is_a_clock():
    made = policy()
    made.lost(0.0, assigned=True)
    assert made.joined(7.0) == 7.0


@given(st.lists(st.floats(0, 400), max_size=40), st.integers(0, 5))
def test_it_goes_on_exactly_while_no_window_holds_more_losses_than_the_limit(gaps, limit):
    made, now, losses = policy(restart_limit=limit), 0.0, []
    for gap in gaps:
        now += gap
        losses.append(now)
        within = [each for each in losses if each >= now - 600.0]
        assert made.lost(now, assigned=True) is (len(within) <= limit)
        made.joined(now)
