"""Bytes in a topic that a client library cannot take: held to their record, else to their partition. Memory is bounded."""

import asyncio
import contextlib
import gzip
import re
import struct
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from lmstream.dead_letters.form import decode, encode
from lmstream.delivery.dead_letter import letter
from lmstream.delivery.in_flight import InFlight, Submission
from lmstream.kafka._response_bound import ResponseBound
from lmstream.kafka.group.member import WAIT
from lmstream.model import KILLS, UNREADABLE, Record, TopicPartition
from lmstream.sources import confluent, kafka
from lmstream.sources.kafka import read_range
from lmstream.storage.crash_journal import CrashJournal
from support.doubles import nobody
from support.mock_kafka import MockKafka
from support.record_batches import batch, publish

MODULES = [pytest.param(kafka, id="kafka"), pytest.param(confluent, id="confluent")]
TOPIC = "lm"
QUICK = {
    "session_timeout_ms": 3000,
    "heartbeat_interval_ms": 100,
    "rebalance_timeout_ms": 2000,
    "request_timeout_ms": 4000,
}
BAD = {1: [(b"\xff\xfeAA", b"1"), (b"k", None)]}


def damage(raw, at=-1):
    made = bytearray(raw)
    made[at] ^= 1
    return bytes(made)


@contextlib.asynccontextmanager
async def mock(partitions=1):
    async with MockKafka() as cluster:
        cluster.create_topic(TOPIC, partitions)
        yield cluster


@contextlib.asynccontextmanager
async def source(cluster, module, **more):
    made = module.make(module.Settings(bootstrap=cluster.bootstrap, topics=(TOPIC,), group="g", **QUICK, **more))
    try:
        yield made
    finally:
        await made.close()


async def polled(consumer, enough, room=1 << 24, seconds=20):
    found = []
    async with asyncio.timeout(seconds):
        while not enough(found):
            found += (await consumer.poll(room)).records
    return found


@pytest.mark.parametrize("module", MODULES)
async def test_a_header_key_that_is_no_utf8_stops_nothing(module):
    async with mock(2) as cluster:
        await publish(cluster.bootstrap, TOPIC, *(batch(0, [b"%d" % n]) for n in range(3)), partition=1)
        await publish(
            cluster.bootstrap,
            TOPIC,
            batch(1, [b"a", b"b"]),
            batch(1, [b"c", b"d", b"e"], headers=BAD),
            batch(0, [b"f"]),
        )
        async with source(cluster, module) as consumer:
            found = await polled(consumer, lambda found: len(found) >= 9)
        assert sorted((r.partition, r.offset, r.value) for r in found) == [
            *((0, n, bytes([97 + n])) for n in range(6)),
            *((1, n, b"%d" % n) for n in range(3)),
        ]
        assert consumer.health.headers_unread == (module is confluent)
        (odd,) = (r for r in found if r.value == b"d")
        if module is kafka:
            assert [(name.encode(errors="surrogateescape"), text) for name, text in odd.headers] == BAD[1]
        ranged = [r async for r in read_range(consumer.settings, TOPIC, {0: (None, None)})]
        assert [r.value for r in ranged] == [b"a", b"b", b"c", b"d", b"e", b"f"]


async def test_a_header_key_that_is_no_utf8_is_seen_after_thousands_that_are():
    # A call that has often gone well is made by Python without a look at how it went: the error would show up later.
    async with mock(1) as cluster:
        many = [b"%d" % n for n in range(3000)]
        await publish(cluster.bootstrap, TOPIC, batch(0, many), batch(0, [b"a", b"b"], headers=BAD))
        async with source(cluster, confluent) as consumer:
            found = await polled(consumer, lambda found: len(found) >= 3002)
    assert [r.value for r in found[-2:]] == [b"a", b"b"]
    assert [r.offset for r in found] == list(range(3002))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("module", MODULES)
