"""Where partitions begin that the group has just given us: told by who may know better than the commit."""

import asyncio
import gc
import threading
import time

import pytest

from lmstream.abilities import Placed
from lmstream.errors import ConfigError, SinkError, SourceError
from lmstream.interfaces import Assigned
from lmstream.kafka.group import librdkafka_thread
from lmstream.lab import KafkaLab
from lmstream.model import TopicPartition
from lmstream.sources import confluent, kafka
from support import kafka_scenarios
from support.places import TP, Reading, Teller, cluster, commit, committed, each, produce, source
from support.supervised import TOPIC


@each
@pytest.mark.parametrize("commit_at", [None, 10])
@pytest.mark.parametrize("place", [None, 5, 10, 15, 20])
async def test_a_partition_begins_where_it_is_told_and_the_commit_follows_forward(module, commit_at, place):
    async with cluster() as mock:
        mock.delete_records(TOPIC, 0, 3)
        if commit_at is not None:
            await commit(mock, commit_at)
        begin = 3 if commit_at is None else commit_at
        teller = Teller({} if place is None else {TP: place, TopicPartition("other", 7): 1})
        async with source(mock, module, teller) as consumer:
            assert isinstance(consumer, Placed)
            reading = Reading(consumer)
            start = begin if place is None else place
            if start == 20:
                await reading.until(lambda: teller.told)
                await reading.nothing()
            else:
                assert await reading.read(19) == list(range(start, 20))
            assert teller.asked == [{TP: Assigned(begin, commit_at is not None, 3, 20)}]
            assert teller.topics == [{TOPIC: 1}]
            assert not reading.passed
            # Where nothing follows, only this says that what lies before is settled.
            told = place if place is not None and place > begin else commit_at
            assert await committed(mock) == told
            assert consumer.standings()[TP].next == told
            await produce(mock, 5)
            assert await reading.read(24) == list(range(start, 25))
            # What the group has committed already is not committed again, and it goes on behind that.
            await consumer.commit({TP: 8})
            assert await committed(mock) == max(8, told or 0)
            await consumer.commit({TP: 25})
            assert (await committed(mock), consumer.standings()[TP].next) == (25, 25)
            assert (consumer.health.rebalances, consumer.health.recreations) == (1, {})


@each
async def test_only_those_that_are_named_begin_elsewhere(module):
    async with cluster(3) as mock:
        tps = [TopicPartition(TOPIC, n) for n in range(3)]
        await commit(mock, 10, 1)
        teller = Teller({tps[0]: 7, tps[2]: 12})
        async with source(mock, module, teller) as consumer:
            reading = Reading(consumer)
            await reading.until(lambda: all(reading.latest(tp)[-1:] == [19] for tp in tps))
            assert [reading.latest(tp)[0] for tp in tps] == [7, 10, 12]
            assert [teller.asked[0][tp].next for tp in tps] == [0, 10, 0]
            assert len(teller.asked) == 1


@each
async def test_without_anybody_to_ask_no_request_is_made_more(module):
    counts = []
    for teller in (None, Teller({})):
        async with cluster() as mock:
            await commit(mock, 5)
            mock.requests()
            async with source(mock, module, teller) as consumer:
                await Reading(consumer).read(19)
            counts.append(mock.requests()["ListOffsets"])
    assert counts[0] == 0 < counts[1]


@each
async def test_a_new_group_that_starts_at_the_end_is_pinned_before_anybody_is_asked(module):
    async with cluster() as mock:
        seen = []

        async def teller(stands):
            seen.append((dict(stands), await committed(mock)))
            return {TP: 4} if len(seen) == 1 else {}

        async with source(mock, module, teller, start_from="latest") as consumer:
            assert await Reading(consumer).read(19) == list(range(4, 20))
        async with source(mock, module, teller, start_from="latest") as consumer:
            await produce(mock, 1)
            assert await Reading(consumer).read(20) == [20]
        assert seen == [
            ({TP: Assigned(20, committed=False, begin=0, end=20, topics={TOPIC: 1})}, 20),
            ({TP: Assigned(20, committed=True, begin=0, end=21, topics={TOPIC: 1})}, 20),
        ]


