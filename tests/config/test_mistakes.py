"""All mistakes of a configuration are told at once: each with its key, its place, what is expected and what comes near."""

import pickle
from pathlib import Path

import pytest

import lmstream.codecs
from lmstream.config import build_source, load
from lmstream.config.plugins import known
from lmstream.deployment.prices import prices
from lmstream.deployment.settings import load as load_deployment
from lmstream.errors import ConfigError, Spot
from lmstream.errors.exceptions import MISTAKES

WORKRES = "(from the environment, LMSTREAM_RUN__WORKRES)"
FILE = """# a comment
[engine]
orgid = "acme"            # line 3
format = "otlp_jsn"
metric_buckets = 0
[engine.limits]
pints = 5
points = "many"

[source]
type = "kafka"
topics = ["lm"]
sesion_timeout_ms = 1
client."group.protocol" = "consumer"
client.enable_auto_commit = true
[sinc]
type = "local"
[sink]
type = "firehos"
"""


def mistakes(**how):
    with pytest.raises(ConfigError) as e:
        load(**{"env": {}} | how)
    assert e.value.exit_code == 2
    return [each.detail for each in e.value.errors], e.value


def under(spot):
    """The text that a spot underlines."""
    if spot is None:
        return None
    line = Path(spot.file).read_text().splitlines()[spot.line - 1]
    return line[spot.column - 1 : spot.column - 1 + spot.width]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(FILE)
    return Path("run.toml")


def test_every_mistake_of_a_file_is_told_at_once_with_its_line(file):
    told, error = mistakes(path=file, env={"LMSTREAM_RUN__WORKRES": "2"}, overrides={"delivery.timeot": 3})
    assert told == [
        "sinc is not a setting (from run.toml, line 16); did you mean sink?",
        "engine.orgid is not a setting (from run.toml, line 3); did you mean engine.org_id?",
        "engine.metric_buckets: expected int >= 1, saw 0 (from run.toml, line 5)",
        "engine.limits.pints is not a setting (from run.toml, line 7); did you mean engine.limits.points?",
        'engine.limits.points: expected int, saw "many" (from run.toml, line 8)',
        "delivery.timeot is not a setting (from the flags); did you mean delivery.timeout?",
        f"run.workres is not a setting {WORKRES}; did you mean LMSTREAM_RUN__WORKERS?",
        "source.sesion_timeout_ms is not a setting (from run.toml, line 13); did you mean source.session_timeout_ms?",
        "source.bootstrap is not set and has no default; add it to [source] (from run.toml, line 10)",
        "sink.type: there is no sink 'firehos' (from run.toml, line 19); did you mean 'firehose'?",
        "engine.format: there is no format 'otlp_jsn' (from run.toml, line 4); did you mean 'otlp_json'?",
    ]
    assert str(error).count("More: lmstream explain LMS-") == len(told)
    assert [under(each.spot) for each in error.errors] == [
        "sinc",
        "orgid",
        "0",
        "pints",
        '"many"',
        None,
        None,
        "sesion_timeout_ms",
        "source",
        '"firehos"',
        '"otlp_jsn"',
    ]
    fixes = {each.detail.partition(" ")[0].rstrip(":"): each.fix for each in error.errors}
    listed = "rename it, or remove it; `lmstream config reference {}` lists what there is"
    assert fixes["engine.orgid"] == listed.format("engine")
    assert fixes["engine.limits.pints"] == listed.format("engine.limits")
    takes = "correct it; `lmstream config reference engine.limits.points` says what it takes"
    assert fixes["engine.limits.points"] == takes
    again = pickle.loads(pickle.dumps(error))
    assert [each.detail for each in again.errors] == told
    assert [each.spot for each in again.errors] == [each.spot for each in error.errors]


def test_what_a_struct_finds_by_looking_at_itself_has_its_place_too(file):
    file.write_text(FILE.replace("sesion_timeout_ms = 1", 'bootstrap = "b:1"'))
    with pytest.raises(ConfigError) as e:
        load(file, env={})
    (wrong,) = [each for each in e.value.errors if each.detail.startswith("source.client.enable_auto_commit")]
    assert under(wrong.spot) == "client.enable_auto_commit"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("org_id", "did you mean engine.org_id?"),
        ("stream", "did you mean sink.stream?"),
        ("concurrency", "did you mean delivery.concurrency or sink.concurrency?"),
        ("sinks", "did you mean sink?"),
        ("nothing_like_it", "known here: engine, breaker, "),
    ],
)
def test_a_setting_outside_its_table_is_told_the_table(path, hint):
    sink = {"sink.type": "firehose", "sink.stream": "s"}
    told, _ = mistakes(overrides=sink | {path: "acme"})
    assert told[0].partition("(from the flags); ")[2].startswith(hint)


