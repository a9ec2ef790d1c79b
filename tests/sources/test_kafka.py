"""The Kafka source against a real broker (tansu), plaintext and through the mTLS proxy."""

import asyncio
import contextlib
import time

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from lmstream.errors import ConfigError, LmstreamError, SourceError
from lmstream.lab import KafkaLab
from lmstream.model import TopicPartition
from lmstream.sources import _kafka
from lmstream.sources.kafka import Kafka, Settings, read_range

GROUP = {
    "session_timeout_ms": 2000,
    "heartbeat_interval_ms": 200,
    "rebalance_timeout_ms": 2000,
    "request_timeout_ms": 5000,
}


def settings(lab, *topics, **more):
    if lab.certificates is not None:
        certificates = lab.certificates
        tls = {
            "security": "ssl",
            "ca": str(certificates.ca),
            "cert": str(certificates.client_cert),
            "key": str(certificates.client_key),
        }
        more = tls | more
    return Settings(**{"bootstrap": lab.bootstrap, "topics": topics, "group": "-".join(topics) or "g", **GROUP, **more})


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(_kafka, "_TOPIC_WAIT", 0.1)
    monkeypatch.setattr(_kafka, "_KNOCK", 1.0)
    monkeypatch.setattr(_kafka, "_STOP", 2.0)


@contextlib.asynccontextmanager
async def source(lab, *topics, **more):
    made = Kafka(settings(lab, *topics, **more))
    try:
        yield made
    finally:
        await made.close()


async def produce(lab, topic, values, partition=0, **more):
    context = lab.client_context()
    security = {"security_protocol": "SSL", "ssl_context": context} if context else {}
    async with AIOKafkaProducer(bootstrap_servers=lab.bootstrap, **security) as producer:
        for n, value in enumerate(values):
            await producer.send_and_wait(topic, value, partition=partition, timestamp_ms=1_700_000_000_000 + n, **more)


SCENARIOS = []


def scenario(run):
    SCENARIOS.append(run)
    return run


async def test_what_a_group_member_lives_through():
    # Side by side on one broker, each with its own topic and group: joining a group takes tansu seconds, not work.
    async with KafkaLab() as lab:
        ran = await asyncio.gather(*(run(lab, run.__name__) for run in SCENARIOS), return_exceptions=True)
    failed = [error for error in ran if error is not None]
    if failed:
        raise BaseExceptionGroup("scenarios that failed", failed)


async def polled(consumer, count, room=1 << 20, seconds=15):
    records, epochs = [], {}
    async with asyncio.timeout(seconds):
        while len(records) < count:
            batch = await consumer.poll(room)
            records += batch.records
            epochs |= batch.epochs
    return records, epochs


@scenario
async def records_come_whole_once_and_go_on_after_the_commit(lab, lm):
    await lab.create_topic(lm, partitions=2)
    await produce(lab, lm, [b"a", None, b"c"], headers=[("h", b"1"), ("n", None)], key=b"k")
    await produce(lab, lm, [b"d"], partition=1)
    async with source(lab, lm) as first:
        records, epochs = await polled(first, 4)
        assert [r.value for r in records if r.partition == 0] == [b"a", None, b"c"]
        one = next(r for r in records if r.partition == 0)
        assert (one.offset, one.timestamp, one.key, one.headers) == (
            0,
            1_700_000_000_000,
            b"k",
            (("h", b"1"), ("n", None)),
        )
        assert epochs == first.assignment
        assert set(epochs) == {TopicPartition(lm, 0), TopicPartition(lm, 1)}
        await first.commit({TopicPartition(lm, 0): 2, TopicPartition(lm, 1): 1, TopicPartition("other", 0): 5})
        await first.commit({TopicPartition(lm, 0): 1})  # never backwards
    async with source(lab, lm) as second:
        records, _ = await polled(second, 1)
        assert [(r.partition, r.offset) for r in records] == [(0, 2)]

    got = [r async for r in read_range(settings(lab, lm), lm, {0: (1, 3), 1: (None, None)})]
    assert sorted((r.partition, r.offset) for r in got) == [(0, 1), (0, 2), (1, 0)]


@scenario
async def room_is_obeyed_and_no_room_keeps_the_membership(lab, lm):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"x" * 1000] * 20)
    async with source(lab, lm) as consumer:
        records, epochs = await polled(consumer, 1, room=1)
        assert len(records) == 1
        until = time.monotonic() + 2.5  # longer than the session
        while time.monotonic() < until:
            assert not (await consumer.poll(0)).records
        assert consumer.assignment == epochs
        while len(records) < 20:
            batch = await consumer.poll(2500)
            assert sum(len(r.value) for r in batch.records) <= 2500
            records += batch.records
        assert [r.offset for r in records] == list(range(20))


