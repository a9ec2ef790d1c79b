"""Dead letters in a topic: acknowledged before they count, keyed by coordinates; an outage only makes them wait."""

import asyncio

import msgspec
import pytest

from lmstream.config import build_letters, check_letters, load
from lmstream.dead_letters.letters_kafka import Letters, Settings
from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.errors import ConfigError, SinkError
from lmstream.interfaces import Batch
from lmstream.kafka import settings
from lmstream.lab import KafkaLab
from lmstream.model import DeadLetter
from lmstream.sources.kafka import read_range
from lmstream.testing import ScriptedSink
from support.doubles import ToyEngine, bundle, record
from support.wait import until


def letter(offset=7, value=b"\x00bundle", topic="lm.metrics", **more):
    return DeadLetter(topic=topic, partition=3, offset=offset, timestamp=5, value=value, reason="decode.json", **more)


async def kept(settings):
    return [each async for each in read_range(settings, "dlq", {0: (None, None)})]


def overrides(lab, **more):
    given = {"bootstrap": lab.bootstrap, "topic": "dlq", **more}
    return {"dead_letters.type": "letters_kafka", **{f"dead_letters.{k}": v for k, v in given.items()}}


async def test_letters_are_acknowledged_keyed_and_read_back_over_mtls_with_the_source_s_connection(tmp_path):
    async with KafkaLab(tmp_path, mtls=True) as lab:
        await lab.create_topic("dlq")
        pem = lab.certificates
        secured = {"security": "ssl", "ca": str(pem.ca), "cert": str(pem.client_cert), "key": str(pem.client_key)}
        source = {"type": "kafka", "bootstrap": lab.bootstrap, "topics": ("lm",), **secured}
        config = load(
            env={},
            overrides={
                **{f"source.{k}": v for k, v in source.items()},
                "dead_letters.type": "letters_kafka",
                "dead_letters.topic": "dlq",
            },
        )
        await check_letters(config)
        sink = build_letters(config)
        letters = [letter(offset=n, value=bytes([n]) * 2000, headers=(("h", b"\xff"),)) for n in range(70)]
        await asyncio.gather(sink.write(letters[:40]), sink.write(letters[40:]), sink.write(letters[:1]))
        await sink.close()
        await sink.close()
        where = settings.Settings(bootstrap=lab.bootstrap, topics=("dlq",), **secured)
        records = await kept(where)
    assert len(records) == 71
    assert {each.key for each in records} == {b"lm.metrics/3/%d" % n for n in range(70)}
    found = {each.offset: each for each in (msgspec.json.decode(r.value, type=DeadLetter) for r in records)}
    assert [found[n] for n in range(70)] == letters
    assert all(each.timestamp > 1_600_000_000_000 for each in records)  # kept by when it failed, not by its own time


async def test_what_is_wrong_is_said_before_a_start():
    async with KafkaLab() as lab:
        await lab.create_topic("dlq")
        await check_letters(load(env={}, overrides=overrides(lab)))
        with pytest.raises(SinkError, match=r"topic none at .* the topic does not exist") as caught:
            await check_letters(load(env={}, overrides=overrides(lab, topic="none")))
        assert caught.value.reason == "dead_letters.unavailable"
        with pytest.raises(
            ConfigError, match=r"letters_kafka accepts letters of 1,048,064 bytes at most.*may have 14,450,348"
        ):
            build_letters(load(env={}, overrides=overrides(lab, max_bytes=1_048_576)))
        small = {"engine.limits.record_bytes": 500_000, "engine.limits.points": 5_000}
        build_letters(load(env={}, overrides=overrides(lab, max_bytes=1_048_576) | small))
    with pytest.raises(SinkError, match="KafkaConnectionError"):
        await check_letters(load(env={}, overrides=overrides(lab)))
    with pytest.raises(ConfigError, match=r"dead_letters\.bootstrap is not set"):
        build_letters(load(env={}, overrides={"dead_letters.type": "letters_kafka", "dead_letters.topic": "dlq"}))