def test_a_variable_with_one_underscore_too_few_is_told_its_name():
    env = {"LMSTREAM_ENGINE_ORG_ID": "acme"}
    (told,), _ = mistakes(env=env)
    assert told.endswith("(from the environment, LMSTREAM_ENGINE_ORG_ID); did you mean LMSTREAM_ENGINE__ORG_ID?")


def test_a_file_that_is_no_toml_says_where(file):
    file.write_text('[engine]\norg_id = "acme"\nformat = otlp\n')
    with pytest.raises(ConfigError, match="cannot be read as TOML") as e:
        load(file, env={})
    assert e.value.spot == Spot("run.toml", 3, 10, 1)


@pytest.mark.parametrize("kind", ["kafka", "confluent"])
def test_every_setting_of_the_client_that_is_lmstreams_own_is_named_beside_a_wrong_key(kind):
    client = {"group.protocol": "consumer", "enable_auto_commit": True, "client.id": "fine"}
    given = {"source.type": kind, "source.bootstrap": "b:1", "source.topics": ("t",), "source.client": client}
    told, _ = mistakes(overrides=given | {"source.grup": "g"})
    assert [each.partition(":")[0] for each in told] == [
        "source.grup is not a setting (from the flags); did you mean source.group?",
        "source.client.group_protocol is set by lmstream",
        "source.client.enable_auto_commit is set by lmstream",
    ]


