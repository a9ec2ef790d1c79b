"""A refusal of the request is no verdict on the rows: a pack is at fault only if another was taken since."""

import asyncio
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstream.delivery import DeliveryPolicy, process
from lmstream.delivery.refusals import MOST, Refusals
from lmstream.delivery.retry import Attempts
from lmstream.delivery.sender import Sender
from lmstream.interfaces import Batch
from lmstream.model import Failure, Kind, Pack, Status
from lmstream.runtime import sink_error
from lmstream.testing import LIMITS, ScriptedLetters, ScriptedSink, now, run
from support.doubles import REFUSED, bundle, make, nobody, record, verdicts_of
from support.wait import until

UNSURE = msgspec.structs.replace(REFUSED, unsure=True)
PACKS = [Pack(b"%d\n" % n, 1) for n in range(10)]


class Strict(ScriptedSink):
    """Refuses the bad packs for ever, as Firehose may: the whole request, or single records of an answer."""

    def __init__(self, bad, *, whole, **more):
        super().__init__(**more)
        self.bad, self.whole = bad, whole

    async def _answer(self, packs, _step):
        if self.down:
            return await super()._answer(packs, self.down)
        bad = [self.bad(each.data) for each in packs]
        if self.whole and any(bad):
            apart = Failure(Kind.RETRYABLE, UNSURE.code, apart=True)
            return [UNSURE if len(packs) == 1 else apart] * len(packs)
        return await super()._answer(packs, [UNSURE if each else False for each in bad])


def delivery_of(sink, **more):
    return Sender(sink, Attempts(DeliveryPolicy(**{"timeout": 5.0, **more}), now, asyncio.sleep, Random(1).random))


@pytest.mark.parametrize("many", [1, 2, 10])
def test_a_stream_that_refuses_everything_is_paused_and_buries_nothing_however_long(many):
    async def main():
        sink = ScriptedSink()
        sink.down = UNSURE
        told = []
        delivery = delivery_of(sink)
        task = asyncio.create_task(delivery.deliver(PACKS[:many], lambda *each: told.append(each)))
        await asyncio.sleep(3600)
        assert told == []
        assert (delivery.fatal.kind, delivery.fatal.code) == (Kind.FATAL_CONFIG, UNSURE.code)
        assert sink_error(delivery.fatal).reason == "sink.refused"
        assert delivery.undecided == (many == 1)
        assert len(sink.calls) < 4000  # and not hammered
        sink.down = None
        await task
        assert sorted(each.data for each, verdict in told if verdict is None) == sorted(
            each.data for each in PACKS[:many]
        )
        assert (delivery.fatal, delivery.trouble, delivery.undecided) == (None, None, False)

    run(main())


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("deadline", [None, 60])
def test_a_pack_is_judged_once_another_was_taken(whole, deadline):
    async def main():
        sink = Strict(lambda data: data == b"6\n", whole=whole, limits=LIMITS)
        delivery = delivery_of(sink)
        verdicts = await verdicts_of(delivery, PACKS, deadline and now() + deadline)
        assert [v and (v.kind, v.unsure) for v in verdicts] == [
            (Kind.PERMANENT, False) if n == 6 else None for n in range(10)
        ]
        assert (delivery.fatal, delivery.trouble) == (None, None)

    run(main())


def test_a_pack_taken_before_the_refusal_proves_nothing():
    async def main():
        sink = ScriptedSink()
        delivery = delivery_of(sink)
        assert await verdicts_of(delivery, PACKS[:3]) == [None] * 3
        sink.down = UNSURE  # somebody changed the stream
        task = asyncio.create_task(verdicts_of(delivery, PACKS[3:6]))
        await asyncio.sleep(600)
        assert not task.done()
        assert delivery.fatal is not None
        sink.down = None
        assert await task == [None] * 3

    run(main())


def test_a_pack_that_was_refused_while_the_stream_was_wrong_is_asked_about_again_before_it_is_judged():
    async def main():
        sink = ScriptedSink([UNSURE])  # the stream is repaired after the first answer
        delivery = delivery_of(sink, concurrency=1)
        first = asyncio.create_task(verdicts_of(delivery, PACKS[:1]))
        await asyncio.sleep(0.015)
        assert delivery.fatal is not None
        assert await verdicts_of(delivery, PACKS[1:2]) == [None]
        assert await first == [None]

    run(main())


