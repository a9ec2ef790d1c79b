"""The quota of the lab's Firehose lets through what the service would."""

from lmstream.lab import Quota


def test_a_quota_lets_through_its_rate_and_one_second_saved_up():
    now = 0.0
    quota = Quota(1000, 100, clock=lambda: now)
    passed = 0
    for _ in range(100):  # ten seconds of five times the rate
        passed += 10 - len(quota.over([50] * 10))
        now += 0.1
    assert 10_000 <= passed * 50 <= 11_000 + 50
    assert quota.allowed == passed * 50


def test_a_record_larger_than_the_quota_passes_alone_and_is_paid_for():
    now = 0.0
    quota = Quota(1000, 100, clock=lambda: now)
    assert quota.over([5000, 1]) == {1}
    now = 3.9
    assert quota.over([1]) == {0}
    now = 4.1
    assert quota.over([1]) == frozenset()


def test_calls_are_counted_too():
    quota = Quota(1000, 2, clock=lambda: 0.0)
    assert [len(quota.over([1])) for _ in range(4)] == [0, 0, 1, 1]
