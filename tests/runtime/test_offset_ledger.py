"""The ledger against a naive model: a commit never passes a record that is not acknowledged."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmstream.model import Status, TopicPartition
from lmstream.runtime import OffsetLedger

TP = TopicPartition("t", 0)
OTHER = TopicPartition("t", 1)


class Model:
    """What a ledger promises, written to be obvious rather than quick."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.delivered: list[int] = []
        self.acknowledged: list[int] = []
        self.best: int | None = None

    def open(self) -> list[int]:
        left = list(self.delivered)
        for offset in self.acknowledged:
            left.remove(offset)
        return left

    def settle(self, offset: int) -> None:
        self.acknowledged.append(offset)
        open_now = self.open()
        safe = [each for each in self.acknowledged if not any(o <= each for o in open_now)]
        if safe:
            self.best = max(max(safe) + 1, self.best or 0)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = OffsetLedger()
        self.models: dict[TopicPartition, Model] = {}
        self.epochs = {TP: 0, OTHER: 0}
        self.ended: list[tuple[TopicPartition, int, int]] = []
        self.late = 0
        self.told: dict[TopicPartition, int] = {}

    partitions = st.sampled_from([TP, OTHER])

    def end(self, tp):
        model = self.models.pop(tp, None)
        self.told.pop(tp, None)
        if model:
            self.ended += [(tp, model.epoch, offset) for offset in model.open()]

    @rule(tp=partitions, step=st.integers(1, 3))
    def assign(self, tp, step):
        self.end(tp)
        self.epochs[tp] += step
        assert self.ledger.assign(tp, self.epochs[tp])
        assert self.ledger.assign(tp, self.epochs[tp])
        self.models[tp] = Model(self.epochs[tp])

    @rule(tp=partitions, back=st.integers(0, 3))
    def assign_again_what_was_given_up(self, tp, back):
        epoch = self.epochs[tp] - back
        same = tp in self.models and self.models[tp].epoch == epoch
        if epoch > 0:
            assert self.ledger.assign(tp, epoch) == same

    @rule(tp=partitions)
    def revoke(self, tp):
        self.end(tp)
        self.ledger.revoke(tp)
        assert self.ledger.position(tp) is None

    @rule(tp=partitions, gap=st.sampled_from([1, 1, 1, 2, 7]))
    def open_next(self, tp, gap):
        model = self.models.get(tp)
        if model is None:
            assert not self.ledger.opened(tp, self.epochs[tp], 5)
            return
        offset = max(model.delivered, default=-1) + gap
        model.delivered.append(offset)
        assert self.ledger.opened(tp, model.epoch, offset)
        assert not self.ledger.opened(tp, model.epoch - 1, offset)

    @rule(tp=partitions, gap=st.sampled_from([1, 2, 7]))
    def pass_over_offsets_without_a_record(self, tp, gap):
        """As if the last of them had been a record that needs no acknowledgement."""
        model = self.models.get(tp)
        if model is None:
            self.ledger.passed(tp, self.epochs[tp], 5)
            assert self.ledger.position(tp) is None
            return
        last = max(model.delivered, default=-1) + gap
        model.delivered.append(last)
        model.settle(last)
        self.ledger.passed(tp, model.epoch, last + 1)
        self.ledger.passed(tp, model.epoch - 1, last + 100)

    @rule(tp=partitions, offset=st.integers(0, 20))
    def open_any(self, tp, offset):
        """Replayed dead letters come in any order, and twice."""
        model = self.models.get(tp)
        if model is not None:
            model.delivered.append(offset)
            assert self.ledger.opened(tp, model.epoch, offset)

    @rule(tp=partitions, data=st.data())
    def settle(self, tp, data):
        model = self.models.get(tp)
        if model is not None and model.open():
            offset = data.draw(st.sampled_from(model.open()))
            model.settle(offset)
            assert self.ledger.settled(tp, model.epoch, offset)

    @rule(data=st.data())
    def settle_late(self, data):
        if self.ended:
            late = data.draw(st.sampled_from(self.ended))
            self.ended.remove(late)
            self.late += 1
            assert not self.ledger.settled(*late)

    @rule()
    def commit(self):
        offsets = self.ledger.committable()
        self.ledger.committed(offsets)
        for tp, offset in offsets.items():
            assert offset > self.told.get(tp, -1)
            self.told[tp] = offset

    @invariant()
    def agrees_with_the_model(self):
        assert self.ledger.balanced
        assert self.ledger.late == self.late
        for tp in (TP, OTHER):
            model = self.models.get(tp)
            assert self.ledger.position(tp) == (model.best if model else None)
        expected = {
            tp: m.best for tp, m in self.models.items() if m.best is not None and m.best > self.told.get(tp, -1)
        }
        assert self.ledger.committable() == expected
        assert self.ledger.in_flight == sum(len(m.open()) for m in self.models.values())
        # Bounded: nothing is remembered once everything before it is acknowledged.
        for tp, model in self.models.items():
            if not model.open():
                assert not self.ledger._owned[tp].heap


LedgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_offsets_settled_out_of_order_wait_for_the_oldest():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    for offset in (5, 6, 9):
        ledger.opened(TP, 1, offset)
    ledger.settled(TP, 1, 9)
    ledger.settled(TP, 1, 6)
    assert ledger.committable() == {}
    ledger.settled(TP, 1, 5)
    assert ledger.committable() == {TP: 10}
    assert ledger.held == 0


def test_a_position_never_goes_back_when_older_offsets_are_replayed():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    for offset in (9, 5):
        ledger.opened(TP, 1, offset)
        ledger.settled(TP, 1, offset)
    assert ledger.committable() == {TP: 10}


def test_no_batch_of_an_epoch_of_which_a_record_was_dropped_is_taken():
    ledger = OffsetLedger()
    ledger.refuse(TP, 3)
    ledger.refuse(TP, 2)  # an older one changes nothing
    assert not ledger.assign(TP, 2)
    assert not ledger.assign(TP, 3), "what follows the dropped record would skip it"
    assert ledger.assign(TP, 4)
    ledger.refuse(TP, 9)  # owned: what is dropped then is of another epoch
    assert ledger.assign(TP, 5)


def test_settling_what_is_not_in_flight_is_a_bug():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    with pytest.raises(ValueError, match="not in flight"):
        ledger.settled(TP, 1, 3)


def test_a_commit_that_returns_after_a_new_assignment_says_nothing_about_it():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    ledger.opened(TP, 1, 8)
    ledger.settled(TP, 1, 8)
    offsets = ledger.committable()
    ledger.assign(TP, 2)
    ledger.committed(offsets)
    ledger.opened(TP, 2, 3)
    ledger.settled(TP, 2, 3)
    assert ledger.committable() == {TP: 4}


def test_a_hundred_thousand_records_cost_a_constant_each():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    for offset in range(100_000):
        ledger.opened(TP, 1, offset)
    for offset in range(99_999, -1, -1):
        ledger.settled(TP, 1, offset)
    assert ledger.committable() == {TP: 100_000}
    assert ledger.held == 0


def test_what_is_pending_is_never_acknowledged():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    ledger.opened(TP, 1, 5)
    with pytest.raises(ValueError, match="pending"):
        ledger.settled(TP, 1, 5, Status.PENDING)
    assert (ledger.committable(), ledger.in_flight, ledger.balanced) == ({}, 1, True)


def test_what_is_passed_or_opened_under_another_assignment_is_counted_and_the_epoch_is_that_of_today():
    ledger = OffsetLedger()
    assert ledger.epoch(TP) is None
    assert ledger.assign(TP, 3)
    assert (ledger.epoch(TP), ledger.epoch(OTHER)) == (3, None)
    ledger.passed(TP, 2, 10)
    ledger.passed(TP, 4, 10)
    ledger.passed(OTHER, 3, 10)
    assert (ledger.stale, ledger.position(TP)) == (3, None)
    ledger.passed(TP, 3, 10)
    assert (ledger.stale, ledger.position(TP)) == (3, 10)
    ledger.revoke(TP)
    assert ledger.epoch(TP) is None


def test_an_offset_that_was_read_twice_is_settled_twice():
    ledger = OffsetLedger()
    ledger.assign(TP, 1)
    for _ in range(3):
        ledger.opened(TP, 1, 5)
    for left in (2, 1):
        assert ledger.settled(TP, 1, 5)
        assert (ledger.in_flight, ledger.committable(), ledger.balanced) == (left, {}, True)
    assert ledger.settled(TP, 1, 5)
    assert (ledger.in_flight, ledger.committable(), ledger.held) == (0, {TP: 6}, 0)
    with pytest.raises(ValueError, match="not in flight"):
        ledger.settled(TP, 1, 5)


def test_offsets_that_come_under_another_assignment_are_counted_one_by_one():
    ledger = OffsetLedger()
    ledger.assign(TP, 2)
    assert not any(ledger.opened(tp, epoch, 5) for tp, epoch in ((TP, 1), (TP, 3), (OTHER, 2)))
    assert (ledger.stale, ledger.held, ledger.in_flight) == (3, 0, 0)
    assert not any(ledger.settled(tp, epoch, 5) for tp, epoch in ((TP, 1), (TP, 3), (OTHER, 2)))
    assert ledger.late == 3


def test_a_partition_is_crowded_from_its_part_of_the_share_on_and_never_when_it_holds_nothing():
    ledger = OffsetLedger()
    assert ledger.crowded(10) == frozenset()
    ledger.assign(TP, 1)
    for offset in range(5):
        ledger.opened(TP, 1, offset)
    assert ledger.crowded(6) == frozenset()
    assert ledger.crowded(5) == {TP}
    ledger.assign(OTHER, 1)
    ledger.opened(OTHER, 1, 0)
    assert ledger.crowded(12) == frozenset()
    assert ledger.crowded(11) == ledger.crowded(10) == {TP}
    assert ledger.crowded(2) == ledger.crowded(1) == ledger.crowded(0) == {TP, OTHER}
    ledger.settled(OTHER, 1, 0)
    assert ledger.crowded(0) == {TP}
