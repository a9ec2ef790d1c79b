"""The suite of sources passes a right source and fails each wrong one, by the check that is meant for it."""

import asyncio
import json

import pytest

from lmstream.interfaces import Batch
from lmstream.model import Record, TopicPartition
from lmstream.testing import SourceConformance, failures


class Log:
    """A file of values in two partitions, and a file of what is committed."""

    def __init__(self, folder):
        self.values, self.offsets = folder / "values", folder / "offsets"

    def put(self, values):
        self.values.write_text(json.dumps([value.decode() for value in values]))

    def records(self):
        values = json.loads(self.values.read_text())
        return [Record(topic="log", partition=n % 2, offset=n * 3, value=v.encode()) for n, v in enumerate(values)]

    def committed(self):
        return {int(p): n for p, n in json.loads(self.offsets.read_text()).items()} if self.offsets.exists() else {}

    def commit(self, offsets):
        further = {tp.partition: n for tp, n in offsets.items() if tp.topic == "log"}
        self.offsets.write_text(json.dumps(self.committed() | further))


class Right:
    """A source as it should be; a wrong one overrides a method."""

    step = 4

    def __init__(self, log):
        self.on_revoke = None
        self.log = log
        known = log.committed()
        self.todo = [each for each in log.records() if each.offset >= known.get(each.partition, 0)]
        self.closed = False

    async def poll(self, room, /):
        await asyncio.sleep(0.001)
        if self.closed:
            raise RuntimeError("closed")
        if room <= 0:
            return Batch(())
        taken, size = [], 0
        while self.todo and len(taken) < self.step and (not taken or size + self.todo[0].size <= room):
            taken.append(self.todo.pop(0))
            size += taken[-1].size
        return self.batch(taken)

    def batch(self, taken):
        return Batch(taken, {each.tp: 1 for each in taken}, end=not self.todo)

    async def commit(self, offsets, /):
        self.log.commit(offsets)

    async def close(self):
        self.closed = True


class Suite(SourceConformance):
    source = Right
    patience = 1.0
    schedules = 30

    def put(self, values):
        Log(self.folder).put(values)

    def make(self):
        return self.source(Log(self.folder))


class TestRight(Suite):
    """The suite as a user has it: pytest collects it."""


class SkipsAnOffset(Right):
    def __init__(self, log):
        super().__init__(log)
        self.todo = self.todo[:3] + self.todo[4:]


class CommitsWhenItPolls(Right):
    """Auto commit: what is in flight when a process dies is never read again."""

    def batch(self, taken):
        self.log.commit({each.tp: each.offset + 1 for each in taken})
        return super().batch(taken)


class CommitsWhenItCloses(Right):
    async def close(self):
        read = [each for each in self.log.records() if each not in self.todo]
        self.log.commit({each.tp: each.offset + 1 for each in read})
        await super().close()


class CommitsOneTooMany(Right):
    """Takes the next offset for the last one that is done."""

    async def commit(self, offsets, /):
        self.log.commit({tp: n + 1 for tp, n in offsets.items()})


class CommitsNothing(Right):
    async def commit(self, offsets, /):
        pass


class Repeats(Right):
    def batch(self, taken):
        return super().batch([*taken, *taken[-1:]])


class OutOfOrder(Right):
    def batch(self, taken):
        return super().batch(taken[::-1])


class NewNamesEachTime(Right):
    """Numbers records by when they were read."""

    made = 0

    def __init__(self, log):
        super().__init__(log)
        type(self).made += 1
        self.todo = [
            Record(topic="log", partition=e.partition, offset=e.offset, value=e.value, timestamp=self.made)
            for e in self.todo
        ]


class NoRoomIsRoom(Right):
    async def poll(self, room, /):
        return await super().poll(max(room, 1))


class AllAtOnce(Right):
    step = 100

    async def poll(self, room, /):
        return await super().poll(10**9 if room > 0 else room)


class HalfOfTheEpochs(Right):
    def batch(self, taken):
        made = super().batch(taken)
        return Batch(made.records, {tp: 1 for tp in made.epochs if tp.partition}, end=made.end)


class EpochsAtTimes(Right):
    def batch(self, taken):
        made = super().batch(taken)
        return made if len(self.todo) % 8 else Batch(made.records, {}, end=made.end)


