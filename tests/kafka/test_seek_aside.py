"""Reading on elsewhere with librdkafka: while its thread takes records, and in partitions that are read beside it."""

import asyncio
import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from lmstream.kafka import _record_reader
from lmstream.kafka.group import librdkafka_thread
from lmstream.kafka.group.librdkafka_member import LibrdkafkaMember
from lmstream.kafka.group.librdkafka_thread import ClientThread
from lmstream.kafka.librdkafka import Barred
from lmstream.sources import confluent
from support.mock_kafka import MockKafka
from support.places import ROOM, TP, Reading, cluster, produce, source
from support.record_batches import batch, publish
from support.supervised import TOPIC


async def test_what_the_thread_is_taking_is_not_of_the_new_epoch(monkeypatch):
    inner, loop, sought = librdkafka_thread.record_of, asyncio.get_running_loop(), []

    def record_of(message):
        if message.offset() == 20 and not sought:  # in the thread; the loop is free meanwhile
            sought.append(True)
            asyncio.run_coroutine_threadsafe(consumer.seek({TP: 5}), loop).result(10)
        return inner(message)

    monkeypatch.setattr(librdkafka_thread, "record_of", record_of)
    async with cluster(records=40) as mock, source(mock, confluent) as consumer:
        reading = Reading(consumer)
        await reading.until(lambda: sought)
        assert await reading.read(39) == list(range(5, 40))


@pytest.mark.parametrize(
    ("code", "often", "lost"), [("_STATE", 3, {}), ("_STATE", 10**6, {"client": 1}), ("_FAIL", 1, {"client": 1})]
)
async def test_a_seek_that_comes_before_fetching_begins_is_made_again_for_a_while(monkeypatch, code, often, lost):
    inner, refused = ClientThread._read_on, []

    def read_on(self, *arguments):
        if len(refused) < often and not self._source.health.recreations:
            refused.append(code)
            raise KafkaException(KafkaError(getattr(KafkaError, code)))
        inner(self, *arguments)

    monkeypatch.setattr(ClientThread, "_read_on", read_on)
    async with cluster(records=40) as mock, source(mock, confluent, commit_timeout_ms=1000) as consumer:
        reading = Reading(consumer)
        await reading.until(lambda: len(reading.latest()) >= 10, room=1)
        await consumer.seek({TP: 5})
        assert await reading.read(39) == list(range(0 if lost else 5, 40))
        assert (consumer.health.recreations, len(refused) >= min(often, 3)) == (lost, True)


async def test_where_partitions_stand_is_told_at_once_during_polls_and_during_a_drain():
    """librdkafka's Python client lets a question wait for the poll that is under way, and so for its callback."""
    longest, drained = 0.0, []

    async def ask(times):
        nonlocal longest
        for _ in range(times):
            await asyncio.sleep(0.03)
            begin = time.monotonic()
            standing = consumer.standings()[TP]
            longest = max(longest, time.monotonic() - begin)
        return standing

    async def drain(partitions):
        drained.append((partitions, await ask(3)))

    async with cluster() as mock, source(mock, confluent, topics=("^t$",), topics_refresh_ms=200) as consumer:
        consumer.on_revoke = drain
        reading = Reading(consumer)
        await reading.read(19)
        asking = asyncio.create_task(ask(20))
        await reading.until(asking.done)
        assert asking.result().end == 20
        mock.delete_topic(TOPIC)
        await reading.until(lambda: drained and not consumer.assignment)
        assert (drained[0][1].end, consumer.health.recreations) == (20, {})
        assert longest < 0.1


class Wary:
    """A journal that knows of a death in a fetch: all that waits is read through the guarded reader first."""

    wary = True

    def opening(self, *_):
        return 0

    def opened(self):
        pass

    def fetching(self):
        pass

    def well(self):
        self.wary = False


@pytest.mark.parametrize("place", [0, 4, 11, 40])
async def test_what_is_read_aside_is_read_aside_from_the_place_on(place):
    async with cluster(records=40) as mock, source(mock, confluent) as consumer:
        consumer.journal = Wary()
        reading = Reading(consumer)
        await reading.until(lambda: len(reading.latest()) >= 10, room=1)
        assert consumer._member._guarded.partitions
        await consumer.seek({TP: place})
        if place < 40:
            assert await reading.read(39) == list(range(place, 40))
        await reading.until(lambda: not consumer.journal.wary)
        await produce(mock, 3)
        assert await reading.read(42) == list(range(place, 43))
        await consumer.seek({TP: 1})
        assert await reading.read(42) == list(range(1, 43))
        assert consumer.health.recreations == {}


async def test_records_that_the_guarded_reader_was_waiting_for_are_not_those_of_the_new_epoch(monkeypatch):
    inner, sought = _record_reader.RecordReader.take, []

    async def take(self, *arguments):
        records = await inner(self, *arguments)
        if len(records) > 2 and len(sought) < 3:
            sought.append(records[0].offset)
            await consumer.seek({TP: 5})
        return records

    monkeypatch.setattr(_record_reader.RecordReader, "take", take)
    async with cluster(records=40) as mock, source(mock, confluent) as consumer:
        consumer.journal = Wary()
        reading = Reading(consumer)
        await reading.until(lambda: len(sought) == 3)
        assert await reading.read(39) == list(range(5, 40))
        assert all(offsets[0] == 5 for offsets in reading.offsets.values())


async def test_what_the_client_said_about_a_batch_before_a_seek_says_nothing_about_what_comes_after_it(monkeypatch):
    """librdkafka has met a damaged batch, and is sought before the guarded reader is told of it."""
    inner, sought = LibrdkafkaMember._hold, []

    def hold(self, answer):
        if not sought and any(isinstance(each, Barred) for _, each in answer):
            sought.append(True)
            self.seek({TP: 0})
        inner(self, answer)

    monkeypatch.setattr(LibrdkafkaMember, "_hold", hold)
    broken = bytearray(batch(4, [b"c"] * 3))
    broken[-1] ^= 1
    async with MockKafka() as mock:
        mock.create_topic(TOPIC, 1)
        await publish(mock.bootstrap, TOPIC, batch(0, [b"a", b"b"]), bytes(broken), batch(0, [b"f"]))
        async with source(mock, confluent, on_unreadable="skip") as consumer:
            reading = Lenient(consumer)
            await reading.until(lambda: sought and reading.latest()[-1:] == [5])
            assert reading.latest() == [0, 1, 4, 5]  # the damaged one is a letter, at its last offset


class Lenient(Reading):
    """A batch that is skipped is one record, at its last offset."""

    async def poll(self, room=ROOM):
        batch = await self.consumer.poll(room)
        for record in batch.records:
            self.offsets.setdefault((record.tp, batch.epochs[record.tp]), []).append(record.offset)
        return batch
