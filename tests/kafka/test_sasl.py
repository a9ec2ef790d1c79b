"""Settings of SASL, and tokens of MSK IAM and of OAuth servers, without a broker."""

import base64
import datetime as dt
import time

import botocore.auth
import pytest
from aiohttp import web
from botocore.credentials import Credentials

from apache_kafka.iam import problem
from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import _msk_iam as msk_iam
from lmstream.kafka import _oauth as oauth
from lmstream.kafka.sasl import Sasl
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls

KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "lm", "sasl_password": "env:PASSWORD"}
BEARER = {"sasl_mechanism": "OAUTHBEARER"}
SERVER = {"oauth_url": "https://id.test/token", "oauth_client_id": "lm", "oauth_client_secret": "env:PASSWORD"}
MSK = "b-1.lm.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098"


def made(**more):
    return Settings(**{"bootstrap": "b-1.test:9096", "topics": ("t",), "security": "sasl_ssl", **more})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "sasl_mechanism is not set"),
        (SCRAM | {"security": "ssl"}, 'sasl_password, sasl_mechanism set, but security is "ssl": set it to "sasl_ssl"'),
        (SCRAM | {"sasl_password": ""}, "sasl_password is not set: env:NAME, file:PATH, or awssm:NAME"),
        (SCRAM | {"sasl_password": "hunter2"}, "sasl_password must be env:NAME, file:PATH or awssm:NAME"),
        (SCRAM | {"sasl_username": ""}, "sasl_username is not set"),
        (SCRAM | SERVER, "oauth_url, oauth_client_id, oauth_client_secret set, which SCRAM-SHA-512 does not use"),
        (SCRAM | {"security": "sasl_plaintext", "ca": "ca.pem"}, 'security is "sasl_plaintext": set it to "sasl_ssl"'),
        (SCRAM | {"security": "sasl_plaintext", "sasl_mechanism": "PLAIN"}, "would send its secret unencrypted"),
        (BEARER, "needs oauth_token, or else oauth_url"),
        (BEARER | SERVER | {"oauth_token": "file:t"}, "needs oauth_token, or else oauth_url"),
        (BEARER | SERVER | {"oauth_url": "http://id.test/token"}, "is not https://HOST/PATH"),
        (BEARER | SERVER | {"oauth_client_secret": ""}, "oauth_client_secret is not set"),
        (BEARER | {"oauth_token": "file:t", "oauth_scope": "x"}, "oauth_scope set without oauth_url"),
        ({"sasl_mechanism": "AWS_MSK_IAM"}, "aws_region is not set, and the brokers' names hold no region"),
        ({"sasl_mechanism": "AWS_MSK_IAM", "sasl_username": "lm"}, "sasl_username set, which AWS_MSK_IAM does not use"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(settings, said):
    with pytest.raises(ConfigError) as told:
        Tls(made(**settings))
    assert said in str(told.value)
    assert "hunter2" not in str(told.value)


async def test_a_password_is_read_anew_by_each_client(monkeypatch, tmp_path):
    file = tmp_path / "password"
    file.write_text("one\n")
    sasl = Sasl(made(**SCRAM | {"sasl_password": f"file:{file}"}))
    for password in ("one", "two"):
        file.write_text(f"{password}\n")
        await sasl.load()
        assert sasl.aiokafka()["sasl_plain_password"] == password
        assert sasl.librdkafka()["sasl.password"] == password
    monkeypatch.delenv("PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="sasl_password: the environment has no PASSWORD"):
        await Sasl(made(**SCRAM)).load()


# MSK IAM


@pytest.fixture
def at(monkeypatch):
    """botocore's clock stands still."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - botocore's own is without a zone
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment)
    return moment.replace(tzinfo=dt.UTC)


SIGNATURE = "d24d6b4afd1c716168d94ba64336a643c6c80a008204406f274ecde4001c16af"
"""Of aws-msk-iam-sasl-signer-python 1.0.2, for these credentials, region and moment."""


def test_the_token_is_signed_as_by_the_signer_of_aws(at):
    token = msk_iam.signed(Credentials(KEYS["access_key"], KEYS["secret_key"], "SESSION/TOKEN+=="), "eu-central-1")
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert f"&X-Amz-Signature={SIGNATURE}&User-Agent=lmstream%2F" in url
    assert problem(token, region="eu-central-1", session_token="SESSION/TOKEN+==", now=at, **KEYS) is None
    assert problem(token, region="eu-central-1", session_token="other", now=at, **KEYS).startswith("query")
    later = at + dt.timedelta(seconds=901)
    assert problem(token, region="eu-central-1", session_token="SESSION/TOKEN+==", now=later, **KEYS).startswith("sig")


@pytest.mark.parametrize(
    ("region", "hosts", "found"),
    [
        ("", ["b-1.lm.a1b2c3.c2.kafka.eu-central-1.amazonaws.com"], "eu-central-1"),
        ("", ["boot-x1.c1.kafka-serverless.us-east-2.amazonaws.com"], "us-east-2"),
        ("", ["b-1.lm.a1b2c3.c2.kafka.cn-north-1.amazonaws.com.cn"], "cn-north-1"),
        ("eu-west-1", ["b-1.lm.a1b2c3.c2.kafka.eu-central-1.amazonaws.com"], "eu-west-1"),
    ],
)
def test_the_region_is_that_of_the_setting_or_of_the_brokers(region, hosts, found):
    assert msk_iam.region_of(region, hosts) == found


async def test_iam_takes_the_credentials_of_the_usual_chain_and_says_when_there_are_none(monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    settings = made(bootstrap=MSK, sasl_mechanism="AWS_MSK_IAM")
    with pytest.raises(ConfigError, match="no AWS credentials"):
        await Sasl(settings).load()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_key"])
    token, end = await Sasl(settings).token()
    assert problem(token, region="eu-central-1", **KEYS) is None
    assert 890 < end - time.time() <= 900


# OAuth


@pytest.fixture
async def server(unused_tcp_port):
    """Answers what the test puts into `answers`, in order."""
    answers = []

    async def token(_request):
        return answers.pop(0)

    app = web.Application()
    app.router.add_post("/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield f"http://127.0.0.1:{unused_tcp_port}/token", answers
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"text": "<html>", "status": 200}, "no token, and not a JSON object"),
        ({"text": "[" * 50_000, "status": 200}, "no token, and not a JSON object"),
        ({"text": "{}", "status": 200}, "the response has no access_token"),
        ({"text": '{"access_token": "t\u00e4"}', "status": 200}, "the response has no access_token"),
        (
            {"text": '{"access_token": "t", "expires_in": "soon"}', "status": 200},
            "expires_in is not a number of seconds",
        ),
        ({"text": '{"access_token": "t", "expires_in": -1}', "status": 200}, "expires_in is not a number of seconds"),
        ({"text": '{"error": "invalid_client"}', "status": 401}, "answers 401: invalid_client"),
        ({"text": "x" * 300_000, "status": 200}, "oauth_url"),
        ({"text": "", "status": 302}, "answers 302"),
    ],
)
async def test_an_answer_without_a_token_is_said(server, answer, said):
    url, answers = server
    answers.append(web.Response(**answer))
    with pytest.raises(SourceError) as told:
        await oauth.asked(url, "lm", "secret", "")
    assert said in str(told.value)
    assert told.value.code == "LMS-3016"


async def test_a_token_is_asked_for_again_before_it_ends(server, monkeypatch):
    monkeypatch.setenv("PASSWORD", "secret")
    url, answers = server
    answers += [web.json_response({"access_token": f"t{n}", "expires_in": life}) for n, life in ((1, 0.2), (2, 100))]
    sasl = Sasl(made(**BEARER | SERVER | {"oauth_url": url}))
    assert (await sasl.token())[0] == "t1"
    while answers:
        assert (await sasl.token())[0] in {"t1", "t2"}
    assert [(await sasl.token())[0] for _ in range(3)] == ["t2"] * 3


async def test_no_server_is_said_within_seconds(unused_tcp_port):
    with pytest.raises(SourceError, match=r"LMS-3016.*oauth_url http://127\.0\.0\.1"):
        await oauth.asked(f"http://127.0.0.1:{unused_tcp_port}/token", "lm", "secret", "")
