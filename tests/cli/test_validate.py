"""validate and config show: what is wrong is a line with its fix; what is live is asked; secrets are masked."""

import asyncio
import json
import socket
import threading

import pytest

from lmstream.lab import FirehoseLab, KafkaLab, StreamConfig
from lmstream.settings import HIVE_PATH, Settings

GOOD = {
    "LMSTREAM_ENGINE__ORG_ID": "acme",
    "LMSTREAM_SOURCE__TYPE": "kafka",
    "LMSTREAM_SOURCE__BOOTSTRAP": "127.0.0.1:1",
    "LMSTREAM_SOURCE__TOPICS": "lm",
    "LMSTREAM_SOURCE__GROUP": "lmstream",
    "LMSTREAM_SINK__TYPE": "firehose",
    "LMSTREAM_SINK__STREAM": "rows",
    "LMSTREAM_SINK__REGION": "us-east-1",
}


@pytest.fixture
def good(monkeypatch, tmp_path):
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LMSTREAM_DEAD_LETTERS__ROOT", str(tmp_path / "dead"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    return monkeypatch


def verdicts(said):
    return [json.loads(line) for line in said.out.splitlines()]


def failed(said):
    return {each["name"]: each for each in verdicts(said) if each["verdict"] == "failed"}


@pytest.mark.usefixtures("good")
def test_a_good_configuration_is_good_without_a_connection(cli):
    said = cli("validate")
    assert said.code == 0, said.out
    assert said.out.endswith("checks: 0 failed, 0 warnings\n")
    assert {each["verdict"] for each in verdicts(cli("validate", "--json"))} == {"ok"}


@pytest.mark.parametrize(
    ("variable", "value", "name", "message"),
    [
        ("ENGINE__ORG_ID", "", "organization", "every point is rejected"),
        ("SINK__CALL_TIMEOUT", "60", "times", "sink.call_timeout 60 s is within delivery.timeout 20 s"),
        ("SOURCE__HEARTBEAT_INTERVAL_MS", "20000", "times", "heartbeat_interval_ms 20 s is a third"),
        (
            "SOURCE__REQUEST_TIMEOUT_MS",
            "60000",
            "times",
            "rebalance_timeout_ms 60 s is within source.request_timeout_ms 60",
        ),
        ("DELIVERY__CONCURRENCY", "200", "requests", "delivery.concurrency 200 is above sink.concurrency"),
        ("DEAD_LETTERS__ROOT", None, "dead letters", "dead_letters.root is not set"),
    ],
)
def test_what_contradicts_itself_is_named_with_its_mend(cli, good, variable, value, name, message):
    if value is None:
        good.delenv(f"LMSTREAM_{variable}")
    else:
        good.setenv(f"LMSTREAM_{variable}", value)
    said = cli("validate", "--json", "--connect")
    assert said.code == 2
    # What can be asked is asked all the same: nothing listens where this configuration says.
    assert next(iter(failed(said))) == name
    assert set(failed(said)) <= {name, "broker 127.0.0.1:1", "topics", "sink"}
    assert message in failed(said)[name]["said"]
    assert failed(said)[name]["mend"]
    # A start is refused for it too, before it connects.
    started = cli("run")
    assert (started.code, message in started.err, "LMS-3001" in started.err) == (2, True, False)


def test_more_than_the_containers_memory_is_refused(cli, good, tmp_path):
    limit = tmp_path / "memory.max"
    limit.write_text("209715200\n")
    good.setattr("lmstream.config.contradictions._CGROUP", limit)
    said = cli("validate", "--json")
    assert said.code == 2
    assert "the limit of this container is 200 MiB" in failed(said)["memory"]["said"]
    started = cli("run")
    assert (started.code, "memory: about " in started.err, "LMS-3001" in started.err) == (2, True, False)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "RUNTIME__GRACE",
            "28",
            "runtime.grace 28 s and 4 s to close: Kubernetes and Fargate kill after 30 s by default",
        ),
        (
            "SOURCE__REBALANCE_TIMEOUT_MS",
            "50000",
            "not true: drains: runtime 45 s < source 55 s < the group's 50 s",
        ),
        ("DELIVERY__TIMEOUT", "50", "not true: delivery.timeout 50 s fits into runtime.drain_timeout 45 s"),
    ],
)
def test_what_may_cost_duplicates_is_a_warning_that_a_start_says(cli, good, variable, value, said):
    good.setenv(f"LMSTREAM_{variable}", value)
    looked = cli("validate", "--json")
    assert (looked.code, failed(looked)) == (0, {})
    assert [each["said"] for each in verdicts(looked) if each["verdict"] == "warning"] == [said]
    started = cli("run")
    assert (started.code, f"times: {said}; " in started.err) == (1, True)


