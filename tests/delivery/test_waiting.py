"""Hours in flight: counted by every record, bounded by a setting, the oldest first, and none waits for ever."""

import asyncio
import json
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstream import Engine, Record
from lmstream import Settings as EngineSettings
from lmstream.delivery import DeliveryPolicy, process
from lmstream.delivery.active_partitions import MOST, QUOTA, WINDOW, ActivePartitions
from lmstream.engine.fan_out import Spread
from lmstream.interfaces import Batch
from lmstream.model import Status, TopicPartition
from lmstream.testing import LIMITS, ScriptedSink, now, run
from support.doubles import ToyEngine, make, nobody, record
from support.wait import until

PARTITIONED = msgspec.structs.replace(LIMITS, partitions=True)
NAMES = [SimpleNamespace(key=f"m{n}") for n in range(10_000)]


def spread(hour, *metrics, org="a"):
    return [Spread(org, b"2024-05-09T%02d" % hour, [NAMES[n] for n in metrics])]


def admits(active, *asked, now, **more):
    """Whether a record is admitted; it is settled at once."""
    hours = active.admit(spread(*asked), now, **more)
    active.settled(hours or (), lambda: now)
    return hours is not None


def test_a_partition_is_active_until_its_hour_had_no_row_for_the_interval():
    active = ActivePartitions()
    assert admits(active, 1, 0, 1, now=0.0)
    assert admits(active, 2, 0, now=200.0)
    assert active.count(200.0) == 3
    assert active.count(WINDOW + 1) == 1
    assert active.count(200.0 + WINDOW + 1) == active.overflow == 0


def test_an_hour_is_active_as_long_as_a_record_of_it_may_still_arrive():
    active = ActivePartitions(10, bounded=True)
    hours = active.admit(spread(1, *range(10)), 0.0)
    assert not admits(active, 2, 0, now=10 * WINDOW)  # the sink is away
    active.settled(hours, lambda: 10 * WINDOW)
    assert not admits(active, 2, 0, now=11 * WINDOW - 1)
    assert admits(active, 2, 0, now=11 * WINDOW)


def test_past_the_bound_hours_wait_and_one_hour_alone_does_not():
    active = ActivePartitions(10, bounded=True)
    assert admits(active, 1, *range(12), now=0.0)  # to hold it would help nobody
    assert active.overflow == 2
    assert not admits(active, 2, 0, now=1.0)
    assert admits(active, 1, 0, 1, now=2.0)  # what is active goes on
    assert admits(active, 2, 0, now=3.0, must=True)
    assert active.overflow == 3
    assert not admits(active, 3, 0, now=WINDOW)
    assert admits(active, 3, 0, now=WINDOW + 2)


def test_without_a_bound_all_is_counted_and_memory_is_bounded():
    active = ActivePartitions()
    for hour in range(24):
        assert admits(active, hour, *range(MOST), now=0.0)
    assert active.count(0.0) <= 2 * MOST
    assert active.overflow > QUOTA
    assert admits(ActivePartitions(0, bounded=True), 1, *range(MOST), now=0.0)


def bundle_of(hours, metrics, orgs=1, *, spoilt=False):
    """OTLP of so many metrics in these hours."""
    points = [{"timeUnixNano": str((1_715_212_800 + 3600 * hour) * 10**9), "asInt": "1"} for hour in hours]
    if spoilt:
        points.append({"timeUnixNano": "1", "asInt": "1"})
    made = [{"name": f"m{n}", "gauge": {"dataPoints": points}} for n in range(metrics)]
    resources = [
        {
            "resource": {"attributes": [{"key": "org", "value": {"stringValue": f"o{n}"}}]},
            "scopeMetrics": [{"metrics": made}],
        }
        for n in range(orgs)
    ]
    return json.dumps({"resourceMetrics": resources}).encode()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_what_is_counted_are_the_paths_of_the_rows(hours, metrics, orgs, spoilt):
    engine = Engine(EngineSettings(org_attributes=("org",)))
    value = bundle_of(hours, metrics, orgs, spoilt=spoilt)
    out = engine.fan_out(Record(topic="t", partition=0, offset=0, value=value))
    found = {(each.org, each.hour.decode(), metric.key) for each in out.spread() for metric in each.metrics}
    wanted = {
        (org, f"{year}-{month}-{day}T{hour}", metric)
        for org, metric, year, month, day, hour in (p.strip("/").split("/") for p in out.paths)
    }
    assert found == wanted


def test_far_from_the_bound_new_paths_are_found_all_the_same():
    engine, active = Engine(EngineSettings(org_id="acme")), ActivePartitions(100, bounded=True)
    for n in range(2_000):
        metrics = 5 if n < 1_000 else 40 + n // 100
        out = engine.fan_out(Record(topic="t", partition=0, offset=n, value=bundle_of([3], metrics)))
        hours = active.passed(out.hour) or active.admit(out.spread(), 0.0)
        assert [type(hour).__name__ for hour in hours] == ["Hour"]
        active.settled(hours, lambda: 0.0)
    assert active.count(1.0) == 59
    assert active.count(WINDOW) == 0


class Hours(ToyEngine):
    """Records that say their hour and metrics: `hour` in the value."""

    def fan_out(self, each):
        out = super().fan_out(each)
        what = json.loads(each.value)
        out.spread = lambda: spread(what["hour"], *range(what["metrics"]))
        return out


def of_hour(offset, hour, metrics=4, partition=0):
    value = {"rows": 1, "bad": 0, "skipped": 0, "paths": 1, "fault": "", "parts": 0, "unknown": 0}
    return record(offset, json.dumps(value | {"hour": hour, "metrics": metrics}).encode(), partition=partition)


