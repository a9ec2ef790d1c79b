"""Reading on elsewhere within an assignment: what was read before comes no more, and what comes then is whole."""

import asyncio
import itertools
import random

import pytest

from lmstream.abilities import Placed
from lmstream.errors import SourceError
from lmstream.kafka.group.aiokafka_member import AiokafkaMember
from lmstream.kafka.group.librdkafka_member import LibrdkafkaMember
from lmstream.lab import KafkaLab
from lmstream.model import Record, TopicPartition
from lmstream.sources import confluent, kafka
from support import kafka_scenarios
from support.mock_kafka import MockKafka
from support.places import ROOM, TP, Reading, Teller, cluster, commit, committed, each, produce, source
from support.record_batches import batch, publish
from support.supervised import TOPIC, running
from support.wait import until


@each
@pytest.mark.parametrize("place", [0, 7, 20, 39, 40])
async def test_what_waits_in_the_client_is_dropped_and_the_new_epoch_begins_at_the_place(module, place):
    async with cluster(records=40) as mock, source(mock, module) as consumer:
        assert isinstance(consumer, Placed)
        reading = Reading(consumer)
        await reading.until(lambda: len(reading.latest()) >= 10, room=1)  # thirty wait, here or in the client
        before = consumer.assignment[TP]
        await consumer.seek({TP: place, TopicPartition("other", 0): 3})
        assert consumer.assignment[TP] > before
        if place == 40:
            await reading.nothing()
        else:
            assert await reading.read(39) == list(range(place, 40))
        await produce(mock, 3)
        assert await reading.read(42) == list(range(place, 43))
        assert not reading.passed
        assert (await committed(mock), consumer.health.rebalances, consumer.health.recreations) == (None, 1, {})


@each
async def test_a_seek_neither_commits_nor_lets_a_commit_go_back(module):
    async with cluster(records=40) as mock:
        await commit(mock, 20)
        async with source(mock, module) as consumer:
            reading = Reading(consumer)
            await reading.read(39)
            await consumer.seek({TP: 5})
            await reading.read(39)
            await consumer.commit({TP: 12})
            assert (await committed(mock), consumer.standings()[TP].next) == (20, 20)
            # One that is under way while the partition is sought is known to the group, and so it is here.
            under_way = asyncio.create_task(consumer.commit({TP: 30}))
            await asyncio.sleep(0)
            await consumer.seek({TP: 6})
            await under_way
            await consumer.commit({TP: 25})
            assert (await committed(mock), consumer.standings()[TP].next) == (30, 30)


@each
async def test_a_seek_while_a_poll_is_under_way(module):
    async with cluster(2, records=200) as mock:
        other = TopicPartition(TOPIC, 1)
        async with source(mock, module) as consumer:
            reading, going = Reading(consumer), True

            async def poll():
                while going:
                    await reading.poll(50)

            polling = asyncio.create_task(poll())
            places = random.Random(7)
            await until(lambda: other in consumer.assignment)
            for _ in range(60):
                await asyncio.sleep(places.random() * 0.03)
                await consumer.seek({TP: places.randrange(200)})
            place = 42
            await consumer.seek({TP: place})
            await until(lambda: reading.latest()[-1:] == reading.latest(other)[-1:] == [199])
            going = False
            await polling
            assert reading.latest() == list(range(place, 200))
            assert reading.latest(other) == list(range(200))
            assert not reading.passed


@pytest.mark.parametrize(
    ("module", "held"),
    [
        pytest.param(kafka, False, id="kafka-False"),
        pytest.param(kafka, True, id="kafka-True"),
        pytest.param(confluent, False, id="confluent-False", marks=pytest.mark.slow),  # it waits for such an answer
        pytest.param(confluent, True, id="confluent-True"),
    ],
)
async def test_what_a_call_has_brought_is_not_of_the_new_epoch_and_other_partitions_keep_theirs(
    module, held, monkeypatch
):
    """A seek between the end of a call of the client and the poll that takes up what it brought, or hands it out."""
    kind, sought = AiokafkaMember if module is kafka else LibrdkafkaMember, []
    inner = kind._hold

    def hold(self, answer):
        now = not sought and brought(answer)
        if held:
            inner(self, answer)
        if now:
            sought.append(True)
            self.seek({TP: 6})
        if not held:
            inner(self, answer)

    monkeypatch.setattr(kind, "_hold", hold)
    async with cluster(2, records=40) as mock, source(mock, module) as consumer:
        reading, other = Reading(consumer), TopicPartition(TOPIC, 1)
        async with asyncio.timeout(20):
            while not sought:  # until one answer has records of both
                await reading.poll()
                if not sought:
                    await consumer.seek(dict.fromkeys(consumer.assignment, 0))
        assert await reading.read(39) == list(range(6, 40))
        assert await reading.read(39, other) == list(range(40))


