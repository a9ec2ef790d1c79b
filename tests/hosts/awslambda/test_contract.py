"""One script of records, failures and outcomes over every host: the same rows, byte for byte, and the same letters."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from hosts.awslambda.conftest import Context, entry, pipe_event
from hosts.awslambda.test_host import expected
from lmstream.config import build_runtime, load
from lmstream.errors import SinkError
from lmstream.lab.broker import Broker
from lmstream.lab.faults import Fault
from lmstream.lab.invokers import Mapping, Policy
from lmstream.lab.runtime_api import Answer
from lmstream.model import DeadLetter
from support.judging import agree, record
from support.repoison import GOOD

CORPUS = Path(__file__).parents[2] / "corpus"
SCRIPT = json.loads((CORPUS / "contract/script.json").read_bytes())
BATCH = 5


def value_of(line):
    return None if line["value"] is None else (CORPUS / line["value"]).read_bytes()


def records():
    return [
        record(value_of(line), topic=SCRIPT["topic"], **{k: line[k] for k in ("partition", "offset", "timestamp")})
        for line in SCRIPT["records"]
    ]


def batches():
    all_of_them = records()
    return [all_of_them[start : start + BATCH] for start in range(0, len(all_of_them), BATCH)]


def by_pipe(world):
    """As a Pipe does: the whole batch again until it succeeds."""
    host = world.host()
    for batch in batches():
        for attempt in range(5):
            try:
                host.handle(pipe_event(map(entry, batch)), Context(), "pipe")
            except SinkError:
                assert attempt < 4
            else:
                break


def mapping_of(world, reading="items", spoil=lambda answer: answer, **settings):
    """A mapping that calls a host in this process; `spoil` is what becomes of the host's answer on its way."""
    host = world.host(lambda__partial_failures="true", **settings)

    async def invoke(event):
        answer = await asyncio.to_thread(host.handle, event, Context(), "mapping")
        return Answer(spoil(answer), "", cold=False, seconds=0)

    policy = Policy(report_batch_item_failures=True, reading=reading, backoff=0, maximum_retry_attempts=5)
    return Mapping(invoke, SCRIPT["topic"], policy)


async def by_mapping(world, reading):
    mapping = mapping_of(world, reading)
    for batch in batches():
        await mapping.settle(batch)
    assert (mapping.counts.records, mapping.counts.given_up) == (len(records()), 0)


async def by_mapping_of_items(world):
    """As a mapping that sends again just what the answer names."""
    await by_mapping(world, "items")


async def by_mapping_from_the_lowest(world):
    """As a mapping that sends again all from the lowest failed offset of each partition on."""
    await by_mapping(world, "lowest")


def configured(world, **overrides):
    env = {name: text for name, text in world.env().items() if name.startswith("LMSTREAM_")}
    return load(env=env, overrides={"sink.type": "firehose", **overrides})


async def by_container(world):
    """The long-running consumer, on a broker that holds the same records at the same offsets."""
    async with Broker() as broker:
        await broker.create_topic(SCRIPT["topic"], 2)
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
        await producer.start()
        for each in records():
            sent = await producer.send_and_wait(
                each.topic, each.value, b"k", partition=each.partition, timestamp_ms=each.timestamp
            )
            assert sent.offset == each.offset
        await producer.stop()
        overrides = {
            "source.type": "kafka",
            "source.bootstrap": broker.bootstrap,
            "source.group": "lmstream",
            "source.topics": (SCRIPT["topic"],),
            "source.session_timeout_ms": 3000,
            "source.heartbeat_interval_ms": 300,
        }

        def look(progress):
            if progress.records == len(records()) and not progress.unacked:
                runtime.stop()

        runtime = build_runtime(configured(world, **overrides), look)
        summary = await runtime.run()
    assert (summary.records, summary.unacked) == (len(records()), 0)