@scenario
async def a_second_member_gets_its_share_after_the_drain(lab, lm):
    await lab.create_topic(lm, partitions=2)
    for partition in (0, 1):
        await produce(lab, lm, [b"v"] * 3, partition=partition)
    async with source(lab, lm) as one, source(lab, lm) as two:
        drained = []

        async def drain(partitions):
            # settles what is in flight: here all that was handed out
            drained.append(sorted(partitions))
            await one.commit({TopicPartition(lm, 0): 3, TopicPartition(lm, 1): 3})

        one.on_revoke = drain
        await polled(one, 6)
        await two.start()
        stray = []
        async with asyncio.timeout(15):
            while len(one.assignment) != 1 or len(two.assignment) != 1:
                for member in (one, two):
                    stray += (await member.poll(1 << 20)).records
        assert drained[0] == [TopicPartition(lm, 0), TopicPartition(lm, 1)]
        assert stray == []  # the commit of the drain is where the new assignment starts
        assert one.assignment.keys() | two.assignment.keys() == {TopicPartition(lm, 0), TopicPartition(lm, 1)}
        assert max(one.assignment.values()) > 1


@scenario
async def latest_skips_what_was_there_and_is_pinned_at_once(lab, lm):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"old"])
    async with source(lab, lm, start_from="latest") as consumer:
        async with asyncio.timeout(10):
            while not consumer._committed:
                await consumer.poll(1 << 20)
    await produce(lab, lm, [b"new"])  # while nobody reads
    async with source(lab, lm, start_from="latest") as consumer:
        records, _ = await polled(consumer, 1)
        assert [r.value for r in records] == [b"new"]


@scenario
async def an_offset_that_is_gone_is_named(lab, lm):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"v"])
    async with source(lab, lm) as consumer:
        await polled(consumer, 1)
        # tansu never answers OFFSET_OUT_OF_RANGE: filed here the way the client files that answer of a fetch
        gone = KafkaPartition(lm, 0)
        consumer._consumer._fetcher._set_error(gone, OffsetOutOfRangeError({gone: 99}))
        with pytest.raises(SourceError, match="/0/99") as caught:
            await polled(consumer, 1, seconds=5)
        assert caught.value.reason == "source.offset"
        with pytest.raises(SourceError, match="/0/99"):
            await consumer.poll(1)


@scenario
async def a_heartbeat_that_is_refused_for_good_is_an_error_and_no_silence(lab, lm):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"v"])
    async with source(lab, lm) as consumer:
        await polled(consumer, 1)

        async def refused():
            raise KafkaError("Unexpected exception in heartbeat task: GroupLoadInProgressError()")

        consumer._consumer._coordinator._do_heartbeat = refused
        with pytest.raises(SourceError, match="GroupLoadInProgress"):
            await polled(consumer, 1, seconds=5)


async def test_a_broker_that_dies_does_not_hang_commit_or_close():
    async with KafkaLab() as lab:
        await lab.create_topic("lm")
        await produce(lab, "lm", [b"v"])
        consumer = Kafka(settings(lab, "lm", commit_timeout_ms=500))
        await polled(consumer, 1)
        await lab.broker.close()
        with pytest.raises(SourceError) as caught:
            await consumer.commit({TopicPartition("lm", 0): 1})
        assert caught.value.reason == "source.commit"
        assert not (await consumer.poll(1 << 20)).records
        begin = time.monotonic()
        await consumer.close()
        await consumer.close()
        assert time.monotonic() - begin < 8
        with pytest.raises(SourceError):
            await consumer.poll(1)


async def test_mtls_reads_and_each_refusal_is_named(tmp_path):
    import trustme

    async with KafkaLab(tmp_path / "pem", mtls=True) as lab:
        await lab.create_topic("lm")
        await produce(lab, "lm", [b"v"])
        async with source(lab, "lm") as consumer:
            records, _ = await polled(consumer, 1)
            assert records[0].value == b"v"
        foreign = trustme.CA()
        foreign.cert_pem.write_to_path(tmp_path / "ca.pem")
        client = foreign.issue_cert("client@elsewhere")
        client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        cases = [
            ({"cert": "", "key": ""}, "source.tls", "client certificate"),
            ({"cert": str(tmp_path / "client.pem"), "key": ""}, "source.tls", "refused the client certificate"),
            ({"ca": str(tmp_path / "ca.pem")}, "source.tls", "its certificate was refused"),
            ({"security": "plaintext", "ca": "", "cert": "", "key": ""}, None, "TLS"),
            ({"topics": ("missing",)}, "source.topic", "missing"),
        ]
        for change, reason, text in cases:
            async with source(lab, **({"topics": ("lm",)} | change)) as consumer:
                begin = time.monotonic()
                with pytest.raises(SourceError, match=text) as caught:
                    await consumer.start()
                assert reason in (None, caught.value.reason)
                assert time.monotonic() - begin < 10


