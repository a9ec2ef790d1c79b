"""Wrong arguments: every one of a command line is told, once, with what to type instead."""

import re

import pytest


@pytest.mark.parametrize(
    ("words", "mistakes"),
    [
        ("run --bogus", ["unknown flag --bogus"]),
        (
            "run --bogus 5 --workers x --start-from yesterday --strickt",
            [
                "--workers x: expected a whole number",
                "--start-from yesterday: expected earliest or latest",
                "unknown flag --bogus",
                "unknown flag --strickt; did you mean --strict?",
            ],
        ),
        ("runn", ["there is no verb runn; did you mean run?"]),
        ("--nope", ["unknown flag --nope: flags come behind a verb, as in lmstream run --nope"]),
        ("config nope", ["lmstream config has no verb nope; it has reference, schema, show"]),
        ("dlq puge", ["lmstream dlq has no verb puge; did you mean purge?; it has ls, purge, replay, show, stats"]),
        ("run --files", ["--files needs a value"]),
        (
            "run --files --landed out",
            [
                "--files --landed: a file or folder is missing before --landed; one of that name is ./--landed",
                "unexpected argument: out",
            ],
        ),
        ("run two words --workers x", ["--workers x: expected a whole number", "unexpected arguments: two words"]),
        (
            "verify --settle -1 --watch y",
            [
                "--settle -1: '-1' is not a duration: expected 5 (seconds), 90s, 15m, 72h or 7d",
                "--watch y: 'y' is not a duration: expected 5 (seconds), 90s, 15m, 72h or 7d",
            ],
        ),
        ("lag --watch 0 --retention x", ["--watch 0: must be >= 0.5", "--retention x: 'x' is not a duration: expected 5 (seconds), 90s, 15m, 72h or 7d"]),
        ("skip", ["PARTITION is missing", "--to is missing"]),
        ("skip t/0 --to x", ["--to x: expected a whole number"]),
        (
            "topic --partitions 0 --copies=x",
            ["--topic is missing", "--partitions 0: must be >= 1", "--copies x: expected a whole number"],
        ),
        ("plugin new", ["KIND is missing", "NAME is missing"]),
        ("plugin new sinc", ["KIND sinc: expected sink, source, codec, transform or place; did you mean sink?", "NAME is missing"]),
        ("completion tcsh", ["SHELL tcsh: expected bash, zsh or fish"]),
        ("version x", ["unexpected argument: x"]),
        ("dlq ls --limit x --since", ["--since needs a value", "--limit x: expected a whole number"]),
        ("query --jsn", ["unknown flag --jsn; did you mean --json?"]),
    ],
)  # fmt: skip
def test_every_mistake_is_told_once(cli, words, mistakes):
    said = cli(*words.split())
    assert said.code == 2
    told = re.findall(r"^lmstream: LMS-2004 (.*) \[usage[.]arguments\][.] Fix: (.*)[.] More: ", said.err, re.MULTILINE)
    assert [what for what, _ in told] == mistakes
    assert {fix for _, fix in told} <= {f"see lmstream {name}--help" for name in _verbs(words)} | {
        "`lmstream --help` lists all verbs"
    }


def _verbs(words):
    first, *rest = words.split()
    return {f"{first} ", f"{first} {rest[0]} " if rest else ""}


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        ("run --landed a --stream s", "--landed and --stream: rows go to one sink"),
        ("run --sink local --stream s", "--sink local and --stream: rows go to one sink"),
        ("init --stream s --bucket b --offline", "--stream and --bucket: rows go to one sink"),
        ("tap --address nowhere", "--address: 'nowhere' is not host:port"),
        ("health --address 127.0.0.1:99999", "--address: '127.0.0.1:99999' is not host:port"),
        ("dlq ls . --since 1h --until 2h", "--since 1h --until 2h: no time is in this range"),
        ("dlq ls . --written-since 1h --written-until 2h", "no time is in this range"),
        ("dlq ls . --offset 5-2", "--offset 5-2: no offset is in this range"),
        ("topic --topic a+b --bootstrap 127.0.0.1:1", "'a+b' cannot be a topic: expected letters, digits, ., _ and -"),
        ("publish --topic a --bootstrap 127.0.0.1:99999", "bootstrap: '127.0.0.1:99999' is not host:port"),
        ("config reference nope", "known here: engine, engine.limits, breaker"),
    ],
)
def test_what_cannot_be_is_refused_in_words_of_the_flag(cli, words, mistake):
    said = cli(*words.split())
    assert (said.code, mistake in said.err) == (2, True), said.err
    assert "LMS-9001" not in said.err


def test_all_that_acls_miss_is_told_at_once(cli):
    said = cli("acls", "--topic", "t", "--bootstrap", "127.0.0.1:1", "--group", "g")
    assert said.code == 2
    for flag in ("--brokers", "--administrator", "--reader"):
        assert f"{flag} is missing" in said.err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("engine.path={nope}/", "unknown field {nope}; known are {orgKey}"),
        ("endpoints.address=here", "'here' is not host:port, as in 127.0.0.1:9464, or off"),
        ("endpoints.address=127.0.0.1:99999", "is not host:port"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "run"])
def test_validate_and_a_start_refuse_the_same(cli, tmp_path, verb, setting, said):
    (tmp_path / "b.json").write_text('{"resourceMetrics": []}')
    flags = ("--files", tmp_path / "b.json", "--landed", tmp_path / "rows", "--org", "a", "--set", setting)
    told = cli(verb, *flags)
    assert (told.code, said in told.out + told.err) == (2, True), told
    assert not (tmp_path / "rows").exists()


def test_a_misspelt_setting_is_not_missing_too(cli, tmp_path):
    (tmp_path / "run.toml").write_text('[source]\ntype = "kafka"\nboostrap = "b:1"\ntopics = ["t"]\n')
    said = cli("validate", "--config", tmp_path / "run.toml")
    assert "did you mean source.bootstrap?" in said.err
    assert "source.bootstrap is not set" not in said.err


def test_a_file_that_is_not_utf8_is_told_with_its_line(cli, tmp_path):
    (tmp_path / "run.toml").write_bytes(b'[engine]\norg_id = "\xe9"\n')
    said = cli("validate", "--config", tmp_path / "run.toml")
    assert (said.code, "is not UTF-8: byte 0xe9 in line 2" in said.err) == (2, True), said.err