def called(pipeline, *values, offset=0):
    records = [record(offset + n, value) for n, value in enumerate(values)]
    return process(pipeline, Batch(records), now() + 20)


def test_a_host_that_is_called_gives_healthy_records_back_for_ever_and_ends_early():
    async def main():
        sink, letters = ScriptedSink(), ScriptedLetters()
        sink.down = UNSURE
        pipeline = make(sink, letters)
        for _ in range(20):
            began = now()
            outcome = await called(pipeline, bundle(5), bundle(5), bundle(5))
            assert outcome.statuses == [Status.PENDING] * 3
            assert [each.code for each in outcome.failures] == [UNSURE.code]
            assert now() - began < 3  # an invocation is paid by its time
        assert letters.letters == []
        sink.down = None
        assert (await called(pipeline, bundle(5), bundle(5), bundle(5))).statuses == [Status.DELIVERED] * 3
        assert letters.letters == []

    run(main())


@pytest.mark.parametrize("whole", [True, False])
def test_one_bad_record_of_an_invocation_gets_its_letter_and_one_alone_when_another_was_taken(whole):
    bad = b'"t/0/1:'

    async def main():
        sink, letters = Strict(lambda data: bad in data, whole=whole), ScriptedLetters()
        pipeline = make(sink, letters)
        outcome = await called(pipeline, bundle(5), bundle(5), bundle(5))
        assert outcome.statuses == [Status.DELIVERED, Status.DEAD_LETTERED, Status.DELIVERED]
        assert list(letters.by_record) == ["t/0/1"]

    async def alone():
        sink, letters = Strict(lambda data: bad in data, whole=whole), ScriptedLetters()
        pipeline = make(sink, letters)
        assert (await called(pipeline, bundle(5), offset=1)).statuses == [Status.PENDING]
        assert (await called(pipeline, bundle(5), offset=1)).statuses == [Status.PENDING]
        assert (await called(pipeline, bundle(5), offset=7)).statuses == [Status.DELIVERED]
        assert (await called(pipeline, bundle(5), offset=1)).statuses == [Status.DEAD_LETTERED]
        assert list(letters.by_record) == ["t/0/1"]

    run(main())
    run(alone())


def test_a_host_that_pulls_reads_on_while_one_pack_alone_is_refused_and_not_when_two_are():
    async def main():
        sink, letters = Strict(lambda data: b'"t/0/0:' in data, whole=True), ScriptedLetters()
        pipeline = make(sink, letters)
        pipeline.submit(Batch([record(0, bundle(1))]), nobody)
        await until(lambda: pipeline.snapshot().fatal)
        assert pipeline.room > 0  # the next pack tells
        pipeline.submit(Batch([record(1, bundle(1))]), nobody)
        await pipeline.drain()
        assert list(letters.by_record) == ["t/0/0"]
        sink.down = UNSURE
        pipeline.submit(Batch([record(2, bundle(5)), record(3, bundle(5))]), nobody)
        await until(lambda: pipeline.outlet.way.fatal and not pipeline.outlet.way.undecided)
        assert pipeline.room == 0
        sink.down = None
        await pipeline.drain()
        assert list(letters.by_record) == ["t/0/0"]
        await pipeline.close()

    run(main())


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["taken", "refused", "down"]), st.booleans()), max_size=60)
)
def test_no_pack_is_ever_judged_without_another_one_taken_since_it_was_first_refused(steps):
    refusals, taken = Refusals(), 0
    first: dict[int, int] = {}
    for which, what, beside in steps:
        pack = Pack(b"%d" % which, 1)
        answer = {"taken": None, "refused": UNSURE, "down": Failure(Kind.RETRYABLE, "x")}[what]
        verdict = refusals.judge(pack, answer, taken, beside=beside)
        if what == "refused":
            first.setdefault(which, taken)
            judged = beside or taken > first[which]
            assert verdict.kind is (Kind.PERMANENT if judged else Kind.FATAL_CONFIG)
            if judged:
                del first[which]
        elif what == "taken":
            taken += 1
            first.pop(which, None)
        assert refusals.pending == len(first)


def test_what_is_remembered_of_refusals_is_bounded():
    refusals = Refusals()
    for n in range(MOST + 100):
        refusals.judge(Pack(b"%d" % n, 1), UNSURE, 0, beside=False)
    assert refusals.pending == MOST