async def test_addresses_where_no_broker_is(unused_tcp_port):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async def closing(_reader, writer):
        writer.close()

    mute = await asyncio.start_server(silent, "127.0.0.1", 0)
    rude = await asyncio.start_server(closing, "127.0.0.1", 0)
    try:
        plain = f"127.0.0.1:{rude.sockets[0].getsockname()[1]}"
        for change, reason, text in [
            ({"bootstrap": f"127.0.0.1:{unused_tcp_port}"}, "source.unreachable", "refused"),
            ({"bootstrap": "no-such-host.invalid:9092"}, "source.unreachable", "does not resolve"),
            (
                {"bootstrap": f"127.0.0.1:{mute.sockets[0].getsockname()[1]}"},
                "source.unreachable",
                "not answer as Kafka",
            ),
            ({"bootstrap": plain}, "source.unreachable", "does it speak TLS"),
            ({"bootstrap": plain, "security": "ssl"}, "source.tls", "during the handshake|plaintext"),
        ]:
            consumer = Kafka(Settings(topics=("lm",), **change))
            with pytest.raises(SourceError, match=text) as caught:
                await consumer.poll(1)
            assert caught.value.reason == reason
            await consumer.close()
    finally:
        for server in (mute, rude):
            server.close()
            await server.wait_closed()


def test_settings_that_cannot_be_are_refused_before_a_connection(tmp_path, monkeypatch):
    import trustme
    from cryptography.hazmat.primitives import serialization

    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    one, two = ca.issue_cert("a@x"), ca.issue_cert("b@x")
    one.cert_chain_pems[0].write_to_path(tmp_path / "one.pem")
    one.private_key_pem.write_to_path(tmp_path / "one.key")
    two.private_key_pem.write_to_path(tmp_path / "two.key")
    (tmp_path / "empty.pem").write_bytes(b"")
    key = serialization.load_pem_private_key(one.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"open")
    )
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "password").write_text("open\n")
    monkeypatch.setenv("WRONG", "shut")
    files = {
        name: str(tmp_path / name) for name in ("ca.pem", "one.pem", "one.key", "two.key", "empty.pem", "locked.key")
    }
    tls = {"security": "ssl", "ca": files["ca.pem"], "cert": files["one.pem"]}
    for change, text in [
        ({"bootstrap": "nowhere"}, "not host:port"),
        ({"bootstrap": ","}, "no broker"),
        ({"ca": files["ca.pem"]}, "plaintext"),
        ({"security": "ssl", "ca": str(tmp_path / "none.pem")}, "No such file"),
        ({"security": "ssl", "ca": files["empty.pem"]}, "no PEM"),
        ({"security": "ssl", "key": files["one.key"]}, "without cert"),
        (tls | {"key": files["two.key"]}, "do not belong together"),
        (tls | {"key": files["empty.pem"]}, "not a PEM"),
        (tls | {"key": files["locked.key"]}, "key_password is not set"),
        (tls | {"key": files["locked.key"], "key_password": "env:WRONG"}, "wrong key_password"),
        (tls | {"key": files["locked.key"], "key_password": "env:NONE_SUCH"}, "NONE_SUCH"),
        (tls | {"key": files["locked.key"], "key_password": "open"}, "env:NAME or file:PATH"),
    ]:
        with pytest.raises(ConfigError, match=text) as caught:
            Kafka(Settings(**({"bootstrap": "127.0.0.1:1", "topics": ("lm",)} | change)))
        assert "open" not in caught.value.detail.replace("open_", "")
    Kafka(
        Settings(
            bootstrap="h:1", topics=("t",), **tls, key=files["locked.key"], key_password=f"file:{tmp_path / 'password'}"
        )
    )


@scenario
async def a_range_that_does_not_exist_is_named_and_one_past_the_end_ends(lab, lm):
    await lab.create_topic(lm)
    await produce(lab, lm, [b"v"] * 3)
    got = [r.offset async for r in read_range(settings(lab, lm), lm, {0: (0, 1000)})]
    assert got == [0, 1, 2]
    assert [r async for r in read_range(settings(lab, lm), lm, {0: (3, 3)})] == []
    for ranges, topic, reason in [
        ({7: (0, 1)}, lm, "source.topic"),
        ({0: (50, 60)}, lm, "source.offset"),
        ({0: (0, 1)}, "x", "source.topic"),
    ]:
        with pytest.raises(LmstreamError) as caught:
            [r async for r in read_range(settings(lab, lm), topic, ranges)]
        assert caught.value.reason == reason