async def by_files(world):
    """The command line's source: each record a line with its own coordinates."""
    path = world.folder.parent / "script.jsonl"
    with path.open("wb") as file:
        for each in records():
            letter = DeadLetter(
                topic=each.topic,
                partition=each.partition,
                offset=each.offset,
                timestamp=each.timestamp,
                value=each.value,
            )
            file.write(msgspec.json.encode(letter) + b"\n")
    summary = await build_runtime(configured(world, **{"source.type": "files", "source.paths": (str(path),)})).run()
    assert (summary.records, summary.unacked) == (len(records()), 0)


HOSTS = [by_pipe, by_mapping_of_items, by_mapping_from_the_lowest, by_container, by_files]


@pytest.mark.parametrize("host", HOSTS)
async def test_every_host_makes_the_same_of_the_script(world, host):
    for name in SCRIPT["failures"]:
        world.firehose.faults.append(Fault.partial(0) if name == "partial" else getattr(Fault, name)())
    if host is by_pipe:
        await asyncio.to_thread(host, world)  # a host has a loop of its own
    else:
        await host(world)
    assert not world.firehose.faults, "every failure of the script has happened"
    assert world.rows() == expected_rows()
    wanted = {(each["partition"], each["offset"]): each["letter"] for each in SCRIPT["records"] if each["letter"]}
    found = world.letters()
    assert {where[1:]: letter.reason for where, letter in found.items()} == wanted
    values = {(each.partition, each.offset): each.value for each in records()}
    assert all(letter.value == values[where[1:]] for where, letter in found.items())


def expected_rows():
    """Lines by row id, on which engine and oracle agree; each record as many as the script says."""
    rows = {}
    for line, each in zip(SCRIPT["records"], records(), strict=True):
        made = agree(each) if each.value is not None else b""
        lines = made.splitlines(keepends=True) if isinstance(made, bytes) else []
        assert len(lines) == line["rows"]
        rows |= {json.loads(one)["rowId"]: one for one in lines}
    assert len(rows) == sum(line["rows"] for line in SCRIPT["records"])
    return rows


def first_of_each_partition(answer):
    """The answer that names one record where several are left: enough for Kinesis."""
    first = {}
    for failure in answer["batchItemFailures"]:
        place = failure["itemIdentifier"]
        if place["offset"] <= first.get(place["partition"], place)["offset"]:
            first[place["partition"]] = place
    return {"batchItemFailures": [{"itemIdentifier": place} for place in first.values()]}


@pytest.mark.parametrize("reading", ["items", "lowest"])
@pytest.mark.parametrize("spoil", [None, first_of_each_partition])
async def test_an_answer_loses_nothing_only_when_it_names_all_that_is_left(world, spoil, reading):
    # A refused key leaves everything, healthy and not: the letters' place is away as well.
    refused = Fault(status=400, code="InvalidKMSResourceException", message="no")
    world.firehose.faults.append(refused)
    world.s3.stop()
    batch = [record(GOOD if n % 3 else b"junk", topic=SCRIPT["topic"], partition=n % 2, offset=n) for n in range(12)]
    settings = {"delivery__timeout": 1, "lambda__patience": 2}  # an invocation gives up soon
    mapping = mapping_of(world, reading, spoil or (lambda answer: answer), **settings)

    async def invoke(event, invoked=mapping._invoke):
        answer = await invoked(event)
        world.firehose.faults.clear()
        if mapping.counts.invocations == 1:
            world.s3.start()
        return answer

    mapping._invoke = invoke
    await mapping.settle(batch)
    assert mapping.counts.records == len(batch), "all is acknowledged"
    assert mapping.counts.given_up == 0
    healthy = {each.offset for each in batch if each.value == GOOD}
    rows = world.rows()
    landed = {each.offset for each in batch if each.offset in healthy and expected([each]).items() <= rows.items()}
    assert rows == expected([each for each in batch if each.offset in landed])
    buried = {offset for _, _, offset in world.letters()}
    lost = len(batch) - len(landed | buried)
    assert not buried & healthy
    # Where the answer is taken at its word, all but one record of each partition is gone: 10 of 12, fewer where the first
    # invocation was slow and some of them had landed.
    assert (lost > 0) is (spoil is not None and reading == "items")