@each
@pytest.mark.parametrize("first", [ZeroDivisionError("no"), SourceError("source.commit", "no"), {TP: -1}], ids=type)
async def test_without_an_answer_nothing_is_read_and_the_next_member_asks_again(module, first, caplog):
    async with cluster() as mock:
        await commit(mock, 10)
        teller = Teller(first, {TP: 6})
        async with source(mock, module, teller) as consumer:
            reading = Reading(consumer)
            assert await reading.read(19) == list(range(6, 20))
            assert len(reading.offsets) == 1
            assert teller.asked == 2 * [{TP: Assigned(10, committed=True, begin=0, end=20)}]
            assert consumer.health.recreations == {"place": 1}
            assert "where assigned partitions are to begin" in caplog.text or "which is no offset" in caplog.text


@each
@pytest.mark.slow
async def test_who_cannot_answer_for_long_does_not_end_the_process(module):
    async with cluster() as mock:
        teller = Teller(*[OSError("no route")] * 4, {TP: 6})
        async with source(mock, module, teller, restart_limit=1, restart_backoff_max_ms=100) as consumer:
            assert await Reading(consumer).read(19) == list(range(6, 20))
            assert consumer.health.recreations == {"place": 4}


@each
@pytest.mark.parametrize(("kind", "exit_code"), [(ConfigError, 2), (SinkError, 1)])
async def test_what_only_the_operator_can_fix_ends_the_run(module, kind, exit_code):
    async with cluster() as mock:
        teller = Teller(kind("config.invalid", "the claims are of another topic"))
        async with source(mock, module, teller) as consumer:
            reading = Reading(consumer)
            for _ in range(2):
                with pytest.raises(kind, match="of another topic") as caught:
                    await reading.until(lambda: False)
                assert caught.value.exit_code == exit_code
            assert (len(teller.asked), reading.offsets) == (1, {})


@each
async def test_an_answer_that_takes_longer_than_a_session_is_waited_for_as_a_member(module):
    # Two seconds: librdkafka looks at its heartbeats every second only while nothing else happens.
    times = {"session_timeout_ms": 2000, "rebalance_timeout_ms": 6000, "drain_timeout_ms": 5000}
    async with cluster() as mock:
        teller = Teller(3.0)
        async with source(mock, module, **times) as consumer:
            reading, seen = Reading(consumer), []

            async def answer(stands):
                places = await teller(stands)
                seen.append(len(reading.offsets))
                return places

            consumer.on_assign = answer
            await reading.until(lambda: teller.asked)
            begin = time.monotonic()
            await reading.until(lambda: teller.told)
            assert time.monotonic() - begin > 2.5
            assert seen == [0]  # nothing was read before
            assert await reading.read(19) == list(range(20))
            await consumer.commit({TP: 20})
            assert (consumer.health.rebalances, consumer.health.recreations, len(teller.asked)) == (1, {}, 1)


@each
async def test_an_answer_that_does_not_come_ends_the_member(module):
    async with cluster() as mock:
        teller = Teller(60.0, {TP: 6})
        async with source(mock, module, teller, drain_timeout_ms=300) as consumer:
            assert await Reading(consumer).read(19) == list(range(6, 20))
            assert (consumer.health.recreations, teller.told) == ({"place": 1}, 1)


@each
async def test_a_close_does_not_wait_for_the_answer(module):
    async with cluster() as mock:
        teller = Teller(60.0)
        async with source(mock, module, teller, drain_timeout_ms=60_000) as consumer:
            await Reading(consumer).until(lambda: teller.asked)
            begin = time.monotonic()
            await consumer.close()
            assert time.monotonic() - begin < 3


TALKS = {"debug": "cgrp"}
"""librdkafka says much of the group, and so calls back often."""


async def test_what_librdkafka_says_after_an_answer_that_took_its_time_does_not_abort_the_process():
    async with cluster(2) as mock:
        teller = Teller(0.5)
        async with source(mock, confluent, teller, client=TALKS) as consumer:
            assert await Reading(consumer).read(19) == list(range(20))
            assert teller.topics == 2 * [{TOPIC: 2}]


