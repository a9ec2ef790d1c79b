"""Delivery: what is called delivered was taken by the sink, whatever the sink does; everything else is tried again."""

import asyncio
from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstream.delivery import DeliveryPolicy
from lmstream.delivery.dead_letter_writer import DeadLetterWriter
from lmstream.delivery.retry import UNKNOWN, Attempts
from lmstream.delivery.sender import Sender
from lmstream.model import DeadLetter, Failure, Kind, Pack
from lmstream.testing import DOWN, LIMITS, ScriptedLetters, ScriptedSink, now, run
from support.doubles import MISSING, REFUSED, THROTTLED, nobody, verdicts_of

PACKS = [Pack(b"%d\n" % n, 1) for n in range(10)]  # three requests of at most four
STEPS = st.one_of(
    st.none(),
    st.sampled_from([DOWN, THROTTLED, REFUSED, "hang", "short", "lost"]),
    st.lists(st.sampled_from([False, True, REFUSED, THROTTLED]), max_size=4),
    st.sampled_from([OSError("reset"), asyncio.CancelledError(), TimeoutError(), MemoryError(), ValueError("odd")]),
)


def deliver(sink, packs=PACKS, *, deadline=None, seed=1, **more):
    """Deliver in virtual time; (verdicts, told, the Delivery, seconds it took). `deadline` counts from now."""

    async def main():
        delivery = Sender(
            sink, Attempts(DeliveryPolicy(**{"timeout": 5.0, **more}), now, asyncio.sleep, Random(seed).random)
        )
        told = []
        start = now()
        await delivery.deliver(
            packs,
            lambda each, verdict: told.append((each.data, verdict)),
            None if deadline is None else start + deadline,
        )
        assert len(told) == len(packs)  # one verdict each
        return [dict(told)[each.data] for each in packs], told, delivery, now() - start

    return run(main())


@settings(deadline=None, max_examples=200)
@given(
    st.lists(STEPS, max_size=25),
    st.integers(0, 40),
    st.integers(1, 5),
    st.one_of(st.none(), st.floats(0, 60)),
    st.integers(0, 99),
)
def test_a_pack_called_delivered_was_taken_and_a_refused_one_never_sent_again(
    script, many, concurrency, deadline, seed
):
    packs = [Pack(b"%d\n" % n, 1) for n in range(many)]
    latency = Random(seed)
    sink = ScriptedSink(script, latency=lambda: latency.random() * 3)
    verdicts, _, delivery, took = deliver(sink, packs, deadline=deadline, seed=seed, concurrency=concurrency)
    assert len(verdicts) == many
    taken = sink.lines
    for each, verdict in zip(packs, verdicts, strict=True):
        assert verdict is None or isinstance(verdict.code, str)
        if verdict is None:
            assert taken[each.data] >= 1
        elif deadline is None:
            assert verdict is REFUSED
    assert sink.most_busy <= concurrency
    sent = [each.data for _, request in sink.calls for each in request]
    assert len(sent) == len(packs) + delivery.counts.retried_packs or deadline is not None
    assert all(1 <= len(request) <= LIMITS.request_packs for _, request in sink.calls)
    if deadline is not None:
        assert took <= deadline
        assert all(at + 5.0 <= 1000 + deadline for at, _ in sink.calls)


def test_only_the_packs_that_failed_are_sent_again():
    sink = ScriptedSink([[False, True, False, True]])
    verdicts, _, delivery, _ = deliver(sink, PACKS[:4])
    assert verdicts == [None] * 4
    assert [request for _, request in sink.calls] == [PACKS[:4], [PACKS[1], PACKS[3]]]
    assert delivery.counts.retried_packs == 2
    assert delivery.counts.requests == {"partial": 1, "ok": 1}
    assert (delivery.counts.packs, delivery.counts.bytes) == (4, 8)


@pytest.mark.parametrize(
    "doubt", ["hang", "short", "lost", OSError("reset"), asyncio.CancelledError(), lambda _: "no list"]
)
def test_an_unknown_outcome_is_sent_again_and_counted(doubt):
    sink = ScriptedSink([doubt])
    if callable(doubt):
        first = sink.write

        async def write(packs, /):
            await first(packs)
            sink.write = first
            return {"FailedPutCount": 0}  # no verdicts at all

        sink.write = write
        sink.script.clear()
    verdicts, _, delivery, _ = deliver(sink, PACKS[:3])
    assert verdicts == [None] * 3
    assert delivery.counts.unknown_outcomes == 3
    assert delivery.counts.requests == {"unknown": 1, "ok": 1}
    assert delivery.trouble is None


