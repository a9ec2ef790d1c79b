"""The function for real: awslambdaric and a Runtime API, called by a Pipe and by a mapping that read a real broker."""

import asyncio
import base64
import contextlib
import json
import sys
import time
from pathlib import Path

import build_zip
import pytest
from aiokafka import AIOKafkaProducer

from hosts.awslambda.conftest import entry, pipe_event
from hosts.awslambda.test_host import expected
from lmstream.lab.broker import Broker
from lmstream.lab.faults import Fault
from lmstream.lab.invokers import Mapping, Pipe, Policy
from lmstream.lab.runtime_api import EVENT_BYTES, Answer, Function
from support.judging import record
from support.repoison import GOOD

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="awslambdaric has no wheels elsewhere")
TOPIC = "lm.metrics.otlp"
PATHS = [build_zip.ROOT / "src", build_zip.ROOT / "adapters/lambda"]
HERE = [Path(__file__).parent]


@pytest.fixture
async def broker():
    async with Broker() as made:
        yield made


async def publish(broker, values, partitions=2, start=1_715_263_558_360):
    """Publish values, and answer the records as a consumer sees them."""
    await broker.create_topic(TOPIC, partitions)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, max_request_size=8 << 20)
    await producer.start()
    records = []
    for n, value in enumerate(values):
        stamp = start + n
        sent = await producer.send_and_wait(
            TOPIC, value, partition=n % partitions, timestamp_ms=stamp, headers=[("h", b"\xff")]
        )
        records.append(record(value, topic=TOPIC, partition=n % partitions, offset=sent.offset, timestamp=stamp))
    await producer.stop()
    return records


def client(broker):
    return {"bootstrap_servers": broker.bootstrap, "group_id": "lab", "session_timeout_ms": 6000}


async def test_an_environment_is_cold_then_warm_and_dies_of_exits_and_time_outs():
    async with Function("functions.handler", HERE, {}, timeout=1.5) as function:
        first, second = await function.invoke("x"), await function.invoke("x")
        assert (first.payload["calls"], second.payload["calls"]) == (1, 2)
        assert (first.cold, second.cold) == (True, False)
        assert 1000 < second.payload["left"] <= 1500
        raised = await function.invoke("raise")
        assert (raised.payload, raised.error, raised.cold) == (None, "ValueError: no", False)
        assert (await function.invoke("exit")).error == "Runtime.ExitError: exit code 3"
        assert (await function.invoke("x")).payload["calls"] == 1
        assert (await function.invoke("hang")).error == "Sandbox.Timedout: task timed out after 1.50 seconds"
        again = await function.invoke("x")
        assert (again.payload["calls"], again.cold, function.cold_starts) == (1, True, 3)


async def test_an_event_may_have_six_megabytes_and_no_more():
    async with Function("functions.handler", HERE, {}) as function:
        fits = await function.invoke("x" * (EVENT_BYTES - 2))
        assert fits.payload["size"] == EVENT_BYTES - 2
        assert (await function.invoke("x" * EVENT_BYTES)).error.startswith("RequestEntityTooLarge: 6,291,458 bytes")


async def test_settings_that_cannot_work_are_an_answer_with_the_mend():
    async with Function("lmstream_lambda.handler", PATHS, {"LMSTREAM_SINK__STRAEM": "x"}) as function:
        answer = await function.invoke([])
    told = "LMS-2001 sink.straem is not a setting (from the environment, LMSTREAM_SINK__STRAEM)"
    assert f"{told}; did you mean LMSTREAM_SINK__STREAM?" in answer.error