class PassedWithoutEpoch(Right):
    def batch(self, taken):
        made = super().batch(taken)
        return Batch(made.records, made.epochs, end=made.end, passed={TopicPartition("log", 9): 3})


class WaitsForEver(Right):
    async def poll(self, room, /):
        if not self.todo and room > 0:
            await asyncio.sleep(10**6)
        return await super().poll(room)


class NeverEnds(Right):
    def batch(self, taken):
        made = super().batch(taken)
        return Batch(made.records, made.epochs)


class EndsEarly(Right):
    def batch(self, taken):
        made = super().batch(taken)
        return Batch(made.records, made.epochs, end=len(self.todo) < 5)


class DiesOfAForeignCommit(Right):
    async def commit(self, offsets, /):
        if any(tp.topic != "log" for tp in offsets):
            self.broken = True
        if getattr(self, "broken", False):
            raise RuntimeError("broken")
        await super().commit(offsets)


class ClosesOnce(Right):
    async def close(self):
        if self.closed:
            raise RuntimeError("already closed")
        await super().close()


class LosesWhenFull(Right):
    """Takes a record off its list before it knows that there is room."""

    async def poll(self, room, /):
        if room <= 0 and self.todo and self.log.committed():
            self.todo.pop(0)
        return await super().poll(room)


class LosesAfterARestart(Right):
    """Begins behind what was read, where nothing was committed of a partition: only kills show it."""

    def __init__(self, log):
        super().__init__(log)
        if len(log.committed()) == 1:
            self.todo = [each for each in self.todo if each.partition in log.committed()]


WRONG = {
    SkipsAnOffset: "test_every_record_comes_once_and_in_order",
    CommitsWhenItPolls: "test_what_is_not_committed_comes_again",
    CommitsWhenItCloses: "test_what_is_not_committed_comes_again",
    CommitsOneTooMany: "test_reading_goes_on_at_what_is_committed",
    CommitsNothing: "test_reading_goes_on_at_what_is_committed",
    Repeats: "test_every_record_comes_once_and_in_order",
    OutOfOrder: "test_every_record_comes_once_and_in_order",
    NewNamesEachTime: "test_the_same_record_has_the_same_coordinates_each_time",
    NoRoomIsRoom: "test_room_is_kept",
    AllAtOnce: "test_room_is_kept",
    HalfOfTheEpochs: "test_every_partition_of_a_batch_has_its_epoch",
    EpochsAtTimes: "test_every_partition_of_a_batch_has_its_epoch",
    PassedWithoutEpoch: "test_every_partition_of_a_batch_has_its_epoch",
    WaitsForEver: "test_a_poll_comes_back_when_there_is_nothing",
    NeverEnds: "test_the_end_is_told_and_not_before_it_is_there",
    EndsEarly: "test_the_end_is_told_and_not_before_it_is_there",
    DiesOfAForeignCommit: "test_a_commit_of_what_is_not_its_own_does_no_harm",
    ClosesOnce: "test_it_can_be_closed_twice_and_polled_no_more",
    LosesAfterARestart: "test_schedules_lose_nothing",
}
SLOW = {WaitsForEver, NeverEnds}
"""Their schedules would wait for a call that never returns."""


@pytest.mark.slow
@pytest.mark.parametrize("source", WRONG, ids=lambda source: source.__name__)
def test_a_wrong_source_is_found_by_the_check_that_is_meant_for_it(source, monkeypatch):
    monkeypatch.setattr("lmstream.testing.sources._POLL", 0.2)

    class Wrong(Suite):
        schedules = 0 if source in SLOW else 60

    Wrong.source = source
    found = failures(Wrong)
    assert isinstance(found[WRONG[source]], Exception), found
    assert str(found[WRONG[source]]), "a check that fails says what it saw"


@pytest.mark.parametrize("name", [name for name in dir(SourceConformance) if name.startswith("test_")])
def test_every_check_fails_for_some_wrong_source(name):
    assert name in WRONG.values()


@pytest.mark.parametrize("source", [SkipsAnOffset, CommitsWhenItPolls, CommitsWhenItCloses, LosesAfterARestart])
def test_schedules_alone_find_the_sources_that_lose_records(source):
    suite = type("Wrong", (Suite,), {"source": source, "schedules": 100})
    with suite.anew() as one, pytest.raises(AssertionError) as caught:
        one.test_schedules_lose_nothing()
    assert "LMSTREAM_SEED=" in "".join(caught.value.__notes__)