@pytest.mark.parametrize("kind", ["kafka", "confluent"])
def test_every_name_that_the_client_does_not_know_is_told_before_anything_connects(kind):
    client = {"client_id": "fine", "retry_backof_ms": 1, "no_such": 2}
    given = {"source.type": kind, "source.bootstrap": "b:1", "source.topics": ("t",), "source.client": client}
    config = load(env={}, overrides=given)
    with pytest.raises(ConfigError) as e:
        build_source(config)
    told = [each.detail for each in e.value.errors]
    assert len(told) == 2
    if kind == "kafka":
        assert told[0] == "source.client.retry_backof_ms is not a setting of aiokafka; did you mean 'retry_backoff_ms'?"
    else:
        assert told[0].startswith(
            "source.client.retry.backof.ms: librdkafka refuses it: No such configuration property"
        )
    assert "no" in told[1]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("otlp_jsn", "engine.format: there is no format 'otlp_jsn' (from the flags); did you mean 'otlp_json'?"),
        ("xml", "module xml has no Codec; known: auto, otlp_json, otlp_proto; or the name of your own module"),
        ("json_heads", "known: auto, otlp_json, otlp_proto"),
        ("no.such.codec", "engine.format: cannot import no.such.codec"),
        ("json.decoder", "engine.format: module json.decoder has no Codec"),
    ],
)
def test_a_format_that_is_none_is_refused_with_the_list_of_formats(name, hint, tmp_path):
    told, _ = mistakes(overrides={"engine.format": name})
    assert any(hint in each for each in told), told
    path = tmp_path / "settings.toml"
    path.write_text(f'[engine]\nformat = "{name}"\norg_id = "acme"\n')
    with pytest.raises(ConfigError, match=r"engine\.format"):
        load_deployment(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("xml", "engine.transform: module xml has no Transform; give the name of your own module"),
        ("acme_sites", "engine.transform: there is no transform 'acme_sites' (from"),
        ("acme.sites", "engine.transform: cannot import acme.sites"),
        ("json.decoder", "engine.transform: module json.decoder has no Transform"),
    ],
)
def test_a_transform_that_is_none_is_refused_with_its_line(name, hint, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(f'[engine]\norg_id = "acme"\ntransform = "{name}"\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert hint in str(caught.value)
    (error,) = caught.value.errors
    assert error.spot.line == 3
    with pytest.raises(ConfigError, match=r"engine\.transform"):
        load_deployment(path)


def test_every_codec_of_ours_is_in_the_list_of_formats():
    folder = Path(lmstream.codecs.__file__).parent
    with_codec = [path.stem for path in folder.glob("*.py") if "\nclass Codec" in path.read_text()]
    assert known("format") == ["auto", *sorted(with_codec)]


def test_deployments_and_prices_are_told_of_all_their_mistakes_too(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('defaults = 2\nregon = "us-west-2"\n[cluster]\nbrokers = 4\n[stream]\nnmae = "x"\n')
    with pytest.raises(ConfigError) as e:
        load_deployment(path)
    places = [each.detail.partition("(from ")[2].partition(")")[0] for each in e.value.errors]
    assert places == [f"{path}, line 2", f"{path}, line 4", f"{path}, line 6"]
    path.write_text("firehose_gbb = 1\nlambda_gib = 2\n")
    with pytest.raises(ConfigError) as e:
        prices(path)
    assert sum("is not a setting" in each.detail for each in e.value.errors) == 2
    assert {each.fix for each in e.value.errors if "is not a setting" in each.detail} == {"rename it, or remove it"}


def test_a_file_of_mistakes_is_told_in_part():
    told, error = mistakes(overrides={f"engine.wrong_{n}": n for n in range(500)})
    assert len(told) == 500
    assert str(error).count("\n") == MISTAKES
    assert str(error).endswith("\nand 450 more mistakes")


RULES = """[engine]
[[engine.rules]]
name = "a"
when.metrc = "x"
drop = true
scal = 1
[[engine.rules]]
drop = "yes"
"""


def test_mistakes_in_rules_are_told_with_their_places(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(RULES)
    told, error = mistakes(path=path)
    assert [each.split(" ")[0].rstrip(":") for each in told] == [
        "engine.rules.0.when.metrc",
        "engine.rules.0.scal",
        "engine.rules.1.drop",
        "engine.rules.1.name",
    ]
    assert "did you mean engine.rules.0.when.metric?" in told[0]
    assert [under(each.spot) for each in error.errors][:3] == ["when.metrc"[5:], "scal", '"yes"'] or [
        under(each.spot) for each in error.errors
    ][:3] == ["when.metrc", "scal", '"yes"']


@pytest.mark.parametrize(
    ("rule", "key", "said"),
    [
        ("drop = true", "drop", "it would drop every row"),
        ('when.metric = "a"', "", "does nothing"),
        ('when.metric = "a"\ndrop = true\nkeep = true', "keep", "drops and keeps"),
        ('when.metric = "a"\ndrop = true\nset.resource = {a = "b"}', "set", "nothing else of them can change"),
        ("when.metric = []\ndrop = true", "when.metric", "an empty list"),
        ('when.type = "guage"\ndrop = true', "when.type", "no type that a metric can have"),
        ('when.metric = { regex = "(a" }\ndrop = true', "when.metric", "no regular expression of RE2"),
        ('mask = { resource = ["*"], find = { regex = "(?=a)" } }', "mask.find", "no regular expression of RE2"),
        ('mask = { find = "email" }', "mask", "names nothing to mask"),
        ('when.attributes.a = "b"\nset.resource = {a = "b"}', "set.resource", "made once for many points"),
        ('when.metric = "b"\norg = "c"', "org", "the same for all metrics"),
        ('remove.resource = ["a"]\nonly.resource = ["a"]', "remove.resource", "`only` keeps 'a'"),
        ('rename.scope = { a = "b", b = "c" }', "rename.scope", "which is renamed too"),
        ('rename.scope = { a = "b" }\nset.scope = { b = "c" }', "rename.scope", "which `set` sets"),
        ('set.scope = { b = "c" }\nleave_out = ["scope"]', "leave_out", "changes `scope` and leaves it out"),
        ('scale = { divide = 1000, unit = "s" }', "scale.divide", "not a power of two"),
        ('scale = { unit = "s" }', "scale", "needs `multiply` or `divide`"),
    ],
)
def test_rules_that_contradict_themselves_or_cannot_be_are_refused_with_line_and_column(tmp_path, rule, key, said):
    path = tmp_path / "run.toml"
    path.write_text(f'[[engine.rules]]\nname = "a"\n{rule}\n')
    (told,), error = mistakes(path=path)
    assert told.startswith(f"engine.rules.0{key and '.'}{key}: ")
    assert said in told
    assert f"{path}, line {error.spot.line}, column {error.spot.column}" in told


def test_rules_that_can_never_decide_and_names_that_come_twice_are_refused(tmp_path):
    path = tmp_path / "run.toml"
    rule = '[[engine.rules]]\nname = "{}"\nwhen.metric = "x"\n{} = true\n'
    path.write_text(rule.format("a", "drop") + rule.format("a", "keep"))
    told, _ = mistakes(path=path)
    assert [each.partition(" (from")[0] for each in told] == [
        "engine.rules.1.name: rule 1 has the name 'a' too",
        "engine.rules.1.keep: rule 1 ('a') drops the same rows before, so that this rule can never decide",
    ]