def bounded(sink, **more):
    policy = DeliveryPolicy(timeout=5.0, partitions=10, partition_seconds=60.0)
    return make(sink, engine=Hours(), policy=policy, **more)


def test_a_backlog_of_hours_goes_in_turns_the_oldest_first_and_never_passes_the_bound():
    async def main():
        sink = ScriptedSink(limits=PARTITIONED)
        pipeline = bounded(sink)
        settled = []

        def told(tp, _, offset, status):
            settled.append((tp.partition, offset, status))

        hours = [7, 1, 5, 2, 6, 3, 4, 1, 7]
        pipeline.submit(Batch([of_hour(n, hour, partition=n % 2) for n, hour in enumerate(hours)]), told)
        worst = 0
        while len(settled) < len(hours):
            pipeline.tick()
            worst = max(worst, pipeline.snapshot().partitions_active)
            await asyncio.sleep(0.5)
            assert now() < 1000 + 7 * 2 * 60
        assert worst <= 10
        assert pipeline.snapshot().partitions_overflow == 0
        assert {status for *_, status in settled} == {Status.DELIVERED}
        order = [hours[offset] for _, offset, _ in settled]
        assert order[:3] == [7, 1, 1]  # two hours fit, in the order in which they came
        assert [hour for hour in order if hour not in {1, 7}] == [2, 3, 4, 5, 6]
        assert (pipeline.snapshot().waiting_records, list(pipeline.stalled)) == (0, [])
        assert pipeline.balanced

    run(main())


def test_a_live_hour_makes_way_for_an_older_one_in_the_end():
    async def main():
        sink = ScriptedSink(limits=PARTITIONED)
        pipeline = bounded(sink)
        settled = []

        def told(tp, _, offset, __):
            settled.append((tp.partition, offset))

        pipeline.submit(Batch([of_hour(0, 20, 8)]), told)
        pipeline.submit(Batch([of_hour(0, 5, 8, partition=1)]), told)
        offset, began = 0, now()
        while (1, 0) not in settled:
            offset += 1
            pipeline.submit(Batch([of_hour(offset, 20, 8)]), told)  # live, every second
            pipeline.tick()
            await asyncio.sleep(1)
            assert now() - began < 3 * 60
        while len(settled) < offset + 2:  # and goes on when the old one is done
            pipeline.tick()
            await asyncio.sleep(1)
            assert now() - began < 6 * 60
        assert pipeline.snapshot().partitions_overflow == 0

    run(main())


def test_waiting_records_hold_their_partition_of_kafka_and_are_given_up_with_it():
    async def main():
        sink = ScriptedSink(limits=PARTITIONED)
        pipeline = bounded(sink)
        pipeline.submit(Batch([of_hour(0, 1, 8), of_hour(0, 2, 8, partition=1)]), nobody)
        await until(lambda: pipeline.snapshot().in_flight == 1)
        assert list(pipeline.stalled) == [TopicPartition("t", 1)]
        assert pipeline.snapshot().waiting_hour == "2024-05-09T02"
        drained = asyncio.create_task(pipeline.drain())
        await asyncio.sleep(5)
        assert not drained.done()
        pipeline.forget([TopicPartition("t", 1)])
        await drained
        assert (pipeline.snapshot().in_flight, pipeline.snapshot().waiting_records) == (0, 0)
        assert pipeline.balanced
        await pipeline.close()

    run(main())


def test_of_the_records_that_wait_only_those_of_a_partition_that_goes_are_given_up():
    async def main():
        sink = ScriptedSink(limits=PARTITIONED)
        pipeline = bounded(sink)
        settled = []

        def told(tp, _, offset, __):
            settled.append((tp.partition, offset))

        pipeline.submit(Batch([of_hour(0, 1 + n, 8, partition=n) for n in range(3)]), told)
        await until(lambda: settled == [(0, 0)])
        assert {tp.partition for tp in pipeline.stalled} == {1, 2}
        pipeline.forget([TopicPartition("t", 1)])
        assert list(pipeline.stalled) == [TopicPartition("t", 2)]
        assert pipeline.counts.given_back == 1
        while len(settled) < 2:
            pipeline.tick()
            await asyncio.sleep(1)
            assert now() < 1000 + 2 * 60
        assert settled[1:] == [(2, 0)]
        assert pipeline.balanced

    run(main())


def test_a_full_budget_of_waiting_records_goes_on_when_there_is_room():
    async def main():
        pipeline = bounded(ScriptedSink(limits=PARTITIONED), budget=6_000)
        settled = []

        def told(*each):
            settled.append(each)

        pipeline.submit(Batch([of_hour(n, 1 + n % 12, 8) for n in range(24)]), told)
        while len(settled) < 24:
            pipeline.tick()
            await asyncio.sleep(1)
            assert now() < 1000 + 24 * 2 * 60
        assert pipeline.snapshot().partitions_overflow == 0

    run(main())


def test_a_host_that_is_called_never_waits():
    async def main():
        pipeline = bounded(ScriptedSink(limits=PARTITIONED))
        outcome = await process(pipeline, Batch([of_hour(n, n, 8) for n in range(6)]), now() + 30)
        assert outcome.statuses == [Status.DELIVERED] * 6
        assert pipeline.snapshot().partitions_overflow > 0

    run(main())


@pytest.mark.parametrize("more", [{"partitions": 0}, {}])
def test_without_a_bound_or_a_sink_that_partitions_nothing_waits(more):
    async def main():
        sink = ScriptedSink(limits=PARTITIONED if more else LIMITS)
        pipeline = make(sink, engine=Hours(), policy=DeliveryPolicy(timeout=5.0, **({"partitions": 10} | more)))
        pipeline.submit(Batch([of_hour(n, n, 8) for n in range(12)]), nobody)
        await pipeline.drain()
        assert pipeline.snapshot().waiting_records == 0

    run(main())