async def test_letters_have_a_connection_of_their_own_or_all_of_the_source_s(monkeypatch):
    monkeypatch.setenv("SECRET", "s")
    sasl = {"security": "sasl_ssl", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "lm"}
    sasl |= {"sasl_password": "env:SECRET"}
    source = {"type": "kafka", "bootstrap": "brokers:9096", "topics": ("lm",), "request_timeout_ms": 70_000, **sasl}
    given = {f"source.{name}": value for name, value in source.items()}
    there = {"dead_letters.type": "letters_kafka", "dead_letters.topic": "dlq"}
    its = build_letters(load(env={}, overrides=given | there))
    await its._tls.load()
    assert its._tls.options["sasl_plain_username"] == "lm"
    assert (its._settings.bootstrap, its._settings.request_timeout_ms) == ("brokers:9096", 10_000)
    own = {f"dead_letters.{name}": value for name, value in {"bootstrap": "others:9096", **sasl}.items()}
    for one in (own, own | {"dead_letters.sasl_username": "other"}):
        sink = build_letters(load(env={}, overrides=given | there | one))
        await sink._tls.load()
        expected = one["dead_letters.sasl_username"]
        assert sink._tls.options["sasl_plain_username"] == expected
    plain = build_letters(load(env={}, overrides=given | there | {"dead_letters.bootstrap": "others:9092"}))
    assert plain._tls.options == {"security_protocol": "PLAINTEXT", "ssl_context": None}
    with pytest.raises(ConfigError, match="sasl_password is not set"):
        build_letters(load(env={}, overrides=given | there | own | {"dead_letters.sasl_password": ""}))


async def test_what_the_topic_takes_counts_and_not_only_what_we_send(monkeypatch):
    async with KafkaLab() as lab:
        await lab.create_topic("dlq")

        async def limit(_sink):
            return 1_048_588

        monkeypatch.setattr(Letters, "_limit", limit)
        with pytest.raises(ConfigError, match=r"1,048,076 bytes at most"):
            await check_letters(load(env={}, overrides=overrides(lab)))


@pytest.mark.slow
async def test_an_outage_stalls_its_partition_while_the_others_go_on_and_drops_nothing():
    async with KafkaLab() as first:
        await first.create_topic("dlq")
        letters = Letters(Settings(topic="dlq", bootstrap=first.bootstrap, request_timeout_ms=1000))
        await letters.write([letter(offset=1000)])
    # The broker is gone, with all it held.
    clock = asyncio.get_running_loop().time
    settled = []
    pipeline = Pipeline(
        ToyEngine(),
        ScriptedSink(),
        letters,
        clock=clock,
        sleep=asyncio.sleep,
        random=lambda: 0.5,
        policy=DeliveryPolicy(timeout=4.0, backoff_base=0.01, backoff_max=0.05),
    )
    bad = [record(n, b"junk") for n in range(5)]
    good = [record(n, bundle(2), partition=1) for n in range(40)]
    pipeline.submit(Batch([*bad, *good]), lambda tp, _epoch, offset, _status: settled.append((tp.partition, offset)))
    await until(lambda: pipeline.letters.trouble is not None and len(settled) == len(good))
    assert {partition for partition, _ in settled} == {1}
    assert (pipeline.snapshot().oldest_letter, pipeline.snapshot().letters_waiting) == ("t/0/0", 5)
    assert pipeline.balanced
    async with KafkaLab() as second:
        await second.create_topic("dlq")
        letters._settings = msgspec.structs.replace(letters._settings, bootstrap=second.bootstrap)
        async with asyncio.timeout(30):
            await pipeline.drain()
        records = await kept(settings.Settings(bootstrap=second.bootstrap, topics=("dlq",)))
        await pipeline.close()
    assert {each.key for each in records} == {b"t/0/%d" % n for n in range(5)}
    assert (pipeline.letters.trouble, pipeline.snapshot().in_flight, pipeline.balanced) == (None, 0, True)