def test_something_that_is_no_verdict_is_never_success():
    sink = ScriptedSink()

    async def write(_packs, /):
        return [{"ErrorCode": "Throttled"}, None]

    sink.write = write
    verdicts, *_ = deliver(sink, PACKS[:2], deadline=6)
    assert [v and v.code for v in verdicts] == [UNKNOWN, None]


def test_nothing_is_sent_that_might_end_after_the_deadline():
    sink = ScriptedSink()
    verdicts, told, _, took = deliver(sink, deadline=4.9)
    assert {v.code for v in verdicts} == {"not_tried"}
    assert (sink.calls, len(told), took) == ([], len(PACKS), 0)


def test_a_configuration_failure_stops_all_tries_when_there_is_a_deadline():
    sink = ScriptedSink([MISSING, None])
    verdicts, _, delivery, took = deliver(sink, deadline=1000, concurrency=1)
    assert len(sink.calls) == 1
    assert [v.kind for v in verdicts[:4]] == [Kind.FATAL_CONFIG] * 4
    assert {v.code for v in verdicts[4:]} == {"not_tried"}
    assert delivery.fatal is MISSING
    assert took < 1


def test_a_configuration_failure_waits_for_the_operator_when_there_is_none():
    async def main():
        sink = ScriptedSink()
        sink.down = MISSING
        delivery = Sender(sink, Attempts(DeliveryPolicy(), now, asyncio.sleep, lambda: 0.5))
        task = asyncio.create_task(verdicts_of(delivery, PACKS[:2]))
        await asyncio.sleep(3600)
        assert delivery.fatal is MISSING
        assert 100 < len(sink.calls) <= 121  # at the longest backoff, no faster
        sink.down = None
        assert await task == [None, None]
        assert delivery.fatal is None

    run(main())


def test_throttling_halves_the_concurrency_once_for_requests_that_met_it_together_and_success_restores_it():
    sink = ScriptedSink([THROTTLED] * 8)
    packs = [Pack(b"%d\n" % n, 1) for n in range(400)]

    async def main():
        delivery = Sender(sink, Attempts(DeliveryPolicy(concurrency=8), now, asyncio.sleep, lambda: 0.5))
        task = asyncio.create_task(verdicts_of(delivery, packs))
        await asyncio.sleep(0.011)
        assert delivery.concurrency == 4
        assert delivery.counts.throttled == 8
        sink.most_busy = sink.busy
        assert await task == [None] * 400
        assert delivery.concurrency == 8

    run(main())


def test_throttling_goes_down_to_one_and_not_to_a_standstill():
    sink = ScriptedSink([THROTTLED] * 40)
    verdicts, _, delivery, _ = deliver(sink)
    assert verdicts == [None] * 10
    assert delivery.concurrency >= 1
    assert sink.most_busy <= 8


def test_backoff_is_full_jitter_between_nothing_and_thirty_seconds():
    policy = DeliveryPolicy()
    assert [Attempts(policy, now, asyncio.sleep, lambda: 1.0).backoff(attempt) for attempt in range(10)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        6.4,
        12.8,
        25.6,
        30,
    ]
    assert Attempts(policy, now, asyncio.sleep, lambda: 1.0).backoff(10**9) == 30
    assert Attempts(policy, now, asyncio.sleep, lambda: 0.25).backoff(5) == 0.8


def test_an_outage_of_a_day_is_survived():
    async def main():
        sink = ScriptedSink()
        sink.down = DOWN
        delivery = Sender(sink, Attempts(DeliveryPolicy(), now, asyncio.sleep, Random(1).random))
        task = asyncio.create_task(verdicts_of(delivery, PACKS))
        await asyncio.sleep(86_400)
        assert delivery.trouble is DOWN
        assert len(sink.calls) < 3 * 86_400 / 10  # and not hammered
        sink.down = None
        assert await task == [None] * 10
        assert sink.accepted != []

    run(main())


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 20), st.lists(STEPS, max_size=10))
def test_cancelling_ends_every_try_and_leaves_the_gate_open(when, script):
    async def main():
        sink = ScriptedSink(script, latency=lambda: 0.7)
        delivery = Sender(sink, Attempts(DeliveryPolicy(concurrency=2, timeout=5), now, asyncio.sleep, lambda: 0.5))
        task = asyncio.create_task(verdicts_of(delivery, PACKS))
        await asyncio.sleep(when)
        task.cancel()
        await asyncio.wait({task})
        calls = len(sink.calls)
        await asyncio.sleep(100)
        assert len(sink.calls) == calls
        assert sink.busy == 0
        sink.script.clear()
        assert await verdicts_of(delivery, PACKS) == [None] * 10

    run(main())