def brought(answer):
    """Whether the answer of a client has records of both partitions."""
    records = answer[1] if isinstance(answer, tuple) else [each for _, each in answer if isinstance(each, Record)]
    return {record.tp for record in records} == {TP, TopicPartition(TOPIC, 1)}


@each
async def test_paused_partitions_stay_so_and_continue_at_the_place(module):
    async with cluster(2, records=40) as mock:
        other = TopicPartition(TOPIC, 1)
        async with source(mock, module) as consumer:
            reading = Reading(consumer)
            await reading.until(lambda: len(reading.latest()) >= 5 and reading.latest(other), room=1)
            consumer.pause([TP])
            await consumer.seek({TP: 3, other: 8})
            assert await reading.read(39, other) == list(range(8, 40))
            await reading.nothing()
            assert not reading.latest()
            await consumer.seek({TP: 2})  # once more, while the client has been told of the pause
            await reading.nothing(0.3, room=0)
            consumer.pause([])
            assert await reading.read(39) == list(range(2, 40))


@each
async def test_places_that_come_before_the_client_begins_to_fetch(module):
    async with cluster(records=20) as mock, source(mock, module) as consumer:
        reading = Reading(consumer)
        while TP not in consumer.assignment:
            await reading.poll(1)
        for place in (9, 3, 11):
            await consumer.seek({TP: place})
        assert await reading.read(19) == list(range(11, 20))


@each
async def test_a_place_that_retention_took_is_judged_by_the_next_poll(module):
    async with cluster(records=40) as mock:
        teller = Teller({})
        async with source(mock, module, teller, on_offset_lost="earliest") as consumer:
            reading = Reading(consumer)
            await reading.read(39)
            await consumer.commit({TP: 40})
            mock.delete_records(TOPIC, 0, 30)
            await consumer.seek({TP: 12})
            assert await reading.read(39) == list(range(30, 40))
            assert (teller.asked[-1][TP].next, teller.asked[-1][TP].begin) == (30, 30)
            assert consumer.health.lost_by_retention == 18


@each
async def test_without_a_member_it_is_said(module):
    teller = Teller(OSError("no"), {})
    async with cluster() as mock, source(mock, module, teller, restart_backoff_ms=1000) as consumer:
        with pytest.raises(SourceError, match="not in the consumer group") as caught:
            await consumer.seek({TP: 1})
        assert caught.value.reason == "source.unreachable"
        reading = Reading(consumer)
        await reading.until(lambda: consumer.health.recreations)
        with pytest.raises(SourceError, match="not in the consumer group"):
            await consumer.seek({TP: 1})
        assert await reading.read(19) == list(range(20))
        with pytest.raises(ValueError, match="-3"):
            await consumer.seek({TP: -3})


@each
async def test_while_a_partition_is_placed_a_place_of_before_does_not_count(module):
    async with cluster() as mock:

        async def teller(_stands):
            await consumer.seek({TP: 2})
            return {TP: 8}

        async with source(mock, module, teller) as consumer:
            assert await Reading(consumer).read(19) == list(range(8, 20))


