"""init: from an empty folder to rows, by flags and by questions; what it writes passes validate --connect."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from lmstream.behind import Retention
from lmstream.cli.scaffold import text as written
from lmstream.cli.scaffold.answers import CONNECTION, RUN, again
from lmstream.cli.scaffold.facts import Facts
from lmstream.config import load
from lmstream.config.schema import NAME
from lmstream.kafka.topic_facts import TopicFacts
from lmstream.lab import FirehoseLab, KafkaLab, S3Lab, StreamConfig
from lmstream.partitioning import firehose_prefix, path_of
from lmstream.settings import DEFAULT_PATH, HIVE_PATH, MIB, Settings

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | {
    "COLUMNS": "200",
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": "lab",
    "AWS_EC2_METADATA_DISABLED": "true",
}
FILE = Path("lmstream.toml")
OFFLINE = ("init", "--offline", "--bootstrap", "b:9092", "--topic", "lm", "--org", "acme", "--landed", "rows")


@pytest.fixture
async def kafka(tmp_path):
    async with KafkaLab(tmp_path / "pem", mtls=True) as lab:
        await lab.create_topic("lm", 3)
        yield lab


def tls(lab):
    pem = lab.certificates
    return ["--bootstrap", lab.bootstrap, "--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key]


async def begun(folder, *args, **how):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmstream", *map(str, args)),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | how,
        env=ENV,
        cwd=folder,
    )


async def call(folder, *args):
    process = await begun(folder, *args)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def seen(there, process):
    """Wait until it is there, or the process has ended."""
    async with asyncio.timeout(60):
        while not there() and process.returncode is None:  # noqa: ASYNC110 - files have no events
            await asyncio.sleep(0.2)


async def lands(folder, there, *more):
    """Run what was written until `there` says that rows are."""
    process = await begun(folder, "run", "--config", FILE, *more)
    try:
        await seen(there, process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            _, err = await process.communicate()
    assert there(), err.decode()
    assert process.returncode == 0, err.decode()


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


QUICK = ("--set", "source.session_timeout_ms=3000", "--set", "source.heartbeat_interval_ms=300")


@pytest.mark.slow
async def test_from_an_empty_folder_to_rows_through_firehose(kafka, empty, tmp_path):
    """The stream has another prefix than the default: init reads it there."""
    stream = StreamConfig.for_settings(
        "rows", Settings(org_id="acme", path=HIVE_PATH), speed_up=1000.0, buffer_seconds=120
    )
    async with FirehoseLab(stream, tmp_path / "landed") as hose:
        given = [*tls(kafka), "--topic", "lm", "--org", "acme", "--stream", "rows", "--region", "us-east-1"]
        code, out, err = await call(empty, "init", *given, "--endpoint-url", hose.endpoint_url, *QUICK)
        assert code == 0, out + err
        assert "0 failed" in out
        assert "wrote lmstream.toml" in err
        assert "lmstream validate --config lmstream.toml --connect" in err
        text = (empty / FILE).read_text()
        file = tomllib.loads(text)
        assert file["engine"] == {"org_id": "acme", "path": HIVE_PATH}
        assert file["source"]["group"] == "acme-rows"
        assert file["source"]["security"] == "ssl"
        assert file["delivery"] == {"partition_seconds": 120.0}
        assert "# lm: 3 partitions, so at most 3 busy processes" in text
        assert "NOT CHECKED" not in text
        Draft7Validator(json.loads((empty / NAME).read_text())).validate(file)
        assert {each.name for each in empty.iterdir()} == {FILE.name, NAME, "dead-letters"}

        code, out, err = await call(empty, "validate", "--config", FILE, "--connect")
        assert code == 0, out + err
        code, _, err = await call(empty, "publish", "--config", FILE, "--topic", "lm", "--count", 5)
        assert code == 0, err
        await lands(empty, lambda: list((tmp_path / "landed").rglob("*.gz")))


@pytest.mark.slow
async def test_from_an_empty_folder_to_rows_in_a_lake(kafka, empty):
    async with S3Lab("lake") as s3:
        given = [*tls(kafka), "--topic", "lm", "--org", "acme", "--bucket", "lake", "--prefix", "rows"]
        reached = ["--endpoint-url", s3.endpoint_url, "--region", "us-east-1", "--dead-letters", "s3://lake/letters"]
        more = [
            *QUICK,
            "--set",
            f"dead_letters.endpoint_url={s3.endpoint_url}",
            "--set",
            "dead_letters.region=us-east-1",
        ]
        code, out, err = await call(empty, "init", *given, *reached, *more, "--json")
        assert code == 0, out + err
        checks = [json.loads(line) for line in out.splitlines()]
        assert {"lifecycle of claims", "retention of lm"} <= {each["name"] for each in checks}
        file = tomllib.loads((empty / FILE).read_text())
        assert (file["sink"]["type"], file["sink"]["prefix"]) == ("s3", "rows")
        assert (file["dead_letters"]["type"], file["dead_letters"]["prefix"]) == ("letters_s3", "letters")
        code, out, err = await call(empty, "validate", "--config", FILE, "--connect")
        assert code == 0, out + err
        assert (await call(empty, "publish", "--config", FILE, "--topic", "lm", "--count", 5))[0] == 0
        objects = s3.buckets["lake"]
        await lands(
            empty,
            lambda: any(key.startswith("rows/acme/") for key in objects),
            *("--set", "sink.window_seconds=0.5"),
        )


async def test_what_fails_is_said_and_nothing_is_written(kafka, empty):
    given = [*tls(kafka), "--topic", "nowhere", "--org", "acme", "--landed", "rows"]
    code, out, err = await call(empty, "init", *given)
    assert code == 1
    assert "LMS-3003" in out
    assert "lmstream.toml was not written" in err
    assert "again: " not in err  # nobody typed answers that would have to be typed again
    assert not (empty / FILE).exists()
    assert not (empty / NAME).exists()
    code, out, err = await call(empty, "init", *given[:2], "--topic", "lm", "--org", "acme", "--landed", "rows")
    assert code == 1
    assert "speaks TLS, and security is plaintext" in out


async def test_on_a_terminal_it_asks_for_what_is_not_given(kafka, empty):
    ours, theirs = pty.openpty()
    process = await begun(empty, "init", *tls(kafka), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""

    async def answer(question, text):
        nonlocal shown
        async with asyncio.timeout(30):
            while question not in shown:
                shown += await asyncio.to_thread(os.read, ours, 4096)
        shown = shown.partition(question)[2]
        os.write(ours, text.encode() + b"\n")

    try:
        await answer(b"password is, env:NAME or file:PATH, empty for none:", "")
        await answer(b"topics there: lm", "")  # an empty answer to the next question, which has a usual one
        await answer(b"Organization of the rows:", "")  # needed: it is asked again
        await answer(b"Organization of the rows:", "acme")
        await answer(b"Consumer group [acme-rows]:", "mine")
        await answer(b"Where rows go (firehose | s3 | local) [firehose]:", "floppy")
        await answer(b"one of firehose, s3, local", "local")
        await answer(b"Landing folder [./landed]:", "rows")
        await answer(b"it must outlive the process [./dead-letters]:", "")
        # The usual topic is not there: it says so, and gives the answers back as flags.
        await answer(b"again: lmstream init ", "")
        async with asyncio.timeout(30):
            assert await process.wait() == 1
        assert not (empty / FILE).exists()
    finally:
        if process.returncode is None:
            process.kill()
        os.close(ours)


async def test_answers_make_the_same_file_as_flags(kafka, empty):
    flags = [*tls(kafka), "--topic", "lm", "--org", "acme", "--landed", "rows", "--group", "mine"]
    assert (await call(empty, "init", "other.toml", *flags))[0] == 0
    ours, theirs = pty.openpty()
    process = await begun(empty, "init", "typed.toml", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    pem = kafka.certificates
    os.write(ours, "\n".join(map(str, (kafka.bootstrap, "ssl", pem.ca, pem.client_cert, pem.client_key, ""))).encode())
    os.write(ours, b"\nlm\nacme\nmine\nlocal\nrows\n\n")

    def drained():
        try:
            while os.read(ours, 4096):
                pass
        except OSError:  # the other side is closed
            return

    async with asyncio.timeout(40):
        await asyncio.gather(asyncio.to_thread(drained), process.wait())
    os.close(ours)
    assert process.returncode == 0
    typed, other = ((empty / name).read_text() for name in ("typed.toml", "other.toml"))
    assert typed == other.replace("other.toml", "typed.toml")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    return tmp_path


@pytest.mark.usefixtures("here")
def test_what_is_missing_is_said_at_once_where_nobody_can_be_asked(cli):
    said = cli("init", "--group", "g")
    assert said.code == 2
    assert "Brokers, as host:port,host:port; Topic of the bundles; Organization of the rows; Where rows go" in said.err
    assert "give --bootstrap, --topic, --org, --stream (or --bucket, or --landed)" in said.err
    assert not FILE.exists()


@pytest.mark.usefixtures("here")
def test_without_a_network_it_writes_what_it_can_and_says_what_was_not_checked(cli):
    said = cli(*OFFLINE)
    assert said.code == 0, said.err
    assert "not checked: brokers, topic and group; the sink; the place of dead letters" in said.err
    text = FILE.read_text()
    assert "NOT CHECKED when this was written: brokers, topic and group;" in text
    config = load(FILE, env={})
    assert (config.engine.org_id, config.source.settings.group, config.sink.settings.root) == (
        "acme",
        "acme-rows",
        "rows",
    )
    assert cli("validate", "--config", FILE).code == 0


@pytest.mark.usefixtures("here")
def test_what_is_wrong_with_this_machine_alone_does_not_keep_the_file_from_being_written(cli, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    said = cli(
        *OFFLINE[:-2], "--stream", "rows", "--ca", "/there/ca.pem", "--cert", "/there/c.pem", "--key", "/there/k"
    )
    assert said.code == 0, said.err
    assert "AWS credentials (needed for sink.type firehose" in FILE.read_text()
    assert tomllib.loads(FILE.read_text())["source"]["security"] == "ssl"


@pytest.mark.usefixtures("here")
def test_a_file_that_exists_is_not_replaced(cli):
    FILE.write_text("mine")
    said = cli(*OFFLINE)
    assert said.code == 2
    assert "lmstream.toml exists" in said.err
    assert "--force" in said.err
    assert FILE.read_text() == "mine"
    assert cli(*OFFLINE, "--force").code == 0
    assert load(FILE, env={}).engine.org_id == "acme"
    assert cli(OFFLINE[0], "second.toml", *OFFLINE[1:]).code == 0  # beside the schema that is there already
    Path(NAME).write_text("{}")
    said = cli(OFFLINE[0], "third.toml", *OFFLINE[1:])
    assert said.code == 2
    assert f"{NAME} exists, and is not the schema of lmstream" in said.err
    assert not Path("third.toml").exists()


@pytest.mark.usefixtures("here")
def test_wrong_answers_are_told_at_once_and_nothing_is_written(cli):
    said = cli(*OFFLINE[:-2], "--stream", "no such name", "--set", "engine.metric_buckets=0", "--set", "engine.pth=x")
    assert said.code == 2
    for what in ("sink.stream: expected", "engine.metric_buckets: expected int >= 1", "did you mean engine.path?"):
        assert what in said.err
    assert not FILE.exists()
    said = cli(*OFFLINE, "--dead-letters", "ftp://x")
    assert (said.code, "expected a folder or s3://BUCKET/PREFIX" in said.err) == (2, True)


@pytest.mark.usefixtures("here")
def test_any_setting_is_written_with_its_type_and_what_is_the_default_anyway_is_not(cli):
    sets = ["run.workers=2", "runtime.fatal_patience=2.5", "engine.exemplars=true", "engine.org_attributes=a, b"]
    sets += ['source.client."retry.backoff.ms"=7', 'engine.org_by_topic={"x.y": "z"}', "logs.format=json"]
    said = cli(*OFFLINE, *[word for each in sets for word in ("--set", each)])
    assert said.code == 0, said.err
    file = tomllib.loads(FILE.read_text())
    assert file["run"] == {"workers": 2}
    assert file["runtime"] == {"fatal_patience": 2.5}
    assert file["engine"] == {"org_id": "acme", "org_attributes": ["a", "b"], "org_by_topic": {"x.y": "z"}}
    assert file["source"]["client"] == {"retry.backoff.ms": "7"}
    assert "security" not in file["source"]
    assert "rolling" not in file


@pytest.mark.usefixtures("here")
def test_no_answer_can_write_a_setting_of_its_own(cli):
    name = 'a"\n[run]\ndiscard = true\n#'
    said = cli(*OFFLINE[:-3], name, "--landed", "rows\x7f\x1b")
    assert said.code == 0, said.err
    config = load(FILE, env={})
    assert (config.engine.org_id, config.sink.settings.root, config.run.discard) == (name, "rows\x7f\x1b", False)


TEXTS = st.text(st.characters(blacklist_categories=("Cs",)))


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@hypothesis.given(VALUES)
def test_every_value_is_read_back_as_it_was(value):
    assert tomllib.loads(f"x = {written.toml(value)}")["x"] == value


def test_what_brokers_and_stream_say_becomes_settings_only_where_it_differs():
    config = load(env={}, overrides={"engine.org_id": "acme"})
    small = TopicFacts("lm", 6, Retention(3 * 86_400.0), 1_048_588)
    assert Facts((small,)).settings(config) == {}
    large = TopicFacts("lm", 6, None, 16 * MIB)
    assert Facts((small, large)).settings(config) == {"engine.limits.record_bytes": 16 * MIB}


def test_what_is_known_of_a_topic_is_said_in_a_comment():
    said = [
        written._topic(TopicFacts("lm", 6, kept, size))
        for kept, size in ((Retention(259_200.0), 1_048_588), (Retention(None), None), (None, None))
    ]
    busy = "lm: 6 partitions, so at most 6 busy processes"
    assert said == [
        f"{busy}; records are kept 3.0 d, which is how long an outage may last; messages of 1,048,588 bytes at most.",
        f"{busy}; records are kept without a limit of time.",
        f"{busy}; retention unknown: grant DESCRIBE_CONFIGS on the topic.",
    ]


def test_the_answers_come_back_as_flags():
    known = {
        "source.bootstrap": "b:1",
        "source.security": "ssl",
        "source.topics": ["a", "^b c"],
        "engine.org_id": "acme",
        "sink.type": "local",
        "sink.root": "rows",
    }
    command = "lmstream init --bootstrap b:1 --set source.security=ssl --topic a --topic '^b c' --org acme --sink local"
    assert again(known) == f"{command} --landed rows"


@pytest.mark.parametrize("question", [*CONNECTION, *RUN], ids=lambda each: each.key)
def test_every_question_has_a_flag_of_the_verb(question, cli):
    assert f"{question.flag.partition(' ')[0]} " in cli("init", "--help").out


def test_a_prefix_that_no_path_makes_is_left_to_the_checks():
    assert path_of("!{partitionKeyFromQuery:orgKey}/!{timestamp:yyyy}/") is None
    assert path_of("rows/") is None
    for path in (DEFAULT_PATH, HIVE_PATH):
        assert path_of(firehose_prefix(Settings(path=path))) == path