async def test_a_batch_that_arrives_damaged_holds_its_own_partition_and_says_where(module, caplog):
    async with mock(2) as cluster:
        await publish(cluster.bootstrap, TOPIC, *(batch(0, [b"%d" % n]) for n in range(3)), partition=1)
        await publish(cluster.bootstrap, TOPIC, batch(0, [b"a", b"b"]), damage(batch(4, [b"c"] * 3)), batch(0, [b"f"]))
        async with source(cluster, module) as consumer:
            found = await polled(consumer, lambda found: len(found) >= 5)
            while not consumer.health.unreadable:
                found += (await consumer.poll(1 << 20)).records
            await publish(cluster.bootstrap, TOPIC, batch(0, [b"3"]), partition=1)
            found += await polled(consumer, lambda found: len(found) >= 1)
            assert sorted((r.partition, r.value) for r in found) == [
                *((0, value) for value in (b"a", b"b")),
                *((1, b"%d" % n) for n in range(4)),
            ]
            assert sum(consumer.health.recreations.values()) == 0
            told = consumer.health.unreadable[TopicPartition(TOPIC, 0)]
            assert told in caplog.text
            assert told.startswith("lm/0: offsets 2 to 4 are damaged each time they are read.")
            assert told.endswith("lmstream skip lm/0 --to 5")
            with pytest.raises(TimeoutError):
                await polled(consumer, lambda found: found, seconds=1)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("module", MODULES)
async def test_a_damaged_batch_is_passed_over_with_a_letter_of_its_bytes_when_that_is_asked_for(module):
    broken = damage(batch(4, [b"c"] * 3))
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, batch(0, [b"a", b"b"]), broken, batch(0, [b"f"]))
        async with source(cluster, module, on_unreadable="skip") as consumer:
            found = await polled(consumer, lambda found: len(found) >= 4)
            assert not consumer.health.unreadable
        assert [r.offset for r in found] == [0, 1, 4, 5]
        assert (found[2].closed_for, found[2].value[61:]) == (UNREADABLE, broken[61:])
        assert found[2].closed.startswith("offsets 2 to 4, ")
        ranged = [r async for r in read_range(consumer.settings, TOPIC, {0: (None, None)})]
        assert [(r.offset, r.closed_for if r.closed else "") for r in ranged] == [
            (0, ""),
            (1, ""),
            (4, UNREADABLE),
            (5, ""),
        ]
        (one,) = [r async for r in read_range(consumer.settings, TOPIC, {0: (5, 6)})]
        assert one.value == b"f"


@pytest.mark.parametrize("module", MODULES[:1])
async def test_what_the_wire_damaged_once_is_fetched_again_and_nobody_hears_of_it(module, monkeypatch, caplog):
    from lmstream.kafka import _fetch_guard as fetch_guard

    seen = []
    inner = fetch_guard.guarded

    def once(data, *more, **options):
        seen.append(data)
        return inner(damage(data) if data and len(seen) < 3 else data, *more, **options)

    monkeypatch.setattr(fetch_guard, "guarded", once)
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, batch(1, [b"a", b"b"]))
        async with source(cluster, module) as consumer:
            found = await polled(consumer, lambda found: len(found) >= 2)
            assert (not consumer.health.unreadable, len(seen) >= 2) == (True, True)
    assert [r.value for r in found] == [b"a", b"b"]
    assert "damaged" not in caplog.text


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("module", MODULES[:1])
async def test_a_held_partition_goes_on_by_itself_when_it_can_be_read_again(module, monkeypatch):
    from lmstream.kafka import _fetch_guard as fetch_guard

    broken = True
    inner = fetch_guard.guarded
    monkeypatch.setattr(
        fetch_guard,
        "guarded",
        lambda data, *more, **options: inner(damage(data) if data and broken else data, *more, **options),
    )
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, batch(1, [b"a", b"b"]))
        async with source(cluster, module) as consumer:
            async with asyncio.timeout(20):
                while not consumer.health.unreadable:
                    assert not (await consumer.poll(1 << 20)).records
            broken = False
            found = await polled(consumer, lambda found: len(found) >= 2)
            assert not consumer.health.unreadable
    assert [r.value for r in found] == [b"a", b"b"]


@pytest.fixture
def hasty(monkeypatch):
    from lmstream.kafka import _record_reader as record_reader

    monkeypatch.setattr(record_reader, "_AGAIN", 0.05)
    monkeypatch.setattr(record_reader, "_LATER", 0.5)