@each
@pytest.mark.slow
async def test_revoked_right_after_a_seek_and_a_seek_while_it_is_revoked(module):
    """The drain may seek, and may wait for a seek that began before: neither waits for the client."""
    async with KafkaLab() as lab:
        await lab.create_topic("lm", partitions=2)
        for partition in (0, 1):
            await kafka_scenarios.produce(lab, "lm", [b"v"] * 30, partition=partition)
        tps = [TopicPartition("lm", n) for n in (0, 1)]
        async with kafka_scenarios.source(lab, module, "lm") as one, kafka_scenarios.source(lab, module, "lm") as two:
            readings = Reading(one), Reading(two)
            took, checked = [], []

            async def drain(partitions):
                begin, was = asyncio.get_running_loop().time(), dict(one.assignment)
                await one.seek(dict.fromkeys(tps, 4))
                took.append((set(partitions), asyncio.get_running_loop().time() - begin, dict(one.assignment)))
                assert {tp for tp in was if one.assignment[tp] == was[tp]} == set(partitions)
                checked.append(True)

            one.on_revoke = drain
            for tp in tps:
                await readings[0].read(29, tp)
            before = dict(one.assignment)
            async with asyncio.timeout(30):
                while len(one.assignment) != 1 or len(two.assignment) != 1:
                    if not took:
                        await one.seek(dict.fromkeys(tps, 20))
                    await asyncio.gather(*(reading.poll(100) for reading in readings))
            for reading in readings:
                (tp,) = reading.consumer.assignment
                await reading.read(29, tp)
            gone, seconds, during = took[0]
            assert gone
            assert len(checked) == len(took)
            assert seconds < 0.5
            assert before.keys() == during.keys()
            for (tp, epoch), offsets in readings[0].offsets.items():
                # What is revoked is not read again, what stays is.
                assert offsets[0] in {0, 4, 20}, (tp, epoch, offsets[:3])
            (stays,) = one.assignment
            assert readings[0].latest(stays)[0] == (0 if module is kafka else 4)
            assert readings[1].latest(*two.assignment)[0] == 0  # nothing was committed


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
@each
async def test_any_order_of_polls_seeks_and_pauses_hands_out_whole_epochs(module, seed):
    """After a seek to N the first record of its epoch is N, and none is left out or repeated within an epoch."""
    draw = random.Random(seed)
    many, large = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
    async with MockKafka() as mock:
        mock.create_topic(TOPIC, 2)
        await produce(mock, 300)
        # Batches that the client does not open by itself, and that do not fit into the room: they are half read.
        await publish(mock.bootstrap, TOPIC, *(batch(1, [bytes(300_000)] * 5) for _ in range(8)), partition=1)
        ends = {many: 300, large: 40}
        async with source(mock, module) as consumer:
            reading, places = Reading(consumer), {}
            await reading.until(lambda: len(consumer.assignment) == 2, room=1)
            for _ in range(80):
                match draw.randrange(6):
                    case 0 | 1:
                        tp = draw.choice([many, large])
                        place = draw.randrange(ends[tp] + 1)
                        await consumer.seek({tp: place})
                        places[tp, consumer.assignment[tp]] = place
                    case 2:
                        consumer.pause(draw.choice([[], [many], [large], [many, large]]))
                    case 3:
                        await reading.poll(draw.choice([0, 0, 1]))
                    case _:
                        await reading.poll(draw.choice([1, 30, 500, 400_000, ROOM]))
            consumer.pause([])
            for tp, end in ends.items():
                place = places.get((tp, consumer.assignment[tp]), 0)
                if place < end:
                    assert await reading.read(end - 1, tp, room=700_000) == list(range(place, end))
                else:
                    assert not reading.latest(tp)
            for (tp, epoch), offsets in reading.offsets.items():
                assert offsets[0] == places.get((tp, epoch), 0)
            assert not reading.passed
            assert consumer.health.recreations == {}


@each
@pytest.mark.slow
async def test_a_run_that_is_sought_again_and_again_loses_nothing_and_no_commit_goes_back(module, monkeypatch):
    kind, sent = AiokafkaMember if module is kafka else LibrdkafkaMember, {}
    inner = kind._commit

    async def noted(self, offsets):
        for tp, offset in offsets.items():
            sent.setdefault(tp, []).append(offset)
        await inner(self, offsets)

    monkeypatch.setattr(kind, "_commit", noted)
    async with running(module, partitions=2) as run:
        draw = random.Random(3)
        for _ in range(30):
            await run.produce(5, draw.randrange(2))
            tp = TopicPartition(TOPIC, draw.randrange(2))
            next_ = run.source.standings()[tp].next
            await run.source.seek({tp: draw.randrange(max(0, next_ - 8), next_ + 1)})
            await asyncio.sleep(draw.random() * 0.1)
        await run.settled()
        # `check` reads the commits by the epoch in which they are asked for; here one may be asked for in the next.
        run.commits.clear()
        run.check()
        assert all(before <= after for offsets in sent.values() for before, after in itertools.pairwise(offsets))
        assert run.source.health.recreations == {}
        assert run.duplicates()
