"""Configuration: flags over environment over file over default; every refusal says key, seen, expected, nearest."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from msgspec import Struct

from lmstream.config import build_runtime, load
from lmstream.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "docs" / "lmstream.example.toml"


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


def test_the_example_file_loads_and_chooses_kafka_and_firehose():
    config = load(EXAMPLE, env={})
    assert config.source is not None
    assert config.sink is not None
    assert (config.source.name, config.sink.name) == ("kafka", "firehose")
    assert config.source.settings.topics == ("lm.metrics.otlp",)
    assert config.sink.settings.stream == "lm-metrics"
    assert config.engine.org_by_topic == {"lm.metrics.partner": "partner"}


def test_the_example_file_shows_the_defaults():
    example, default = load(EXAMPLE, env={}), load(env={})
    assert (example.delivery, example.rolling, example.runtime, example.run) == (
        default.delivery,
        default.rolling,
        default.runtime,
        default.run,
    )
    assert example.engine.limits == default.engine.limits


def test_flags_win_over_the_environment_and_that_over_the_file(toml):
    path = toml('[engine]\norg_id = "file"\nsource_id = "file"\nformat = "otlp_json"\n')
    env = {"LMSTREAM_ENGINE__ORG_ID": "env", "LMSTREAM_ENGINE__SOURCE_ID": "env", "PATH": "/bin"}
    engine = load(path, env=env, overrides={"engine.org_id": "flag"}).engine
    assert (engine.org_id, engine.source_id, engine.format, engine.metric_key) == ("flag", "env", "otlp_json", "metric")


def test_texts_of_the_environment_become_the_type_of_their_setting():
    env = {
        "LMSTREAM_ENGINE__ORG_ID": "123",
        "LMSTREAM_ENGINE__METRIC_BUCKETS": "32",
        "LMSTREAM_ENGINE__EXEMPLARS": "false",
        "LMSTREAM_ENGINE__ORG_ATTRIBUTES": "tenant, org",
        "LMSTREAM_ENGINE__ORG_BY_TOPIC": '{"t": "acme"}',
        "LMSTREAM_ENGINE__LIMITS__POINTS": "5",
        "LMSTREAM_RUN__REPORT_SECONDS": "2.5",
        "LMSTREAM_SOURCE__TYPE": "files",
        "LMSTREAM_SOURCE__PATHS": '["a,b", "c"]',
        "LMSTREAM_DEBUG": "1",
    }
    config = load(env=env)
    engine = config.engine
    assert (engine.org_id, engine.metric_buckets, engine.exemplars) == ("123", 32, False)
    assert (engine.org_attributes, engine.org_by_topic, engine.limits.points) == (("tenant", "org"), {"t": "acme"}, 5)
    assert config.run.report_seconds == 2.5
    assert config.need("source").settings.paths == ("a,b", "c")


def test_another_type_of_sink_leaves_the_settings_of_the_first_behind(toml):
    path = toml('[sink]\ntype = "firehose"\nstream = "s"\n')
    config = load(path, env={}, overrides={"sink.type": "local", "sink.root": "x"})
    assert config.need("sink").settings.root == "x"
    kept = load(path, env={}, overrides={"sink.region": "eu-west-1"})
    assert (kept.need("sink").settings.stream, kept.need("sink").settings.region) == ("s", "eu-west-1")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"engine.orgid": "x"}, ["engine.orgid is not a setting", "did you mean engine.org_id?"]),
        ({"engin.org_id": "x"}, ["engin is not a setting", "did you mean engine?"]),
        ({"engine.zzz": "x"}, ["engine.zzz", "known here:", "org_by_topic"]),
        ({"engine.limits.pints": 1}, ["engine.limits.pints", "did you mean engine.limits.points?"]),
        ({"engine.metric_buckets": "eight"}, ["engine.metric_buckets: expected int", 'saw "eight"', "from the flags"]),
        ({"engine.metric_buckets": 0}, ["expected int >= 1", "saw 0"]),
        ({"engine.metric_key": "x"}, ["expected one of allow, buckets, metric", 'saw "x"']),
        ({"engine.limits.row_bytes": 1}, ["engine.limits.row_bytes", "saw 1"]),
        ({"sink.type": "firehos"}, ["no sink 'firehos'", "did you mean 'firehose'?"]),
        ({"sink.type": "letters"}, ["no sink 'letters'", "known: firehose, local, null, s3, stdout"]),
        ({"sink.type": 5}, ["sink.type: expected text", "saw 5"]),
        ({"sink.root": "x"}, ["sink.type is not set", "stdout"]),
        ({"sink": "local"}, ["sink: expected a table"]),
        ({"sink.type": "local"}, ["sink.root is not set"]),
        ({"sink.type": "local", "sink.root": "x", "sink.lvel": 1}, ["did you mean sink.level?"]),
        (
            {"source.type": "files", "source.paths": ["x"], "source.share": (2, 2)},
            ["share: expected", "which, of how many"],
        ),
        ({"source.type": "no.such.module"}, ["cannot import no.such.module"]),
        ({"sink.type": "json.decoder"}, ["no Settings and no make"]),
    ],
)
def test_a_wrong_setting_is_one_clear_message(overrides, said):
    with pytest.raises(ConfigError) as e:
        load(env={}, overrides=overrides)
    assert e.value.exit_code == 2
    for part in said:
        assert part in str(e.value)


def test_an_unknown_variable_of_ours_is_refused_and_those_of_others_are_not():
    with pytest.raises(
        ConfigError,
        match=r"engine\.orgid.*from the environment, LMSTREAM_ENGINE__ORGID\); did you mean LMSTREAM_ENGINE__ORG_ID",
    ):
        load(env={"LMSTREAM_ENGINE__ORGID": "x"})
    load(env={"OTHER_ENGINE__ORGID": "x"})


@pytest.mark.parametrize("text", ["[engine", "engine = 5\n", 'x = "\\q"'])
def test_a_broken_file_is_refused_by_name(toml, text):
    with pytest.raises(ConfigError, match=r"engine|run\.toml"):
        load(toml(text), env={})


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load(tmp_path / "none.toml", env={})


def test_a_dotted_name_is_anybodys_module(monkeypatch):
    class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        size: int = 1

    mine = ModuleType("mine_sink")
    mine.Settings, mine.make = Settings, lambda settings: ("made", settings.size)  # type: ignore[attr-defined]
    package = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", package)
    monkeypatch.setitem(sys.modules, "mine.sink", mine)
    config = load(env={}, overrides={"sink.type": "mine.sink", "sink.size": 7})
    assert config.need("sink").make() == ("made", 7)


def test_a_part_that_nobody_chose_is_missed_by_name():
    with pytest.raises(ConfigError, match=r"source\.type is not set; expected one of confluent, files, kafka"):
        load(env={}).need("source")


def test_kafka_needs_a_named_folder_for_dead_letters():
    kafka = {"source.type": "kafka", "source.bootstrap": "127.0.0.1:1", "source.topics": ("t",), "sink.type": "null"}
    with pytest.raises(ConfigError, match=r"dead_letters\.root"):
        build_runtime(load(env={}, overrides=kafka))


async def test_a_whole_run_is_put_together_from_the_settings(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text('{"resourceMetrics":[]}')
    overrides = {
        "source.type": "files",
        "source.paths": (str(tmp_path / "in"),),
        "sink.type": "null",
        "dead_letters.root": str(tmp_path / "dead"),
        "run.budget_bytes": 1 << 20,
    }
    summary = await build_runtime(load(env={}, overrides=overrides)).run()
    assert (summary.records, summary.rows, summary.unacked) == (1, 0, 0)


def test_a_name_with_dots_stands_in_quotes_in_a_key_path():
    kafka = {"source.type": "confluent", "source.topics": ("t",), "source.bootstrap": "b:9092"}
    config = load(None, env={}, overrides=kafka | {'source.client."socket.nagle.disable"': "true"})
    assert config.source.settings.client == {"socket.nagle.disable": "true"}
    config = load(None, env={}, overrides=kafka | {"source.client.'client.id'": "x"})
    assert config.source.settings.client == {"client.id": "x"}