@pytest.mark.parametrize("kind", ["kafka", "confluent"])
async def test_the_letter_of_a_record_has_its_headers_whatever_the_client_makes_of_them(kind, tmp_path):
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, batch(1, [BUNDLE % 1, b"no bundle", BUNDLE % 2], headers=BAD))
        broker = ("--bootstrap", cluster.bootstrap, "--topic", TOPIC)
        member = await lmstream(
            "run", "--source", kind, *broker, "--group", "g", "--org", "a", "--landed", "landed", "--dead-letters", "dead",
            "--set", "sink.window_seconds=0.1", folder=tmp_path,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                while len(rows(tmp_path / "landed")) < 2 or not (tmp_path / "dead/lm/0/1.json").exists():
                    assert member.returncode is None, (tmp_path / "said").read_text()
                    await asyncio.sleep(0.1)
        finally:
            member.terminate()
            await member.wait()
    told = decode((tmp_path / "dead/lm/0/1.json").read_bytes())
    assert told.value == b"no bundle"
    kept = [(name.encode(errors="surrogateescape"), text) for name, text in told.record().headers]
    assert kept == BAD[1]


def test_a_letter_keeps_the_bytes_of_a_key_that_is_no_utf8():
    headers = tuple((key.decode(errors="surrogateescape"), text) for key, text in (*BAD[1], ("é".encode(), b"")))
    wanted = Record(topic="lm", partition=1, offset=2, value=b"x", headers=headers)
    each = InFlight().track(wanted, Submission(nobody))
    each.why = ("decode.json", "no")
    told = decode(encode(letter(each, 1 << 20)))
    assert told.headers == (("\ufffd\ufffdAA", b"1"), ("k", None), ("é", b""))
    assert told.header_keys == ((0, b"\xff\xfeAA"),)
    assert told.record().headers == headers


MIB = 1 << 20
BUDGETS = 2.5 * 64 * MIB
BUNDLE = (
    b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":'
    b'[{"timeUnixNano":"1715263558360000000","asInt":"%d"}]}}]}]}]}'
)


def swelling(codec=4, batches=25, records=7, size=8_000_000):
    """Batches of a few kilobytes; each record is a healthy bundle, most of it spaces."""
    return [batch(codec, [(BUNDLE % (n * records + m)).ljust(size) for m in range(records)]) for n in range(batches)]


def resident(pid, name="VmHWM"):
    return int(re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def lmstream(*arguments, folder):
    command = [sys.executable, "-m", "lmstream", *arguments]
    with (folder / "said").open("ab") as said:
        return await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=said, stderr=said)


def rows(folder):
    return [line for file in folder.rglob("*.ndjson.gz") for line in lines(file)]


def lines(file):
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()


@pytest.mark.slow  # twenty seconds of inflating
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["kafka"])
async def test_batches_that_swell_to_56_megabytes_land_within_two_and_a_half_budgets(kind, tmp_path):
    made = await asyncio.to_thread(swelling)
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, *made)
        broker = ("--bootstrap", cluster.bootstrap, "--topic", TOPIC)
        member = await lmstream(
            "run", "--source", kind, *broker, "--group", "g", "--org", "a", "--landed", "landed", "--dead-letters", "dead",
            "--set", "sink.window_seconds=0.1", folder=tmp_path,
        )  # fmt: skip
        peak = 0
        try:
            async with asyncio.timeout(240):
                while len(rows(tmp_path / "landed")) < 175:
                    assert member.returncode is None, (tmp_path / "said").read_text()
                    peak = resident(member.pid)
                    await asyncio.sleep(0.1)
        finally:
            if member.returncode is None:
                member.terminate()
            await member.wait()
        found = Counter(msgspec.json.decode(line)["value"] for line in rows(tmp_path / "landed"))
        assert found == Counter(range(175))
        assert not list((tmp_path / "dead").rglob("*.json"))
        print(f"{peak / MIB:.0f} MiB at most")
        assert peak < BUDGETS


class Journal:
    """In place of the marks on disk: how many processes died over each batch, and whether one died in a fetch."""

    def __init__(self, *, wary=False, **deaths):
        self.wary, self.deaths, self.marked = wary, deaths, []

    def opening(self, _tp, offset, timestamp):
        self.marked.append((offset, timestamp))
        return self.deaths.get(f"at_{offset}", 0)

    def opened(self):
        self.marked.append(None)

    def fetching(self):
        self.marked.append("fetching")

    def well(self):
        self.wary = False


