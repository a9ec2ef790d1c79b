"""The budget is told of bytes, and answers what is left of them."""

from hypothesis import given
from hypothesis import strategies as st

from lmstream.delivery.memory_budget import BUDGET, QUEUED, RESERVE, MemoryBudget
from lmstream.settings import MIB

SIZES = st.lists(st.integers(0, 500))


@given(SIZES, SIZES, SIZES)
def test_what_was_held_and_released_leaves_nothing(records, queued, bodies):
    budget = MemoryBudget(1000)
    for told, sizes in ((budget.hold, records), (budget.queue, queued), (budget.hold_body, bodies)):
        for size in sizes:
            told(size)
    assert budget.held == sum(records) + sum(bodies)
    assert budget.bodies == sum(bodies)
    assert budget.free == 1000 - budget.held
    assert budget.room == min(250 - sum(queued), budget.free)
    for told, sizes in ((budget.release, records), (budget.unqueue, queued), (budget.release_body, bodies)):
        for size in sizes:
            told(size)
    assert (budget.held, budget.free, budget.room) == (0, 1000, 250)


def test_a_reserve_is_kept_free_of_records_and_open_to_bodies():
    budget = MemoryBudget(1000, reserve=3 / 8)
    assert budget.free == 625
    budget.hold(625)
    assert budget.free == 0
    assert budget.takes_body(375)
    assert not budget.takes_body(376)
    budget.hold_body(375)
    assert (budget.free, budget.held) == (0, 1000)
    assert not budget.takes_body(1)


def test_no_more_payload_waits_however_large_the_budget_is():
    budget = MemoryBudget(100 * BUDGET)
    assert budget.room == QUEUED
    budget.queue(QUEUED)
    assert budget.room == 0


def test_as_many_requests_fit_into_the_share_of_records_as_bodies_fit_beside_them():
    budget = MemoryBudget(reserve=RESERVE)
    requests = 0
    while budget.free >= 4 * MIB and budget.takes_body(4 * MIB):
        budget.hold(4 * MIB)  # 3 of lines, 1 of payload
        budget.hold_body(4 * MIB)
        requests += 1
    assert requests == 8
    assert (budget.free, budget.held) == (0, BUDGET)