def test_an_unknown_key_has_a_suggestion(cli, good):
    good.setenv("LMSTREAM_SINK__STRAEM", "x")
    said = cli("validate")
    assert said.code == 2
    assert (
        "sink.straem is not a setting (from the environment, LMSTREAM_SINK__STRAEM); did you mean LMSTREAM_SINK__STREAM?"
        in said.err
    )


class Services:
    """A broker behind mTLS and a strict Firehose, on a loop of their own."""

    def __init__(self, folder, settings):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.kafka = KafkaLab(folder / "pem", mtls=True)
        streams = [
            StreamConfig.for_settings("rows", settings),
            StreamConfig.for_settings("fed", settings, type="MSKAsSource"),
        ]
        self.hose = FirehoseLab(streams, folder / "landed")
        self.wait(self.kafka.start())
        self.wait(self.kafka.create_topic("lm", 2))
        self.wait(self.hose.start())

    def wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def flags(self):
        pem = self.kafka.certificates
        return [
            *("--bootstrap", self.kafka.bootstrap, "--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key),
            *("--endpoint-url", self.hose.endpoint_url),
        ]

    def close(self):
        self.wait(self.hose.close())
        self.wait(self.kafka.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def services(tmp_path):
    made = Services(tmp_path, Settings(org_id="acme"))
    yield made
    made.close()


@pytest.mark.usefixtures("good")
def test_everything_that_is_named_is_asked(cli, services, tmp_path):
    said = cli("validate", "--connect", *services.flags(), "--json")
    assert said.code == 0, said.out + said.err
    found = {each["name"]: each["said"] for each in verdicts(said)}
    assert found["topic lm"] == "2 partitions"
    assert found[f"broker {services.kafka.bootstrap}"] == "answers over TLS"
    assert found["group lmstream"] == "its commits can be read: it has none in these topics"
    assert found["members of group lmstream"] == "none now"
    assert found["stream rows"] == "is ACTIVE"
    parts = ("prefix", "jq query", "deaggregation", "delimiter")
    assert {found[f"stream's {name}"] for name in parts} == {"is the engine's"}
    assert found["certificate"].startswith("expires in ")
    assert not list((tmp_path / "dead").rglob("*.json"))


@pytest.mark.parametrize("verb", ["validate", "run"])
def test_a_stream_that_msk_feeds_is_found_before_a_record_is_read(cli, good, services, verb):
    good.setenv("LMSTREAM_SINK__STREAM", "fed")
    said = cli(*(["validate", "--connect", "--json"] if verb == "validate" else ["run"]), *services.flags())
    assert said.code == 1
    if verb == "validate":
        assert "is of type MSKAsSource" in failed(said)["sink"]["said"]
    else:
        assert "LMS-4010" in said.err
        assert "'fed' at http://127.0.0.1" in said.err
        assert "is of type MSKAsSource, and only a DirectPut stream takes rows" in said.err


def test_a_stream_that_partitions_otherwise_is_found_before_rows_are_lost_to_queries(cli, good, services):
    good.setenv("LMSTREAM_ENGINE__PATH", HIVE_PATH)
    said = cli("validate", "--connect", *services.flags(), "--json")
    assert said.code == 1
    assert set(failed(said)) == {"stream's prefix"}
    assert "p_org=" in failed(said)["stream's prefix"]["said"]


def test_what_does_not_answer_is_named_each_by_itself(cli, good, services):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = services.flags()
        flags[1] = f"{flags[1]},{closed}"
        good.setenv("LMSTREAM_SINK__STREAM", "other")
        good.setenv("LMSTREAM_SOURCE__TOPICS", "nowhere")
        said = cli("validate", "--connect", *flags, "--json")
    assert said.code == 1
    found = failed(said)
    assert set(found) == {f"broker {closed}", "topics", "sink"}
    assert found["topics"]["said"].startswith("LMS-3")
    assert found["sink"]["said"].startswith("LMS-4")
    assert all(each["said"].startswith(each["code"] + " ") for each in found.values())
    told = cli("validate", "--connect", *flags).out
    assert all(f"More: lmstream explain {each['code']}\n" in told for each in found.values())


@pytest.mark.usefixtures("good")
def test_config_show_says_where_each_value_comes_from_and_masks_secrets(cli, tmp_path):
    file = tmp_path / "lmstream.toml"
    text = '[source]\nclient_rack = "mine"\nkey_password = "env:KEY"\n[source.client]\nplain_password = "canary"\n'
    file.write_text(text)
    said = cli("config", "show", "--config", file, "--stream", "flagged", "--json")
    assert said.code == 0, said.err
    found = {each["key"]: (each["value"], each["origin"]) for each in verdicts(said)}
    assert found["source.client_rack"] == ("mine", str(file))
    assert found["engine.org_id"] == ("acme", "the environment")
    assert found["sink.stream"] == ("flagged", "the flags")
    assert found["delivery.concurrency"] == (8, "default")
    assert found["source.key_password"] == ("env:KEY", str(file))
    assert found["source.client.plain_password"] == ("...", str(file))
    assert "canary" not in said.out + said.err + cli("config", "show", "--config", file, "--origin").out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("plain_password", "canary-1"),
        ("some.password", "canary-2"),
        ("some.pin", 4_711_471_100),
        ("apikey", "canary-3"),
        ("passphrase", "canary-4"),
        ("proxy", "https://me:canary-5@proxy.example"),
        ("extra", "-----BEGIN PRIVATE KEY-----canary-6"),
    ],
)
def test_no_secret_is_shown_from_wherever_it_comes(cli, good, tmp_path, name, value):
    file = tmp_path / "lmstream.toml"
    file.write_text(f'[source.client]\n"{name}" = {json.dumps(value)}\n')
    told = [cli("config", "show", "--config", file, *more) for more in ((), ("--json",), ("--origin",))]
    if "." not in name:
        good.setenv(f"LMSTREAM_SOURCE__CLIENT__{name.upper()}", str(value))
        told.append(cli("config", "show", "--origin"))
    for said in told:
        assert said.code == 0, said.err
        assert "canary" not in said.out + said.err
        assert str(value) not in said.out + said.err
        assert "..." in said.out


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize("name", ["sasl_plain_password", "sasl.password", "sasl.oauthbearer.client.secret"])
def test_passwords_of_the_client_are_refused_by_name_and_not_repeated(cli, tmp_path, name):
    file = tmp_path / "lmstream.toml"
    file.write_text(f'[source.client]\n"{name}" = "canary"\n')
    said = cli("config", "show", "--config", file)
    assert said.code == 2
    assert "set security, sasl_mechanism and what belongs to it" in said.err
    assert "canary" not in said.out + said.err


