"""SASL on a real broker: SCRAM, PLAIN and OAUTHBEARER; MSK IAM through a stand-in that checks the token."""

import asyncio
import base64
import json
import time

import pytest
from aiohttp import web
from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from apache_kafka.iam import IamBroker
from lmstream.cli import main
from lmstream.config import build_letters, load
from lmstream.dead_letters import letters_kafka
from lmstream.errors import SinkError, SourceError
from lmstream.kafka.lag import lag
from lmstream.kafka.producer import producing
from lmstream.kafka.provisioning import administering
from lmstream.kafka.settings import KafkaConnection
from lmstream.model import DeadLetter
from lmstream.sources import kafka
from lmstream.sources.kafka import read_range
from support.kafka_scenarios import committed, polled, produce

KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


def jwt(seconds=3600, subject="lm"):
    """A token as Kafka's own validator of unsecured tokens takes it."""
    now = time.time()
    parts = [{"alg": "none"}, {"sub": subject, "iat": now, "exp": now + seconds}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@pytest.fixture
async def scram(ours, monkeypatch):
    """The user lm, for both hashes."""
    admin = ours.admin()
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        made = UserScramCredentialUpsertion("lm", ScramCredentialInfo(mechanism, 4096), b"secret")
        for future in admin.alter_user_scram_credentials([made]).values():
            await asyncio.wrap_future(future)
    monkeypatch.setenv("SASL_SECRET", "secret")


def settings(ours, module, topic, bootstrap, **more):
    usual = {"bootstrap": bootstrap, "topics": (topic,), "group": topic, "security": "sasl_ssl", **ours.group}
    return module.Settings(**usual, ca=str(ours.certificates.ca), **more)


def validate(ours, topic, bootstrap, mechanism):
    flags = ["--topic", topic, "--group", topic, "--org", "acme", "--landed", "landed", "--dead-letters", "dead"]
    flags += ["--bootstrap", bootstrap, "--ca", str(ours.certificates.ca), "--sasl", mechanism]
    return main(["validate", "--connect", *flags])


async def reads(ours, module, topic, chosen):
    """Reads, commits, and reads on where the commit is; ranges too."""
    await ours.create_topic(topic)
    await produce(ours, topic, [b"a", b"b"])
    source = module.make(chosen)
    try:
        records, _ = await polled(source, 2)
        assert [each.value for each in records] == [b"a", b"b"]
        await source.commit({records[0].tp: 2})
        await produce(ours, topic, [b"c"])
        assert [each.value for each in (await polled(source, 1))[0]] == [b"c"]
    finally:
        await source.close()
    assert await committed(ours, topic, topic) == 2
    assert [each.value async for each in read_range(chosen, topic, {0: (1, 3)})] == [b"b", b"c"]


@pytest.mark.usefixtures("scram")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_a_password_reads_and_commits(ours, topic, module, mechanism):
    more = {"sasl_mechanism": mechanism, "sasl_username": "lm", "sasl_password": "env:SASL_SECRET"}
    await reads(ours, module, topic, settings(ours, module, topic, ours.sasl, **more))


@pytest.mark.usefixtures("scram")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_a_wrong_password_is_said_at_the_start(ours, topic, module, mechanism, monkeypatch):
    monkeypatch.setenv("SASL_SECRET", "wrong")
    more = {"sasl_mechanism": mechanism, "sasl_username": "lm", "sasl_password": "env:SASL_SECRET"}
    await ours.create_topic(topic)
    source = module.make(settings(ours, module, topic, ours.sasl, **more))
    began = time.monotonic()
    with pytest.raises(SourceError, match=f"LMS-3016.*refused {mechanism}") as told:
        await source.poll(1)
    await source.close()
    assert "wrong" not in str(told.value)
    assert time.monotonic() - began < 8


async def test_a_token_of_a_file_reads_on_when_the_broker_ends_connections(ours, topic, module, tmp_path):
    """Kafka ends a connection when its session is over; a new one takes the token that the file has then."""
    file = tmp_path / "token"
    file.write_text(jwt(6))
    chosen = settings(ours, module, topic, ours.sasl, sasl_mechanism="OAUTHBEARER", oauth_token=f"file:{file}")
    await ours.create_topic(topic)
    source = module.make(chosen)
    try:
        await source.poll(1)
        end = time.monotonic() + 16  # some sessions of 4 s, and more than two lives of a token
        count = 0
        while time.monotonic() < end:
            file.write_text(jwt(6))
            await produce(ours, topic, [b"%d" % count])
            records, _ = await polled(source, 1, seconds=10)
            assert [each.value for each in records] == [b"%d" % count]
            await source.commit({records[-1].tp: records[-1].offset + 1})
            count += 1
            await asyncio.sleep(0.5)
        assert source.health.recreations == {}
    finally:
        await source.close()
    assert await committed(ours, topic, topic) == count


async def test_a_token_of_an_oauth_server_reads(ours, topic, module, monkeypatch, unused_tcp_port):
    asked = []

    async def token(request):
        form = await request.post()
        asked.append((request.headers["Authorization"], dict(form)))
        if len(asked) == 1:
            return web.json_response({"error": "invalid_client", "error_description": "not yet"}, status=401)
        return web.json_response({"access_token": jwt(), "expires_in": 3600, "token_type": "Bearer"})

    app = web.Application()
    app.router.add_post("/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    monkeypatch.setenv("OAUTH_SECRET", "s3cret")
    chosen = settings(
        ours,
        module,
        topic,
        ours.sasl,
        sasl_mechanism="OAUTHBEARER",
        oauth_url=f"http://127.0.0.1:{unused_tcp_port}/token",
        oauth_client_id="lm",
        oauth_client_secret="env:OAUTH_SECRET",
        oauth_scope="kafka",
    )
    try:
        source = module.make(chosen)
        with pytest.raises(SourceError, match=r"LMS-3016.*answers 401: invalid_client not yet"):
            await source.poll(1)
        await source.close()
        await reads(ours, module, topic, chosen)
    finally:
        await runner.cleanup()
    assert asked[0] == (
        "Basic " + base64.b64encode(b"lm:s3cret").decode(),
        {"grant_type": "client_credentials", "scope": "kafka"},
    )


@pytest.mark.parametrize("session_token", [None, "SESSION/TOKEN+=="])
async def test_iam_reads_by_a_token_that_the_stand_in_checks(ours, topic, module, monkeypatch, session_token):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_key"])
    if session_token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", session_token)
    known = {**KEYS, "region": "eu-central-1", "session_token": session_token}
    place = f"127.0.0.1:{ours.iam_port}"
    more = {"sasl_mechanism": "AWS_MSK_IAM", "aws_region": "eu-central-1"}
    async with IamBroker(ours.certificates, ours.iam_port, ours.behind, **known) as broker:
        await reads(ours, module, topic, settings(ours, module, topic, place, **more))
        assert broker.taken >= 2
        assert broker.refused == []
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        source = module.make(settings(ours, module, topic, place, **more))
        with pytest.raises(SourceError, match=r"LMS-3016.*refused OAUTHBEARER.*\[signature\] Access denied"):
            await source.poll(1)
        await source.close()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_key"])
        source = module.make(settings(ours, module, topic, place, **more | {"aws_region": "eu-west-1"}))
        with pytest.raises(SourceError, match=r"LMS-3016.*address"):
            await source.poll(1)
        await source.close()


async def write_letter(sink):
    try:
        await sink.check()
        await sink.write([DeadLetter(topic="t", partition=0, offset=1, timestamp=2, value=b"x", reason="decode.json")])
    finally:
        await sink.close()


@pytest.mark.usefixtures("scram")
async def test_dead_letters_with_brokers_of_their_own_go_through_sasl(ours, topic, monkeypatch):
    """The source may be anywhere, and known by something else: their connection is their own."""
    await ours.create_topic(topic)
    own = {"type": "letters_kafka", "topic": topic, "bootstrap": ours.sasl, "security": "sasl_ssl"}
    own |= {"ca": str(ours.certificates.ca), "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "lm"}
    own |= {"sasl_password": "env:SASL_SECRET"}
    elsewhere = {"source.type": "kafka", "source.bootstrap": "127.0.0.1:1", "source.topics": ("lm",)}
    config = load(env={}, overrides=elsewhere | {f"dead_letters.{name}": value for name, value in own.items()})
    await write_letter(build_letters(config))
    assert len([each async for each in read_range(settings_of_letters(config), topic, {0: (None, None)})]) == 1
    monkeypatch.setenv("SASL_SECRET", "wrong")
    sink = build_letters(config)
    with pytest.raises(SinkError, match=r"LMS-4008.*LMS-3016.*refused SCRAM-SHA-512"):
        await sink.check()
    await sink.close()


def settings_of_letters(config):
    """The source's settings over the connection of the letters."""
    own = config.dead_letters.settings
    its = {name: getattr(own, name) for name in KafkaConnection.__struct_fields__}
    return kafka.Settings(topics=(own.topic,), **its)


@pytest.mark.usefixtures("scram")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER", "AWS_MSK_IAM"])
async def test_validate_connect_goes_through_sasl(ours, topic, mechanism, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_key"])
    (tmp_path / "token").write_text(jwt())
    password = {"sasl_username": "lm", "sasl_password": "env:SASL_SECRET"}
    how, wrong = {
        "OAUTHBEARER": ({"oauth_token": "file:token"}, lambda: (tmp_path / "token").write_text(jwt(-60))),
        "AWS_MSK_IAM": ({"aws_region": "eu-central-1"}, lambda: monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")),
    }.get(mechanism, (password, lambda: monkeypatch.setenv("SASL_SECRET", "wrong")))
    await ours.create_topic(topic)
    place = f"127.0.0.1:{ours.iam_port}" if mechanism == "AWS_MSK_IAM" else ours.sasl
    known = {**KEYS, "region": "eu-central-1", "session_token": None}
    async with IamBroker(ours.certificates, ours.iam_port, ours.behind, **known):
        for key, value in how.items():
            monkeypatch.setenv(f"LMSTREAM_SOURCE__{key.upper()}", value)
        code = await asyncio.to_thread(validate, ours, topic, place, mechanism)
        said, err = capsys.readouterr()
        assert code == 0, said + err
        assert f"ok       broker {place}: answers over TLS, and identifies this client by {mechanism}" in said
        assert f"ok       topic {topic}: 1 partitions" in said
        wrong()
        assert await asyncio.to_thread(validate, ours, topic, place, mechanism) == 1
        said = capsys.readouterr().out
        assert "LMS-3016" in said, said


async def test_every_verb_and_dead_letters_go_through_sasl(ours, topic, tmp_path):
    """Producing, lag, administration by librdkafka, and letters in the source's cluster; by token, the hardest way."""
    file = tmp_path / "token"
    file.write_text(jwt())
    chosen = settings(ours, kafka, topic, ours.sasl, sasl_mechanism="OAUTHBEARER", oauth_token=f"file:{file}")
    await ours.create_topic(topic)
    async with producing(chosen) as producer:
        await producer.send_and_wait(topic, b"a")
    (found,) = await lag(chosen)
    assert (found.records, found.end) == (1, 1)
    async with administering(chosen) as admin:
        partitions, _, _ = await admin.topic(topic)
        assert partitions == 1
    await write_letter(letters_kafka.Letters(letters_kafka.Settings(topic=topic), source=chosen))
    assert len([each async for each in read_range(chosen, topic, {0: (None, None)})]) == 2