async def test_after_a_death_in_the_poll_what_waits_is_read_through_the_guarded_reader(caplog):
    caplog.set_level("INFO")
    async with mock(2) as cluster:
        for partition in (0, 1):
            made = (batch(1, [b"%d" % n, bytes(2 * MIB)]) for n in range(3))
            await publish(cluster.bootstrap, TOPIC, *made, partition=partition)
        async with source(cluster, confluent) as consumer:
            journal = consumer.journal = Journal(wary=True)
            found = await polled(consumer, lambda found: len(found) >= 12)
            assert sorted((r.partition, r.offset) for r in found) == [(p, n) for p in (0, 1) for n in range(6)]
            assert {each for each in journal.marked if isinstance(each, tuple)}  # opened by the guarded reader
            while journal.wary:
                await consumer.poll(1 << 20)
            assert "librdkafka reads again: " in caplog.text
            journal.marked.clear()
            for partition in (0, 1):
                await publish(cluster.bootstrap, TOPIC, batch(1, [b"later", bytes(2 * MIB)]), partition=partition)
            found = await polled(consumer, lambda found: len(found) >= 4)
            assert sorted((r.partition, r.offset) for r in found) == [(0, 6), (0, 7), (1, 6), (1, 7)]
            assert not journal.marked


async def test_a_batch_over_which_three_processes_died_stays_closed():
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, *(batch(4, [b"a", bytes(2 * MIB)]) for _ in range(3)))
        async with source(cluster, kafka) as consumer:
            consumer.journal = Journal(at_0=2, at_2=3)
            found = await polled(consumer, lambda found: len(found) >= 5)
    assert [(r.offset, r.closed_for if r.closed else "") for r in found] == [
        (0, ""),
        (1, ""),
        (3, KILLS),
        (4, ""),
        (5, ""),
    ]


@pytest.mark.parametrize("kind", ["kafka", "confluent"])
async def test_a_process_that_is_killed_while_it_opens_or_fetches_is_remembered(kind, tmp_path):
    where = TopicPartition("lm", 3)
    dying = f"""
        import os, signal
        from lmstream.storage.crash_journal import CrashJournal
        from lmstream.model import TopicPartition
        crashes = CrashJournal({str(tmp_path)!r})
        crashes.opening(TopicPartition("lm", 1), 5, 7)
        crashes.opened()
        {'crashes.opening(TopicPartition("lm", 3), 5, 7)' if kind == "kafka" else "crashes.fetching()"}
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(dying))
        assert await process.wait() == -9
    crashes = CrashJournal(tmp_path)
    assert crashes.opening(where, 5, 7) == (2 if kind == "kafka" else 0)
    assert crashes.opening(where, 5, 8) == crashes.opening(TopicPartition("lm", 1), 5, 7) == 0
    assert crashes.wary == (kind == "confluent")
    assert not CrashJournal(tmp_path, "another cluster").wary
    crashes.well()
    crashes.close()
    assert not CrashJournal(tmp_path).wary


@pytest.mark.parametrize("length", [(1 << 31) - 1, 100 << 20, -5])
async def test_an_answer_of_two_gigabytes_is_not_read(length, caplog):
    sent = 0

    async def serve(reader, writer):
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            await reader.readexactly(4)
            writer.write(struct.pack(">i", length))
            while sent < 400 * MIB:
                writer.write(bytes(MIB))
                await writer.drain()
                sent += MIB
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    before = resident("self")
    ResponseBound.allow(4 * MIB, 64 * MIB)
    with pytest.raises((KafkaError, OSError)):
        await create_conn("127.0.0.1", server.sockets[0].getsockname()[1], request_timeout_ms=10_000)
    assert resident("self") - before < 64 * MIB
    server.close()
    assert sent < 100 * MIB
    assert f"an answer of {length:,} bytes is not read, {68 * MIB:,} may be" in caplog.text


async def test_a_batch_that_is_opened_here_costs_no_wait():
    async with mock() as cluster:
        await publish(cluster.bootstrap, TOPIC, *(batch(1, [bytes(2 * MIB)]) for _ in range(30)))
        async with source(cluster, kafka) as consumer:
            await polled(consumer, lambda found: found)
            began = time.monotonic()
            await polled(consumer, lambda found: len(found) >= 25)
            assert time.monotonic() - began < 25 * WAIT, "a wait for each"
