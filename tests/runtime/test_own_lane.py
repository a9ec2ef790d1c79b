"""A lane of its own for a source that cannot be read again: what is committed of it, and what it hands out."""

import asyncio

from lmstream.interfaces import Batch
from lmstream.model import Status, TopicPartition
from lmstream.runtime.own_lane import OwnLane
from support.doubles import record

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


class Source:
    on_revoke = None

    def __init__(self, *batches):
        self.batches, self.committed, self.fails = list(batches), [], False

    async def poll(self, _room):
        return self.batches.pop(0)

    async def commit(self, offsets):
        if self.fails:
            raise OSError
        self.committed.append(dict(offsets))

    async def close(self):
        pass


def records(*where):
    return Batch([record(offset, b"x", partition=partition) for partition, offset in where])


def taken(source, **more):
    own = OwnLane(source, **more)

    async def all_of_it():
        return [await own.poll(1) for _ in range(len(source.batches))]

    return own, asyncio.run(all_of_it())


def test_records_are_settled_by_their_number_and_told_of_by_their_coordinates():
    told = []
    own, (batch,) = taken(Source(records((1, 7), (0, 3))), settled=lambda *what: told.append(what))
    assert [(each.at, each.coordinates) for each in batch.records] == [(0, "t/1/7"), (1, "t/0/3")]
    (tp,) = {each.tp for each in batch.records}
    assert batch.epochs == {tp: 0}
    own.settled(tp, 0, 1, Status.DELIVERED)
    assert told == [(A, 0, 3, Status.DELIVERED)]


def test_a_commit_moves_each_partition_over_what_was_handed_out_before_the_number():
    source = Source(records((0, 3), (1, 7), (0, 4)), records((1, 8), (0, 5)))
    own, batches = taken(source)
    tp = batches[0].records[0].tp
    asyncio.run(own.commit({tp: 3}))
    assert source.committed.pop() == {A: 5, B: 8}
    asyncio.run(own.commit({tp: 3}))
    assert not source.committed
    source.fails = True
    try:
        asyncio.run(own.commit({tp: 4}))
    except OSError:
        source.fails = False
    asyncio.run(own.commit({tp: 5}))
    assert source.committed == [{A: 6, B: 9}]


def test_a_revoke_settles_all_of_the_lane_and_begins_anew():
    source = Source(records((0, 3)), records((0, 3)))
    own = OwnLane(source)
    drained = []

    async def main():
        first = await own.poll(1)

        async def drain(partitions):
            drained.extend(partitions)

        own.on_revoke = drain
        await source.on_revoke([A])
        return first, await own.poll(1)

    first, second = asyncio.run(main())
    tp = first.records[0].tp
    assert drained == [tp]
    assert (first.epochs, second.epochs) == ({tp: 0}, {tp: 1})
    assert (first.records[0].at, second.records[0].at) == (0, 1)
    own.settled(tp, 0, 0, Status.DELIVERED)  # late: nobody is told