@pytest.mark.usefixtures("good")
def test_what_says_where_a_password_is_is_shown_and_a_password_is_not(cli, tmp_path):
    file = tmp_path / "lmstream.toml"
    settings = {
        "sasl_password": "awssm:AmazonMSK_lm",
        "oauth_client_secret": "file:/run/secret",
        "oauth_token": "canary",
        "sasl_mechanism": "PLAIN",
    }
    file.write_text("[source]\n" + "".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    said = cli("config", "show", "--config", file, "--json")
    found = {each["key"]: each["value"] for each in verdicts(said)}
    assert found["source.sasl_password"] == "awssm:AmazonMSK_lm"
    assert found["source.oauth_client_secret"] == "file:/run/secret"
    assert found["source.oauth_token"] == "..."
    assert found["source.sasl_mechanism"] == "PLAIN"


OWN = """
from msgspec import Struct

class Inner(Struct, frozen=True):
    Authorization: str = ""

class Settings(Struct, forbid_unknown_fields=True):
    url: str
    api_key: str = ""
    passwd: str = ""
    pin: int = 0
    tokens: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    inner: Inner = Inner()
    region: str = "us-west-2"
    retries: int = 3
    verbose: bool = False

def make(settings):
    raise NotImplementedError
"""


@pytest.fixture
def own_sink(good, tmp_path):
    (tmp_path / "ownpart.py").write_text(OWN)
    (tmp_path / "ownpack").mkdir()
    (tmp_path / "ownpack" / "__init__.py").write_text("")
    (tmp_path / "ownpack" / "sink.py").write_text(OWN)
    good.syspath_prepend(str(tmp_path))
    good.setenv("LMSTREAM_SINK__TYPE", "ownpack.sink")
    good.delenv("LMSTREAM_SINK__STREAM", raising=False)
    good.delenv("LMSTREAM_SINK__REGION", raising=False)
    return tmp_path / "lmstream.toml"


def test_of_a_module_of_ones_own_only_switches_and_defaults_are_shown(cli, own_sink):
    own_sink.write_text(
        """[sink]
        type = "ownpack.sink"
        url = "https://canary-1.example/in?sig=canary-2"
        api_key = "canary-3"
        passwd = "canary-4"
        pin = 471147
        tokens = ["canary-5", "canary-6"]
        headers = { Authorization = "Bearer canary-7" }
        inner = { Authorization = "canary-8" }
        verbose = true
        """
    )
    for more in ((), ("--json",), ("--origin",)):
        said = cli("config", "show", "--config", own_sink, *more)
        assert said.code == 0, said.err
        assert "canary" not in said.out + said.err
        assert "471147" not in said.out + said.err
    found = {each["key"]: each["value"] for each in verdicts(cli("config", "show", "--config", own_sink, "--json"))}
    assert found["sink.type"] == "ownpack.sink"
    assert (found["sink.region"], found["sink.retries"], found["sink.verbose"]) == ("us-west-2", 3, True)
    assert (found["sink.tokens"], found["sink.headers.Authorization"]) == (["...", "..."], "...")


@pytest.mark.parametrize(
    "text",
    [
        'url = "u"\npin = "canary"',
        "url = 471147",
        'url = "u"\ntokens = "canary"',
        'url = "u"\nheaders = { Authorization = ["canary"] }',
        'url = "u"\nretries = ["canary"]',
    ],
)
def test_what_a_module_of_ones_own_is_given_wrongly_is_refused_without_being_shown(cli, own_sink, text):
    own_sink.write_text(f'[sink]\ntype = "ownpack.sink"\n{text}\n')
    for verb in (("validate",), ("config", "show")):
        said = cli(*verb, "--config", own_sink)
        assert said.code == 2, said.err
        assert "canary" not in said.out + said.err
        assert "471147" not in said.out + said.err


@pytest.mark.parametrize("value", ['"canary"', '{"password": "canary"}', '["canary"]'])
@pytest.mark.usefixtures("good")
def test_a_part_that_is_no_table_is_refused_without_being_shown(cli, tmp_path, value, monkeypatch):
    file = tmp_path / "lmstream.toml"
    file.write_text(f"sink = {value.replace(':', ' =')}\n")
    for name in ("TYPE", "STREAM", "REGION"):
        monkeypatch.delenv(f"LMSTREAM_SINK__{name}", raising=False)
    said = cli("validate", "--config", file)
    assert said.code == 2
    assert "canary" not in said.out + said.err


def test_an_address_with_a_signature_in_it_is_not_shown(cli, good):
    good.setenv("LMSTREAM_SINK__ENDPOINT_URL", "https://host.example/?X-Amz-Signature=canary")
    said = cli("config", "show", "--json")
    assert "canary" not in said.out
    assert said.code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable.ssl.certificate.verification", "false"),
        ("enable_ssl_certificate_verification", "false"),
        ("ssl.endpoint.identification.algorithm", '"none"'),
        ("https.ca.location", '"probe"'),
        ("Ssl.Ca.Location", '"probe"'),
        ("plugin.library.paths", '"evil.so"'),
        ("check_crcs", "false"),
        ("security.protocol", '"plaintext"'),
    ],
)
@pytest.mark.parametrize("kind", ["kafka", "confluent"])
def test_no_setting_of_a_client_weakens_tls_or_loads_code(cli, good, tmp_path, name, value, kind):
    file = tmp_path / "lmstream.toml"
    file.write_text(f'[source.client]\n"{name}" = {value}\n')
    good.setenv("LMSTREAM_SOURCE__TYPE", kind)
    said = cli("validate", "--config", file)
    assert said.code != 0
    assert "is set by lmstream" in said.out + said.err