async def test_an_event_of_nearly_six_megabytes_goes_through(world):
    size = (5_900_000 * 3 // 4 - 1000) // 100
    padded = [GOOD[:-1] + b" " * (size - len(GOOD)) + b"}" for _ in range(99)]
    records = [record(value, offset=n) for n, value in enumerate(padded)]
    event = json.dumps(pipe_event(map(entry, records))).encode()
    assert 5_800_000 < len(event) < EVENT_BYTES
    patient = {"delivery__timeout": "20", "lambda__patience": "50"}  # megabytes, on whatever machine there is
    async with Function("lmstream_lambda.pipe_handler", PATHS, world.env(**patient)) as function:
        answer = await function.invoke(event)
    assert (answer.payload, answer.error) == ({"records": 99}, "")
    assert await asyncio.to_thread(world.rows) == expected(records)


LAB = {"delivery__timeout": "5", "lambda__patience": "8"}
slow = pytest.mark.slow  # a broker and a process each: `make test-faults` runs them


@slow
@pytest.mark.parametrize(
    ("kind", "partial", "reading"),
    [(Pipe, False, "items"), (Mapping, False, "items"), (Mapping, True, "items"), (Mapping, True, "lowest")],
)
async def test_from_broker_to_folder_nothing_is_lost_under_faults(world, broker, kind, partial, reading):
    values = [GOOD.replace(b"CpuUsage", b"Metric%d" % n) for n in range(60)]
    values[7], values[30] = b"junk", b'{"resourceMetrics":7}'
    records = await publish(broker, values)
    poison = {(TOPIC, 1, records[7].offset), (TOPIC, 0, records[30].offset)}
    world.firehose.faults.extend(
        [Fault.partial(0), Fault(status=503, code="ServiceUnavailableException"), Fault(cut="after")]
    )
    world.firehose.faults.extend([Fault(latency=30)] * 3)  # longer than the function lives: killed, or left undelivered
    env = world.env(**LAB | {"delivery__timeout": "1", "lambda__patience": "2", "lambda__partial_failures": partial})
    policy = Policy(
        batch_size=10, report_batch_item_failures=partial, reading=reading, bisect_batch_on_function_error=True
    )
    async with (
        Function("lmstream_lambda.handler", PATHS, env, timeout=10) as function,
        kind(function.invoke, TOPIC, policy, **client(broker)) as invoker,
    ):
        await invoker.until(60, 25)
    assert invoker.counts.errors + invoker.counts.partial >= 1
    assert await asyncio.to_thread(world.rows) == expected(
        [each for each in records if (TOPIC, each.partition, each.offset) not in poison]
    )
    assert world.letters().keys() == poison


@slow
async def test_a_function_that_is_killed_loses_nothing(world, broker):
    records = await publish(broker, [GOOD] * 20)
    env = world.env(**LAB)
    async with Function("lmstream_lambda.pipe_handler", PATHS, env, timeout=20) as function:

        async def killing(event):
            doomed = invoker.counts.invocations in (1, 3)
            if doomed:
                world.firehose.faults.append(Fault(latency=1))  # a warm function could answer before it is killed
            call = asyncio.ensure_future(function.invoke(event))
            while doomed and not call.done():
                await asyncio.sleep(0.01)
                if function._process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        function._process.kill()
            return await call

        async with Pipe(killing, TOPIC, Policy(batch_size=5), **client(broker)) as invoker:
            await invoker.until(20, 25)
    assert invoker.counts.errors == 2
    assert await asyncio.to_thread(world.rows) == expected(records)


async def answering(invoker_of, broker, answers, start=1_715_263_558_360, count=6, **policy):
    """Run an invoker over a topic against scripted answers; gives the offsets of each event."""
    await publish(broker, [b"%d" % n for n in range(count)], partitions=1, start=start)
    seen = []

    async def invoke(event):
        entries = event if isinstance(event, list) else [each for some in event["records"].values() for each in some]
        offsets = [int(base64.b64decode(each["value"])) for each in entries]
        seen.append(offsets)
        payload, error = answers(offsets, len(seen))
        return Answer(payload, error, cold=False, seconds=0)

    made = invoker_of(invoke, TOPIC, Policy(backoff=0.01, **policy), **client(broker))
    async with made as invoker:
        await invoker.until(count, 30)
    return seen, invoker


@slow
async def test_a_pipe_repeats_the_whole_batch_and_heeds_no_partial_answer(broker):
    partial = {"batchItemFailures": [{"itemIdentifier": {"partition": f"{TOPIC}-0", "offset": 3}}]}
    seen, _ = await answering(Pipe, broker, lambda _, call: (partial, "" if call == 3 else "E: no"))
    assert seen == [[0, 1, 2, 3, 4, 5]] * 3


@slow
@pytest.mark.parametrize(("reading", "again"), [("items", [2, 4]), ("lowest", [2, 3, 4, 5])])
async def test_a_mapping_sends_again_what_the_answer_names_or_all_from_the_lowest(broker, reading, again):
    partial = {"batchItemFailures": [{"itemIdentifier": {"partition": f"{TOPIC}-0", "offset": n}} for n in (4, 2)]}
    seen, _ = await answering(
        Mapping,
        broker,
        lambda _, call: (partial if call == 1 else None, ""),
        report_batch_item_failures=True,
        reading=reading,
    )
    assert seen == [[0, 1, 2, 3, 4, 5], again]


@slow
async def test_a_mapping_with_a_destination_retries_ten_times_although_it_should_without_end(broker):
    seen, invoker = await answering(Mapping, broker, lambda *_: (None, "E: no"), on_failure_destination=True)
    assert len(seen) == 11
    assert invoker.counts.given_up == 6


@slow
async def test_a_retry_counts_although_something_was_delivered_by_it(broker):
    def all_but_one(offsets, _):
        failures = [{"itemIdentifier": {"partition": f"{TOPIC}-0", "offset": n}} for n in offsets[1:]]
        return {"batchItemFailures": failures}, ""

    seen, invoker = await answering(
        Mapping, broker, all_but_one, report_batch_item_failures=True, maximum_retry_attempts=2
    )
    assert seen == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [2, 3, 4, 5]]
    assert [int(each.value) for each in invoker.given_up] == [3, 4, 5]


