"""What cannot work is refused before the first record, all of it at once, by every verb and host that begins something."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from lmstream.config import build_runtime, load
from lmstream.config.validation import START, refuse
from lmstream.errors import ConfigError
from lmstream.hosts.awslambda.host import from_environment
from lmstream.kafka.lag import lag
from lmstream.lab import KafkaLab
from lmstream.sources import confluent, kafka

KAFKA = ("--bootstrap", "127.0.0.1:1", "--topic", "lm")
BUNDLE = b'{"resourceMetrics": []}'
CHAIN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder of its own, and credentials."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    return tmp_path


@pytest.fixture
def nobody(monkeypatch, place):
    """No credentials anywhere."""
    for name in CHAIN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(place / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(place / "none"))
    return monkeypatch


def told(said):
    """The messages without their ends: what they are about."""
    return [line.removeprefix("lmstream: LMS-2001 ").partition(":")[0] for line in said.err.splitlines()]


def letters():
    return [*Path().rglob("*.json")]


def test_every_mistake_of_a_run_is_told_at_once_and_nothing_is_begun(cli):
    said = cli("run", *KAFKA, "--sink", "null", "--set", "runtime.grace=28", "--set", "delivery.timeot=1")
    assert said.code == 2
    assert [line.partition(" ")[0] for line in said.err.splitlines()] == ["lmstream:"] * 5
    whole = said.err
    for part in (
        "delivery.timeot is not a setting (from the flags); did you mean delivery.timeout?",
        "group: source.group is not set.",
        'set source.group = "lmstream"',
        "organization: none is set",
        "sink: sink.type null discards rows, so nothing keeps them, and their offsets would be committed all the same",
        "set run.discard = true",
        "dead letters: dead_letters.root is not set",
    ):
        assert part in whole


NUMBERS = ("sink.call_timeout=60", "delivery.concurrency=200", "source.heartbeat_interval_ms=20000")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_numbers_that_contradict_each_other_are_refused_all_at_once(cli, workers):
    hose = ("--stream", "s", "--region", "us-east-1", "--org", "o", "--dead-letters", "dead", "--workers", workers)
    said = cli("run", *KAFKA, "--group", "g", *hose, *(word for each in NUMBERS for word in ("--set", each)))
    assert said.code == 2
    told = [line.split(" [")[0] for line in said.err.splitlines()]
    assert told == [
        "lmstream: LMS-2001 times: not true: sink.call_timeout 60 s is within delivery.timeout 20 s",
        "lmstream: LMS-2001 requests: delivery.concurrency 200 is above sink.concurrency 8",
        "lmstream: LMS-2001 times: not true: source.heartbeat_interval_ms 20 s is a third of the session of 45 s, or less",
    ]


def test_letters_are_not_replayed_with_numbers_that_contradict_each_other(cli):
    Path("dead").mkdir()
    hose = ("--stream", "s", "--region", "us-east-1", "--org", "o", "--set", "delivery.concurrency=200")
    # A rehearsal sends nothing; the group's times are of no concern to a replay.
    assert cli("dlq", "replay", "dead", *hose).code == 0
    said = cli("dlq", "replay", "dead", *hose, "--yes")
    assert (said.code, "requests: delivery.concurrency 200 is above sink.concurrency 8" in said.err) == (2, True)


def test_what_a_look_at_a_topic_does_not_need_does_not_stop_it(cli):
    numbers = ("--group", "g", "--set", "delivery.concurrency=200", "--set", "source.heartbeat_interval_ms=20000")
    for words in (("lag",), ("verify", "--landed", ".", "--org", "o")):
        said = cli(*words, *KAFKA, *numbers)
        assert (said.code, "LMS-3001" in said.err) == (1, True), said.err


def test_a_grace_longer_than_an_orchestrator_waits_is_said_at_a_start(cli):
    Path("in.json").write_bytes(BUNDLE)
    flags = ("--files", "in.json", "--org", "o", "--landed", "x", "--set", "runtime.grace=28")
    said = cli("run", *flags)
    assert (said.code, "times: runtime.grace 28 s and 4 s to close" in said.err) == (4, True)
    assert cli("validate", *flags).code == 0


@pytest.mark.parametrize("verb", ["run", "validate"])
@pytest.mark.parametrize("sink", ["null", "stdout"])
def test_a_sink_that_keeps_nothing_is_refused_with_a_source_that_commits(cli, verb, sink):
    flags = (*KAFKA, "--group", "g", "--org", "o", "--sink", sink, "--dead-letters", "dead")
    said = cli(verb, *flags)
    assert said.code == 2
    assert f"sink.type {sink} " in said.err + said.out
    assert "nothing keeps them" in said.err + said.out
    # On purpose it goes on, here to a broker that is not there.
    said = cli("run", *flags, "--set", "run.discard=true")
    assert (said.code, "LMS-3001" in said.err) == (1, True)


def test_letters_are_not_deleted_for_rows_that_nothing_keeps(cli):
    Path("dead").mkdir()
    Path("in.jsonl").write_bytes(BUNDLE + b"\nno bundle\n")
    assert cli("run", "--files", "in.jsonl", "--org", "o", "--landed", "x", "--dead-letters", "dead").code == 4
    kept = letters()
    assert kept
    replay = ("dlq", "replay", "dead", "--org", "o", "--yes", "--purge-delivered")
    for sink in ("null", "stdout"):
        said = cli(*replay, "--sink", sink)
        assert (said.code, "their letters would be deleted all the same" in said.err) == (2, True)
    assert letters() == kept


def test_files_may_go_to_a_sink_that_keeps_nothing(cli):
    Path("in.json").write_bytes(BUNDLE)
    assert cli("run", "--files", "in.json", "--org", "o", "--sink", "null").code == 4  # read: it holds no row


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--org", "o", "--landed", "x", "--dead-letters", "dead", *KAFKA),
        ("run", "--org", "o", "--landed", "x", "--dead-letters", "dead", "--source", "confluent", *KAFKA),
        ("validate", "--org", "o", "--landed", "x", "--dead-letters", "dead", *KAFKA),
        ("verify", "--org", "o", "--landed", ".", *KAFKA),
        ("lag", *KAFKA),
        ("skip", "lm/0", "--to", "3", "--bootstrap", "127.0.0.1:1"),
        ("acls", "--topic", "lm", "--bootstrap", "127.0.0.1:1", "--reader", "User:x"),
    ],
)
def test_a_group_has_to_be_named(cli, words):
    said = cli(*words)
    assert said.code == 2, said.err
    text = said.err + said.out
    assert "source.group is not set" in text
    assert 'to continue where the version before this one left off, set source.group = "lmstream"' in text
    assert "Connection refused" not in text


@pytest.mark.parametrize("module", [kafka, confluent], ids=["kafka", "confluent"])
async def test_a_source_without_a_group_starts_nowhere(module):
    settings = module.Settings(bootstrap="127.0.0.1:1", topics=("lm",))
    source = module.make(settings)
    with pytest.raises(ConfigError, match=r"source\.group is not set"):
        await source.poll(1)
    await source.close()
    with pytest.raises(ConfigError, match=r"source\.group is not set"):
        await lag(settings)


async def test_the_commits_of_the_former_default_and_other_members_are_shown(cli, place):
    async with KafkaLab() as broker:
        await broker.create_topic("lm", 2)
        flags = ("--bootstrap", broker.bootstrap, "--topic", "lm", "--org", "o", "--landed", place / "x")
        said = await asyncio.to_thread(cli, "validate", "--connect", *flags, "--dead-letters", place / "dead")
    assert said.code == 2
    assert "failed   group: source.group is not set" in said.out
    assert "warning  group lmstream: nothing is committed there" in said.out
    assert 'fix: to continue there, set source.group = "lmstream"' in said.out


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({}, "none is set, and LMDP sends none"),
        ({"engine.org_by_topic": {"other": "o"}}, "engine.org_by_topic has none for lm"),
        ({"engine.org_by_topic": {"lm": "o"}}, ""),
        ({"engine.org_by_topic": {"other": "o"}, "engine.org_id": "o"}, ""),
        ({"engine.org_by_topic": {"other": "o"}, "source.topics": ("^l.*",)}, ""),
        ({"engine.org_attributes": ("tenant",)}, ""),
    ],
)
def test_a_topic_without_an_organization_is_refused(settings, what):
    base = {"source.type": "kafka", "source.bootstrap": "b:1", "source.topics": ("lm",), "source.group": "g"}
    rest = {"sink.type": "local", "sink.root": "x", "dead_letters.root": "dead"}
    config = load(env={}, overrides=base | rest | settings)
    if not what:
        refuse(config, START)
        return
    with pytest.raises(ConfigError, match=what):
        refuse(config, START)


def test_without_credentials_nothing_is_begun(cli, nobody):
    Path("in.json").write_bytes(BUNDLE)
    firehose = ("--stream", "s", "--region", "us-east-1", "--org", "o", "--dead-letters", "dead")
    for words in (
        ("run", "--files", "in.json", *firehose),
        ("run", "--group", "g", *KAFKA, *firehose),
        ("validate", "--group", "g", *KAFKA, *firehose),
        ("dlq", "ls", "s3://bucket/dead"),
        ("verify", "--expected", "in.json", "--landed", "s3://bucket"),
        ("verify", "--expected", "in.json", "--landed", ".", "--dead-letters", "s3://bucket"),
        ("query", "--landed", "s3://bucket"),
    ):
        said = cli(*words)
        text = said.err + said.out
        assert "LMS-5013" in text, text
        assert "LMS-4003" not in text
        assert "firehose:PutRecordBatch" not in text
        assert said.code == 2
    said = cli("verify", *KAFKA, "--landed", "s3://bucket/rows", "--dead-letters", "s3://bucket/dead")
    assert said.code == 2
    for part in ("--landed s3://bucket/rows/: ", "--dead-letters s3://bucket/dead/: ", "group: ", "organization: "):
        assert sum(part in line for line in said.err.splitlines()) == 1, said.err
    nobody.setenv("AWS_PROFILE", "nosuch")
    said = cli("run", "--files", "in.json", *firehose)
    assert (said.code, "ProfileNotFound" in said.err) == (2, True)
    env = {"ENGINE__ORG_ID": "o", "SINK__STREAM": "s", "DEAD_LETTERS__TYPE": "letters_s3", "DEAD_LETTERS__BUCKET": "b"}
    with pytest.raises(ConfigError, match=r"needed for sink\.type firehose and dead_letters\.type letters_s3"):
        from_environment({f"LMSTREAM_{name}": text for name, text in env.items()})


def test_lambdas_cold_start_is_told_of_all_mistakes_at_once():
    with pytest.raises(ConfigError) as e:
        from_environment({"LMSTREAM_SINK__TYPE": "null", "LMSTREAM_DELIVERY__TIMEOT": "1"})
    told = [each.detail.partition(":")[0] for each in e.value.errors]
    assert told[0].startswith("delivery.timeot is not a setting (from the environment, LMSTREAM_DELIVERY__TIMEOT)")
    assert told[1:] == ["organization", "sink", "dead letters"]


def test_a_lower_timeout_in_lambda_takes_the_times_of_a_request_with_it():
    made = {"ENGINE__ORG_ID": "o", "SINK__STREAM": "s", "DEAD_LETTERS__ROOT": "dead", "DELIVERY__TIMEOUT": "5"}
    from_environment({f"LMSTREAM_{name}": text for name, text in made.items()}).close()
    with pytest.raises(ConfigError, match=r"sink\.call_timeout 9 s is within delivery\.timeout 5 s"):
        from_environment(
            {f"LMSTREAM_{name}": text for name, text in made.items()} | {"LMSTREAM_SINK__CALL_TIMEOUT": "9"}
        )


LOG = json.dumps({"topic": "lm", "partition": 0, "offset": 3, "timestamp": 1, "bundleId": "ab", "points": 2}).encode()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("uv.lock", b'version = 1\n[[package]]\nname = "a"\n', "not a bundle: LMS-1002"),
        ("table.parquet", b"PAR1\x15\x04\x15\x00" + bytes(200) + b"PAR1", "not a bundle"),
        ("package.json", b'{"name": "x", "version": "1"}\n', "not a bundle: LMS-1005"),
        ("published.jsonl", LOG + b"\n" + LOG + b"\n", "a log of `publish --verifiable`"),
        ("rows.ndjson.gz", gzip.compress(b'{"rowId":"a:0","orgId":"o"}\n', mtime=0), "rows that lmstream has made"),
        ("traces.json", b'{"resourceSpans": []}', "LMS-1019"),
    ],
)
def test_an_input_that_is_no_bundle_file_is_refused_by_name(cli, name, data, why):
    Path(name).write_bytes(data)
    Path("good.json").write_bytes(BUNDLE)
    said = cli("run", "--files", "good.json", "--files", name, "--org", "o", "--landed", "x")
    assert said.code == 2, said.err
    assert f"source: {name}: " in said.err
    assert why in said.err
    assert "LMS-3004" in said.err
    assert not Path("dead-letters").exists()
    # Of a folder as a whole: its one file is no bundle, or has a name that is never read in a folder.
    Path("in").mkdir()
    Path(name).rename(f"in/{name}")
    said = cli("run", "--files", "in", "--org", "o", "--landed", "x")
    assert (said.code, "LMS-3004" in said.err, "source: in: " in said.err) == (2, True, True), said.err
    assert not Path("dead-letters").exists()
    # Beside a bundle it is a mixed folder: what is read of it becomes dead letters, and the bundle is read.
    Path("good.json").rename("in/good.json")
    assert cli("run", "--files", "in", "--org", "o", "--landed", "x").code == 4


def test_damaged_bundles_empty_files_and_letters_are_read_as_before(cli):
    Path("cut.json").write_bytes(b'{"resourceMetrics": [{"scopeMetr')
    Path("empty.json").write_bytes(b"")
    Path("wide.json").write_bytes('{"resourceMetrics": []}'.encode("utf-16"))
    Path("cut.pb").write_bytes(b"\n\xff\x01\x00")
    Path("late.jsonl").write_bytes(b"garbage\n" + BUNDLE + b"\n")
    Path("cut.json.gz").write_bytes(gzip.compress(BUNDLE)[:-6])
    Path("large.json").write_bytes(b'{"resourceMetrics": [' + b" " * 600_000 + b"]}")
    for path in Path().glob("*.*"):
        said = cli("validate", "--files", path, "--org", "o", "--landed", "x")
        assert said.code == 0, said.out
    tombstone = {"topic": "lm", "partition": 0, "offset": 3}
    Path("letter.json").write_text(json.dumps(tombstone))
    assert cli("validate", "--files", "letter.json", "--org", "o", "--landed", "x").code == 0


def test_a_line_of_a_log_is_no_tombstone(cli):
    Path("in").mkdir()
    Path("in/a.json").write_bytes(BUNDLE)
    Path("in/log.jsonl").write_bytes(LOG + b"\n")
    said = cli("run", "--files", "in", "--org", "o", "--landed", "x", "--json")
    counts = json.loads(said.out)
    assert (counts["tombstones"], counts["dead_letters"]) == (0, 1)


def test_somebody_elses_format_may_be_anything(cli, place, monkeypatch):
    monkeypatch.syspath_prepend(str(place))
    Path("acme_csv").mkdir()
    Path("acme_csv/__init__.py").touch()
    Path("acme_csv/codec.py").write_text("class Codec:\n    def __init__(self, settings): pass\n")
    Path("in.csv").write_text("a,b\n1,2\n")
    words = ("validate", "--files", "in.csv", "--org", "o", "--landed", "x")
    assert cli(*words).code == 2
    assert cli(*words, "--input-format", "acme_csv.codec").code == 0


@pytest.mark.parametrize("verb", [("validate",), ("config", "show"), ("lag",), ("verify", "--landed", ".")])
def test_set_is_there_where_settings_are_read(cli, verb):
    said = cli(*verb, *KAFKA, "--set", "source.sesion_timeout_ms=1")
    assert said.code == 2
    assert "did you mean source.session_timeout_ms?" in said.err
    assert cli(*verb, "--set", "nonsense").code == 2


def test_validate_takes_what_run_takes(cli):
    Path("in.json").write_bytes(BUNDLE)
    flags = ("--files", "in.json", "--org", "o", "--landed", "x", "--workers", "3", "--set", "delivery.concurrency=4")
    said = cli("validate", *flags)
    assert (said.code, "requests: 4 at once" in said.out, "each of 3 processes" in said.out) == (0, True, True)
    shown = cli("config", "show", *flags, "--json")
    found = {each["key"]: each["value"] for each in map(json.loads, shown.out.splitlines())}
    assert (found["run.workers"], found["source.type"]) == (3, "files")


@pytest.mark.parametrize(
    ("before", "flags", "security"),
    [
        ("sasl_ssl", ["--ca", "ca.pem"], "sasl_ssl"),
        ("sasl_plaintext", ["--ca", "ca.pem"], "sasl_ssl"),
        ("sasl_plaintext", ["--tls"], "sasl_ssl"),
        ("sasl_ssl", ["--cert", "c.pem", "--key", "k.pem"], "sasl_ssl"),
        ("plaintext", ["--ca", "ca.pem"], "ssl"),
        (None, ["--ca", "ca.pem"], "ssl"),
        (None, [], "plaintext"),
        ("plaintext", ["--sasl", "PLAIN"], "sasl_ssl"),
        ("sasl_ssl", ["--ca", "ca.pem", "--set", "source.security=ssl"], "ssl"),
    ],
)
def test_a_flag_about_certificates_leaves_sasl_alone(cli, monkeypatch, before, flags, security):
    if before:
        monkeypatch.setenv("LMSTREAM_SOURCE__SECURITY", before)
    said = cli("config", "show", *KAFKA, *flags, "--json")
    assert said.code == 0, said.err
    assert {"key": "source.security", "value": security} == {
        key: value
        for each in map(json.loads, said.out.splitlines())
        for key, value in each.items()
        if each["key"] == "source.security" and key != "origin"
    }


def test_a_flag_about_topics_leaves_the_chosen_client_alone(cli):
    Path("run.toml").write_text('[source]\ntype = "confluent"\nbootstrap = "127.0.0.1:1"\ngroup = "g"\n')
    said = cli("config", "show", "--config", "run.toml", "--topic", "lm", "--json")
    found = {each["key"]: each["value"] for each in map(json.loads, said.out.splitlines())}
    assert (found["source.type"], found["source.bootstrap"], found["source.group"]) == ("confluent", "127.0.0.1:1", "g")
    said = cli("lag", "--config", "run.toml", "--topic", "lm")
    assert (said.code, "LMS-3001" in said.err) == (1, True)


def test_a_library_that_builds_a_run_cannot_pass_over_the_sink():
    config = load(
        env={},
        overrides={
            "engine.org_id": "o", "source.type": "kafka", "source.bootstrap": "b:1", "source.topics": ("lm",),
            "source.group": "g", "sink.type": "null", "dead_letters.root": "dead",
        },
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"sink\.type null discards rows"):
        build_runtime(config)