async def test_a_client_is_kept_while_its_thread_waits_for_an_answer_longer_than_a_close_does(monkeypatch):
    monkeypatch.setattr(librdkafka_thread, "STOP", 0.1)
    before, ended = set(threading.enumerate()), asyncio.Event()

    async def stubborn(_):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.8)  # `Placement` gives up after a second
            ended.set()

    async with cluster() as mock:
        async with source(mock, confluent, stubborn, client=TALKS, drain_timeout_ms=60_000) as consumer:
            await Reading(consumer).until(lambda: consumer.assignment)
            begin = time.monotonic()
            await consumer.close()
            assert time.monotonic() - begin < 3
        assert not ended.is_set()  # else it shows nothing
        gc.collect()
        async with asyncio.timeout(10):
            await ended.wait()
            while [each for each in set(threading.enumerate()) - before if each.name == "librdkafka"]:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.02)


@each
@pytest.mark.parametrize("policy", ["stop", "earliest"])
async def test_a_place_that_retention_took_is_judged_like_a_commit_and_asked_about_again(module, policy):
    async with cluster() as mock:
        mock.delete_records(TOPIC, 0, 5)
        await commit(mock, 10)
        teller = Teller({TP: 2}, {})
        async with source(mock, module, teller, on_offset_lost=policy) as consumer:
            reading = Reading(consumer)
            if policy == "stop":
                with pytest.raises(SourceError, match=f"{TOPIC}/0/2: 3 offsets up to 4"):
                    await reading.until(lambda: False)
            else:
                assert await reading.read(19) == list(range(5, 20))
                assert teller.asked == [
                    {TP: Assigned(10, committed=True, begin=5, end=20)},
                    {TP: Assigned(5, committed=True, begin=5, end=20)},
                ]
            assert consumer.health.lost_by_retention == 3


async def test_with_cooperative_assignment_only_new_partitions_are_asked_about():
    async with cluster(2) as mock:
        teller = Teller({TopicPartition("t2", 0): 3, TP: 1})
        async with source(mock, confluent, teller, topics=("^t[0-9]*$",), topics_refresh_ms=200) as consumer:
            reading = Reading(consumer)
            await reading.until(lambda: all(reading.latest(tp)[-1:] == [19] for tp in asked(teller)))
            before = dict(consumer.assignment)
            mock.create_topic("t2", 1)
            await produce(mock, 5, topic="t2")
            assert await reading.read(4, TopicPartition("t2", 0)) == [3, 4]
            assert [set(stands) for stands in teller.asked] == [before.keys(), {TopicPartition("t2", 0)}]
            assert before.items() < consumer.assignment.items()


def asked(teller):
    return {tp for stands in teller.asked for tp in stands} or {TP}


@each
async def test_a_partition_that_comes_from_another_member_is_asked_about(module):
    async with KafkaLab() as lab:
        await lab.create_topic("lm", partitions=2)
        for partition in (0, 1):
            await kafka_scenarios.produce(lab, "lm", [b"v"] * 6, partition=partition)
        tellers = [Teller({TopicPartition("lm", n): 2 for n in (0, 1)}) for _ in range(2)]
        async with (
            kafka_scenarios.source(lab, module, "lm") as one,
            kafka_scenarios.source(lab, module, "lm") as two,
        ):
            one.on_assign, two.on_assign = tellers
            readings = Reading(one), Reading(two)
            async with asyncio.timeout(30):
                while len(one.assignment) != 1 or len(two.assignment) != 1:
                    await asyncio.gather(*(reading.poll() for reading in readings))
            await two.close()
            await readings[0].until(lambda: len(one.assignment) == 2)
            for tp in one.assignment:
                assert await readings[0].read(5, tp) == [2, 3, 4, 5]
            epochs = [epoch for reading in readings for _, epoch in reading.offsets]
            assert len(set(epochs)) == len(epochs) or module is kafka
            assert {len(stands) for stands in tellers[0].asked} <= ({1, 2} if module is kafka else {0, 1, 2})
