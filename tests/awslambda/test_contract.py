"""One script of records, failures and outcomes over every host: the same rows, byte for byte, and the same letters."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from awslambda.conftest import Context, entry, mapping_event, pipe_event
from judging import agree, record
from lmstream.config import build_runtime, load
from lmstream.errors import SinkError
from lmstream.lab.broker import Broker
from lmstream.lab.faults import Fault
from lmstream.model import DeadLetter

CORPUS = Path(__file__).parents[1] / "corpus"
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


def by_mapping(world):
    """As a mapping does: again from the first failed offset of each partition."""
    host = world.host(lambda__partial_failures="true")
    for batch in batches():
        left = list(batch)
        for _ in range(5):
            answer = host.handle(mapping_event(map(entry, left)), Context(), "mapping")
            first = {
                failure["itemIdentifier"]["partition"]: failure["itemIdentifier"]["offset"]
                for failure in answer["batchItemFailures"]
            }
            left = [one for one in left if one.offset >= first.get(f"{one.topic}-{one.partition}", 1 << 63)]
            if not left:
                break
        assert not left


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


@pytest.mark.parametrize("host", [by_pipe, by_mapping, by_container, by_files])
async def test_every_host_makes_the_same_of_the_script(world, host):
    for name in SCRIPT["failures"]:
        world.firehose.faults.append(Fault.partial(0) if name == "partial" else getattr(Fault, name)())
    if host in (by_pipe, by_mapping):
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
