"""The Kafka source against a real broker (tansu), plaintext and through the mTLS proxy."""

import asyncio
import time

import pytest

from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import connection, connection_probe, topics
from lmstream.kafka.group import librdkafka_thread
from lmstream.lab import KafkaLab
from lmstream.model import TopicPartition
from lmstream.sources import confluent, kafka
from lmstream.sources.kafka import Kafka, Settings
from support import kafka_scenarios as scenarios
from support.kafka_scenarios import SCENARIOS, polled, produce


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(topics, "_FRESH", 0.1)
    monkeypatch.setattr(connection_probe, "_PROBE", 1.0)
    monkeypatch.setattr(connection, "_STOP", 2.0)
    monkeypatch.setattr(librdkafka_thread, "STOP", 2.0)


MODULES = [pytest.param(kafka, id="kafka"), pytest.param(confluent, id="confluent")]


def source(lab, module, *topics, **more):
    return scenarios.source(lab, module, *topics, **more)


@pytest.mark.parametrize("module", MODULES)
async def test_what_a_group_member_lives_through(module):
    # Side by side on one broker, each with its own topic and group: joining a group takes tansu seconds, not work.
    async with KafkaLab() as lab:
        ran = await asyncio.gather(*(run(lab, run.__name__, module) for run in SCENARIOS), return_exceptions=True)
    failed = [error for error in ran if error is not None]
    if failed:
        raise BaseExceptionGroup("scenarios that failed", failed)


async def test_members_of_both_kinds_share_a_group_when_both_are_eager():
    async with KafkaLab() as lab:
        await lab.create_topic("lm", partitions=2)
        for partition in (0, 1):
            await produce(lab, "lm", [b"v"] * 3, partition=partition)
        eager = {"client": {"partition.assignment.strategy": "roundrobin,range"}}
        async with source(lab, kafka, "lm") as one, source(lab, confluent, "lm", **eager) as two:
            seen = set()
            async with asyncio.timeout(20):
                while len(one.assignment) != 1 or len(two.assignment) != 1 or len(seen) < 6:
                    for batch in await asyncio.gather(one.poll(1 << 20), two.poll(1 << 20)):
                        seen |= {(record.partition, record.offset) for record in batch.records}
            await one.close()
            async with asyncio.timeout(20):
                while len(two.assignment) != 2:
                    await two.poll(1 << 20)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.slow
async def test_a_broker_that_dies_does_not_hang_commit_or_close(module):
    async with KafkaLab() as lab:
        await lab.create_topic("lm")
        await produce(lab, "lm", [b"v"])
        consumer = module.make(scenarios.settings(lab, module, "lm", commit_timeout_ms=500))
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


@pytest.mark.parametrize("module", MODULES)
async def test_mtls_reads_and_each_refusal_is_named(tmp_path, module):
    import trustme

    async with KafkaLab(tmp_path / "pem", mtls=True) as lab:
        await lab.create_topic("lm")
        await produce(lab, "lm", [b"v"])
        async with source(lab, module, "lm") as consumer:
            records, _ = await polled(consumer, 1)
            assert records[0].value == b"v"
        foreign = trustme.CA()
        foreign.cert_pem.write_to_path(tmp_path / "ca.pem")
        client = foreign.issue_cert("client@elsewhere")
        client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        cases = [
            ({"cert": "", "key": ""}, "source.tls_client", "client certificate"),
            ({"cert": str(tmp_path / "client.pem"), "key": ""}, "source.tls_client", "rejected the client certificate"),
            ({"ca": str(tmp_path / "ca.pem")}, "source.tls_issuer", "its certificate was rejected"),
            ({"security": "plaintext", "ca": "", "cert": "", "key": ""}, "source.tls_port", "TLS"),
            ({"topics": ("missing",)}, "source.topic", "missing"),
        ]
        for change, reason, text in cases:
            async with source(lab, module, **({"topics": ("lm",)} | change)) as consumer:
                begin = time.monotonic()
                with pytest.raises(SourceError, match=text) as caught:
                    await consumer.start()
                assert caught.value.reason == reason
                assert time.monotonic() - begin < 10


@pytest.mark.parametrize("module", MODULES)
async def test_addresses_where_no_broker_is(unused_tcp_port, module):
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
                "not respond like a Kafka broker",
            ),
            ({"bootstrap": plain}, "source.unreachable", "if it speaks TLS"),
            ({"bootstrap": plain, "security": "ssl"}, "source.tls", "closed in the handshake: it speaks plaintext"),
        ]:
            consumer = module.make(Settings(topics=("lm",), group="g", **change))
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
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"Zugang7")
    )
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "password").write_text("Zugang7\n")
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
        (tls | {"key": files["locked.key"], "key_password": "Zugang7"}, "env:NAME or file:PATH"),
    ]:
        with pytest.raises(ConfigError, match=text) as caught:
            Kafka(Settings(**({"bootstrap": "127.0.0.1:1", "topics": ("lm",)} | change)))
        assert "Zugang7" not in caught.value.detail
    Kafka(
        Settings(
            bootstrap="h:1", topics=("t",), **tls, key=files["locked.key"], key_password=f"file:{tmp_path / 'password'}"
        )
    )