def letters(script, deadline=None):
    async def main():
        sink = ScriptedLetters(script)
        delivery = DeadLetterWriter(sink, Attempts(DeliveryPolicy(timeout=5), now, asyncio.sleep, lambda: 0.5))
        failure = await delivery.deliver([DeadLetter(topic="t", partition=0, offset=1)], deadline and now() + deadline)
        return failure, sink.letters, delivery

    return run(main())


def test_a_dead_letter_that_cannot_be_written_is_tried_until_it_is_durable():
    failure, written, delivery = letters([1] * 50)
    assert failure is None
    assert len(written) == 1
    assert (delivery.retries, delivery.trouble) == (50, None)


def test_a_dead_letter_past_the_deadline_is_reported_and_not_called_durable():
    failure, written, delivery = letters([1] * 500, deadline=20)
    assert failure.kind is Kind.RETRYABLE
    assert "No space left" in failure.message
    assert written == []
    assert delivery.trouble is failure


def test_one_bad_pack_of_a_refused_request_is_found_and_its_siblings_are_delivered():
    class Strict:
        """Refuses whole requests for one bad pack, as Firehose does with arguments it does not like."""

        limits = LIMITS

        def __init__(self):
            self.taken = []

        async def write(self, packs, /):
            if any(each.data == b"6\n" for each in packs):
                kind = Kind.PERMANENT if len(packs) == 1 else Kind.RETRYABLE
                return [Failure(kind, "InvalidArgumentException", apart=len(packs) > 1)] * len(packs)
            self.taken += [each.data for each in packs]
            return [None] * len(packs)

        async def close(self):
            pass

    sink = Strict()
    verdicts, told, _, _ = deliver(sink)
    assert [at for at, verdict in enumerate(verdicts) if verdict is not None] == [6]
    assert verdicts[6].kind is Kind.PERMANENT
    assert sorted(sink.taken) == sorted(each.data for each in PACKS if each.data != b"6\n")
    assert len(told) == len(PACKS)


def test_a_pack_that_is_refused_for_good_is_no_trouble_that_goes_on():
    """Its letter is written, and nothing is being retried: a status line that says so would never end."""

    class Strict:
        limits = LIMITS

        async def write(self, packs, /):
            if len(packs) > 1:
                return [Failure(Kind.RETRYABLE, "InvalidArgumentException", apart=True)] * len(packs)
            return [Failure(Kind.PERMANENT, "InvalidArgumentException", "records.1.member.data")]

        async def close(self):
            pass

    verdicts, _, delivery, _ = deliver(Strict(), PACKS[:2])
    assert [each.kind for each in verdicts] == [Kind.PERMANENT] * 2
    assert delivery.trouble is None


def test_a_pack_that_is_tried_on_and_on_does_not_hold_those_that_were_delivered():
    class Traced(bytes):
        """Bytes that can be counted."""

        alive = 0

        def __new__(cls, data):
            cls.alive += 1
            return super().__new__(cls, data)

        def __del__(self):
            Traced.alive -= 1

    async def main():
        sink = ScriptedSink([[True, False, False, False]] * 50)
        sink.calls = deque(maxlen=0)
        sink.accepted = deque(maxlen=0)
        delivery = Sender(sink, Attempts(DeliveryPolicy(), now, asyncio.sleep, lambda: 0.5))
        packs = [Pack(Traced(b"%d\n" % n), 1) for n in range(4)]
        delivering = asyncio.create_task(delivery.deliver(packs, nobody))
        del packs
        await asyncio.sleep(5)
        assert Traced.alive == 1
        assert not delivering.done()
        await delivering
        assert Traced.alive == 0

    run(main())


class Foreign:
    """A sink of somebody else's module."""

    limits = LIMITS

    def __init__(self, answer):
        self.answer = answer

    async def write(self, packs, /):  # noqa: ARG002 - the seam
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self): ...


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (KeyError("table"), "raised KeyError: 'table' at test_sender.py:"),
        ([], "answered 0 verdicts for 1 packs"),
        (["ok"], "answered an invalid verdict"),
    ],
)
def test_what_a_sink_of_somebody_else_does_wrong_is_said_with_its_module(answer, said):
    (verdict,), _, _, _ = deliver(Foreign(answer), PACKS[:1], deadline=6.0)
    assert verdict.code == UNKNOWN
    assert verdict.message.startswith(f"{__name__} {said}")
