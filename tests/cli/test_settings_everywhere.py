"""--config and --set are one pair of flags: whatever reads settings has both, and a wrong key is told everywhere."""

import gzip
import io
import json
from contextlib import redirect_stdout

import pytest

from lmstream import cli as command_line
from lmstream.cli.landed import landed_in
from lmstream.config import load
from lmstream.errors import ConfigError

READING = {
    "run": [],
    "publish": ["--topic", "t"],
    "lag": [],
    "skip": ["t/0", "--to", "1"],
    "health": [],
    "inspect": ["-"],
    "verify": ["--landed", ".", "--topic", "t"],
    "query": [],
    "config show": [],
    "dlq ls": [],
    "dlq show": [],
    "dlq stats": [],
    "dlq replay": [],
    "dlq purge": ["--all"],
    "lake repair": [],
    "lake compact": [],
    "validate": [],
    "topic": ["--topic", "t"],
    "acls": ["--topic", "t"],
    "schema": ["sql"],
}
"""Verbs that read settings, each with arguments that bring it to them."""


def help_of(verb):
    said = io.StringIO()
    with redirect_stdout(said):
        assert command_line.main([*verb.split(), "--help"]) == 0
    return said.getvalue()


@pytest.mark.parametrize("verb", command_line.verbs())
def test_config_and_set_go_together(verb):
    text = help_of(verb).partition("Examples:")[0]
    options = {flag for flag in ("--config", "--set") if f"{flag} " in text}
    assert options in (set(), {"--config", "--set"}) or verb == "init"  # which writes the file
    assert ("LMSTREAM_CONFIG" in text) == ("--config" in options)
    assert options or verb not in READING


@pytest.mark.parametrize("verb", [verb for verb in READING if verb != "health"])
def test_a_wrong_key_of_set_is_told_with_the_nearest(verb, cli):
    said = cli(*verb.split(), *READING[verb], "--set", "engine.orgid=acme")
    assert said.code == 2
    assert "engine.orgid is not a setting (from the flags); did you mean engine.org_id?" in said.err


@pytest.mark.parametrize("verb", READING)
def test_what_is_no_pair_is_refused(verb, cli):
    said = cli(*verb.split(), *READING[verb], "--set", "engine.org_id")
    assert said.code == 2
    assert "--set engine.org_id: expected KEY=VALUE" in said.err


def test_the_health_of_a_host_is_asked_where_set_says(cli):
    said = cli("health", "--set", "endpoints.address=127.0.0.1:1")
    assert said.code == 1
    assert "http://127.0.0.1:1/healthz does not answer" in said.err


def test_the_ddl_is_of_the_file_that_the_variable_names(cli, tmp_path, monkeypatch):
    path = tmp_path / "run.toml"
    path.write_text('[engine]\npath = "{orgKey}/{yyyy}/"\n')
    monkeypatch.setenv("LMSTREAM_CONFIG", str(path))
    assert "p_metric" not in cli("schema", "sql").out
    assert "p_metric" in cli("schema", "sql", "--set", "engine.path={orgKey}/{metricKey}/").out


def test_rows_are_queried_where_the_configuration_lands_them(cli, tmp_path, monkeypatch):
    rows = tmp_path / "rows" / "acme"
    rows.mkdir(parents=True)
    row = {"rowId": "a:0", "orgId": "acme", "metric": "m", "ts": "2024-05-09T14:00:00Z", "value": 1.5}
    (rows / "part-0.ndjson.gz").write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    path = tmp_path / "run.toml"
    path.write_text(f'[sink]\ntype = "local"\nroot = "{tmp_path}/rows"\n')
    monkeypatch.setenv("LMSTREAM_CONFIG", str(path))
    said = cli("query", "select count(*) as n from rows", "--json")
    assert (said.code, json.loads(said.out)) == (0, {"n": 1})
    said = cli("query", "select 1", "--set", "sink.type=firehose", "--set", "sink.stream=s")
    assert said.code == 2
    assert "--landed is not given, and the stream cannot be asked: LMS-2001 sink.region" in said.err


def test_rows_of_a_lake_are_in_its_bucket():
    sink = {"sink.type": "s3", "sink.bucket": "b", "sink.prefix": "rows", "sink.endpoint_url": "http://127.0.0.1:9"}
    place, access = landed_in(load(env={}, overrides=sink | {"sink.region": "eu-west-1"}))
    assert (place, access.endpoint_url, access.region) == ("s3://b/rows/", "http://127.0.0.1:9", "eu-west-1")
    with pytest.raises(ConfigError, match="no sink is set"):
        landed_in(load(env={}))