def test_what_is_no_secret_is_shown(cli, good):
    good.setenv("LMSTREAM_SOURCE__SECRETS_REGION", "eu-central-1")
    found = {each["key"]: each["value"] for each in verdicts(cli("config", "show", "--json"))}
    assert found["source.secrets_region"] == "eu-central-1"
    assert found["source.key"] == ""


def test_a_secret_in_the_wrong_place_is_refused_without_being_shown(cli, good, tmp_path):
    good.setenv("LMSTREAM_SOURCE__SECURITY", "ssl")
    good.setenv("LMSTREAM_SOURCE__CERT", str(tmp_path / "none.pem"))
    good.setenv("LMSTREAM_SOURCE__KEY_PASSWORD", "canary")
    for said in (cli("validate"), cli("config", "show"), cli("run"), cli("validate", "--connect")):
        assert "canary" not in said.out + said.err
    file = tmp_path / "lmstream.toml"
    file.write_text("[source]\nkey_password = 4711471100\n")
    good.delenv("LMSTREAM_SOURCE__KEY_PASSWORD")
    said = cli("validate", "--config", file)
    assert said.code == 2
    assert "source.key_password: expected str" in said.err
    assert "4711471100" not in said.err


@pytest.mark.parametrize(
    ("variable", "value", "number"),
    [
        ("RUNTIME__GRACE", "25s", "25"),
        ("RUNTIME__GRACE", "250 ms", "0.25"),
        ("SOURCE__SESSION_TIMEOUT_MS", "45s", "45000"),
        ("RUN__BUDGET_BYTES", "64MiB", "67108864"),
    ],
)
def test_a_unit_is_no_part_of_a_number_and_the_number_is_said(cli, good, variable, value, number):
    good.setenv(f"LMSTREAM_{variable}", value)
    said = cli("validate")
    assert said.code == 2
    assert (
        f'saw "{value}" (from the environment, LMSTREAM_{variable}); did you mean {number}? [config.invalid]'
        in said.err
    )