@slow
@pytest.mark.parametrize(
    "wrong",
    [
        "3",
        {"partition": "other-0", "offset": 3},
        {"partition": f"{TOPIC}-0"},
        {"partition": f"{TOPIC}-0", "offset": "3"},
        {"partition": f"{TOPIC}-0", "offset": 6},
    ],
)
async def test_a_mapping_repeats_all_for_an_answer_it_cannot_read(broker, wrong):
    answer = {"batchItemFailures": [{"itemIdentifier": wrong}]}
    seen, _ = await answering(
        Mapping, broker, lambda _, call: (answer if call == 1 else None, ""), report_batch_item_failures=True
    )
    assert seen == [[0, 1, 2, 3, 4, 5]] * 2


@slow
async def test_a_mapping_bisects_down_to_the_record_that_raises_and_gives_it_up(broker):
    seen, invoker = await answering(
        Mapping,
        broker,
        lambda offsets, _: (None, "E: no" if 4 in offsets else ""),
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=2,
    )
    assert seen[:4] == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [3, 4, 5], [3]]
    assert [int(each.value) for each in invoker.given_up] == [4]
    assert seen.count([4]) == 3


@slow
async def test_records_past_their_age_are_given_up_before_they_are_sent(broker):
    seen, invoker = await answering(Mapping, broker, lambda *_: (None, "E: no"), maximum_record_age=60.0)
    assert seen == []  # they are of 2024
    assert invoker.counts.given_up == 6


@slow
async def test_records_that_grow_old_while_they_fail_are_given_up_not_sent_for_ever(broker):
    seen, invoker = await answering(
        Mapping, broker, lambda *_: (None, "E: no"), start=int(1000 * time.time()), maximum_record_age=5.0
    )
    assert seen[:2] == [[0, 1, 2, 3, 4, 5]] * 2
    assert invoker.counts.given_up == 6
